"""Real runs with a random plan, its replay, and a stop condition that breaks."""

import json
import subprocess
import time

import pytest
from small_runs import ROOT, checks, command, fault_rows, phase, phases, wait_until, write_scenario

pytestmark = [pytest.mark.slow, pytest.mark.stack, pytest.mark.timeout(180)]

NS_PER_S = 1e9
CHAOS = """
[chaos]
kinds = ["pause", "cache-flush"]
handles = ["us-east.memcached", "ap-tokyo.memcached", "*.jobs"]
rate = "30/min"
hold = "1s..2s"
settle = "1s"
overlap = 2
seed = 5
"""
ALL_KINDS = """
[chaos]
kinds = [
  "kill", "pause", "restart", "cache-flush", "partition", "down", "reset",
  { kind = "latency", latency = "600ms", jitter = "100ms" },
]
handles = ["us-east.*", "ap-tokyo.*", "link.*"]
rate = "20/min"
hold = "2s..6s"
overlap = 2
phases = ["storm"]
"""
PAUSE_JOBS = '{ kind = "pause", handle = "us-east.jobs", at = "1s", hold = "55s" }'
PAUSE_API = '{ kind = "pause", handle = "*.api", at = "1s", hold = "25s" }'
STOP = '[stop]\ndelay = "1s"\n"feed_read" = ["failures < 30%", "rate >= 5/s"]\n'


def run(*words) -> subprocess.CompletedProcess:
    return subprocess.run(command("run", *words), cwd=ROOT, capture_output=True, timeout=150, check=False)


def plan_of(directory) -> list[tuple]:
    """What struck when: due times from the first phase, to the millisecond."""
    t0_ns = phases(directory)["baseline"]["start_ns"]
    return sorted(
        (round((row["due_ns"] - t0_ns) / NS_PER_S, 3), row["kind"], row["handle"], row["hold_s"])
        for row in fault_rows(directory)
    )


@pytest.mark.nightly
def test_a_random_plan_is_the_same_for_the_same_seed_and_can_be_replayed(tmp_path):
    scenario = write_scenario(tmp_path, phase("baseline", 3), phase("storm", 9), phase("recovered", 3), CHAOS)
    words = (scenario, "--set", 'chaos.phases=["storm"]')
    first = tmp_path / "runs" / "first"
    done = run(*words, "--out", first)
    assert done.returncode == 0, done.stderr.decode()
    plan = plan_of(first)
    assert len(plan) >= 3
    assert all(at >= 3 and at + hold <= 12 for at, _, _, hold in plan)
    assert all(row["witness"]["ok"] and row["undo"]["ok"] for row in fault_rows(first))
    assert len(phases(first)["storm"]["faults"]) == len(plan)

    again = tmp_path / "runs" / "again"
    bare = write_scenario(tmp_path, phase("baseline", 3), phase("storm", 9), phase("recovered", 3))
    done = run(bare, "--out", again, "--replay", first)
    assert done.returncode == 0, done.stderr.decode()
    assert plan_of(again) == plan
    offsets = [
        [(row["injected_ns"] - phases(one)["baseline"]["start_ns"]) / NS_PER_S for row in fault_rows(one)]
        for one in (first, again)
    ]
    assert all(abs(a - b) < 0.2 for a, b in zip(*offsets, strict=True))

    done = run(bare, "--out", tmp_path / "runs" / "short", "--replay", first, "--set", "phase.storm.duration=1s")
    assert done.returncode == 2
    assert b"--replay" in done.stderr
    assert b"storm" in done.stderr


