"""`feedstorm up | status | down`: the stack by hand, and gone with the one who started it."""

import json
import os
import signal
import subprocess
import sys

import pytest
from killed_cache_run import processes_of
from small_runs import wait_until

pytestmark = [pytest.mark.slow, pytest.mark.stack]


def feedstorm(*words):
    command = [sys.executable, "-m", "harness.cli", *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=90, check=False)


def test_up_status_down(tmp_path):
    folder = ["--dir", str(tmp_path / "stack")]
    shape = ["--preset", "x-early", "--apis", "2", "--proxy", "us-east.api-to-memcached"]
    up = feedstorm("up", *folder, "--users", "50", *shape, "--detach")
    assert up.returncode == 0, up.stderr
    try:
        status = feedstorm("status", *folder, "--json")
        parts = json.loads(status.stdout)
        assert status.returncode == 0
        assert "us-east.memcached" in json.dumps(parts)
        assert "us-east.api-1" in json.dumps(parts)
        assert parts["handles"]["us-east.api-to-memcached"]["state"] == "ready"
        assert "ap-tokyo" not in json.dumps(parts)
    finally:
        down = feedstorm("down", *folder)
    assert down.returncode == 0, down.stderr
    assert processes_of(str(tmp_path / "stack")) == []
    assert feedstorm("status", *folder).returncode == 4


def test_a_directory_keeps_its_users(tmp_path):
    folder = ["--dir", str(tmp_path / "stack"), "--preset", "x-early", "--detach"]
    users = []
    for options in (["--users", "77"], []):
        up = feedstorm("up", *folder, *options)
        assert up.returncode == 0, up.stderr
        users.append(json.loads((tmp_path / "stack" / "settings.json").read_bytes())["users"])
        assert feedstorm("down", *folder[:2]).returncode == 0
    assert users == [77, 77]


def hear_interrupts():
    """A shell without job control has what it starts in the background ignore them."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def test_ctrl_c_while_a_stack_starts_in_the_background_ends_it(tmp_path):
    folder = tmp_path / "stack"
    command = [sys.executable, "-m", "harness.cli", "up", "--dir", str(folder), "--users", "50", "--detach"]
    process = subprocess.Popen(
        command,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
        preexec_fn=hear_interrupts,
    )
    wait_until((folder / "pids" / "us-east.redis-queue.pid").exists, 60, "the first parts run")
    os.killpg(process.pid, signal.SIGINT)
    assert process.wait(30) == 130
    wait_until(lambda: processes_of(str(folder)) == [], 20, "no process is left")


def test_a_stack_in_the_foreground_goes_when_its_starter_is_killed(tmp_path):
    folder = tmp_path / "stack"
    command = [sys.executable, "-m", "harness.cli", "up", "--dir", str(folder), "--users", "50"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    wait_until((folder / "endpoints.json").exists, 60, "the stack is ready")
    process.send_signal(signal.SIGKILL)
    process.wait()
    wait_until(lambda: processes_of(str(folder)) == [], 20, "no process is left")
