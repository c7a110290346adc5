"""`feedstorm up | status | down`: the stack by hand, and gone with the one who started it."""

import json
import signal
import subprocess
import sys

import pytest
from test_run import processes_of, wait_until

pytestmark = [pytest.mark.slow, pytest.mark.stack]


def feedstorm(*words):
    command = [sys.executable, "-m", "harness.cli", *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=90, check=False)


def test_up_status_down(tmp_path):
    folder = ["--dir", str(tmp_path / "stack")]
    up = feedstorm("up", *folder, "--users", "50", "--detach")
    assert up.returncode == 0, up.stderr
    try:
        status = feedstorm("status", *folder, "--json")
        parts = json.loads(status.stdout)
        assert status.returncode == 0
        assert "us-east.memcached" in json.dumps(parts)
    finally:
        down = feedstorm("down", *folder)
    assert down.returncode == 0, down.stderr
    assert processes_of(str(tmp_path / "stack")) == []
    assert feedstorm("status", *folder).returncode == 4


def test_a_stack_in_the_foreground_goes_when_its_starter_is_killed(tmp_path):
    folder = tmp_path / "stack"
    command = [sys.executable, "-m", "harness.cli", "up", "--dir", str(folder), "--users", "50"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    wait_until((folder / "endpoints.json").exists, 60, "the stack is ready")
    process.send_signal(signal.SIGKILL)
    process.wait()
    wait_until(lambda: processes_of(str(folder)) == [], 20, "no process is left")
