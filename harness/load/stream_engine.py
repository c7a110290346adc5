"""A stream engine, one process that holds listeners: `python -m harness.load.stream_engine PLAN NAME INDEX COUNT`.

Engine INDEX of COUNT takes `plan.listeners[INDEX::COUNT]`, and keeps nothing of the others. Reads commands from
standard input, one JSON object a line, and prints one status line a second:

    ready -> {"cmd": "open"} -> streams open, paced -> {"cmd": "start", "t0_ns": N} -> running
          -> {"cmd": "stop"}, end of input or SIGTERM -> done

{"cmd": "cut", "end_ns": N} on the way: the plan ends N ns after t0 already.
{"cmd": "clock", "sent_ns": N} at any time: answered at once by a line of its own (`harness.load.clock_answer`).

At the end it closes its streams, writes its history and histograms, and adds its line to generator.jsonl.
Logs go to standard error. asyncio and uvloop: Locust is never imported here.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import os
import resource
import signal
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import uvloop

from harness.core.clock import NS_PER_MS, now_ns
from harness.core.errors import FeedstormError
from harness.core.op import OpOutcome
from harness.core.seeds import rng
from harness.load.clock_answer import answer_clock
from harness.load.habit_timeline import HabitTimeline
from harness.load.loop_lag import LoopLag
from harness.load.no_fetch import NoFetch
from harness.load.own_part import read_own_plan, read_own_tokens
from harness.load.plan import LoadPlan
from harness.load.recorder import Recorder
from harness.load.stream_fleet import StreamFleet

if TYPE_CHECKING:
    from harness.load.event_fetch import EventFetch

STATUS_EVERY_S = 1.0
STATUS_WHILE_OPENING_S = 0.2
FETCH_WAIT_S = 5.0
CLOSE_WAIT_S = 5.0
NOT_YET_NS = 10**18
"""t0 before it is known: far in the future, so that whatever is recorded belongs to the first phase"""

log = logging.getLogger(__name__)


class StreamEngine:
    """One process: its listeners, its records, its state."""

    def __init__(self, plan: LoadPlan, name: str, index: int, count: int) -> None:
        """`plan` has the listeners of this engine, which is number `index` of `count`."""
        self.plan, self.name, self.state = plan, name, "ready"
        self.recorder = Recorder(plan, name)
        self.recorder.start(NOT_YET_NS)
        self.lag = LoopLag()
        tokens = read_own_tokens(plan)
        self.fetch = self._fetch(tokens, index)
        self.fleet = StreamFleet(
            plan, tokens, self.recorder, rng(plan.seed, "reconnect", index), self.fetch.event, index
        )
        self.habits = HabitTimeline(self.fleet, plan, rng(plan.seed, "vanish", index))
        self.plan = msgspec.structs.replace(plan, listeners=(), habits={})  # the fleet has them
        self._engines = count
        self._t0_ns = NOT_YET_NS
        self._end_ns = plan.end_ns
        self._ended_ns = 0
        self._dropped = 0
        self._stopping = asyncio.Event()
        self._opening = False

    def _fetch(self, tokens: Mapping[int, str], index: int) -> EventFetch | NoFetch:
        plan = self.plan
        if not plan.fetch_ratio:
            return NoFetch()
        from harness.load.event_fetch import EventFetch

        chance = rng(plan.seed, "event-fetch", index)
        return EventFetch(plan.regions, tokens, self.recorder, plan.fetch_ratio, plan.fetch_jitter_s, chance)

    async def run(self) -> None:
        """The life of the process. Returns when everything is written."""
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(self._note_bug)
        for sig in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(sig, self._stopping.set)
        threading.Thread(target=read_commands, args=(sys.stdin.fileno(), loop, self.command), daemon=True).start()
        self.lag.start()
        work = [asyncio.create_task(c) for c in (self.fleet.run(), self.fleet.sweep(), self._report())]
        stopped: asyncio.Task[Any] = asyncio.create_task(self._stopping.wait())
        try:
            await asyncio.wait([stopped, *work], return_when=asyncio.FIRST_COMPLETED)
            for task in work:
                if task.done():
                    task.result()  # a loop ended: only by an error
        finally:
            await self._end()
            for task in (stopped, *work):
                task.cancel()
            self.state = "done"
            self._print_status()

    def command(self, line: bytes | None) -> None:
        """Carry out one line of input; None is its end."""
        if line is None:
            self._stopping.set()
            return
        received_ns = now_ns()
        try:
            order = msgspec.json.decode(line, type=dict[str, Any])
        except msgspec.DecodeError:
            log.warning("not a command: %r", line[:200])
            return
        name = order.get("cmd")
        if name == "open" and not self._opening:
            self._opening = True
            self.fleet.open_all(self.plan.listening.open_per_s / self._engines)
        elif name == "start":
            self.state = "running"
            self._t0_ns = int(order["t0_ns"])
            self.recorder.start(self._t0_ns)
            self.fleet.count_from_now()
            self.habits.start(self._t0_ns)
            gc.collect()
            gc.freeze()
        elif name == "cut":
            self._end_ns = int(order["end_ns"])
            self.habits.end_at(self._end_ns)
        elif name == "clock":
            answer_clock(order, received_ns)
        elif name == "stop":
            self._stopping.set()

    def _note_bug(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """A callback failed, by an error of ours: what it had to do for its listener was not done."""
        loop.default_exception_handler(context)
        if "future" not in context and (error := context.get("exception")) is not None:
            self.fleet.note_bug(f"{type(error).__name__}: {error}")

    async def _end(self) -> None:
        """Close the streams and write everything."""
        self._ended_ns = now_ns()
        self.lag.stop()
        self.habits.stop()
        self._dropped = self.fleet.overdue
        await self.fetch.close(FETCH_WAIT_S)
        self.fleet.close_all()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(CLOSE_WAIT_S):
                while not self.fleet.is_closed:  # noqa: ASYNC110 - thousands of connections, no event for the last
                    await asyncio.sleep(0.01)
        self.recorder.close()
        with self.plan.directory.generator.open("ab") as file:
            file.write(msgspec.json.encode(self.generator_row()) + b"\n")

    def generator_row(self) -> dict[str, Any]:
        """How honest the load was; the judge reads it."""
        fleet, fetch = self.fleet, self.fetch
        return {
            "process": self.name,
            "kind": "streams",
            "planned": fleet.sent + self._dropped + fetch.planned,
            "sent": fleet.sent + fetch.sent,
            "late": fleet.late + fetch.late,
            "dropped": self._dropped,
            "max_late_ms": round(max(fleet.max_late_ns, fetch.max_late_ns) / NS_PER_MS, 3),
            "loop_lag_p99_ms": self.lag.p99_ms,
            "loop_lag_max_ms": self.lag.max_ms,
            "completed": self._ended_ns >= self._t0_ns + self._end_ns,
            "errors": self._errors(),
        }

    def _errors(self) -> list[str]:
        """Listeners that never had a stream, when there are any, and why attempts failed."""
        errors = self.fleet.bugs
        never = [listener for listener in self.fleet.listeners if not listener.ever_open]
        if not self._opening or not never:
            return errors
        reasons = ", ".join(f"{reason} ({times}x)" for reason, times in self.fleet.problems.most_common(5))
        return [*errors, f"{len(never)} of {len(self.fleet.listeners)} listeners never had a stream: {reasons}"]

    async def _report(self) -> None:
        printed = ticked = 0.0
        loop = asyncio.get_running_loop()
        while True:
            opening = self._opening and self.fleet.open < len(self.fleet.listeners)
            if loop.time() - ticked >= STATUS_EVERY_S - 0.01:
                ticked = loop.time()
                self.recorder.tick()
            if loop.time() - printed >= (STATUS_WHILE_OPENING_S if opening else STATUS_EVERY_S) - 0.01:
                printed = loop.time()
                self._print_status()
            await asyncio.sleep(STATUS_WHILE_OPENING_S)

    def _print_status(self) -> None:
        outcomes = self.recorder.outcomes
        status = {
            "process": self.name,
            "state": self.state,
            "sent": self.fleet.sent + self.fetch.sent,
            "ok": outcomes[OpOutcome.OK],
            "failed": outcomes[OpOutcome.FAIL],
            "info": outcomes[OpOutcome.INFO],
            "late": self.fleet.late + self.fetch.late,
            "dropped": 0,
            "lag_p99_ms": self.lag.p99_ms,
            "open": self.fleet.open,
            "listeners": len(self.fleet.listeners),
            "events": self.fleet.events_seen,
            "problems": dict(self.fleet.problems.most_common(5)),
            "ops": self.recorder.ops_status(),
            "recent": self.recorder.recent_status(),
        }
        sys.stdout.write(msgspec.json.encode(status).decode() + "\n")
        sys.stdout.flush()


def read_commands(descriptor: int, loop: asyncio.AbstractEventLoop, take: Any) -> None:
    """Hand lines of the descriptor to the loop, then None. Runs in a thread: standard input may be anything."""
    rest = b""
    with contextlib.suppress(RuntimeError):  # the loop has ended
        while block := os.read(descriptor, 1 << 16):
            *lines, rest = (rest + block).split(b"\n")
            for line in lines:
                loop.call_soon_threadsafe(take, line)
        loop.call_soon_threadsafe(take, None)


async def _run(plan_path: Path, name: str, index: int, count: int) -> None:
    await StreamEngine(read_own_plan(plan_path, index, count), name, index, count).run()


def main(arguments: list[str]) -> int:
    """Run this engine's part of the plan."""
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(asctime)s %(name)s %(levelname)s %(message)s")
    plan_path, name, index, count = arguments
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    try:
        uvloop.run(_run(Path(plan_path), name, int(index), int(count)))
    except FeedstormError as error:
        log.error("%s", error)
        return int(error.exit_code)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
