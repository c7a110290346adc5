"""Hybrid clock of changes: µs << 8 | region index, strictly rising in one process, and above all it has heard of.

For one edge, flag or post the change with the highest clock wins, wherever it was made. A wall clock that lags behind
another region's must not make the later of two changes lose, so a writer learns from what came before
(Kulkarni et al., "Logical Physical Clocks", 2014): redis-queue keeps the highest clock of the graph, own and
replicated, and `Queue.append_graph` makes a change above it; posts and flags are compared one by one.
"""

from __future__ import annotations

import time

from reference_server.queue.clocks import REGION_BITS, clock_above


def now_us() -> int:
    """Wall time, microseconds since 1970."""
    return time.time_ns() // 1000


class HybridClock:
    """Hands out the times by which the last writer is chosen."""

    def __init__(self, region_index: int) -> None:
        self._region_index = region_index
        self._last_us = 0

    def next(self, lead_us: int = 0) -> int:
        """A time later than all before, whatever the wall clock does; `lead_us` ahead, without moving the clock."""
        self._last_us = max(now_us(), self._last_us + 1)
        return self._last_us + lead_us << REGION_BITS | self._region_index

    def update(self, hlc: int) -> None:
        """Be later than this from now on."""
        self._last_us = max(self._last_us, hlc >> REGION_BITS)

    def next_above(self, hlc: int, lead_us: int = 0) -> int:
        """A time later than all before and than `hlc`, which is not learned from."""
        return max(self.next(lead_us), clock_above(hlc, self._region_index))
