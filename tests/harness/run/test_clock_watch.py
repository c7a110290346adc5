"""Load processes whose clock is not ours: their times are known to within the error that is stated."""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import Sequence
from pathlib import Path

import msgspec
import pytest

from harness.core.clock import NS_PER_S, now_ns
from harness.core.errors import UnavailableError
from harness.core.load_rates import Load
from harness.load.plan import LoadPlan, PlanPhase, PlanRegion, write_plan
from harness.record.clocks import clock_name, read_clocks
from harness.record.parquet import open_history
from harness.record.run_directory import RunDirectory
from harness.run.clock_watch import ClockWatch, ProcessClock
from harness.run.load_processes import load_processes

AHEAD_S = 3600
ELSEWHERE = ("unshare", "--user", "--map-root-user", "--fork", "--kill-child", "--time", "--monotonic", str(AHEAD_S))
NOBODY = "http://127.0.0.1:1"


async def a_run(folder: Path, launcher: Sequence[str]) -> tuple[RunDirectory, int, int]:
    """A second of reads that nobody answers. Returns the run, t0 and the end, by our clock."""
    run = RunDirectory(folder / "run").create()
    plan = LoadPlan(
        seed=1,
        run=str(run.path),
        users=3,
        phases=(PlanPhase("warmup", 0, 0), PlanPhase("baseline", 0, NS_PER_S)),
        regions={"here": PlanRegion(api=NOBODY, stream=NOBODY)},
        rates=Load(reads_per_s=30.0),
        panel=((1, "here"), (2, "here")),
    )
    write_plan(run.path / "plan.json", plan)
    async with load_processes(run, run.path / "plan.json", launcher) as load:
        t0_ns = now_ns() + NS_PER_S // 5
        load.start(t0_ns)
        await load.wait_state(("done",), 30, load.members)
    return run, t0_ns, now_ns()


def sent(run: RunDirectory) -> list[int]:
    with open_history(run) as history:
        return [at for (at,) in history.execute("SELECT sent_ns FROM ops ORDER BY 1").fetchall()]


@pytest.fixture
def elsewhere() -> tuple[str, ...]:
    """A command that runs another one under a clock of its own."""
    if subprocess.run([*ELSEWHERE, "true"], check=False, capture_output=True).returncode:
        pytest.skip("this machine does not allow time namespaces")
    return ELSEWHERE


@pytest.mark.slow
async def test_a_process_with_another_clock_is_understood(tmp_path, elsewhere):
    run, t0_ns, end_ns = await a_run(tmp_path, elsewhere)
    clock = read_clocks(run.clocks)["locust-0"]
    assert clock.machine != clock_name()
    assert clock.readings >= 20
    assert abs(clock.offset_ns + AHEAD_S * NS_PER_S) <= clock.error_ns
    assert clock.drift == 0 or clock.error_ns < AHEAD_S * NS_PER_S
    times = sent(run)
    assert times
    assert t0_ns - clock.error_ns <= times[0]
    assert times[-1] <= end_ns + clock.error_ns


@pytest.mark.slow
async def test_a_process_of_this_machine_needs_no_offset(tmp_path):
    run, t0_ns, end_ns = await a_run(tmp_path, ())
    clock = read_clocks(run.clocks)["locust-0"]
    assert (clock.machine, clock.offset_ns, clock.error_ns, clock.readings) == (clock_name(), 0, 0, 0)
    times = sent(run)
    assert t0_ns <= times[0] <= times[-1] <= end_ns


def answering(name: str, machine: str, ahead_ns: int) -> ProcessClock:
    """A process that answers at once."""

    def send(order: dict[str, int | str]) -> None:
        theirs = now_ns() + ahead_ns
        answer = {"machine": machine, "sent_ns": order["sent_ns"], "received_ns": theirs, "replied_ns": theirs}
        asyncio.get_running_loop().call_soon(lambda: clock.take(answer, now_ns()))

    clock = ProcessClock(name, send)
    return clock


async def test_processes_of_one_machine_get_one_offset(tmp_path):
    run = RunDirectory(tmp_path / "run").create()
    clocks = [answering("a", "far", NS_PER_S), answering("b", "far", NS_PER_S), answering("c", clock_name(), 0)]
    await ClockWatch(run, clocks).begin()
    a, b, c = read_clocks(run.clocks).values()
    assert msgspec.structs.replace(a, process="b") == b
    assert abs(a.offset_ns + NS_PER_S) <= a.error_ns
    assert (c.offset_ns, c.error_ns) == (0, 0)
    assert [clock.readings for clock in (a, b, c)] == [40, 40, 0]


async def test_a_process_that_does_not_answer_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr("harness.run.clock_watch.TIMEOUT_S", 0.01)
    run = RunDirectory(tmp_path / "run").create()
    with pytest.raises(UnavailableError, match="load process a does not tell its time"):
        await ClockWatch(run, [ProcessClock("a", lambda order: None)]).begin()
