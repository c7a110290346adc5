"""Judging a run of a million ops: conversion of the history, all tables, all SLOs and all invariants."""

from __future__ import annotations

import platform
import sys
import tempfile
import time
from pathlib import Path

import msgspec

from benchmarks._judge_model import Model, Size
from harness.core.verdict import Outcome
from harness.judge.judge import judge
from harness.record.run_directory import RunDirectory

TARGET_S = 20.0
MILLION = Size(
    users=20_000,
    follows=50,
    listeners=3_900,
    panel=200,
    posts_per_s=345.0,
    reads_per_s=1_690.0,
    phase_s=60.0,
    final_readers=1_200,
    history=2,
)
"""about 63,000 posts, 610,000 events and 330,000 reads"""


def main() -> int:
    """Print one JSON line; 1 when the target is missed."""
    with tempfile.TemporaryDirectory(prefix="judge-bench-") as folder:
        run = RunDirectory(Path(folder) / "run")
        ops = Model(run, MILLION).make()
        started = time.perf_counter()
        verdict = judge(run)
        seconds = time.perf_counter() - started
    ok = seconds <= TARGET_S and verdict.verdict is Outcome.PASS and ops >= 1_000_000
    result = {
        "benchmark": "judge",
        "value": round(seconds, 2),
        "target": TARGET_S,
        "ok": ok,
        "details": f"{ops:,} ops, {verdict.counts['items_read']:,} items read, verdict {verdict.verdict}, in seconds",
        "machine": f"{platform.machine()}, {platform.python_version()}",
    }
    print(msgspec.json.encode(result).decode())
    return 0 if ok else 1


if __name__ == "__main__":
    sys.exit(main())
