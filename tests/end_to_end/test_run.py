"""`feedstorm run` end to end: a verdict on a clean stack and on a foreign target, and nothing left behind."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.stack, pytest.mark.timeout(180)]

SCENARIO = """
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


@pytest.fixture
def scenario(tmp_path):
    path = tmp_path / "small.toml"
    path.write_text(SCENARIO.format(fault=6, hold=3))
    return path


def command(scenario, out, *words):
    return [sys.executable, "-m", "harness.cli", "run", str(scenario), "--out", str(out), *words]


def verdict_of(out) -> dict:
    return json.loads((out / "verdict.json").read_text())


def failed(out) -> set[str]:
    return {c["name"] for c in verdict_of(out)["checks"] if c["verdict"] == "fail"}


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


def wait_until(condition, timeout_s, what):
    deadline = time.monotonic() + timeout_s
    pause = threading.Event()
    while not condition():
        assert time.monotonic() < deadline, f"not within {timeout_s} s: {what}"
        pause.wait(0.05)


def witnessed(faults) -> bool:
    return faults.exists() and b'"witness":{"ok":true' in faults.read_bytes()


def start_and_wait_for_fault(scenario, out, **kwargs):
    process = subprocess.Popen(
        command(scenario, out), cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, **kwargs
    )
    faults = out / "faults.jsonl"
    wait_until(lambda: witnessed(faults) or process.poll() is not None, 90, "the fault is witnessed")
    assert process.poll() is None, process.stderr.read().decode()
    return process


def test_a_clean_stack_passes_and_leaves_a_whole_run_directory(scenario, tmp_path):
    out = tmp_path / "run"
    done = subprocess.run(command(scenario, out, "--json"), cwd=ROOT, capture_output=True, timeout=150, check=False)
    assert done.returncode == 0, done.stderr.decode()
    assert json.loads(done.stdout)["verdict"] == "pass"
    for name in ("verdict.json", "report.html", "junit.xml", "summary.md", "faults.jsonl", "manifest.json"):
        assert (out / name).stat().st_size > 0
    assert not (out / "stack").exists()
    assert not (out / "tokens.json").exists()
    assert processes_of(str(out)) == []


def test_a_planted_defect_is_exit_1_and_names_the_invariant(scenario, tmp_path):
    out = tmp_path / "run"
    words = command(scenario, out, "--defect", "unordered-page", "--defect", "lose-after-ack")
    done = subprocess.run(words, cwd=ROOT, capture_output=True, timeout=150, check=False)
    assert done.returncode == 1, done.stderr.decode()
    assert {"order", "durability"} <= failed(out)


def test_a_preset_of_one_region_is_run_with_what_there_is_and_judged_by_it(scenario, tmp_path):
    out = tmp_path / "run"
    done = subprocess.run(
        command(scenario, out, "--preset", "x-early"), cwd=ROOT, capture_output=True, timeout=150, check=False
    )
    assert done.returncode == 0, done.stderr.decode()
    skipped = {c["name"]: c["reason"] for c in verdict_of(out)["checks"] if c.get("skipped")}
    assert {skipped[name] for name in ("cross_region", "convergence")} == {"skipped: target reference has one region"}
    assert list(json.loads((out / "target.json").read_text())["regions"]) == ["us-east"]


def test_a_target_without_handles_is_judged_and_what_it_lacks_is_skipped_by_name(scenario, tmp_path):
    out = tmp_path / "run"
    words = command(scenario, out, "--target", "tests/conformance/memory_feed.toml")
    done = subprocess.run(words, cwd=ROOT, capture_output=True, timeout=150, check=False)
    assert done.returncode == 0, done.stderr.decode()
    skipped = {c["name"]: c["reason"] for c in verdict_of(out)["checks"] if c.get("skipped")}
    assert {"cross_region", "convergence", "witness"} <= skipped.keys()
    assert all("target" in skipped[name] for name in ("cross_region", "witness"))


@pytest.mark.parametrize(("sig", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 130), (signal.SIGKILL, -9)])
def test_nothing_is_left_when_the_harness_dies_in_mid_fault(tmp_path, sig, code):
    scenario = tmp_path / "long.toml"
    scenario.write_text(SCENARIO.format(fault=40, hold=35))
    out = tmp_path / "run"
    process = start_and_wait_for_fault(scenario, out, start_new_session=True)
    process.send_signal(sig)
    stderr = process.communicate(timeout=60)[1].decode()
    assert process.returncode == code, stderr
    assert "Traceback" not in stderr
    wait_until(lambda: processes_of(str(out)) == [], 20, f"no process is left, but {processes_of(str(out))}")


def test_a_missing_toxiproxy_is_said_and_a_scenario_that_needs_it_is_exit_4_by_name(scenario, tmp_path):
    environment = os.environ | {"FEEDSTORM_TOXIPROXY": "none"}
    words = command("region-lag", tmp_path / "lag", "--set", "population.users=300", "--set", "population.listeners=10")
    words += ["--set", "population.panel=10", "--set", "population.mean_follows=5"]
    done = subprocess.run(words, cwd=ROOT, env=environment, capture_output=True, timeout=90, check=False)
    assert done.returncode == 4, done.stderr.decode()
    assert b"scenario region-lag needs toxiproxy" in done.stderr
    words = command(scenario, tmp_path / "run")
    done = subprocess.run(words, cwd=ROOT, env=environment, capture_output=True, timeout=90, check=False)
    assert done.returncode == 0, done.stderr.decode()
    assert b"without toxiproxy" in done.stderr


def test_a_real_edge_list_is_the_population(scenario, tmp_path):
    edges = tmp_path / "edges.txt"
    edges.write_text("# SNAP\n" + "".join(f"{u}\t{(u * 7 + k) % 120}\n" for u in range(120) for k in range(1, 9)))
    words = command(scenario, tmp_path / "run", "--set", f"population.graph=edges:{edges}")
    done = subprocess.run(words, cwd=ROOT, capture_output=True, timeout=90, check=False)
    assert failed(tmp_path / "run") == set(), done.stderr.decode()
    resolved = json.loads((tmp_path / "run" / "scenario.json").read_text())
    assert resolved["population"]["users"] == 120
