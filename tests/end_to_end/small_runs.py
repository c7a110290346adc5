"""Small real runs for tests: scenario texts, the command, and what it left."""

from __future__ import annotations

import json
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
LOAD = """
name = "small"
about = "A small run."
warmup = "1s"
[population]
users = 300
mean_follows = 10
listeners = 40
history = 10
panel = 30
[load]
posts = "10/s"
reads = "40/s"
"""
EXPECT = """
[expect]
"feed_read" = ["failures <= 90%"]
"invariants" = ["durability", "no_phantom", "witness"]
"""


def phase(name: str, seconds: float, *faults: str) -> str:
    """A [[phase]] table; faults as inline tables."""
    return f'[[phase]]\nname = "{name}"\nduration = "{seconds}s"\nfaults = [{", ".join(faults)}]\n'


def write_scenario(folder: Path, *parts: str, expect: str = EXPECT) -> Path:
    """A scenario of the small load and these tables."""
    path = folder / "small.toml"
    path.write_text(LOAD + "".join(parts) + expect)
    return path


def command(*words: str | Path) -> list[str]:
    """`feedstorm WORDS`."""
    return [sys.executable, "-m", "harness.cli", *map(str, words)]


def fault_rows(run: Path, name: str = "faults.jsonl") -> list[dict[str, Any]]:
    """The recorded faults; of one that has several lines the last."""
    lines = (run / name).read_text().splitlines() if (run / name).exists() else []
    return list({row["id"]: row for row in map(json.loads, lines)}.values())


def phases(run: Path) -> dict[str, dict[str, Any]]:
    """phases.json by name."""
    return {row["name"]: row for row in json.loads((run / "phases.json").read_text())}


def checks(run: Path, name: str) -> Iterator[dict[str, Any]]:
    """The checks of that name, or whose name begins with it."""
    found = json.loads((run / "verdict.json").read_text())["checks"]
    return (check for check in found if check["name"].startswith(name))


def wait_until(condition: Callable[[], object], timeout_s: float, what: str) -> None:
    """Wait for a condition; fail after a while."""
    deadline, pause = time.monotonic() + timeout_s, threading.Event()
    while not condition():
        assert time.monotonic() < deadline, f"not within {timeout_s} s: {what}"
        pause.wait(0.05)
