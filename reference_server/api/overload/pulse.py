"""A clock that beats while there is something to watch, and measures how late the event loop lets it be.

In a process whose work is done by one loop, that lateness is what every request waits for at every step it takes.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

BEAT_S = 0.02
BEATS_A_WINDOW = 5


class Pulse:
    """Calls `on_beat(now)` every 20 ms and `on_window(now, mean lag)` every fifth time, until that returns False."""

    def __init__(self, on_beat: Callable[[float], None], on_window: Callable[[float, float], bool]) -> None:
        self.beats_now = False
        self._on_beat, self._on_window = on_beat, on_window
        self._due_s = 0.0
        self._beats = 0
        self._lag_s = 0.0
        self._timer: asyncio.TimerHandle | None = None

    def wake(self) -> None:
        """Begin to beat. Needs a running loop."""
        self.beats_now = True
        self._beats, self._lag_s = 0, 0.0
        self._schedule(asyncio.get_running_loop(), time.monotonic())

    def stop(self) -> None:
        """Beat no more."""
        self.beats_now = False
        if self._timer is not None:
            self._timer.cancel()

    def _schedule(self, loop: asyncio.AbstractEventLoop, now_s: float) -> None:
        self._due_s = now_s + BEAT_S
        self._timer = loop.call_later(BEAT_S, self._beat, loop)

    def _beat(self, loop: asyncio.AbstractEventLoop) -> None:
        now_s = time.monotonic()
        self._lag_s += max(0.0, now_s - self._due_s)
        self._beats += 1
        self._on_beat(now_s)
        if self._beats == BEATS_A_WINDOW:
            lag_s, self._beats, self._lag_s = self._lag_s / BEATS_A_WINDOW, 0, 0.0
            if not self._on_window(now_s, lag_s):
                self.beats_now = False
                return
        self._schedule(loop, now_s)
