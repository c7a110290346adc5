"""A small run with one killed cache, as tests start it, and what is left of it."""

from __future__ import annotations

import os
import sys
from pathlib import Path

KILLED_CACHE = """
name = "small"
about = "A small run with one killed cache."
warmup = "1s"
[population]
users = 300
mean_follows = 10
celebrities = [150]
listeners = 60
history = 20
panel = 30
fetch_ratio = 0.2
[load]
posts = "15/s"
reads = "40/s"
celebrity_posts = "1/s"
[[phase]]
name = "baseline"
duration = "4s"
[[phase]]
name = "cache-down"
duration = "{fault}s"
faults = [{{ kind = "kill", handle = "us-east.memcached", at = "1s", hold = "{hold}s" }}]
[[phase]]
name = "recovered"
duration = "4s"
[expect]
"feed_read" = ["failures == 0"]
"invariants" = "all"
"recovery" = "<= 15s"
"""
ROOT = Path(__file__).parents[2]


def run_command(scenario: str | Path, out: Path, *words: str) -> list[str]:
    """`feedstorm run SCENARIO --out OUT WORDS`."""
    return [sys.executable, "-m", "harness.cli", "run", str(scenario), "--out", str(out), *words]


def processes_of(marker: str) -> list[int]:
    """Processes whose command line or environment names the run's directory."""
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        try:
            words = (entry / "cmdline").read_bytes()
            text = words + (entry / "environ").read_bytes()
        except OSError:
            continue
        if marker.encode() in text and b"pytest" not in words:
            found.append(int(entry.name))
    return found
