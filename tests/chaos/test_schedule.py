"""Whatever happens in a run, its faults are undone, and recorded as they went."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
import pytest
from chaos_targets import HERE, ROOT, Case, Target, assert_as_before, until, wait_for

from chaos.faults import KINDS
from chaos.handles import Handle
from chaos.kind import FaultError, Parameter, Witness
from chaos.ledger import Ledger, LedgerRow, heal, open_faults
from chaos.processes import read_state
from chaos.schedule import FaultRunner
from chaos.switch import Switch
from chaos.timeline import DueFault
from harness.core.clock import NS_PER_MS, now_ns
from harness.core.errors import ResidueError, UsageError


class LampPlan(msgspec.Struct, frozen=True):
    lamp: str


class Lamp:
    """A fault without a target: lights a file. Fails where the test says so."""

    name = "lamp"
    about = "lights a file"
    backends: tuple[str, ...] = ("process",)
    needs: tuple[str, ...] = ()
    colour = "#000000"
    parameters: Mapping[str, Parameter] = {}
    plan_type = LampPlan
    plan_error: Exception | None = None
    inject_error: Exception | None = None
    undo_error: Exception | None = None
    undos = 0

    def plan(self, handle: Handle, params: Mapping[str, Any]) -> LampPlan:
        if self.plan_error:
            raise self.plan_error
        return LampPlan(handle.pid_file)

    def inject(self, plan: LampPlan) -> None:
        Path(plan.lamp).touch()
        if self.inject_error:
            raise self.inject_error

    def witness(self, plan: LampPlan, within_s: float) -> Witness:
        return Witness(Path(plan.lamp).exists(), "it shines")

    def undo(self, plan: LampPlan) -> str:
        self.undos += 1
        if self.undo_error:
            raise self.undo_error
        Path(plan.lamp).unlink(missing_ok=True)
        return "dark"


@pytest.fixture
def lamp(monkeypatch: pytest.MonkeyPatch) -> Lamp:
    kind = Lamp()
    monkeypatch.setitem(KINDS, "lamp", kind)
    return kind


def runner_for(
    folder: Path, handles: dict[str, dict[str, Any]] | None = None, switch: Switch | None = None
) -> FaultRunner:
    lamps = {"lamp": {"backend": "process", "pid_file": str(folder / "light"), "region": "here"}}
    return FaultRunner(handles or lamps, folder / "ledger.jsonl", folder / "faults.jsonl", switch)


def lamp_fault(hold_s: float = 0.05, after_ms: int = 0, number: int = 1) -> DueFault:
    due_ns = now_ns() + after_ms * NS_PER_MS
    return DueFault(id=f"f{number}", kind="lamp", handle="lamp", hold_s=hold_s, due_ns=due_ns, phase="dark")


def rows(folder: Path) -> list[dict[str, Any]]:
    return [msgspec.json.decode(line) for line in (folder / "faults.jsonl").read_bytes().splitlines()]


def of_case(case: Case, hold_s: float) -> DueFault:
    return DueFault(
        id="f1", kind=case.kind, handle=case.target.name, hold_s=hold_s, due_ns=now_ns(), params=case.params
    )


@pytest.mark.slow
async def test_every_kind_runs_and_is_recorded(case: Case, tmp_path: Path) -> None:
    runner = runner_for(tmp_path, case.target.handles)
    runner.prepare()
    await runner.run([of_case(case, 1.5 if case.lasting else 0.05)])
    assert_as_before(case)
    runner.audit()
    (row,) = rows(tmp_path)
    assert row["witness"]["ok"], row["witness"]
    assert row["undo"]["ok"]
    assert row["due_ns"] <= row["injected_ns"] <= row["witnessed_ns"] <= row["undo_started_ns"] <= row["undone_ns"]
    assert row["injected_ns"] - row["due_ns"] < 100 * NS_PER_MS
    assert open_faults(tmp_path / "ledger.jsonl") == []


@pytest.mark.slow
async def test_every_kind_is_undone_when_the_run_fails(case: Case, tmp_path: Path) -> None:
    async def failing_run() -> None:
        await until(case.active)
        raise RuntimeError("the run broke")

    async def whole_run() -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(runner_for(tmp_path, case.target.handles).run([of_case(case, 60)]))
            group.create_task(failing_run())

    with pytest.raises(ExceptionGroup) as caught:
        await whole_run()
    assert caught.group_contains(RuntimeError, match="the run broke")
    assert_as_before(case)
    assert open_faults(tmp_path / "ledger.jsonl") == []


@pytest.mark.slow
async def test_every_kind_is_undone_on_cancel(case: Case, tmp_path: Path) -> None:
    task = asyncio.create_task(runner_for(tmp_path, case.target.handles).run([of_case(case, 60)]))
    await until(case.active)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert_as_before(case)


async def test_starts_within_100_ms_of_its_due_time(tmp_path: Path, lamp: Lamp) -> None:
    runner = runner_for(tmp_path)
    runner.prepare()
    fault = lamp_fault(after_ms=120)
    await runner.run([fault])
    assert 0 <= rows(tmp_path)[0]["injected_ns"] - fault.due_ns < 100 * NS_PER_MS


async def test_undo_is_promised_on_disk_before_the_fault(tmp_path: Path, lamp: Lamp) -> None:
    seen: list[str] = []
    inject = lamp.inject

    def look(plan: LampPlan) -> None:
        seen.extend(row.id for row in open_faults(tmp_path / "ledger.jsonl"))
        inject(plan)

    lamp.inject = look  # type: ignore[method-assign]
    await runner_for(tmp_path).run([lamp_fault()])
    assert seen == ["f1"]


async def test_no_ledger_no_fault(tmp_path: Path, lamp: Lamp) -> None:
    (tmp_path / "ledger.jsonl").symlink_to("/dev/full")
    runner = runner_for(tmp_path)
    await runner.run([lamp_fault()])
    assert not (tmp_path / "light").exists()
    assert lamp.undos == 0
    assert "could not be injected" in runner.rows[0].witness.evidence


async def test_a_failing_inject_is_recorded_and_undone(tmp_path: Path, lamp: Lamp) -> None:
    lamp.inject_error = FaultError("half way")
    await runner_for(tmp_path).run([lamp_fault(hold_s=30)])
    (row,) = rows(tmp_path)
    assert row["inject_error"] == "half way"
    assert not row["witness"]["ok"]
    assert row["undo"] == {"ok": True, "detail": "dark"}
    assert not (tmp_path / "light").exists()


async def test_a_failing_plan_touches_nothing(tmp_path: Path, lamp: Lamp) -> None:
    lamp.plan_error = FaultError("not running")
    await runner_for(tmp_path).run([lamp_fault(hold_s=30)])
    assert rows(tmp_path)[0]["undo"] == {"ok": True, "detail": "nothing was touched"}
    assert lamp.undos == 0


async def test_a_bug_in_a_kind_is_raised_after_the_undo(tmp_path: Path, lamp: Lamp) -> None:
    lamp.inject_error = KeyError("bug")
    with pytest.raises(ExceptionGroup) as caught:
        await runner_for(tmp_path).run([lamp_fault()])
    assert caught.group_contains(KeyError)
    assert not (tmp_path / "light").exists()


async def test_a_failing_undo_is_residue_and_others_go_on(
    tmp_path: Path, lamp: Lamp, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("chaos.ledger.RETRY_FOR_S", 0.0)
    lamp.undo_error = FaultError("stuck")
    other = {"backend": "process", "pid_file": str(tmp_path / "other")}
    runner = runner_for(tmp_path, {"lamp": {"backend": "process", "pid_file": str(tmp_path / "light")}, "other": other})
    with pytest.raises(ResidueError, match=r"f1 \(lamp on lamp\): stuck\nf2"):
        await runner.run([lamp_fault(), msgspec.structs.replace(lamp_fault(number=2), handle="other")])
    assert [row["undo"]["ok"] for row in rows(tmp_path)] == [False, False]
    assert rows(tmp_path)[0]["undone_ns"] is None
    with pytest.raises(ResidueError, match="stuck"):
        heal(tmp_path / "ledger.jsonl")
    lamp.undo_error = None
    runner.undo_all()
    runner.raise_residue()
    assert rows(tmp_path)[0]["undo"]["ok"]
    assert heal(tmp_path / "ledger.jsonl") == []


async def test_undo_all_ends_holds_and_is_idempotent(tmp_path: Path, lamp: Lamp) -> None:
    runner = runner_for(tmp_path)
    task = asyncio.create_task(runner.run([lamp_fault(hold_s=60), lamp_fault(after_ms=60_000, number=2)]))
    await until(lambda: runner.active)
    runner.undo_all()
    runner.undo_all()
    assert not (tmp_path / "light").exists()
    assert lamp.undos == 1
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert [row["id"] for row in rows(tmp_path)] == ["f1"]  # the second one never began


async def test_a_thrown_switch_ends_holds_and_forbids_more(tmp_path: Path, lamp: Lamp) -> None:
    switch = Switch(tmp_path)
    runner = runner_for(tmp_path, switch=switch)
    task = asyncio.create_task(runner.run([lamp_fault(hold_s=60), lamp_fault(after_ms=60_000, number=2)]))
    await until(lambda: runner.active)
    switch.forbid("customers complain")
    began = time.monotonic()
    await until(lambda: not runner.active)
    assert time.monotonic() - began < 2
    await task
    first, second = rows(tmp_path)
    assert not first["inject_error"]
    assert second["inject_error"] == "faults are forbidden: customers complain"
    await runner_for(tmp_path, switch=switch).run([lamp_fault()])
    (row,) = rows(tmp_path)
    assert row["inject_error"] == "faults are forbidden: customers complain"
    assert lamp.undos == 1
    assert switch.allow()
    await runner_for(tmp_path, switch=switch).run([lamp_fault()])
    assert lamp.undos == 2


async def test_a_stop_does_not_wait_for_a_witness(tmp_path: Path, lamp: Lamp) -> None:
    looked = threading.Event()

    def look(plan: LampPlan, within_s: float) -> Witness:
        looked.wait(within_s)
        return Witness(True, "too late")

    lamp.witness = look  # type: ignore[method-assign]
    runner = runner_for(tmp_path)
    task = asyncio.create_task(runner.run([lamp_fault(hold_s=60)]))
    await until(lambda: runner.active)
    runner.stop("enough")
    await asyncio.wait_for(task, 2)
    looked.set()
    (row,) = rows(tmp_path)
    assert not (tmp_path / "light").exists()
    assert row["witness"] == {"ok": False, "evidence": "the hold was ended before there was proof"}


async def test_what_others_undo_ends_its_hold(tmp_path: Path, lamp: Lamp) -> None:
    runner = runner_for(tmp_path)
    task = asyncio.create_task(runner.run([lamp_fault(hold_s=60)]))
    await until(lambda: runner.active)
    Ledger(tmp_path / "ledger.jsonl").done("f1", "by hand")
    await asyncio.wait_for(task, 5)
    assert not (tmp_path / "light").exists()


async def test_the_same_fault_twice_at_once_is_refused(tmp_path: Path, lamp: Lamp) -> None:
    await runner_for(tmp_path).run([lamp_fault(hold_s=0.2), lamp_fault(number=2)])
    first, second = rows(tmp_path)
    assert first["witness"]["ok"]
    assert "still active on lamp" in second["inject_error"]
    assert lamp.undos == 1


async def test_a_fault_that_another_process_runs_is_not_repeated(tmp_path: Path, lamp: Lamp) -> None:
    stranger = read_state(os.getppid())
    assert stranger is not None
    row = LedgerRow(row="open", id="h1", kind="lamp", handle="lamp", plan={"lamp": "x"}, writer=stranger.identity)
    (tmp_path / "ledger.jsonl").write_bytes(msgspec.json.encode(row) + b"\n")
    await runner_for(tmp_path).run([lamp_fault()])
    assert rows(tmp_path)[0]["inject_error"] == "h1 (lamp) is still active on lamp"
    assert lamp.undos == 0


async def test_what_is_undone_while_it_is_injected_is_undone_again(tmp_path: Path, lamp: Lamp) -> None:
    """Somebody saw the promise, undid what was not there yet, and closed it; then it took effect."""
    inject = lamp.inject

    def undone_meanwhile(plan: LampPlan) -> None:
        Ledger(tmp_path / "ledger.jsonl").done("f1", "by hand")
        inject(plan)

    lamp.inject = undone_meanwhile  # type: ignore[method-assign]
    await asyncio.wait_for(runner_for(tmp_path).run([lamp_fault(hold_s=60)]), 5)
    assert not (tmp_path / "light").exists()
    assert lamp.undos == 1
    assert (tmp_path / "ledger.jsonl").read_bytes().count(b'"open"') == 2
    assert open_faults(tmp_path / "ledger.jsonl") == []


async def test_what_could_not_be_undone_at_first_is_undone_at_the_end(
    tmp_path: Path, lamp: Lamp, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("chaos.ledger.RETRY_FOR_S", 0.0)
    undo = lamp.undo

    def in_vain_at_first(plan: LampPlan) -> str:
        lamp.undo = undo  # type: ignore[method-assign]
        raise FaultError("not yet")

    lamp.undo = in_vain_at_first  # type: ignore[method-assign]
    await runner_for(tmp_path).run([lamp_fault()])
    assert rows(tmp_path)[0]["undo"] == {"ok": True, "detail": "dark"}
    assert not (tmp_path / "light").exists()


async def test_unknown_faults_are_refused_before_anything_is_touched(tmp_path: Path, lamp: Lamp) -> None:
    wrong = DueFault(id="f2", kind="lamp", handle="lamb", hold_s=1, due_ns=now_ns())
    with pytest.raises(UsageError, match="f2"):
        await runner_for(tmp_path).run([lamp_fault(), wrong])
    assert lamp.undos == 0


@pytest.mark.slow
def test_atexit_and_signal_handlers_may_undo(tmp_path: Path, service: Target) -> None:
    """A process that ends in mid-fault, by an unexpected exit, leaves nothing behind."""
    fault = {"id": "f1", "kind": "pause", "handle": "service", "hold_s": 60, "params": {}}
    (tmp_path / "faults.json").write_bytes(msgspec.json.encode({"handles": service.handles, "faults": [fault]}))
    process = subprocess.Popen([sys.executable, str(HERE / "run_faults.py"), str(tmp_path), "atexit"], cwd=ROOT)
    wait_for(lambda: set(service.states()) == {"T"}, what="the pause")
    process.send_signal(signal.SIGTERM)
    process.wait(10)
    assert "T" not in service.states()
    assert open_faults(tmp_path / "ledger.jsonl") == []
