"""How late an asyncio loop runs its timers."""

from __future__ import annotations

import asyncio

from harness.core.clock import NS_PER_S, now_ns
from harness.load.lateness import Lateness

TICK_S = 0.01


class LoopLag(Lateness):
    """Probes the running loop every 10 ms from `start` to `stop`."""

    def __init__(self) -> None:
        super().__init__()
        self._handle: asyncio.TimerHandle | None = None
        self._due_ns = 0

    def start(self) -> None:
        """Begin; call inside the loop."""
        loop = asyncio.get_running_loop()
        self._due_ns = now_ns() + round(TICK_S * NS_PER_S)
        self._handle = loop.call_later(TICK_S, self._tick)

    def stop(self) -> None:
        """No more probes."""
        if self._handle is not None:
            self._handle.cancel()

    def _tick(self) -> None:
        # The loop's timers count whole milliseconds; less than one is its rounding, not lag.
        self.add(now_ns() - self._due_ns)
        self.start()
