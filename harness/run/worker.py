"""A worker: joins the run of a master on another machine, runs its part of the load here, hands over what was written.

    join -> take plan and tokens -> run its load processes, each line of theirs carried over the link -> deliver

Everything is kept in a folder of its own, readable by nobody else, and is gone afterwards; tokens are gone as soon as
the load processes have read them, so a worker that is killed leaves none. When the master is gone, or silent, the load
ends at once. The load goes only where this side allows: a plan that names another machine which was not allowed here is
refused.
"""

from __future__ import annotations

import asyncio
import io
import tempfile
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp
import msgspec

from harness.contract.profile import strangers
from harness.core.errors import UnavailableError, UsageError
from harness.core.scratch import scratch_folder
from harness.load.plan import LoadPlan, read_plan, write_plan
from harness.record.run_directory import RunDirectory
from harness.run.child import child_process, read_lines
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
    Order,
    Proof,
    Refused,
    Said,
    network_name,
)
from harness.run.link_tls import fingerprint, worker_tls
from harness.run.load_parts import Part
from harness.run.machines import AUTHORITY, GENERATOR, OPERATOR, PLAN, TOKENS, TRACE, plan_urls, written_by
from harness.run.secret import MASTER, WORKER, Conversation, is_proven, new_nonce, proof

CONNECT_S = 60.0
"""a master that is not there yet is tried again for so long"""
AGAIN_S = 0.5
BEGIN_S = 1800.0
"""the master waits for other workers and starts its target meanwhile"""
BYE_S = 60.0
PREFIX = "feedstorm-worker-"


@dataclass(frozen=True)
class Offer:
    """What a worker is to do."""

    host: str
    port: int
    processes: int
    secret: bytes = field(repr=False)
    allow_hosts: tuple[str, ...] = ()

    @property
    def address(self) -> str:
        """As people write it."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


async def work(offer: Offer, say: Callable[[str], None]) -> None:
    """Join the master, do its work, return when it has everything. Raises UnavailableError, UsageError."""
    async with aiohttp.ClientSession(trust_env=False) as http:
        say(f"looking for a master at {offer.address}, for {CONNECT_S:g} s at most")
        socket = await _connected(http, offer)
        async with socket:
            link = Link(socket)
            await _meet(link, offer, certificate_of(socket))
            say(f"joined {offer.address}, waiting for the run to begin")
            with scratch_folder(Path(tempfile.gettempdir()), PREFIX) as folder:
                await _Work(link, RunDirectory(folder / "run").create(), offer, say).run()


async def _connected(http: aiohttp.ClientSession, offer: Offer) -> aiohttp.ClientWebSocketResponse:
    """A link to the master, as soon as there is one."""
    deadline = asyncio.get_running_loop().time() + CONNECT_S
    timeout, tls = aiohttp.ClientWSTimeout(ws_close=5.0), worker_tls()
    while True:
        try:
            return await http.ws_connect(
                f"https://{offer.address}{PATH}",
                ssl=tls,
                timeout=timeout,
                heartbeat=HEARTBEAT_S,
                max_msg_size=MOST_BYTES,
            )
        except aiohttp.WSServerHandshakeError as error:
            raise UnavailableError(f"{offer.address} is no master of a run: {error.status}") from error
        except aiohttp.ClientConnectorSSLError as error:
            raise UnavailableError(f"{offer.address} is no master of a run: it does not encrypt") from error
        except (aiohttp.ClientError, OSError) as error:
            if asyncio.get_running_loop().time() > deadline:
                raise UnavailableError(f"no master at {offer.address} within {CONNECT_S:g} s: {error}") from error
        await asyncio.sleep(AGAIN_S)


def certificate_of(socket: aiohttp.ClientWebSocketResponse) -> str:
    """Fingerprint of the master's certificate, as this end of the link sees it."""
    return fingerprint(socket.get_extra_info("ssl_object").getpeercert(binary_form=True))


async def _meet(link: Link, offer: Offer, certificate: str) -> None:
    """Both prove that they have the secret, and see the same certificate. Raises LinkLost."""
    nonce = new_nonce()
    await link.tell(Hello(VERSION, nonce, offer.processes, network_name()))
    challenge = await link.expect(Challenge)
    seen = Conversation(challenge.nonce, nonce, certificate)
    if not is_proven(offer.secret, MASTER, seen, challenge.proof):
        raise LinkLost(f"{offer.address} does not have this secret, or somebody is between us")
    await link.tell(Proof(proof(offer.secret, WORKER, seen)))


