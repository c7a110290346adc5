"""Hybrid clock of graph changes: µs << 8 | region index, strictly rising in one process."""

from __future__ import annotations

import time


def now_us() -> int:
    """Wall time, microseconds since 1970."""
    return time.time_ns() // 1000


class HybridClock:
    """Hands out the times by which the last writer of an edge is chosen."""

    def __init__(self, region_index: int) -> None:
        self._region_index = region_index
        self._last_us = 0

    def next(self) -> int:
        """A time later than all before, whatever the wall clock does."""
        self._last_us = max(now_us(), self._last_us + 1)
        return self._last_us << 8 | self._region_index
