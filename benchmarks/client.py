"""What a request costs: Locust users of our connection against plain FastHttpUsers, in the same process.

Both make the same requests to the same server, as `benchmarks.recorder` describes, throw the answer away, and tell
Locust's statistics of it.
"""

from __future__ import annotations

import os
import statistics
import sys
from typing import Any

from benchmarks._lane import machine, printed
from benchmarks.recorder import measure

TARGET_RATIO = 2.0


def main() -> int:
    """Measure and print one JSON line."""
    load = os.getloadavg()[0]
    told = measure("PlainUser", "LeanUser")
    plain, ours = zip(*told["rounds"], strict=True)
    ratios = sorted(our / other for our, other in zip(ours, plain, strict=True))
    ratio = round(statistics.median(ratios), 2)
    result: dict[str, Any] = {
        "benchmark": "client",
        "ratio": ratio,
        "target": TARGET_RATIO,
        "ok": ratio >= TARGET_RATIO and told["failures"] == 0,
        "details": {
            "ratios": [round(one, 2) for one in ratios],
            "plain_per_s": round(statistics.median(plain)),
            "ours_per_s": round(statistics.median(ours)),
            "failures": told["failures"],
            "load_before": round(load, 2),
        },
        "machine": machine(),
    }
    return printed(result)


if __name__ == "__main__":
    sys.exit(main())