def test_a_broken_stop_condition_undoes_all_faults_within_2_s_and_the_verdict_says_so(tmp_path):
    scenario = write_scenario(tmp_path, phase("baseline", 3), phase("stuck", 30, PAUSE_API), phase("after", 20), STOP)
    directory = tmp_path / "runs" / "stopped"
    done = run(scenario, "--out", directory)
    assert done.returncode == 1, done.stderr.decode()
    stop = json.loads((directory / "stop.json").read_text())
    assert stop["broken"].startswith("feed_read ")
    rows = fault_rows(directory)
    assert {row["handle"] for row in rows} == {"us-east.api", "ap-tokyo.api"}
    for row in rows:
        assert row["injected_ns"] < stop["ended_ns"] < row["undone_ns"] < stop["ended_ns"] + 2 * NS_PER_S
    failed = [check for check in checks(directory, "stop: ") if check["verdict"] == "fail"]
    assert [check["name"] for check in failed] == [f"stop: {stop['broken']}"]
    assert "the run was ended at" in failed[0]["reason"]
    assert b"stop: feed_read" in done.stderr
    assert list(phases(directory)) == ["warmup", "baseline", "stuck"]
    assert phases(directory)["stuck"]["end_ns"] == stop["ended_ns"]
    assert [check["verdict"] for check in checks(directory, "durability")] != ["fail"]
    assert [check["verdict"] for check in checks(directory, "generator")] != ["fail"]


@pytest.mark.nightly
def test_stopping_the_faults_ends_the_run_and_forbids_the_next(tmp_path):
    scenario = write_scenario(tmp_path, phase("baseline", 3), phase("stuck", 60, PAUSE_JOBS))
    directory, runs = tmp_path / "runs" / "stopped", tmp_path / "runs"
    process = subprocess.Popen(
        command("run", scenario, "--out", directory), cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        wait_until(lambda: any(row["witnessed_ns"] for row in fault_rows(directory)), 90, "the fault is witnessed")
        stop = command("faults", "stop", "--reason", "customers complain", "--runs", runs)
        subprocess.run(stop, cwd=ROOT, check=True, capture_output=True, timeout=30)
        assert process.wait(120) == 3
    finally:
        process.kill()
        process.wait()
    [row] = fault_rows(directory)
    assert row["undo"]["ok"]
    stopped_ns = (runs / "faults-forbidden").stat().st_mtime_ns - (time.time_ns() - time.monotonic_ns())
    assert stopped_ns < row["undone_ns"] < stopped_ns + 2 * NS_PER_S
    [check] = checks(directory, "ran to its end")
    assert check["verdict"] == "inconclusive"
    assert check["reason"].endswith("faults were stopped: customers complain")
    done = run(scenario, "--out", runs / "next")
    assert done.returncode == 4
    assert b"faults are forbidden: customers complain" in done.stderr


@pytest.mark.nightly
def test_a_stop_condition_that_holds_is_a_check_that_passes(tmp_path):
    scenario = write_scenario(tmp_path, phase("baseline", 6), STOP)
    directory = tmp_path / "runs" / "held"
    done = run(scenario, "--out", directory)
    assert done.returncode == 0, done.stderr.decode()
    found = list(checks(directory, "stop: "))
    assert [check["verdict"] for check in found] == ["pass", "pass"]
    assert all(check["observations"] > 5 for check in found)


@pytest.mark.nightly
@pytest.mark.parametrize("seed", range(50))
def test_whatever_is_drawn_nothing_is_left_behind_and_no_acknowledged_post_is_lost(tmp_path, seed):
    scenario = write_scenario(tmp_path, phase("baseline", 5), phase("storm", 20), phase("recovered", 10), ALL_KINDS)
    directory = tmp_path / "runs" / "drawn"
    done = run(scenario, "--out", directory, "--seed", str(seed))
    assert done.returncode in (0, 1, 3), done.stderr.decode()
    rows = fault_rows(directory)
    assert len(rows) >= 3
    assert all(row["undo"]["ok"] for row in rows)
    for name in ("durability", "no_phantom"):
        [check] = checks(directory, name)
        assert check["verdict"] == "pass", check
    unexplained = [c for c in checks(directory, "") if c["verdict"] != "pass" and not (c["reason"] or c["evidence"])]
    assert unexplained == []
