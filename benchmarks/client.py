"""What a request costs: Locust users of our connection against plain FastHttpUsers, in the same process.

Both make the same requests to the same server, as `benchmarks.recorder` describes, throw the answer away, and tell
Locust's statistics of it.
"""

from __future__ import annotations

import os
import sys

from benchmarks._lane import printed
from benchmarks.recorder import compared, measure

TARGET_RATIO = 2.0


def main() -> int:
    """Measure and print one JSON line."""
    load = os.getloadavg()[0]
    return printed(compared("client", TARGET_RATIO, measure("PlainUser", "LeanUser"), load))


if __name__ == "__main__":
    sys.exit(main())
