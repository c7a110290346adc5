"""`feedstorm run` that ends before its time, or cannot be run: told, and nothing left behind."""

import os
import signal
import subprocess

import pytest
from killed_cache_run import KILLED_CACHE, ROOT, processes_of, run_command
from small_runs import wait_until

pytestmark = [pytest.mark.slow, pytest.mark.stack, pytest.mark.timeout(180)]


def witnessed(faults) -> bool:
    return faults.exists() and b'"witness":{"ok":true' in faults.read_bytes()


def start_and_wait_for_fault(scenario, out, **kwargs):
    process = subprocess.Popen(
        run_command(scenario, out), cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, **kwargs
    )
    faults = out / "faults.jsonl"
    wait_until(lambda: witnessed(faults) or process.poll() is not None, 90, "the fault is witnessed")
    assert process.poll() is None, process.stderr.read().decode()
    return process


@pytest.mark.parametrize(
    ("sig", "code"),
    [(signal.SIGINT, 130), pytest.param(signal.SIGTERM, 130, marks=pytest.mark.nightly), (signal.SIGKILL, -9)],
)
def test_nothing_is_left_when_the_harness_dies_in_mid_fault(tmp_path, sig, code):
    scenario = tmp_path / "long.toml"
    scenario.write_text(KILLED_CACHE.format(fault=40, hold=35))
    out = tmp_path / "run"
    process = start_and_wait_for_fault(scenario, out, start_new_session=True)
    process.send_signal(sig)
    stderr = process.communicate(timeout=60)[1].decode()
    assert process.returncode == code, stderr
    assert "Traceback" not in stderr
    wait_until(lambda: processes_of(str(out)) == [], 20, f"no process is left, but {processes_of(str(out))}")


def test_a_scenario_that_needs_a_missing_toxiproxy_is_exit_4_by_name(tmp_path):
    environment = os.environ | {"FEEDSTORM_TOXIPROXY": "none"}
    words = run_command(
        "region-lag", tmp_path / "lag", "--set", "population.users=300", "--set", "population.listeners=10"
    )
    words += ["--set", "population.panel=10", "--set", "population.mean_follows=5"]
    done = subprocess.run(words, cwd=ROOT, env=environment, capture_output=True, timeout=90, check=False)
    assert done.returncode == 4, done.stderr.decode()
    assert b"scenario region-lag needs toxiproxy" in done.stderr
