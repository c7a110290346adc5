"""A run on a machine that others starve is inconclusive; a target that is slower than that explains fails.

Others are busy loops that no process of the run started: as many, and of such priority, that they leave a run that
wants a third of a processor less than that.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time

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
HOG = """
import os, sys
try:
    os.nice(-int(sys.argv[1]))
except PermissionError:
    pass
while True:
    pass
"""
AHEAD = 3
"""steps of priority that hogs are ahead of the run, where that is allowed: each then counts as two"""


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


def hog(out, process, *, each, ahead=0):
    """Keep the machine busy while the run's phases last, with so many loops for each processor."""
    wait_until(lambda: (out / "phases.json").exists() or process.poll() is not None, 90, "the load begins")
    assert process.poll() is None, process.stderr.read().decode()
    count = each * len(os.sched_getaffinity(0))
    words = [sys.executable, "-c", HOG, str(ahead)]
    busy = [subprocess.Popen(words, start_new_session=True) for _ in range(count)]  # its priority, not its session's
    try:
        end_ns = phases(out)["steady"]["end_ns"]
        wait_until(lambda: time.monotonic_ns() >= end_ns or process.poll() is not None, 60, "the phase ends")
    finally:
        for loop in busy:
            loop.kill()
        for loop in busy:
            loop.wait()


def may_go_ahead():
    """Whether this process may raise its priority."""
    probe = subprocess.run([sys.executable, "-c", f"import os; os.nice(-{AHEAD})"], capture_output=True, check=False)
    return probe.returncode == 0


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
    hog(out, process, each=2 if may_go_ahead() else 4, ahead=AHEAD)
    code, check = ended(process), read_check(out)
    assert check["value"] > check["bound"]  # reads want a third of a processor, and get a fifth
    assert check["verdict"] == "inconclusive"
    assert code == 3
    assert "the machine was noisy" in check["reason"]
    assert "others took" in check["reason"]
    assert "others kept the run from the processors" in (out / "summary.md").read_text().lower()


def test_a_target_that_is_slower_than_a_busy_machine_explains_fails(run_of):
    out, process = run_of(0, 3000, seconds=6)
    hog(out, process, each=1)
    code, check = ended(process), read_check(out)
    assert check["verdict"] == "fail", check["reason"]
    assert code == 1
    [steady] = [row for row in json.loads((out / "verdict.json").read_text())["machine"] if row["phase"] == "steady"]
    assert steady["outside"] + steady["steal"] >= 0.2  # the machine was busy


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
    out, process = run_of(40, 0, seconds=8)  # 1.2 processors, in one thread
    if (code := ended(process)) == 3:
        skip_on_a_busy_machine(out)
    assert code == 1
    check = read_check(out)
    assert check["value"] > check["bound"]
    assert check["verdict"] == "fail", check["reason"]
