"""Runs that are shared out over workers, as tests start them, and what they left."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
from small_runs import ROOT, command, wait_until

from harness.core.op import Op
from harness.record.parquet import open_history
from harness.record.run_directory import RunDirectory

COLUMNS = ("id", "kind", "session", "user", "region", "due_ns", "sent_ns", "done_ns", "outcome", "status", "text_hash",
           "reply_to", "idempotency_key", "limit", "celebrity")  # fmt: skip


def write_secret(folder: Path) -> Path:
    path = folder / "secret"
    path.write_text("a secret for the tests")
    path.chmod(0o600)
    return path


def started(
    told: Path, *words: str | Path, env: dict[str, str] | None = None, launcher: Sequence[str] = ()
) -> subprocess.Popen[str]:
    """A command whose messages go to a file."""
    with told.open("w") as messages:
        return subprocess.Popen(
            [*launcher, *command(*words)],
            cwd=ROOT,
            stdout=subprocess.DEVNULL,
            stderr=messages,
            text=True,
            env=os.environ | (env or {}),
        )


def port_of(run: subprocess.Popen[str]) -> int:
    """Where a master listens that was given port 0."""
    found: list[int] = []

    def look() -> bool:
        done = subprocess.run(["ss", "-Hltnp"], capture_output=True, text=True, check=True)
        found.extend(
            int(line.split()[3].rpartition(":")[2]) for line in done.stdout.splitlines() if f"pid={run.pid}," in line
        )
        return bool(found) or run.poll() is not None

    wait_until(look, 60, "the master listens")
    assert found
    return found[0]


def generator_of(out: Path) -> dict[str, Any]:
    """The check of the load, beside the verdict of all."""
    verdict = json.loads((out / "verdict.json").read_text())
    [check] = [check for check in verdict["checks"] if check["name"] == "generator"]
    return {**check, "of_all": verdict["verdict"]}


def ops_of(out: Path) -> list[Op]:
    """The rows of the load."""
    names = ", ".join(f'"{name}"' for name in COLUMNS)
    with open_history(RunDirectory(out)) as history:
        rows = history.execute(f"SELECT {names} FROM ops WHERE NOT final").fetchall()
    return [msgspec.convert(dict(zip(COLUMNS, row, strict=True)), Op) for row in rows]


def t0_of(out: Path) -> int:
    """When the first phase began, ns."""
    rows = json.loads((out / "phases.json").read_bytes())
    return next(int(row["start_ns"]) for row in rows if row["kind"] != "warmup")
