"""What a machine is busy with: literal files of /proc, and processes that really run."""

from __future__ import annotations

import os
import subprocess
import sys

import msgspec
import pytest

from harness.load.machine import (
    Account,
    Machine,
    Processor,
    descendants,
    handle_pids,
    parse_processor,
    read_account,
    read_parents,
)
from harness.record.noise_file import MainThread

STAT = b"""cpu  900 0 300 5000 50 0 20 130 0 0
cpu0 400 0 100 2000 20 0 10 30 0 0
cpu1 500 0 200 3000 30 0 10 100 0 0
cpu10 7 7 7 7 7 7 7 7 0 0
intr 12345 0
ctxt 99
"""
BUSY = "import time\nend = time.monotonic() + 60\nprint('busy', flush=True)\nwhile time.monotonic() < end: pass"


def test_only_allowed_cores_count():
    assert parse_processor(STAT, {0}) == Processor(busy=510, steal=30, total=2560)
    assert parse_processor(STAT, {0, 1}) == Processor(busy=1220, steal=130, total=6400)
    assert parse_processor(b"", {0}) == Processor()


def test_descendants_of_roots_that_live():
    parents = {1: 0, 10: 1, 11: 10, 12: 11, 20: 1, 21: 20}
    assert descendants([10], parents) == {10, 11, 12}
    assert descendants([11, 20], parents) == {11, 12, 20, 21}
    assert descendants([99], parents) == set()


def test_what_a_main_thread_did_between_two_accounts():
    before = Account(ticks=10, ran_ns=5_000_000, waited_ns=1_000_000, turns=7)
    after = Account(ticks=12, ran_ns=25_000_000, waited_ns=4_500_000, turns=19)
    assert after.since(before, 42) == MainThread(pid=42, ran_us=20_000, waited_us=3_500, turns=12)


def test_this_process_is_among_the_children_of_its_parent():
    assert os.getpid() in descendants([os.getppid()], read_parents())
    account = read_account(os.getpid())
    assert isinstance(account, Account)
    assert account.ran_ns > 0
    assert read_account(2**22 + 1) is None


@pytest.mark.slow
@pytest.mark.parametrize("ours", [True, False])
def test_work_counts_as_the_runs_own_or_as_others(ours):
    busy = subprocess.Popen([sys.executable, "-c", BUSY], stdout=subprocess.PIPE)
    try:
        assert busy.stdout is not None
        busy.stdout.readline()
        machine = Machine(lambda: [busy.pid] if ours else [])
        before = read_account(busy.pid)
        while read_account(busy.pid).ticks < before.ticks + 30:
            pass
        use = machine.look()
    finally:
        busy.kill()
        busy.wait()
        busy.stdout.close()
    assert (use.own > 0) is ours
    assert ours or use.outside > 0
    assert [thread.pid for thread in use.processes] == ([busy.pid] if ours else [])  # it ran, or stood in line
    assert all(thread.ran_us > 0 and thread.turns >= 0 for thread in use.processes)
    assert use.running >= 1


def test_the_processes_behind_the_handles_of_a_target(tmp_path):
    profile = tmp_path / "target.json"
    assert handle_pids(profile) == {}
    (tmp_path / "a.pid").write_text("41 99\n")
    (tmp_path / "b.pid").write_text("")
    handles = {name: {"backend": "process", "pid_file": str(tmp_path / f"{name}.pid")} for name in "abc"}
    profile.write_bytes(msgspec.json.encode({"handles": {**handles, "d": {"backend": "network"}}}))
    assert handle_pids(profile) == {"a": 41}
