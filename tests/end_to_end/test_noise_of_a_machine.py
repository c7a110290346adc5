"""A run on a machine that others starve is inconclusive; a slow target fails, also one that starves its own machine."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from contextlib import contextmanager

import pytest
from small_runs import ROOT, checks, command, phase, phases, wait_until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]

SCENARIO = """
name = "noise"
about = "Reads, and what the machine does to them."
warmup = "1s"
[population]
users = 100
mean_follows = 5
panel = 20
history = 5
[load]
posts = "1/s"
reads = "30/s"
"""
EXPECT = """
[expect]
"feed_read" = ["p(95) <= 250ms"]
"invariants" = ["no_phantom"]
"""
HOG = "while True: pass"


@pytest.fixture
def run_of(tmp_path):
    """Runs the scenario on the in-memory feed whose reads take that much processor time, and time alone."""

    def start(burn_ms, wait_ms, *, seconds):
        scenario, profile, out = tmp_path / "noise.toml", tmp_path / "heavy.toml", tmp_path / "run"
        scenario.write_text(SCENARIO + phase("steady", seconds) + EXPECT)
        feed = ["{python}", f"{ROOT}/tests/end_to_end/heavy_feed.py", str(burn_ms), str(wait_ms)]
        text = (ROOT / "tests" / "conformance" / "memory_feed.toml").read_text()
        profile.write_text(text.replace('"{python}", "{profile_dir}/memory_feed.py"', json.dumps(feed)[1:-1]))
        words = command("run", scenario, "--out", out, "--target", profile)
        return out, subprocess.Popen(words, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)

    return start


@contextmanager
def hogs(out, process):
    """Busy loops beside the run while its phases last, several for each core."""
    wait_until(lambda: (out / "phases.json").exists() or process.poll() is not None, 90, "the load begins")
    assert process.poll() is None, process.stderr.read().decode()
    count = 8 * len(os.sched_getaffinity(0))
    busy = [subprocess.Popen([sys.executable, "-c", HOG]) for _ in range(count)]
    try:
        yield
    finally:
        for hog in busy:
            hog.kill()
        for hog in busy:
            hog.wait()


def ended(process):
    """The run's exit code."""
    message = process.communicate(timeout=120)[1].decode()
    assert "Traceback" not in message, message
    return process.returncode


def read_check(out):
    [check] = checks(out, "feed_read p(95)")
    return check


def skip_on_a_busy_machine(out):
    """What shows that a target fails needs a machine that nobody else uses."""
    rows = json.loads((out / "verdict.json").read_text())["machine"]
    if any(row["phase"] == "steady" and row["outside"] + row["steal"] >= 0.2 for row in rows):
        pytest.skip("others kept this machine busy: nothing can be told of the target")


def test_a_run_that_others_starve_is_inconclusive_and_says_why(run_of):
    out, process = run_of(10, 0, seconds=8)
    with hogs(out, process):
        end_ns = phases(out)["steady"]["end_ns"]
        wait_until(lambda: time.monotonic_ns() >= end_ns or process.poll() is not None, 60, "the phase ends")
    code, check = ended(process), read_check(out)
    if code == 0 and check["value"] <= check["bound"]:
        pytest.skip("the hogs slowed nothing down: this machine shares its processors too well")
    assert code == 3
    assert check["value"] > check["bound"]
    assert check["verdict"] == "inconclusive"
    assert "the machine was noisy" in check["reason"]
    assert "others took" in check["reason"]
    assert "others kept the run from the processors" in (out / "summary.md").read_text().lower()


def test_a_slow_target_on_a_quiet_machine_fails_and_the_machine_stands_beside(run_of):
    out, process = run_of(0, 600, seconds=4)
    if (code := ended(process)) == 3:
        skip_on_a_busy_machine(out)
    assert code == 1
    check = read_check(out)
    assert check["verdict"] == "fail"
    assert check["machine"] < check["value"] / 2
    assert "machine alone" in (out / "report.html").read_text()


@pytest.mark.nightly
def test_a_target_that_starves_its_own_machine_fails(run_of):
    out, process = run_of(60, 0, seconds=8)
    if (code := ended(process)) == 3:
        skip_on_a_busy_machine(out)
    assert code == 1
    check = read_check(out)
    assert check["value"] > check["bound"]
    assert check["verdict"] == "fail", check["reason"]
