"""When something counts as late, and how late the timers of a process's event loop were. Knows no loop."""

from __future__ import annotations

from harness.core.clock import NS_PER_MS
from harness.record.histograms import HIGHEST_US, LOWEST_US, new_histogram, percentile_ms

LATE_NS = 100 * NS_PER_MS
"""an op started later than this after its due time counts as late"""


class Lateness:
    """How late timers were: what every time measured on their loop may be off by."""

    def __init__(self) -> None:
        self._histogram = new_histogram()

    def add(self, late_ns: int) -> None:
        """Count one timer; less than a microsecond, and more than two minutes, as that."""
        self._histogram.record_value(max(LOWEST_US, min(late_ns // 1000, HIGHEST_US)))

    @property
    def p99_ms(self) -> float:
        """99 % of them were less late than this."""
        return percentile_ms(self._histogram, 99)

    @property
    def max_ms(self) -> float:
        """The latest."""
        return float(self._histogram.get_max_value()) / 1000
