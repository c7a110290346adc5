"""Decides which background job takes its next step: by priority, within quotas, before deadlines, later under pressure.

A job is a sequence of short steps. Between two steps it goes to the end of its line, so a long job (an import of
100,000 follows) does not hold up short ones. Under pressure deferrable kinds get one step at a time; a job past its
deadline is no longer deferred, and comes before its line.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Protocol

from prometheus_client import Counter, Gauge

_log = logging.getLogger(__name__)
RETRY_S = (0.05, 3.0)
"""pause before a step that failed for now is tried again: first, longest; many that fail must not use up the quota"""
IDLE_S = 0.25
"""how often deadlines and pressure are looked at while nothing else happens"""
WAITING = Gauge("feed_jobs_waiting", "Jobs that are not done", ["kind"])
DEFERRED = Gauge("feed_jobs_deferred", "Whether a kind of job is held back by pressure (1) or not (0)", ["kind"])
STEPS = Counter("feed_jobs_steps", "Steps of jobs, by outcome", ["kind", "outcome"])
LATE = Counter("feed_jobs_late", "Jobs that were done after their deadline", ["kind"])


class Priority(IntEnum):
    """Who goes first."""

    URGENT = 0
    NORMAL = 1
    BACKGROUND = 2


@dataclass(frozen=True)
class Kind:
    """What jobs of one kind may use."""

    name: str
    priority: Priority
    at_once: int
    """steps under way at most"""
    per_s: float
    """steps begun a second at most"""
    deadline_s: float
    """from a job's arrival until it is to be done"""
    deferrable: bool = True


class NotYet(Exception):
    """What a step needs is away: try it again later."""


class Job(Protocol):
    """One job."""

    kind: Kind
    arrived_s: float
    """Unix time"""

    async def step(self) -> bool:
        """Do some of it; True when more is left. Raises NotYet."""

    def done(self) -> None:
        """Called once, after the last step."""


@dataclass
class _Line:
    """The jobs of one kind."""

    kind: Kind
    jobs: deque[Job] = field(default_factory=deque)
    under_way: int = 0
    pausing: int = 0
    """jobs that could not go on and are tried again later; they hold up nobody"""
    allowance: float = 1.0
    """steps that may begin now (a token bucket that holds half a second's worth)"""
    refilled_s: float = field(default_factory=time.monotonic)

    def refill(self, now_s: float) -> None:
        most = max(1.0, self.kind.per_s / 2)
        self.allowance = min(most, self.allowance + (now_s - self.refilled_s) * self.kind.per_s)
        self.refilled_s = now_s

    def take_late(self, unix_s: float) -> Job | None:
        """A job past its deadline, taken out of the line."""
        for place, job in enumerate(self.jobs):
            if unix_s > job.arrived_s + self.kind.deadline_s:
                del self.jobs[place]
                return job
        return None


class Scheduler:
    """Runs jobs. `under_pressure()` tells whether the region has better things to do."""

    def __init__(self, kinds: list[Kind], under_pressure: Callable[[], bool]) -> None:
        self._lines = {kind.name: _Line(kind) for kind in sorted(kinds, key=lambda kind: kind.priority)}
        for kind in kinds:
            LATE.labels(kind.name)  # at 0: of a counter that appears with its first job no increase is seen
        self._under_pressure = under_pressure
        self._changed = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        self._retries: dict[int, float] = {}
        self.failure: BaseException | None = None

    def add(self, job: Job) -> None:
        """Have a job done."""
        self._lines[job.kind.name].jobs.append(job)
        WAITING.labels(job.kind.name).inc()
        self._changed.set()

    def waiting(self, kind: Kind) -> int:
        """Jobs of a kind that are not done."""
        line = self._lines[kind.name]
        return len(line.jobs) + line.under_way + line.pausing

    async def run(self) -> None:
        """Work for ever. Raises what a step raised, unless it was NotYet."""
        try:
            while True:
                self._changed.clear()
                while self._begin_one():
                    pass
                if self.failure is not None:
                    raise self.failure
                try:
                    async with asyncio.timeout(self._pause_s()):
                        await self._changed.wait()
                except TimeoutError:
                    continue
        finally:
            for task in self._tasks:
                task.cancel()
            if self._tasks:
                await asyncio.wait(self._tasks)

    def _pause_s(self) -> float | None:
        """How long nothing can change but by an event; None: no job is waiting."""
        lines = [line for line in self._lines.values() if line.jobs]
        if not lines:
            return None
        return min([IDLE_S, *(max(0.001, (1 - line.allowance) / line.kind.per_s) for line in lines)])

    def _begin_one(self) -> bool:
        """Begin the step whose turn it is; False when none may begin now."""
        now_s, unix_s, pressed = time.monotonic(), time.time(), self._under_pressure()
        for line in self._lines.values():
            line.refill(now_s)
            kind = line.kind
            held = pressed and kind.deferrable
            DEFERRED.labels(kind.name).set(float(held))
            if not line.jobs or line.allowance < 1 or line.under_way >= kind.at_once:
                continue
            job = line.take_late(unix_s)
            if job is None:
                if held and line.under_way >= 1:
                    continue
                job = line.jobs.popleft()
            line.allowance -= 1
            line.under_way += 1
            task = asyncio.ensure_future(self._step(line, job))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
            return True
        return False

    async def _step(self, line: _Line, job: Job) -> None:
        outcome, pause_s = "failed", 0.0
        try:
            more = await job.step()
            outcome = "more" if more else "done"
            self._retries.pop(id(job), None)
        except NotYet as reason:
            outcome, more = "not-yet", True
            pause_s = self._retries[id(job)] = min(RETRY_S[1], 2 * self._retries.get(id(job), RETRY_S[0] / 2))
            _log.info("%s: %s", line.kind.name, reason)
        except Exception as error:  # the scheduler's edge: `run` ends with it, and the process with `run`
            self.failure, more = error, True
        finally:
            line.under_way -= 1
            STEPS.labels(line.kind.name, outcome).inc()
            self._changed.set()
        if more:
            await self._line_up(line, job, pause_s)
            return
        WAITING.labels(line.kind.name).dec()
        if time.time() > job.arrived_s + line.kind.deadline_s:
            LATE.labels(line.kind.name).inc()
        job.done()

    async def _line_up(self, line: _Line, job: Job, pause_s: float) -> None:
        """Put a job at the end of its line, after the pause."""
        if pause_s:
            line.pausing += 1
            await asyncio.sleep(pause_s)
            line.pausing -= 1
        line.jobs.append(job)
        self._changed.set()
