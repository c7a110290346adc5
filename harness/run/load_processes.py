"""The load side of a run: Locust processes and stream engines, one status line each a second.

Speaks the control protocol of `harness.load`: JSON lines, commands in, status out; over pipes to children of this
process, over a link to those of another machine (`harness.run.machines`). A process that is lost is remembered, and
makes the verdict inconclusive. Times are sent to each process as its own clock shows them.
"""

from __future__ import annotations

import asyncio
import errno
import os
import sys
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import msgspec

from harness.core.clock import now_ns
from harness.core.errors import UnavailableError
from harness.load.plan import read_plan
from harness.record.run_directory import RunDirectory
from harness.run.child import child_process, log_tail, read_lines
from harness.run.clock_watch import ClockWatch, ProcessClock
from harness.run.load_parts import Part, share_out

READY_TIMEOUT_S = 30.0
OPEN_TIMEOUT_S = 60.0
"""beyond the time that opening paces itself to"""
FINISH_TIMEOUT_S = 30.0
PROBE_GRACE_S = 3.0
OWN_LIMITS = (errno.EMFILE, errno.ENFILE, errno.EADDRNOTAVAIL, errno.ENOBUFS, errno.ENOMEM)
"""why a stream is not opened because of the machine that asks"""


class StreamsNotOpened(UnavailableError):
    """Not every listener got its stream in time."""

    def __init__(self, opened: int, wanted: int, problems: Mapping[str, int]) -> None:
        """`problems`: why attempts failed -> how often."""
        self.opened, self.wanted = opened, wanted
        self.are_ours = not problems.keys().isdisjoint(os.strerror(code).lower() for code in OWN_LIMITS)
        """whether this machine had no room for more"""
        reasons = [f"{reason} ({times:,}x)" for reason, times in Counter(problems).most_common(3)]
        self.foremost = reasons[0] if reasons else "no attempt was refused"
        """why attempts failed, most times"""
        told = ", ".join(reasons) or self.foremost
        super().__init__(f"only {opened:,} of {wanted:,} streams could be opened: {told}")


class Carrier(Protocol):
    """How a load process is reached."""

    def send(self, line: bytes) -> None:
        """Send one line of input; nothing happens when the process is gone."""
        ...

    @property
    def is_gone(self) -> bool:
        """Ended or out of reach, and everything it said was read."""
        ...

    @property
    def is_delivered(self) -> bool:
        """Whether what it wrote is in the run directory."""
        ...

    @property
    def reason(self) -> str:
        """Why it is out of reach; empty: its log tells."""
        ...


class Pipe:
    """To a child of this process, which writes into the run directory itself."""

    is_delivered = True
    reason = ""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process

    def send(self, line: bytes) -> None:
        """Write to its input."""
        if self.process.stdin is not None and not self.process.stdin.is_closing():
            self.process.stdin.write(line)

    @property
    def is_gone(self) -> bool:
        """Ended, and its last line was read."""
        output = self.process.stdout
        return self.process.returncode is not None and (output is None or output.at_eof())


@dataclass
class LoadProcess:
    """One load process, with the newest status it sent."""

    name: str
    kind: str
    carrier: Carrier
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
        return "lost" if state != "done" and self.carrier.is_gone else state

    @property
    def is_finished(self) -> bool:
        """Done, and what it wrote is here."""
        return self.state == "done" and self.carrier.is_delivered

    def take(self, line: bytes | str, back_ns: int) -> None:
        """One line that it printed, which came at `back_ns`."""
        try:
            told = msgspec.json.decode(line, type=dict[str, Any])
        except msgspec.DecodeError:
            return
        if answer := told.get("clock"):
            self.time.take(answer, back_ns)
            return
        self.status = told
        self.changed.set()

    def send(self, command: dict[str, Any]) -> None:
        """Send one command; a process that is gone is noticed by its state."""
        self.carrier.send(msgspec.json.encode(command) + b"\n")


async def follow(member: LoadProcess, process: asyncio.subprocess.Process) -> None:
    """Read status lines of a child until it closes its output."""
    async for line in read_lines(process):
        member.take(line, now_ns())
    await process.wait()
    member.changed.set()


class Helper(Protocol):
    """Another machine that takes part of the load."""

    processes: int
    """Locust processes it offers"""

    async def begin(self, run: RunDirectory, plan: Path, parts: Sequence[Part]) -> list[LoadProcess]:
        """Have it start these parts of the plan."""
        ...

    async def collect(self, kind: str) -> None:
        """Wait until what its processes of a kind wrote that are done is here, or it is lost."""
        ...

    async def deliver(self) -> None:
        """Wait until what its processes wrote is here, or it is lost."""
        ...


