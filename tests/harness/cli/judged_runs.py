"""Judged runs for tests of commands: a made-up legal run, and a copy whose feed reads are slower."""

from __future__ import annotations

import shutil
from pathlib import Path

import msgspec

from benchmarks._judge_model import Model, Size
from harness.core.op import OpKind
from harness.record.frames import read_segment
from harness.record.history import HistoryWriter
from harness.record.run_directory import RunDirectory
from harness.run.judging import judge_and_store

SMALL = Size(users=100, listeners=20, panel=6, posts_per_s=8.0, reads_per_s=60.0, phase_s=9.0, final_readers=12)


def make_runs(folder: Path) -> Path:
    """runs/fast, runs/slow (reads take three times as long), and runs/many-1, many-2 like the first; judged."""
    runs = folder / "runs"
    Model(RunDirectory(runs / "fast"), SMALL, 1).make()
    shutil.copytree(runs / "fast", runs / "slow")
    slow_down(RunDirectory(runs / "slow"), 3.0)
    for name in ("fast", "slow"):
        judge_and_store(RunDirectory(runs / name))
    for name in ("many-1", "many-2"):
        shutil.copytree(runs / "fast", runs / name)
    (runs / "latest").symlink_to("slow")
    return runs


def slow_down(run: RunDirectory, factor: float) -> None:
    """Make each read of a feed take `factor` times as long."""
    segment = run.history / "model.jsonl"
    ops = list(read_segment(segment))
    segment.unlink()
    with HistoryWriter(segment) as history:
        for op in ops:
            took_ns = round(factor * (op.done_ns - op.due_ns)) if op.kind is OpKind.FEED else op.done_ns - op.due_ns
            history.append(msgspec.structs.replace(op, done_ns=op.due_ns + took_ns))
