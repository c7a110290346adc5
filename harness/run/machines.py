"""The master's side of a run over several machines: workers join, take their parts, and hand over what they wrote.

Nobody gets anything before he has proved that he has the secret (`harness.run.secret`), and a worker gets the tokens of
its own users only. A worker that is lost stays lost: its processes are, and the run cannot pass.
"""

from __future__ import annotations

import asyncio
import contextlib
import io
import ssl
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
from aiohttp import web

from harness.contract.profile import strangers
from harness.core.clock import now_ns
from harness.core.errors import UnavailableError
from harness.load.plan import LoadPlan, read_plan
from harness.load.shard import Shard
from harness.load.trace import path_of
from harness.record.frames import SUFFIX
from harness.record.run_directory import RunDirectory
from harness.run.link import (
    HEARTBEAT_S,
    MOST_BYTES,
    PATH,
    VERSION,
    Begin,
    Bye,
    Challenge,
    Delivered,
    Ended,
    File,
    Hello,
    Inbox,
    Link,
    LinkLost,
    Message,
    Order,
    Proof,
    Refused,
    Said,
    network_name,
)
from harness.run.link_tls import master_tls
from harness.run.load_parts import MOST_WORKERS, Part
from harness.run.load_processes import LoadProcess
from harness.run.secret import MASTER, WORKER, Conversation, is_proven, new_nonce, proof

JOIN_TIMEOUT_S = 600.0
SILENCE_S = 30.0
"""a worker that sends nothing of what it wrote for so long is given up"""


@dataclass(frozen=True)
class Meeting:
    """Where workers of other machines are to join a run, and how many."""

    host: str
    port: int
    workers: int
    secret: bytes = field(repr=False)


class FarProcess:
    """The way to a load process on another machine."""

    def __init__(self, machine: Machine, name: str) -> None:
        self._machine, self._name = machine, name
        self.has_ended = False

    def send(self, line: bytes) -> None:
        """Have it sent there."""
        self._machine.tell(Order(self._name, line.decode()))

    @property
    def is_gone(self) -> bool:
        """Ended, or out of reach with its machine."""
        return self.has_ended or self._machine.is_lost

    @property
    def is_delivered(self) -> bool:
        """Whether its machine handed everything over."""
        return self._machine.has_delivered

    @property
    def reason(self) -> str:
        """Why its machine is lost."""
        return self._machine.reason and f"worker {self._machine.name}: {self._machine.reason}"


