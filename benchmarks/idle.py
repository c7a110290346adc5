"""What the whole stack costs while nobody uses it: processor time of all its processes, in two regions.

Bounded work that repeats (heartbeats, looks at flags, reads that wait) is all there is, so a few per cent of one core
are spent for ever; a machine that holds a stack for a day pays for that.
"""

from __future__ import annotations

import sys
import time
from typing import Any

from benchmarks._lane import machine, printed
from benchmarks._stack import running_stack

TARGET_RATIO = 0.15
SETTLE_S = 5.0
"""the start's own work ends within"""
MEASURE_S = 30.0
SHOWN = 6


def measure(seconds: float = MEASURE_S) -> dict[str, float]:
    """Part -> share of one core it takes, the greediest first."""
    with running_stack() as stack:
        time.sleep(SETTLE_S)
        before, started = stack.usage(), time.monotonic()
        time.sleep(seconds)
        after, taken_s = stack.usage(), time.monotonic() - started
    ratios = {part: (used.cpu_s - before[part].cpu_s) / taken_s for part, used in after.items() if part in before}
    return dict(sorted(ratios.items(), key=lambda item: -item[1]))


def main() -> int:
    """Measure and print one JSON line."""
    ratios = measure()
    total = sum(ratios.values())
    result: dict[str, Any] = {
        "benchmark": "idle",
        "value": round(total, 4),
        "unit": "of one core, all processes of two regions",
        "target": TARGET_RATIO,
        "ok": total <= TARGET_RATIO,
        "details": {part: round(ratio, 4) for part, ratio in list(ratios.items())[:SHOWN]} | {"parts": len(ratios)},
        "machine": machine(),
    }
    return printed(result)


if __name__ == "__main__":
    sys.exit(main())