class LoadProcesses:
    """All load processes of a run."""

    def __init__(self, members: list[LoadProcess], helpers: Sequence[Helper] = ()) -> None:
        self.members = members
        self._helpers = helpers

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
        """Names of processes that are not done, lost ones and ones that hang, or whose records never came."""
        return [m.name for m in self.members if not m.is_finished]

    def total(self, key: str) -> int:
        """Sum of a counter over all processes' newest status."""
        return sum(int(m.status.get(key, 0)) for m in self.members)

    async def wait_state(self, wanted: tuple[str, ...], timeout_s: float, members: list[LoadProcess]) -> None:
        """Wait until each member is in one of the states. Raises UnavailableError naming those that are not."""
        await _wait(lambda: all(m.state in wanted for m in members) or bool(self.lost), members, timeout_s)
        bad = [m for m in members if m.state not in wanted]
        if bad:
            raise self._not_in(bad, wanted[0])

    def _not_in(self, bad: Sequence[LoadProcess], wanted: str) -> UnavailableError:
        why = bad[0].carrier.reason or log_tail(bad[0].log)
        return UnavailableError(f"load process {bad[0].name} is {bad[0].state}, not {wanted}: {why}")

    async def open_streams(self, listeners: int, per_s: float) -> None:
        """Open every listener's stream, `per_s` a second. Raises StreamsNotOpened when some do not open in time, and
        UnavailableError when a process is lost meanwhile.
        """
        for engine in self.engines:
            engine.send({"cmd": "open"})
        limit_s = OPEN_TIMEOUT_S + listeners / per_s
        await _wait(lambda: self.total("open") >= listeners or bool(self.lost), self.engines, limit_s)
        if self.lost:
            raise self._not_in([m for m in self.members if m.name in self.lost], "opening streams")
        if self.total("open") < listeners:
            problems: Counter[str] = Counter()
            for engine in self.engines:
                problems.update(engine.status.get("problems", {}))
            raise StreamsNotOpened(self.total("open"), listeners, problems)

    def start(self, t0_ns: int) -> None:
        """Give every process the time zero of the schedule."""
        for member in self.members:
            member.send({"cmd": "start", "t0_ns": member.time.clock.to_theirs(t0_ns)})

    def cut(self, end_ns: int) -> None:
        """Tell every process that the plan ends `end_ns` after time zero: before its time."""
        for member in self.members:
            member.send({"cmd": "cut", "end_ns": end_ns})

    async def collect(self, kind: str) -> None:
        """Wait until what processes of a kind wrote elsewhere, and that are done, is in the run directory."""
        await asyncio.gather(*(helper.collect(kind) for helper in self._helpers))

    async def finish(self) -> None:
        """Ask every process to end, wait for its last status line, and for what it wrote elsewhere."""
        for member in self.members:
            member.send({"cmd": "stop"})
        await _wait(lambda: all(m.state in ("done", "lost") for m in self.members), self.members, FINISH_TIMEOUT_S)
        await asyncio.gather(*(helper.deliver() for helper in self._helpers))


@asynccontextmanager
async def load_processes(
    run: RunDirectory, plan: Path, launcher: Sequence[str] = (), workers: int = 1, helpers: Sequence[Helper] = ()
) -> AsyncIterator[LoadProcesses]:
    """Start the processes of a plan and wait until they are ready; those of this machine are gone when the block ends.

    `launcher`: what comes before each command. `workers`: Locust processes here; `helpers` have their own besides.
    """
    listeners = len(read_plan(plan).listeners)
    here, *elsewhere = share_out([workers, *(helper.processes for helper in helpers)], listeners)
    async with AsyncExitStack() as undo:
        tasks: list[asyncio.Task[None]] = []
        undo.callback(lambda: [task.cancel() for task in tasks])
        members: list[LoadProcess] = []
        for part in here:
            log = run.logs / f"{part.name}.log"
            process = await undo.enter_async_context(child_process([*launcher, *part.command(plan)], log))
            members.append(LoadProcess(part.name, part.kind, Pipe(process), log))
            tasks.append(asyncio.create_task(follow(members[-1], process)))
        for helper, parts in zip(helpers, elsewhere, strict=True):
            members += await helper.begin(run, plan, parts)
        processes = LoadProcesses(members, helpers)
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