class Machine:
    """One worker that joined."""

    def __init__(self, name: str, link: Link, hello: Hello) -> None:
        self.name, self.processes = name, hello.processes
        self.is_lost = self.has_delivered = False
        self.reason = ""
        """why it is lost"""
        self._link, self._network = link, hello.network
        self._outbox: asyncio.Queue[Message] = asyncio.Queue()
        self._members: dict[str, tuple[LoadProcess, FarProcess]] = {}
        self._inbox = Inbox({})
        self._run: RunDirectory | None = None
        self._came = asyncio.Event()
        """something of what was written came, or nothing will any more"""
        self._over = asyncio.Event()

    async def serve(self) -> None:
        """Take what it says, until the link ends."""
        sending = asyncio.create_task(self._send())
        try:
            while True:
                await self._take(await self._link.receive())
        except (LinkLost, OSError) as error:  # OSError: no room for what it hands over
            self.reason = str(error)
        finally:
            sending.cancel()
            self._inbox.close()
            if self._run is not None:
                self._expected(self._run)[GENERATOR].unlink(missing_ok=True)
            self.is_lost = not self.has_delivered
            self._end()
            for member, _ in self._members.values():
                member.changed.set()

    def tell(self, message: Message) -> None:
        """Send it a message, behind those before; a link that was cut is noticed by whoever receives."""
        self._outbox.put_nowait(message)

    async def begin(self, run: RunDirectory, plan: Path, parts: Sequence[Part]) -> list[LoadProcess]:
        """Give it its parts of the plan. Raises UnavailableError when it is gone, or cannot reach the target."""
        told = read_plan(plan)
        if self._network != network_name() and not all(strangers([url]) for url in plan_urls(told)):
            raise UnavailableError(
                f"worker {self.name} is another machine and cannot reach a target at a loopback address: give the "
                "target's address as that machine sees it (and --allow-host)"
            )
        for part in parts:
            carrier = FarProcess(self, part.name)
            member = LoadProcess(part.name, part.kind, carrier, run.logs / f"{part.name}.log")
            self._members[part.name] = member, carrier
        self._run, self._inbox = run, Inbox(self._expected(run))
        try:
            for name, content in contents(told, parts).items():
                await self._link.send_file(name, io.BytesIO(content))
        except LinkLost as error:
            raise UnavailableError(f"worker {self.name} is gone: {self.reason or error}") from error
        self.tell(Begin(tuple(parts)))
        return [member for member, _ in self._members.values()]

    async def collect(self, kind: str) -> None:
        """Wait until those of its processes of a kind that are done have handed over what they wrote."""
        mine = [(m, carrier) for m, carrier in self._members.values() if m.kind == kind]
        await self._wait(lambda: all(carrier.has_ended for member, carrier in mine if member.state == "done"))

    async def deliver(self) -> None:
        """Wait until everything is here; give up when it is lost, or sends nothing for SILENCE_S."""
        await self._wait(self._over.is_set)
        if not self._over.is_set():
            await self._link.close()

    async def _wait(self, condition: Callable[[], bool]) -> None:
        """Wait until it holds, the worker is lost, or sends nothing of what was written for SILENCE_S."""
        while not (condition() or self._over.is_set()):
            self._came.clear()
            try:
                async with asyncio.timeout(SILENCE_S):
                    await self._came.wait()
            except TimeoutError:
                return

    async def close(self) -> None:
        """End the link."""
        await self._link.close()

    def _end(self) -> None:
        """Nothing comes any more."""
        self._over.set()
        self._came.set()

    def _expected(self, run: RunDirectory) -> dict[str, Path]:
        """What it may hand over: name on the link -> where it goes."""
        files = {GENERATOR: run.path / f".generator.{next(iter(self._members), '')}"}
        for name in self._members:
            files |= {relative: run.path / relative for relative in written_by(name)}
        return files

    async def _send(self) -> None:
        with contextlib.suppress(LinkLost):  # whoever receives notices
            while True:
                await self._link.tell(await self._outbox.get())

    async def _take(self, message: Message | bytes) -> None:
        """One message. Raises LinkLost when a worker does not say such a thing, or not now."""
        match message:
            case bytes():
                self._inbox.add(message)
                self._came.set()
            case Said(name, line) if name in self._members:
                self._members[name][0].take(line, now_ns())
            case Ended(name) if name in self._members:
                member, carrier = self._members[name]
                carrier.has_ended = True
                self._came.set()
                member.changed.set()
            case File():
                self._inbox.begin(message)
            case Delivered():
                await self._close_delivery()
            case Refused(reason):
                raise LinkLost(reason)
            case _:
                raise LinkLost(f"{type(message).__name__} was not expected")

    async def _close_delivery(self) -> None:
        """Everything must be here of each process that says it is done. Then the worker may go."""
        done = [name for name, (member, _) in self._members.items() if member.state == "done"]
        needed = {GENERATOR, *(file for name in done for file in written_by(name) if not file.endswith(LOG))}
        if self._run is None or not needed <= self._inbox.got:
            raise LinkLost(f"not everything was handed over: {', '.join(sorted(needed - self._inbox.got))}")
        rows = self._expected(self._run)[GENERATOR]
        _add_rows(self._run.generator, rows, set(self._members))
        self.has_delivered = True
        self._end()
        await self._link.tell(Bye())


GENERATOR = "generator"
PLAN, TOKENS, OPERATOR, AUTHORITY, TRACE = "plan", "tokens", "operator", "authority", "trace"
LOG = ".log"


def written_by(process: str) -> tuple[str, ...]:
    """What a load process leaves in its run directory."""
    return f"history/{process}{SUFFIX}", f"histograms/{process}.hlog", f"logs/{process}{LOG}"


def plan_urls(plan: LoadPlan) -> list[str]:
    """Every URL that load processes of a plan talk to."""
    regions = plan.regions.values()
    return [url for r in regions for url in (r.api, r.stream, *r.streams, r.edge) if url]


def contents(plan: LoadPlan, parts: Sequence[Part]) -> dict[str, bytes]:
    """The files that a worker needs for its parts, and nothing that it does not need."""
    files = {PLAN: msgspec.json.encode(plan)}
    shards = [Shard(plan, part.index, part.count) for part in parts if part.kind == "locust"]
    listeners = {
        user for part in parts if part.kind == "streams" for user, _ in plan.listeners[part.index :: part.count]
    }
    tokens = {
        str(user): token
        for user, token in plan.read_tokens().items()
        if user in listeners or any(shard.owns(user) for shard in shards)
    }
    files[TOKENS] = msgspec.json.encode(tokens)
    if plan.operator_token_file and shards and plan.rates.moderations_per_s:
        files[OPERATOR] = plan.read_operator_token().encode()
    if plan.ca_file:
        files[AUTHORITY] = Path(plan.ca_file).read_bytes()
    if plan.rates.trace is not None:
        files[TRACE] = path_of(plan).read_bytes()
    return files


