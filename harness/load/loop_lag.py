"""How late an asyncio loop runs its timers: what every time measured on that loop may be off by."""

from __future__ import annotations

import asyncio

from harness.core.clock import NS_PER_MS, now_ns
from harness.record.histograms import new_histogram, percentile_ms

TICK_S = 0.01


class LoopLag:
    """Probes the running loop every 10 ms from `start` to `stop`."""

    def __init__(self) -> None:
        self._histogram = new_histogram()
        self._handle: asyncio.TimerHandle | None = None
        self._due_ns = 0

    def start(self) -> None:
        """Begin; call inside the loop."""
        loop = asyncio.get_running_loop()
        self._due_ns = now_ns() + round(TICK_S * 1e9)
        self._handle = loop.call_later(TICK_S, self._tick)

    def stop(self) -> None:
        """No more probes."""
        if self._handle is not None:
            self._handle.cancel()

    def _tick(self) -> None:
        late_us = (now_ns() - self._due_ns) // 1000
        # The loop's timers count whole milliseconds; less than one is its rounding, not lag.
        self._histogram.record_value(max(1, min(late_us, 120_000_000)))
        self.start()

    @property
    def p99_ms(self) -> float:
        """99 % of probes were less late than this."""
        return percentile_ms(self._histogram, 99)

    @property
    def max_ms(self) -> float:
        """The latest probe."""
        return float(self._histogram.get_max_value()) / 1000


LATE_NS = 100 * NS_PER_MS
"""an op started later than this after its due time counts as late"""
