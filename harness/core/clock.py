"""Time. One clock for every measurement of a run: CLOCK_MONOTONIC, in nanoseconds.

On Linux this clock is shared by all processes of a machine, so times recorded by a Locust
process, a stream engine and the chaos scheduler can be subtracted from each other.
Wall-clock time appears only in names of runs and in reports.
"""

from __future__ import annotations

import time

NS_PER_S = 1_000_000_000
NS_PER_MS = 1_000_000


def now_ns() -> int:
    """Monotonic time of this machine, nanoseconds; the zero point has no meaning."""
    return time.monotonic_ns()
