"""What a fault starts is found by its mark alone, dies with who started it, and ends by itself."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from chaos_targets import ROOT, wait_for
from store_targets import can_write

from chaos.children.starting import start, start_all
from chaos.faults.cpu_hog import CpuHog, CpuHogPlan
from chaos.kind import FaultError
from chaos.marks import HELPER_MARK, end_marked, marked, new_mark
from chaos.processes import own_identity, read_state

pytestmark = pytest.mark.slow
STARTER = """
import sys, time
from chaos.children.starting import start
start("sqlite_lock", sys.argv[1], 600, {"uri": sys.argv[2], "free_s": 0})
print("started", flush=True)
time.sleep(600)
"""


@pytest.fixture
def store(tmp_path: Path) -> Path:
    path = tmp_path / "a store.db"
    db = sqlite3.connect(path)
    db.execute("CREATE TABLE posts(id INTEGER)")
    db.close()
    return path


def lock(store: Path, lease_s: float = 600) -> str:
    mark = new_mark()
    start("sqlite_lock", mark, lease_s, {"uri": f"{store.as_uri()}?mode=rw", "free_s": 0})
    return mark


def test_found_and_ended_by_its_mark(store: Path) -> None:
    mark = lock(store)
    assert mark.startswith(HELPER_MARK)
    assert not can_write(store)
    (child,) = marked(mark)
    assert marked(mark[:-1]) == []  # a part of a mark is another mark
    state = read_state(child.pid)
    assert state is not None
    assert state.group == child.pid  # a Ctrl-C of the terminal is not for it
    assert end_marked(mark) == 1
    assert can_write(store)
    assert end_marked(mark) == 0


def test_dies_with_who_started_it(store: Path) -> None:
    mark = new_mark()
    starter = subprocess.Popen(
        [sys.executable, "-c", STARTER, mark, f"{store.as_uri()}?mode=rw"], cwd=ROOT, stdout=subprocess.PIPE
    )
    assert starter.stdout is not None
    with starter.stdout as said:
        assert said.readline() == b"started\n"
    assert marked(mark)
    starter.send_signal(signal.SIGKILL)
    starter.wait(10)
    wait_for(lambda: not marked(mark), 2, "the child is gone")
    assert can_write(store)


def test_ends_with_its_lease(store: Path) -> None:
    mark = lock(store, lease_s=1.0)
    assert not can_write(store)
    wait_for(lambda: not marked(mark), 3, "the child is gone")
    assert can_write(store)


def test_whoever_started_it_may_be_gone_before_it_begins(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "chaos.children.sqlite_lock", new_mark(), "1", "600"]
    done = subprocess.run(command, cwd=ROOT, input=b"{}", capture_output=True, timeout=20, check=False)
    assert done.returncode != 0
    assert b"gone" in done.stderr


def test_what_cannot_begin_says_why(tmp_path: Path) -> None:
    mark = new_mark()
    with pytest.raises(FaultError, match=r"sqlite_lock did not begin within 10 s: .*unable to open database file"):
        start("sqlite_lock", mark, 600, {"uri": f"{(tmp_path / 'none.db').as_uri()}?mode=rw", "free_s": 0})
    assert marked(mark) == []


def test_what_takes_too_long_to_begin_is_ended(store: Path) -> None:
    first, second = lock(store), new_mark()
    with pytest.raises(FaultError, match=r"did not begin within 0\.5 s: it said nothing"):
        start("sqlite_lock", second, 600, {"uri": f"{store.as_uri()}?mode=rw", "free_s": 0}, timeout_s=0.5)
    assert marked(second) == []
    end_marked(first)


def test_none_waits_for_another_to_begin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The interpreter here goes on when there are three of it."""
    here = tmp_path / "here"
    here.mkdir()
    interpreter = tmp_path / "interpreter"
    interpreter.write_text(
        f'#!/bin/sh\n: > "{here}/$$"\nuntil [ "$(ls "{here}" | wc -l)" -eq 3 ]; do sleep 0.02; done\n'
        f'exec "{sys.executable}" "$@"\n'
    )
    interpreter.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(interpreter))
    plan = CpuHogPlan(target=own_identity(), mark=new_mark(), cores=(None,) * 3, share=0.01, lease_s=60)
    try:
        CpuHog().inject(plan)
        assert len(marked(plan.mark)) == 3
    finally:
        assert CpuHog().undo(plan) == "3 worker(s) ended, none is left"


def test_one_that_cannot_begin_ends_them_all() -> None:
    mark = new_mark()
    no_core = os.cpu_count() or 0
    jobs = [{"share": 0.01, "core": core} for core in (None, no_core, None)]
    with pytest.raises(FaultError, match=r"burn did not begin within 10 s: OSError: .*Invalid argument"):
        start_all("burn", mark, 60, jobs)
    assert marked(mark) == []
