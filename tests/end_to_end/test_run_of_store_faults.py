"""A run with faults on stores and edges: each is witnessed and undone, no acknowledged post is lost, no token left."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest
from small_runs import ROOT, command, fault_rows, phase, write_scenario

pytestmark = [pytest.mark.slow, pytest.mark.stack, pytest.mark.timeout(300)]
FAULTS = {
    "readers": '{ kind = "slow-readers", handle = "us-east.fep", hold = "3s", streams = 12 }',
    "cut": '{ kind = "mass-disconnect", handle = "us-east.fep", hold = "1s" }',
    "locked": '{ kind = "durable-lock", handle = "us-east.jobs", hold = "3s" }',
    "evicted": '{ kind = "cache-eviction", handle = "us-east.memcached", hold = "12s", share = 0.3 }',
    "paused": '{ kind = "queue-pause", handle = "us-east.redis-queue", hold = "1s" }',
    "torn": '{ kind = "torn-log-tail", handle = "us-east.fanout", hold = "1s" }',
}


@pytest.mark.nightly
def test_every_fault_of_a_run_is_seen_and_undone(tmp_path: Path) -> None:
    """The users that read slowly are lent by the run."""
    stages = [phase(name, 13 if name == "evicted" else 5, fault) for name, fault in FAULTS.items()]
    scenario = write_scenario(tmp_path, phase("calm", 2), *stages, phase("after", 5))
    out = tmp_path / "run"
    words = command("run", scenario, "--out", out, "--flag", "cache_mb=32")
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=280, check=False)
    rows = {row["phase"]: row for row in fault_rows(out)}
    assert set(rows) == set(FAULTS), done.stderr
    told = {name: (row["inject_error"], row["witness"], row["undo"]) for name, row in rows.items()}
    assert all(row["witness"]["ok"] and row["undo"]["ok"] for row in rows.values()), told
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    handles = json.loads((out / "target.json").read_text())["handles"]
    token_file = Path(handles["us-east.fep"]["token_file"])
    assert token_file.parent == out
    assert not list(out.glob("tokens.*"))
