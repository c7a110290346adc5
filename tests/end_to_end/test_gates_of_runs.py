"""Repeats and baselines of real runs: what an interrupted series tells, and a run held against an older one."""

from __future__ import annotations

import json
import signal
import subprocess
from pathlib import Path

import pytest
from small_runs import ROOT, command, phase, wait_until, write_scenario

pytestmark = [pytest.mark.slow, pytest.mark.stack, pytest.mark.timeout(180)]

TOLERANCE = """
[tolerance]
times = "1000% or 5s"
failures = "50%"
rate = "50%"
"feed_read" = ["med <= +1000% or +5s"]
"""
TARGET = ["--target", "tests/conformance/memory_feed.toml"]


def words(scenario: Path, out: Path, *more: str) -> list[str]:
    return command("run", scenario, *TARGET, "--out", out, "--json", *more)


def test_an_interrupted_series_tells_what_it_knows_and_its_run_is_a_baseline(tmp_path: Path) -> None:
    scenario = write_scenario(tmp_path, phase("calm", 9), TOLERANCE)
    log = tmp_path / "series.log"
    with log.open("wb") as stderr:
        repeated = words(scenario, tmp_path / "run", "--repeat", "3")
        series = subprocess.Popen(repeated, cwd=ROOT, stdout=subprocess.PIPE, stderr=stderr)
    second = tmp_path / "run-2" / "phases.json"
    wait_until(lambda: second.exists() or series.poll() is not None, 90, "the second run is under way")
    series.send_signal(signal.SIGINT)
    told, _ = series.communicate(timeout=60)
    assert series.returncode == 130, log.read_text()
    repeats = json.loads(told)["repeats"]
    assert (repeats["wanted"], len(repeats["runs"]), repeats["ended"][:11]) == (3, 1, "interrupted")
    assert {rate["name"] for rate in repeats["checks"]} >= {"feed_read failures <= 90%", "durability"}

    held = words(scenario, tmp_path / "later", "--baseline", str(tmp_path / "run-1"))
    done = subprocess.run(held, cwd=ROOT, capture_output=True, timeout=100, check=False)
    verdict = json.loads(done.stdout)
    against = {check["name"]: check for check in verdict["checks"] if check["kind"] == "baseline"}
    assert done.returncode in (0, 3), [c for c in verdict["checks"] if c["verdict"] == "fail"]  # 3: a busy machine
    assert all(check["verdict"] != "fail" for check in against.values())
    assert "compared with run-1" in against["verdicts against the baseline"]["reason"]
    assert "feed_read med against the baseline" in against
    assert (tmp_path / "later" / "comparison.json").exists()

    unfinished = subprocess.run(
        command("compare", tmp_path / "run", tmp_path / "later"), cwd=ROOT, capture_output=True, timeout=30, check=False
    )
    assert unfinished.returncode == 2
    assert b"run-2: has no verdict yet" in unfinished.stderr
