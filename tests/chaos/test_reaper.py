"""However the harness dies, its faults are undone by a process that it does not take along."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from chaos_targets import HERE, ROOT, Case, Target, assert_as_before, end, wait_for

from chaos.faults import KINDS
from chaos.handles import parse_handle
from chaos.kind import FaultError
from chaos.ledger import Ledger, heal, open_faults
from chaos.processes import Identity, living, read_state
from chaos.reaper import Reaper
from chaos.residue import observe, residue

BACK_WITHIN_S = 5


def reapers(ledger: Path) -> list[Identity]:
    """Living reapers of this ledger."""
    found = []
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = entry.read_bytes().split(b"\0")
        except OSError:
            continue
        if b"chaos.reaper" in words and str(ledger).encode() in words:
            state = read_state(int(entry.parent.name))
            if state is not None and living(state.identity):
                found.append(state.identity)
    return found


@pytest.fixture
def harness(tmp_path: Path) -> Iterator[Callable[..., subprocess.Popen[bytes]]]:
    """Starts a process, in a session of its own, that runs one fault for a minute."""
    started: list[subprocess.Popen[bytes]] = []

    def start(target: Target, kind: str, **params: Any) -> subprocess.Popen[bytes]:
        fault = {"id": "f1", "kind": kind, "handle": target.name, "hold_s": 60, "params": params}
        (tmp_path / "faults.json").write_bytes(msgspec.json.encode({"handles": target.handles, "faults": [fault]}))
        command = [sys.executable, str(HERE / "run_faults.py"), str(tmp_path)]
        started.append(subprocess.Popen(command, cwd=ROOT, start_new_session=True))
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.wait(10)


@pytest.mark.slow
def test_every_kind_is_undone_after_sigkill_of_the_harness(
    case: Case, tmp_path: Path, harness: Callable[..., subprocess.Popen[bytes]]
) -> None:
    ledger = tmp_path / "ledger.jsonl"
    before = observe(case.target.handles)
    process = harness(case.target, case.kind, **case.params)
    wait_for(lambda: open_faults(ledger) and case.active(), what="the fault is active")
    assert "left to process" in heal(ledger)[0]  # it lives, and runs it
    assert case.active()
    os.killpg(process.pid, signal.SIGKILL)
    wait_for(lambda: not open_faults(ledger), BACK_WITHIN_S, "undone")
    assert_as_before(case)
    assert residue(before, case.target.handles) == []
    assert heal(ledger) == []
    wait_for(lambda: not reapers(ledger), what="the reaper ends")


@pytest.mark.slow
def test_when_the_reaper_dies_too_the_next_run_heals(
    service: Target, tmp_path: Path, harness: Callable[..., subprocess.Popen[bytes]]
) -> None:
    process = harness(service, "pause")
    ledger = tmp_path / "ledger.jsonl"
    wait_for(lambda: set(service.states()) == {"T"}, what="the pause")
    for reaper in reapers(ledger):
        os.kill(reaper.pid, signal.SIGKILL)
    process.kill()
    process.wait(10)
    wait_for(lambda: not reapers(ledger), what="the reaper is gone")
    assert set(service.states()) == {"T"}
    (sentence,) = heal(ledger)
    assert sentence.startswith("f1 (pause on service)")
    assert "T" not in service.states()


@pytest.mark.slow
def test_a_lease_ends_a_fault_of_a_harness_that_hangs(service: Target, tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "ledger.jsonl")
    kind = KINDS["pause"]
    plan = kind.plan(parse_handle(service.name, service.handle), {})
    reaper = Reaper(ledger.path)
    began = time.monotonic()
    ledger.open("f1", "pause", service.name, plan, lease_s=1.0)
    kind.inject(plan)
    try:
        wait_for(lambda: not open_faults(ledger.path), 5, "the lease ends")
        assert time.monotonic() - began > 0.9
        assert "T" not in service.states()
    finally:
        reaper.end()
    assert not reaper.is_alive


@pytest.mark.slow
def test_what_cannot_be_undone_is_tried_again(
    link: Target, tmp_path: Path, harness: Callable[..., subprocess.Popen[bytes]]
) -> None:
    process = harness(link, "partition", direction="both")
    ledger = tmp_path / "ledger.jsonl"
    wait_for(lambda: any("partition_upstream" in name for name in link.toxics()), what="the partition")
    assert link.toxiproxy is not None
    link.toxiproxy.send_signal(signal.SIGSTOP)
    process.kill()
    wait_for(lambda: b'"failed"' in ledger.read_bytes(), 30, "an undo in vain")
    assert [row.id for row in open_faults(ledger)] == ["f1"]
    link.toxiproxy.send_signal(signal.SIGCONT)
    wait_for(lambda: not open_faults(ledger), 15, "undone")
    assert not [name for name in link.toxics() if name.startswith("feedstorm")]


@pytest.mark.slow
def test_the_target_and_its_supervisor_may_die_under_the_fault(
    service: Target, tmp_path: Path, harness: Callable[..., subprocess.Popen[bytes]]
) -> None:
    process = harness(service, "pause")
    ledger = tmp_path / "ledger.jsonl"
    wait_for(lambda: set(service.states()) == {"T"}, what="the pause")
    end(service.supervisor)
    process.kill()
    wait_for(lambda: not open_faults(ledger), BACK_WITHIN_S, "undone")


@pytest.mark.slow
def test_toxiproxy_may_die_under_the_fault(
    link: Target, tmp_path: Path, harness: Callable[..., subprocess.Popen[bytes]]
) -> None:
    process = harness(link, "partition", direction="both")
    ledger = tmp_path / "ledger.jsonl"
    wait_for(lambda: any("partition_upstream" in name for name in link.toxics()), what="the partition")
    end(link.toxiproxy)
    process.kill()
    wait_for(lambda: not open_faults(ledger), BACK_WITHIN_S, "undone")


def test_a_reaper_that_does_not_come_up_forbids_faults(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with pytest.raises(FaultError, match="the reaper did not start"):
        Reaper(tmp_path / "ledger.jsonl")


@pytest.mark.slow
def test_signals_of_a_terminal_do_not_end_it_and_sigterm_waits_for_open_faults(tmp_path: Path, service: Target) -> None:
    ledger = Ledger(tmp_path / "ledger.jsonl")
    kind = KINDS["pause"]
    plan = kind.plan(parse_handle(service.name, service.handle), {})
    reaper = Reaper(ledger.path)
    ledger.open("f1", "pause", service.name, plan, lease_s=60)
    (identity,) = reapers(ledger.path)
    for sig in (signal.SIGINT, signal.SIGHUP, signal.SIGQUIT, signal.SIGTERM):
        os.kill(identity.pid, sig)
    reaper.end()
    assert reaper.is_alive
    ledger.done("f1", "never injected")
    wait_for(lambda: not reaper.is_alive, what="it ends, as it was told to")