class _Work:
    """The work for one run."""

    def __init__(self, link: Link, run: RunDirectory, offer: Offer, say: Callable[[str], None]) -> None:
        self._link, self._run, self._offer, self._say = link, run, offer, say
        self._files = {name: run.path / f"{name}.file" for name in (PLAN, TOKENS, OPERATOR, AUTHORITY, TRACE)}
        self._inbox = Inbox(self._files)
        self._children: dict[str, asyncio.subprocess.Process] = {}
        self._silent: set[str] = set()
        """processes that may not have read their tokens yet: they do before they say a word"""
        self._one_file = asyncio.Lock()
        self._finished = asyncio.Event()

    async def run(self) -> None:
        """From the plan to the last file."""
        parts = await self._begin()
        plan_file = self._run.path / "plan.json"
        write_plan(plan_file, await self._plan())
        async with AsyncExitStack() as undo:
            for part in parts:
                log = self._run.logs / f"{part.name}.log"
                self._children[part.name] = await undo.enter_async_context(child_process(part.command(plan_file), log))
            self._silent = set(self._children)
            self._say(f"running {', '.join(self._children)}")
            await self._relay()

    async def _begin(self) -> tuple[Part, ...]:
        """The parts to run, once the files came that go with them."""
        try:
            async with asyncio.timeout(BEGIN_S):
                while not isinstance(message := await self._link.receive(), Begin):
                    self._take_file(message)
        except TimeoutError as error:
            raise LinkLost(f"the run did not begin within {BEGIN_S:g} s") from error
        return message.parts

    def _take_file(self, message: object) -> None:
        match message:
            case bytes():
                self._inbox.add(message)
            case File():
                self._inbox.begin(message)
            case Refused(reason):
                raise LinkLost(f"the master refuses: {reason}")
            case _:
                raise LinkLost(f"{type(message).__name__} was not expected")

    async def _plan(self) -> LoadPlan:
        """The plan, with its files where they are here. Raises UsageError when it goes where it may not."""
        if not {PLAN, TOKENS} <= self._inbox.got:
            raise LinkLost("the master sent no plan")
        plan = read_plan(self._files[PLAN])
        if plan.rates.trace is not None and TRACE not in self._inbox.got:
            raise LinkLost("the master sent no trace")
        if foreign := strangers(plan_urls(plan), self._offer.allow_hosts):
            reason = f"the target is at {', '.join(foreign)}; allow it here with --allow-host {foreign[0]}"
            await self._link.tell(Refused(reason))
            raise UsageError(reason)
        trace = plan.rates.trace
        if trace is not None:
            name = Path(trace.path).name  # how it is read depends on its name
            self._files[TRACE].rename(self._run.path / name)
            trace = msgspec.structs.replace(trace, path=name)
        return msgspec.structs.replace(
            plan,
            rates=msgspec.structs.replace(plan.rates, trace=trace),
            run=str(self._run.path),
            origin=plan.run,
            tokens=str(self._files[TOKENS]),
            operator_token_file=self._here(OPERATOR),
            ca_file=self._here(AUTHORITY),
        )

    def _here(self, name: str) -> str:
        return str(self._files[name]) if name in self._inbox.got else ""

    async def _relay(self) -> None:
        """Carry lines both ways until all processes ended, and what each of them wrote with its end."""
        obeying = asyncio.create_task(self._obey())
        speaking = asyncio.create_task(self._speak())
        try:
            await asyncio.wait([obeying, speaking], return_when=asyncio.FIRST_COMPLETED)
            if not obeying.done():
                await speaking
                await self._deliver()
            try:
                async with asyncio.timeout(BYE_S):
                    await obeying
            except TimeoutError as error:
                raise LinkLost("the master did not take what was handed over") from error
        finally:
            obeying.cancel()
            speaking.cancel()
            await asyncio.gather(obeying, speaking, return_exceptions=True)

    async def _obey(self) -> None:
        """Carry out what the master says, until it says that it has everything. Raises LinkLost."""
        while True:
            match await self._link.receive():
                case Order(name, line) if name in self._children:
                    stdin = self._children[name].stdin
                    if stdin is not None and not stdin.is_closing():
                        stdin.write(line.encode())
                case Bye() if self._finished.is_set():
                    return
                case message:
                    raise LinkLost(f"{type(message).__name__} was not expected")

    async def _speak(self) -> None:
        """Carry every line of every process, until all of them ended and what they wrote is handed over."""
        async with asyncio.TaskGroup() as group:
            for name, process in self._children.items():
                group.create_task(self._speak_for(name, process))

    async def _speak_for(self, name: str, process: asyncio.subprocess.Process) -> None:
        async for line in read_lines(process):
            self._heard(name)
            await self._link.tell(Said(name, line.decode(errors="replace")))
        await process.wait()
        await self._hand_over(name)
        await self._link.tell(Ended(name))

    def _heard(self, name: str) -> None:
        """Forget the tokens once every process spoke."""
        if name in self._silent:
            self._silent.remove(name)
            if not self._silent:
                for secret in (TOKENS, OPERATOR):
                    self._files[secret].unlink(missing_ok=True)

    async def _hand_over(self, name: str) -> None:
        """Send what a process wrote that has ended."""
        async with self._one_file:
            for relative in written_by(name):
                path = self._run.path / relative
                if path.exists():
                    with path.open("rb") as file:
                        await self._link.send_file(relative, file)

    async def _deliver(self) -> None:
        """Say that everything was sent, the last of it with that."""
        self._say("handing over what was written")
        rows = self._run.generator.read_bytes() if self._run.generator.exists() else b""
        await self._link.send_file(GENERATOR, io.BytesIO(rows))
        self._finished.set()
        await self._link.tell(Delivered())
