"""Which job takes the next step: priority, quota, deadline, deferral under pressure."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest
from prometheus_client import REGISTRY

from reference_server.jobs.scheduler import Kind, NotYet, Priority, Scheduler

URGENT = Kind("urgent", Priority.URGENT, at_once=1, per_s=10_000, deadline_s=60, deferrable=False)
SLOW = Kind("slow", Priority.BACKGROUND, at_once=1, per_s=10_000, deadline_s=60)


class Recorded:
    """A job of some steps that notes them."""

    def __init__(self, kind: Kind, name: str, log: list[str], steps: int = 1, *, age_s: float = 0.0) -> None:
        self.kind, self.name, self.log, self.left = kind, name, log, steps
        self.arrived_s = time.time() - age_s
        self.finished = asyncio.Event()

    async def step(self) -> bool:
        self.log.append(self.name)
        self.left -= 1
        await asyncio.sleep(0)
        return self.left > 0

    def done(self) -> None:
        self.finished.set()


@asynccontextmanager
async def running(scheduler: Scheduler) -> AsyncIterator[asyncio.Future[None]]:
    task = asyncio.ensure_future(scheduler.run())
    yield task
    task.cancel()
    await asyncio.wait([task])


async def finished(*jobs: Recorded) -> None:
    async with asyncio.timeout(5):
        for job in jobs:
            await job.finished.wait()


async def test_priority_then_turns() -> None:
    log: list[str] = []
    scheduler = Scheduler([SLOW, URGENT], lambda: False)
    jobs = [Recorded(SLOW, "a", log, 3), Recorded(SLOW, "b", log, 2), Recorded(URGENT, "first", log)]
    for job in jobs:
        scheduler.add(job)
    async with running(scheduler):
        await finished(*jobs)
    assert log[0] == "first"
    assert [name for name in log if name != "first"] == ["a", "b", "a", "b", "a"]


async def test_a_quota_spreads_steps_over_time() -> None:
    log: list[str] = []
    kind = Kind("counted", Priority.NORMAL, at_once=4, per_s=100, deadline_s=60)
    scheduler = Scheduler([kind], lambda: False)
    job = Recorded(kind, "x", log, 30)
    scheduler.add(job)
    started = time.monotonic()
    async with running(scheduler):
        await finished(job)
    assert time.monotonic() - started > 0.25


async def test_pressure_defers_all_but_one_and_deadlines_end_it() -> None:
    log: list[str] = []
    pressed = True
    kind = Kind("wide", Priority.NORMAL, at_once=4, per_s=10_000, deadline_s=60)
    scheduler = Scheduler([kind], lambda: pressed)
    gate, peak = asyncio.Event(), [0, 0]

    class Waiting(Recorded):
        async def step(self) -> bool:
            peak[0] += 1
            peak[1] = max(peak)
            await gate.wait()
            peak[0] -= 1
            return False

    fresh = [Waiting(kind, "fresh", log) for _ in range(3)]
    for job in fresh:
        scheduler.add(job)
    async with running(scheduler):
        await until(lambda: peak[0] == 1)
        late = Waiting(kind, "late", log, age_s=120)
        scheduler.add(late)
        await until(lambda: peak[0] == 2)
        gate.set()
        await finished(*fresh, late)
    assert peak[1] == 2


async def test_what_is_not_yet_possible_is_tried_again() -> None:
    log: list[str] = []

    class Reluctant(Recorded):
        async def step(self) -> bool:
            log.append("try")
            if len(log) < 3:
                raise NotYet("away")
            return False

    scheduler = Scheduler([SLOW], lambda: False)
    job = Reluctant(SLOW, "r", log)
    scheduler.add(job)
    async with running(scheduler):
        await finished(job)
    assert log == ["try"] * 3
    assert scheduler.waiting(SLOW) == 0


async def test_who_has_to_wait_holds_up_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("reference_server.jobs.scheduler.RETRY_S", (60.0, 60.0))

    class Stuck(Recorded):
        async def step(self) -> bool:
            raise NotYet("away")

    scheduler = Scheduler([SLOW], lambda: False)
    stuck = [Stuck(SLOW, "stuck", [], age_s=120) for _ in range(3)]
    job = Recorded(SLOW, "healthy", [])
    for one in (*stuck, job):
        scheduler.add(one)
    async with running(scheduler):
        await finished(job)
        assert scheduler.waiting(SLOW) == 3


async def test_a_bug_in_a_step_ends_the_scheduler() -> None:
    class Broken(Recorded):
        async def step(self) -> bool:
            raise ZeroDivisionError

    scheduler = Scheduler([SLOW], lambda: False)
    scheduler.add(Broken(SLOW, "b", []))
    with pytest.raises(ZeroDivisionError):
        async with asyncio.timeout(5):
            await scheduler.run()


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.005)


def test_late_jobs_are_exported_before_there_is_one() -> None:
    kind = Kind("never late", Priority.NORMAL, at_once=1, per_s=1, deadline_s=60)
    Scheduler([kind], lambda: False)
    assert REGISTRY.get_sample_value("feed_jobs_late_total", {"kind": kind.name}) == 0.0
