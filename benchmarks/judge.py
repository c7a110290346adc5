"""Judging a run of five million ops: conversion of the history, all tables, SLOs, all 20 checkers, series and samples.

    python -m benchmarks.judge                                  within a minute and 3 GiB
    python -m benchmarks.judge --ops 1000000 --stages           a million within 20 s, and each stage by itself

The history is made up: half of the reads show pages of 50, half of 5, each checker has something to look at, and the
target is legal, so that everything is looked at and nothing is found; a checker that is skipped is a missed target.
Time and peak memory are those of a process that judges it and does nothing else.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import platform
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import msgspec

from benchmarks._judge_model import Model, Size
from benchmarks._lane import peak_mib
from harness.core.verdict import Outcome
from harness.judge import barred, coverage, graph, metrics, streams
from harness.judge.case import read_case
from harness.judge.invariants import CHECKERS
from harness.judge.judge import judge
from harness.judge.tables import open_tables
from harness.judge.trial import Trial, run_checker
from harness.record.parquet import to_parquet
from harness.record.run_directory import RunDirectory

START_S, MILLION_S = 10.0, 10.0
TARGET_MIB = 3072
"""a million ops within 20 s, five million within a minute, and 3 GiB"""
OPS_PER_S = 5_700.0
"""of `MILLION`, at least"""
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
    busy=True,
)
"""about 63,000 posts, 610,000 events and 330,000 reads"""


def sized(ops: int) -> Size:
    """A run of at least so many ops: longer, everything else as in `MILLION`."""
    return replace(MILLION, phase_s=ops / OPS_PER_S / 3)


def main() -> int:
    """Print one JSON line; 1 when a target is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--ops", type=int, default=5_000_000, help="ops in the history, at least")
    parser.add_argument("--run", type=Path, help="folder for the history; one that is there is judged again")
    parser.add_argument("--stages", action="store_true", help="tell time and memory of each stage and checker too")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="judge-bench-") as folder:
        run = RunDirectory(options.run or Path(folder) / "run")
        if not run.scenario.exists():
            Model(run, sized(options.ops)).make()
        result = _apart(_judged, run)
        if options.stages:
            _apart(_staged, run)
    bound = START_S + MILLION_S * result["ops"] / 1e6
    within = result["seconds"] <= bound and result["mib"] <= TARGET_MIB
    ok = within and result["verdict"] == Outcome.PASS and not result["skipped"]
    line = {
        "benchmark": "judge",
        "value": round(result["seconds"], 2),
        "target": round(bound, 1),
        "ok": ok,
        "details": f"{result['ops']:,} ops, {result['items']:,} items read, {result['mib']:,} MiB at most, "
        f"{result['spent']:.1f} s of processors, verdict {result['verdict']}, "
        f"{len(result['skipped'])} checks skipped, in seconds",
        "machine": f"{platform.machine()}, {platform.python_version()}, load {os.getloadavg()[0]:.1f}",
    }
    print(msgspec.json.encode(line).decode())
    return 0 if ok else 1


def _apart(work: Callable[[RunDirectory, Connection], None], run: RunDirectory) -> dict[str, Any]:
    """What a process of its own answers."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=work, args=(run, theirs))
    process.start()
    theirs.close()
    answer: dict[str, Any] = ours.recv()
    process.join()
    return answer


def _judged(run: RunDirectory, answer: Connection) -> None:
    started, used = time.perf_counter(), time.process_time()
    verdict = judge(run)
    seconds, spent = time.perf_counter() - started, time.process_time() - used
    counts = verdict.counts
    answer.send(
        {
            "seconds": seconds,
            "spent": spent,
            "mib": round(peak_mib()),
            "verdict": verdict.verdict,
            "skipped": [check.name for check in verdict.checks if check.skipped],
            "ops": counts["total"],
            "items": counts["items_read"],
        }
    )


def _staged(run: RunDirectory, answer: Connection) -> None:
    """The same stage by stage, on standard error: seconds, of the processors too, and the most memory up to then."""
    last, used = time.perf_counter(), time.process_time()

    def tell(name: str) -> None:
        nonlocal last, used
        now, spent = time.perf_counter(), time.process_time()
        times = f"{now - last:7.2f} s, {spent - used:7.2f} s of processors"
        print(f"{name:22} {times}, {round(peak_mib()):7,} MiB", file=sys.stderr, flush=True)
        last, used = now, spent

    case = read_case(run)
    ops = to_parquet(run)
    tell("conversion")
    with open_tables(case, ops) as con:
        tell("tables")
        graph.build(con, case)
        barred.build(con, case)
        tell("graph")
        coverage.build(con, case)
        tell("coverage")
        streams.build(con)
        tell("streams")
        metrics.build(con)
        tell("metrics")
        trial = Trial(case=case, con=con)
        for name, checker in CHECKERS.items():
            run_checker(name, checker, trial)
            tell(name)
    answer.send({})


if __name__ == "__main__":
    sys.exit(main())
