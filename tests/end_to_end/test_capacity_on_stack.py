"""`feedstorm capacity --find population.listeners` on the reference stack: to the end, and to a Ctrl-C on the way."""

from __future__ import annotations

import json
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest
from killed_cache_run import processes_of
from shared_runs import ops_of
from small_runs import ROOT, command, phase, wait_until

from harness.core.errors import ExitCode
from harness.core.op import OpKind, OpOutcome

pytestmark = [pytest.mark.slow, pytest.mark.stack, pytest.mark.nightly, pytest.mark.timeout(300)]

SCENARIO = """
name = "streams"
about = "Few streams."
warmup = "1s"
[population]
users = 240
mean_follows = 10
listeners = 60
panel = 20
[load]
posts = "8/s"
reads = "20/s"
[expect]
"feed_read" = ["failures == 0"]
"invariants" = ["durability", "sse_completeness"]
"""


def search(folder: Path) -> subprocess.Popen[str]:
    scenario = folder / "streams.toml"
    scenario.write_text(SCENARIO + phase("steady", 30))
    options = ("--find", "population.listeners", "--for", "5s", "--repeat", "1")
    return subprocess.Popen(
        command("capacity", scenario, *options, "--out", folder / "search"),
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=hear_interrupts,
    )


def hear_interrupts() -> None:
    """A shell without job control has what it starts in the background ignore them."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def found_in(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "search" / "capacity.json").read_text())["capacity"]
    return found


def left_in(folder: Path) -> list[str]:
    """Data of a stack, tokens, half-written files."""
    return [p.name for p in folder.rglob("*") if (p.name == "stack" and p.parent.name != "logs") or "token" in p.name]


def test_more_and_more_streams_are_opened_until_everybody_listens(tmp_path: Path) -> None:
    process = search(tmp_path)
    told = process.communicate(timeout=250)[1]
    assert process.returncode == ExitCode.INCONCLUSIVE, told
    assert "it holds at the most that the scenario permits" in told
    assert "240 streams (x4) held (1 of 1)" in told
    found = found_in(tmp_path)
    assert found["kept"]
    assert [(step["amount"], step["answer"]) for step in found["steps"]] == [(60, "held"), (120, "held"), (240, "held")]
    for step in found["steps"]:
        opens = [op for op in ops_of(tmp_path / "search" / step["run"]) if op.kind is OpKind.STREAM_OPEN]
        assert len({op.user for op in opens if op.outcome is OpOutcome.OK}) == step["amount"]
    wait_until(lambda: processes_of(str(tmp_path)) == [], 20, "no process is left")
    assert left_in(tmp_path) == []


def test_ctrl_c_in_a_step_tells_what_the_steps_before_it_found(tmp_path: Path) -> None:
    process = search(tmp_path)
    second = tmp_path / "search" / "02-120" / "phases.json"
    wait_until(lambda: second.exists() or process.poll() is not None, 120, "the second step is under way")
    process.send_signal(signal.SIGINT)
    told = process.communicate(timeout=60)[1]
    assert process.returncode == ExitCode.INTERRUPTED, told
    assert "no capacity found: interrupted; 60 streams (x1) held (1 of 1)" in told
    assert "Traceback" not in told
    found = found_in(tmp_path)
    assert [step["answer"] for step in found["steps"]] == ["held"]
    assert found["interval"]["held"]["factor"] == 1
    wait_until(lambda: processes_of(str(tmp_path)) == [], 20, f"no process is left, but {processes_of(str(tmp_path))}")
    assert left_in(tmp_path) == []
