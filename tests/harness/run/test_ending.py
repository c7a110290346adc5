"""The watch over stop conditions, on real processes that report as load processes do."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from harness.core.clock import NS_PER_S, now_ns
from harness.core.scenario import Stop
from harness.load.plan import PlanPhase
from harness.record.run_directory import RunDirectory
from harness.run import ending as module
from harness.run.child import LINE_LIMIT_BYTES, child_process
from harness.run.ending import Ending, StopWatch
from harness.run.live_slos import parse_stop
from harness.run.load_processes import LoadProcess, LoadProcesses, Pipe, follow

READS, POSTS = "feed_read failures < 20%", "post_accept p(95) <= 1s"
CONDITIONS = parse_stop(Stop(expressions={"feed_read": ("failures < 20%",), "post_accept": ("p(95) <= 1s",)}), ["us"])
ENDED = {"ok": 9, "failed": 0, "us": [1000] * 9}


def line(state: str = "running", **ops: Any) -> str:
    """A status line, in shell quotes."""
    status = {"state": state, "recent": {"seconds": 5.0, "ops": {kind: {"us": ended} for kind, ended in ops.items()}}}
    return f"'{json.dumps(status)}'"


@asynccontextmanager
async def watched(script: str, folder: Path) -> AsyncIterator[tuple[LoadProcess, Ending, StopWatch]]:
    """A watch over one load process, which runs a shell script."""
    async with child_process(["sh", "-c", script], folder / "log", grace_s=0.2) as process:
        member = LoadProcess("locust-0", "locust", Pipe(process), folder / "log")
        following = asyncio.create_task(follow(member, process))
        ending = Ending()
        watch = StopWatch(CONDITIONS, LoadProcesses([member]), ending, None)
        await asyncio.wait_for(member.changed.wait(), 10)
        watching = asyncio.create_task(watch.run(now_ns()))
        try:
            yield member, ending, watch
        finally:
            watching.cancel()
    await asyncio.wait_for(following, 10)


async def test_a_line_longer_than_any_status_is_left_out(tmp_path: Path) -> None:
    script = f"head -c {2 * LINE_LIMIT_BYTES} /dev/zero; echo; echo {line('done')}"
    async with child_process(["sh", "-c", script], tmp_path / "log", grace_s=0.2) as process:
        member = LoadProcess("locust-0", "locust", Pipe(process), tmp_path / "log")
        await asyncio.wait_for(follow(member, process), 10)
        assert member.state == "done"


def reported(watch: StopWatch, folder: Path, by_operator: bool = False) -> dict[str, Any]:
    run = RunDirectory(folder / "run").create()
    watch.report(run, by_operator)
    return dict(json.loads(run.stop.read_bytes()))


async def wait_until(condition: Any) -> None:
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110 - a counter of another task, no event
            await asyncio.sleep(0.01)


@pytest.fixture(autouse=True)
def fast(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LOOK_EVERY_S", 0.01)


async def test_a_look_counts_for_the_conditions_that_had_a_value(tmp_path: Path) -> None:
    async with watched(f"while echo {line(feed=ENDED)}; do sleep 0.01; done", tmp_path) as (_, ending, watch):
        await wait_until(lambda: watch._looks >= 3)
        assert not ending.is_early
    report = reported(watch, tmp_path)
    assert report["conditions"] == [READS, POSTS]
    assert report["seen"] == {READS: report["looks"]}


async def test_a_condition_of_a_phase_neither_breaks_nor_counts_outside_of_it(tmp_path: Path) -> None:
    slow = {"ok": 9, "failed": 0, "us": [5_000_000] * 9}
    conditions = parse_stop(Stop(expressions={"post_accept{phase:calm}": ("p(95) <= 1s",)}), ["us"], ["calm"])
    ends = {}
    for name, began_s in (("before", 0), ("within", 6), ("after", 30)):
        t0_ns = now_ns() - began_s * NS_PER_S
        phases = [PlanPhase("calm", 0, 20 * NS_PER_S)]
        async with watched(f"while echo {line(post=slow)}; do sleep 0.01; done", tmp_path) as (member, _, _):
            ending = Ending()
            watch = StopWatch(conditions, LoadProcesses([member]), ending, None, phases, t0_ns)
            watching = asyncio.create_task(watch.run(now_ns()))
            await wait_until(lambda watch=watch, ending=ending: watch._looks >= 3 or ending.is_early)
            watching.cancel()
        ends[name] = (ending.is_early, reported(watch, tmp_path))
    assert {name: is_early for name, (is_early, _) in ends.items()} == {"before": False, "within": True, "after": False}
    assert ends["within"][1]["broken"] == "post_accept p(95) <= 1s in calm"
    assert ends["after"][1]["seen"] == {}


async def test_a_process_that_is_lost_ends_the_run(tmp_path: Path) -> None:
    async with watched(f"echo {line(feed=ENDED)}; exit 1", tmp_path) as (_, ending, watch):
        await wait_until(lambda: ending.is_early)
    report = reported(watch, tmp_path, by_operator=True)
    assert report["reason"].startswith("load process locust-0 was lost")
    assert (report["broken"], report["by_operator"]) == ("", False)


async def test_a_process_that_falls_silent_ends_the_run(tmp_path: Path) -> None:
    async with watched(f"echo {line(feed=ENDED)}; sleep 60", tmp_path) as (_, ending, watch):
        await wait_until(lambda: ending.is_early)
        assert watch._looks > module.SILENT_LOOKS
    assert reported(watch, tmp_path)["reason"].startswith("load process locust-0 has said nothing for")


async def test_a_process_that_is_done_may_be_silent_and_gone(tmp_path: Path) -> None:
    async with watched(f"echo {line('done')}; exit 0", tmp_path) as (member, ending, watch):
        await wait_until(lambda: member.carrier.is_gone and watch._looks > 2 * module.SILENT_LOOKS)
        assert not ending.is_early
    assert reported(watch, tmp_path)["seen"] == {}


async def test_an_operator_may_end_a_game_day(tmp_path: Path) -> None:
    async with watched(f"echo {line(feed=ENDED)}; sleep 60", tmp_path) as (_, ending, watch):
        ending.now("the operator ended it")
    assert reported(watch, tmp_path, by_operator=True)["by_operator"] is True
