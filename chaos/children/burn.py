"""Keeps a share of one core busy.

The share is of processor time, not of the clock: where others want the core too, it stays in line until it had its own.
"""

from __future__ import annotations

import os
import time

from chaos.children.lease import begin, say_ready

PERIOD_S = 0.02
"""it works for its share of this, then sleeps for the rest"""
LAPS = 200
"""of an empty loop between two looks at the clock: some microseconds"""


def main() -> None:
    """See the module."""
    job = begin()
    share: float = job["share"]
    if job["core"] is not None:
        os.sched_setaffinity(0, {job["core"]})
    say_ready()
    while True:
        began_s = time.thread_time()
        while time.thread_time() - began_s < share * PERIOD_S:
            for _ in range(LAPS):
                pass
        if share < 1:
            time.sleep((1 - share) * PERIOD_S)


if __name__ == "__main__":
    main()
