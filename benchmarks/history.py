"""What a history weighs: Parquet on disk against 60 bytes an operation and 6 an item seen. And what making it costs.

The history is the made-up run of the judge's benchmark. Conversion runs in a process of its own, on five segments of a
million operations; its peak of resident memory must stay below LIMIT_MB.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import msgspec

from benchmarks._judge_model import Model
from benchmarks._lane import machine, peak_mib, printed
from benchmarks.judge import MILLION
from harness.record.conversion import ITEMS
from harness.record.parquet import open_history, to_parquet
from harness.record.run_directory import RunDirectory

ROW_BYTES, ITEM_BYTES = 60, 6
COPIES = 5
LIMIT_MB = 1_500


def convert(path: Path) -> None:
    """Convert a run and print what it took."""
    began_s, cpu_s = time.perf_counter(), time.process_time()
    ops = to_parquet(RunDirectory(path))
    took = {
        "seconds": time.perf_counter() - began_s,
        "cpu_s": time.process_time() - cpu_s,
        "peak_mb": peak_mib(),
        "bytes": ops.stat().st_size + ops.with_name(ITEMS).stat().st_size,
    }
    with open_history(RunDirectory(path)) as history:
        [(took["rows"],)] = history.execute("SELECT count(*) FROM ops").fetchall()
    print(msgspec.json.encode({name: round(value, 1) for name, value in took.items()}).decode())


def converted(run: RunDirectory) -> dict[str, float]:
    """The same in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.history", str(run.path)]
    told = subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout
    return msgspec.json.decode(told, type=dict[str, float])


def weigh(run: RunDirectory) -> dict[str, int]:
    """Rows, items seen, bytes of segments and of Parquet."""
    with open_history(run) as history:
        [(rows, items)] = history.execute("SELECT count(*), sum(len(items))::BIGINT FROM ops").fetchall()
    size = {kind: sum(p.stat().st_size for p in run.history.glob(f"*.{kind}")) for kind in ("jsonl", "parquet")}
    return {"rows": rows, "items_seen": items, "segment_bytes": size["jsonl"], "parquet_bytes": size["parquet"]}


def main() -> int:
    """Measure and print one JSON line."""
    with tempfile.TemporaryDirectory(prefix="history-bench-") as folder:
        run = RunDirectory(Path(folder) / "run")
        Model(run, MILLION).make()
        once, weight = converted(run), weigh(run)
        segment = run.history / "model.jsonl"
        large = RunDirectory(Path(folder) / "large").create()
        for number in range(COPIES):
            os.link(segment, large.history / f"model-{number}.jsonl")
        five = converted(large)
    ratio = weight["parquet_bytes"] / (ROW_BYTES * weight["rows"] + ITEM_BYTES * weight["items_seen"])
    result: dict[str, Any] = {
        "benchmark": "history",
        "ratio": round(ratio, 3),
        "target": 1.0,
        "ok": ratio <= 1.0 and five["peak_mb"] <= LIMIT_MB and five["rows"] == COPIES * once["rows"],
        "details": {**weight, "million": once, "five_million": five},
        "machine": machine(),
    }
    return printed(result)


if __name__ == "__main__":
    if sys.argv[1:]:
        convert(Path(sys.argv[1]))
    else:
        sys.exit(main())