def _add_rows(generator: Path, rows: Path, members: set[str]) -> None:
    """Put a worker's lines of generator.jsonl into the run's. Raises LinkLost for lines of others."""
    lines = rows.read_bytes().splitlines()
    rows.unlink()
    for line in lines:
        try:
            is_own = msgspec.json.decode(line, type=dict[str, object]).get("process") in members
        except msgspec.DecodeError:
            is_own = False
        if not is_own:
            raise LinkLost("a generator row that is no process of its own")
    with generator.open("ab") as file:
        file.write(b"".join(line + b"\n" for line in lines))


class Master:
    """Takes workers in, until there are as many as were asked for."""

    def __init__(self, meeting: Meeting) -> None:
        self.machines: list[Machine] = []
        self.port = meeting.port
        self.tls, self._certificate = master_tls()
        self._meeting = meeting
        self._is_complete = False
        self._changed = asyncio.Event()

    async def wait(self, say: Callable[[str], None], timeout_s: float = JOIN_TIMEOUT_S) -> None:
        """Wait until all workers are there; who goes meanwhile may come again, from then on nobody joins any more.

        Raises UnavailableError when they do not come in time.
        """
        wanted = self._meeting.workers
        try:
            async with asyncio.timeout(timeout_s):
                while len(present := self._present) < wanted:
                    say(f"waiting for workers at {self._meeting.host}:{self.port}: {len(present)} of {wanted}")
                    await self._changed.wait()
                    self._changed.clear()
        except TimeoutError:
            there = len(self._present)
            raise UnavailableError(f"{there} of {wanted} workers joined within {timeout_s:g} s") from None
        self.machines, self._is_complete = present, True

    @property
    def _present(self) -> list[Machine]:
        """Who joined and has not gone."""
        return [machine for machine in self.machines if not machine.is_lost]

    async def join(self, request: web.Request) -> web.WebSocketResponse:
        """One worker, from its first word until its link ends."""
        socket = web.WebSocketResponse(heartbeat=HEARTBEAT_S, max_msg_size=MOST_BYTES, compress=False)
        await socket.prepare(request)
        link = Link(socket)
        try:
            hello = await self._meet(link)
        except LinkLost:
            await link.close()
            return socket
        machine = Machine(str(request.remote), link, hello)
        self.machines.append(machine)
        self._changed.set()
        await machine.serve()
        self._changed.set()
        await link.close()
        return socket

    async def _meet(self, link: Link) -> Hello:
        """Both prove that they have the secret. Raises LinkLost when the worker does not, or is not needed."""
        hello = await link.expect(Hello)
        secret, seen = self._meeting.secret, Conversation(new_nonce(), hello.nonce, self._certificate)
        await link.tell(Challenge(seen.master_nonce, proof(secret, MASTER, seen)))
        given = await link.expect(Proof)
        reason = ""
        if not is_proven(secret, WORKER, seen, given.proof):
            reason = "the secret is not the master's"
        elif not 1 <= hello.processes <= MOST_WORKERS:
            reason = f"a worker runs 1 to {MOST_WORKERS} processes, not {hello.processes}"
        elif hello.version != VERSION:
            reason = f"the master speaks version {VERSION} of the link, not {hello.version}"
        elif self._is_complete or len(self._present) >= self._meeting.workers:
            reason = "the run has all its workers"
        if reason:
            await link.tell(Refused(reason))
            raise LinkLost(reason)
        return hello


@asynccontextmanager
async def master(meeting: Meeting) -> AsyncIterator[Master]:
    """Workers may join while the block lasts. Raises UnavailableError when the address cannot be used."""
    taking = Master(meeting)
    app = web.Application()
    app.router.add_get(PATH, taking.join)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
    await runner.setup()
    try:
        await _listen(runner, meeting, taking.tls)
        taking.port = runner.addresses[0][1]
        yield taking
    finally:
        await asyncio.gather(*(machine.close() for machine in taking.machines), return_exceptions=True)
        await runner.cleanup()


async def _listen(runner: web.AppRunner, meeting: Meeting, tls: ssl.SSLContext) -> None:
    try:
        await web.TCPSite(runner, meeting.host, meeting.port, ssl_context=tls).start()
    except OSError as error:
        raise UnavailableError(f"--bind {meeting.host}:{meeting.port}: {error.strerror}") from error
