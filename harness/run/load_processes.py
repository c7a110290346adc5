"""The load side of a run as child processes: one Locust process, some stream engines, one status line each a second.

Speaks the control protocol of `harness.load`: JSON lines, commands in, status out. A process that is lost is
remembered, and makes the verdict inconclusive. Times are sent to each process as its own clock shows them.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import msgspec

from harness.core.clock import now_ns
from harness.core.errors import UnavailableError
from harness.record.run_directory import RunDirectory
from harness.run.child import child_process, log_tail
from harness.run.clock_watch import ClockWatch, ProcessClock

STREAMS_PER_ENGINE = 9_000
READY_TIMEOUT_S = 30.0
OPEN_TIMEOUT_S = 60.0
FINISH_TIMEOUT_S = 30.0
PROBE_GRACE_S = 3.0


@dataclass
class LoadProcess:
    """One child, with the newest status it sent."""

    name: str
    kind: str
    process: asyncio.subprocess.Process
    log: Path
    status: dict[str, Any] = field(default_factory=dict)
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    time: ProcessClock = field(init=False)

    def __post_init__(self) -> None:
        self.time = ProcessClock(self.name, self.send)

    @property
    def state(self) -> str:
        """ "starting", "ready", "running", "done" or, when it ended before it was done, "lost"."""
        state = str(self.status.get("state", "starting"))
        return "lost" if state != "done" and self._is_gone else state

    @property
    def _is_gone(self) -> bool:
        """Ended, and its last status line was read."""
        output = self.process.stdout
        return self.process.returncode is not None and (output is None or output.at_eof())

    async def follow(self) -> None:
        """Read status lines until the process closes its output."""
        assert self.process.stdout is not None
        async for line in self.process.stdout:
            back_ns = now_ns()
            try:
                told = msgspec.json.decode(line, type=dict[str, Any])
            except msgspec.DecodeError:
                continue
            if answer := told.get("clock"):
                self.time.take(answer, back_ns)
                continue
            self.status = told
            self.changed.set()
        await self.process.wait()
        self.changed.set()

    def send(self, command: dict[str, Any]) -> None:
        """Send one command line; a process that is gone is noticed by its state."""
        if self.process.stdin is not None and not self.process.stdin.is_closing():
            self.process.stdin.write(msgspec.json.encode(command) + b"\n")


class LoadProcesses:
    """All load processes of a run."""

    def __init__(self, members: list[LoadProcess]) -> None:
        self.members = members

    @property
    def engines(self) -> list[LoadProcess]:
        """The stream engines."""
        return [m for m in self.members if m.kind == "streams"]

    @property
    def lost(self) -> list[str]:
        """Names of processes that ended before they were done."""
        return [m.name for m in self.members if m.state == "lost"]

    @property
    def unfinished(self) -> list[str]:
        """Names of processes that are not done: lost ones, and ones that hang."""
        return [m.name for m in self.members if m.state != "done"]

    def total(self, key: str) -> int:
        """Sum of a counter over all processes' newest status."""
        return sum(int(m.status.get(key, 0)) for m in self.members)

    async def wait_state(self, wanted: tuple[str, ...], timeout_s: float, members: list[LoadProcess]) -> None:
        """Wait until each member is in one of the states. Raises UnavailableError naming those that are not."""
        await _wait(lambda: all(m.state in wanted for m in members) or bool(self.lost), members, timeout_s)
        bad = [m for m in members if m.state not in wanted]
        if bad:
            tail = log_tail(bad[0].log)
            raise UnavailableError(f"load process {bad[0].name} is {bad[0].state}, not {wanted[0]}: {tail}")

    async def open_streams(self, listeners: int) -> None:
        """Open every listener's stream. Raises UnavailableError when some cannot be opened in time."""
        for engine in self.engines:
            engine.send({"cmd": "open"})
        await _wait(lambda: self.total("open") >= listeners or bool(self.lost), self.engines, OPEN_TIMEOUT_S)
        if self.total("open") < listeners:
            raise UnavailableError(f"only {self.total('open')} of {listeners} streams could be opened")

    def start(self, t0_ns: int) -> None:
        """Give every process the time zero of the schedule."""
        for member in self.members:
            member.send({"cmd": "start", "t0_ns": member.time.clock.to_theirs(t0_ns)})

    def cut(self, end_ns: int) -> None:
        """Tell every process that the plan ends `end_ns` after time zero: before its time."""
        for member in self.members:
            member.send({"cmd": "cut", "end_ns": end_ns})

    async def finish(self) -> None:
        """Ask every process to end, and wait for its last status line."""
        for member in self.members:
            member.send({"cmd": "stop"})
        await _wait(lambda: all(m.state in ("done", "lost") for m in self.members), self.members, FINISH_TIMEOUT_S)


@asynccontextmanager
async def load_processes(
    run: RunDirectory, plan: Path, listeners: int, launcher: Sequence[str] = ()
) -> AsyncIterator[LoadProcesses]:
    """Start the processes of a plan and wait until they are ready; gone when the block ends.

    `launcher`: what comes before each command, to run it elsewhere.
    """
    engines = -(-listeners // STREAMS_PER_ENGINE)
    async with AsyncExitStack() as undo:
        spawn = partial(_spawn, undo, run, launcher)
        members = [await spawn("locust", "harness.load.locust_process", "locust-0", [str(plan), "locust-0"])]
        for index in range(engines):
            name = f"streams-{index}"
            arguments = [str(plan), name, str(index), str(engines)]
            members.append(await spawn("streams", "harness.load.stream_engine", name, arguments))
        tasks = [asyncio.create_task(m.follow()) for m in members]
        undo.callback(lambda: [t.cancel() for t in tasks])
        processes = LoadProcesses(members)
        await processes.wait_state(("ready",), READY_TIMEOUT_S, members)
        clocks = ClockWatch(run, [member.time for member in members])
        await clocks.begin()
        undo.callback(clocks.write)
        tasks.append(asyncio.create_task(clocks.run()))
        yield processes


@asynccontextmanager
async def null_probe(run: RunDirectory, reads_per_s: float) -> AsyncIterator[None]:
    """Measure the machine beside the run while the block lasts; nobody waits for it, and a run is judged without it."""
    command = [sys.executable, "-m", "harness.load.null_probe", str(run.path), str(reads_per_s)]
    async with child_process(command, run.logs / "null_probe.log", grace_s=PROBE_GRACE_S):
        yield


async def _spawn(
    undo: AsyncExitStack,
    run: RunDirectory,
    launcher: Sequence[str],
    kind: str,
    module: str,
    name: str,
    arguments: list[str],
) -> LoadProcess:
    log = run.logs / f"{name}.log"
    command = [*launcher, sys.executable, "-m", module, *arguments]
    process = await undo.enter_async_context(child_process(command, log))
    return LoadProcess(name, kind, process, log)


async def _wait(condition: Any, members: list[LoadProcess], timeout_s: float) -> None:
    """Wait until the condition holds, looking after every status line; returns silently at the time limit."""
    deadline = asyncio.get_running_loop().time() + timeout_s
    while not condition():
        left = deadline - asyncio.get_running_loop().time()
        if left <= 0:
            return
        for member in members:
            member.changed.clear()
        waits = [asyncio.create_task(m.changed.wait()) for m in members]
        _, pending = await asyncio.wait(waits, timeout=min(left, 1.0), return_when=asyncio.FIRST_COMPLETED)
        for task in pending:
            task.cancel()
