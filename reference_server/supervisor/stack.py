"""The life of a stack: plan, start everything at once, await readiness, keep it up, end it to the last process."""

from __future__ import annotations

import asyncio
import fcntl
import logging
import math
import os
import resource
import shutil
import signal
import stat
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from reference_server.observability.logs import configure_logging, message_of
from reference_server.supervisor.endpoints import describe
from reference_server.supervisor.family import Family
from reference_server.supervisor.layout import StackDirectory, SupervisorFile, start_time, write_whole
from reference_server.supervisor.links import apply_links
from reference_server.supervisor.part import Part
from reference_server.supervisor.parts import EDGE, all_parts, lanes_folder, toxiproxy_part
from reference_server.supervisor.plan import Plan, Request, make_plan
from reference_server.supervisor.ports import Ports
from reference_server.supervisor.programs import StackUnavailable, find_haproxy, find_toxiproxy
from reference_server.supervisor.readiness import is_ready
from reference_server.supervisor.small_disks import mount_small_disks
from reference_server.supervisor.sweep import start_guard, sweep

log = logging.getLogger(__name__)
POLL_S = 0.05
LOCK_WAIT_S = 6.0
LINKS_AGAIN_S = 1.0
SOCKETS_PREFIX = "fs-"
_LOG_TAIL_BYTES = 4096


def run_stack(request: Request, on_ready: Callable[[], None]) -> None:
    """Bring the stack up, call `on_ready`, stay until told to end, take it down.

    Raises StackUnavailable, StackRefused; whatever was started is gone then.
    """
    if request.parent_pipe and not stat.S_ISFIFO(os.fstat(0).st_mode) and not stat.S_ISSOCK(os.fstat(0).st_mode):
        raise StackUnavailable("--parent-pipe needs a pipe on standard input; leave the option out otherwise")
    stack = StackDirectory(request.directory.resolve())
    stack.path.mkdir(parents=True, exist_ok=True)
    if request.wal_tmpfs_mb:
        mount_small_disks([lanes_folder(stack.path, name) for name in request.regions], request.wal_tmpfs_mb)
    with _locked(stack), _guarded(stack) as (sockets, mark):
        asyncio.run(_Run(request, stack, sockets, mark, on_ready).live())


@contextmanager
def _locked(stack: StackDirectory) -> Iterator[None]:
    """One supervisor a directory. A guard still sweeping after an earlier one is awaited."""
    descriptor = os.open(stack.lock, os.O_RDWR | os.O_CREAT, 0o600)
    deadline = time.monotonic() + LOCK_WAIT_S
    try:
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if stack.running() is not None or time.monotonic() > deadline:
                    raise StackUnavailable(
                        f"a stack already runs in {stack.path}; end it with: python -m reference_server down --dir "
                        f"{stack.path}"
                    ) from None
            time.sleep(POLL_S)
        yield
    finally:
        os.close(descriptor)


@contextmanager
def _guarded(stack: StackDirectory) -> Iterator[tuple[str, str]]:
    """A socket directory and a mark; whatever happens to this process, the guard removes what carries them."""
    stack.create()
    _remove_stale_sockets(stack)
    sockets = tempfile.mkdtemp(prefix=SOCKETS_PREFIX)
    mark = f"{stack.path}#{os.getpid()}.{start_time(os.getpid())}"
    pipe = start_guard(mark, sockets)
    running = SupervisorFile(pid=os.getpid(), start_time=start_time(os.getpid()), sockets=sockets, marker=mark)
    write_whole(stack.supervisor, msgspec.json.encode(running))
    try:
        yield sockets, mark
    finally:
        sweep(mark)
        stack.endpoints.unlink(missing_ok=True)
        stack.supervisor.unlink(missing_ok=True)
        shutil.rmtree(sockets, ignore_errors=True)
        os.close(pipe)


def _remove_stale_sockets(stack: StackDirectory) -> None:
    """Those of an earlier life whose supervisor and guard were both killed."""
    earlier = stack.latest()
    folder = Path(earlier.sockets) if earlier is not None else Path()
    if folder.parent == Path(tempfile.gettempdir()) and folder.name.startswith(SOCKETS_PREFIX):
        shutil.rmtree(folder, ignore_errors=True)


class _Run:
    """One life of a stack."""

    def __init__(
        self, request: Request, stack: StackDirectory, sockets: str, mark: str, on_ready: Callable[[], None]
    ) -> None:
        self.request = request
        self.stack = stack
        self.sockets = sockets
        self.on_ready = on_ready
        self.ports = Ports()
        self.family = Family(stack, mark)
        self.stopping = asyncio.Event()
        self.failure: StackUnavailable | None = None
        self.ready = False
        self.repairs: set[asyncio.Task[None]] = set()

    async def live(self) -> None:
        """Up, then down. Raises StackUnavailable, StackRefused."""
        self._listen_for_the_end()
        try:
            toxiproxy = find_toxiproxy()
            haproxy = find_haproxy() if EDGE in self.request.only else None
            plan = make_plan(
                self.request, self.stack, self.sockets, self.ports, toxiproxy is not None, haproxy is not None
            )
            parts = self._parts(plan, toxiproxy, haproxy)
            began = time.monotonic()
            await self._start_unless_stopped(plan, parts)
            if not self.stopping.is_set():
                self._announce(plan, parts, time.monotonic() - began)
                await self.stopping.wait()
            if self.failure is not None:
                raise self.failure
        finally:
            self.stack.endpoints.unlink(missing_ok=True)
            for task in self.repairs:
                task.cancel()
            await self.family.stop()
            self.ports.close()

    def _listen_for_the_end(self) -> None:
        loop = asyncio.get_running_loop()
        for sig in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            loop.add_signal_handler(sig, self.stopping.set)
        if self.request.parent_pipe:
            loop.add_reader(0, self._read_parent)

    def _read_parent(self) -> None:
        if not os.read(0, 4096):
            asyncio.get_running_loop().remove_reader(0)
            self.stopping.set()

    def _parts(self, plan: Plan, toxiproxy: str | None, haproxy: str | None) -> list[Part]:
        _raise_descriptor_limit()
        parts = all_parts(plan.settings, self.stack.settings, self.request.only)
        if toxiproxy is not None:
            parts.insert(0, toxiproxy_part(toxiproxy, plan.toxiproxy_port))
        else:
            log.warning("toxiproxy-server was not found: links between regions are direct, without delay")
        if haproxy is not None:
            from reference_server.supervisor.edge_proxy import edge_parts  # cryptography: only who needs it waits

            parts += edge_parts(haproxy, self.stack, plan.settings, self.request.only)
        elif EDGE in self.request.only:
            log.warning("haproxy was not found: regions have no edge proxy, clients reach apis and feps directly")
        return parts

    async def _start(self, plan: Plan, parts: list[Part]) -> None:
        """Everything at once: parts wait for each other by themselves."""
        self.family.on_death = self._died_at_start
        self.family.on_restart = lambda part: self._restarted(plan, part)
        self.family.watch()
        for part in parts:
            self.family.start(part)
        deadline = time.monotonic() + self.request.ready_timeout_s
        async with asyncio.TaskGroup() as group:
            for part in parts:
                group.create_task(self._await_ready(plan, part, deadline))

    async def _await_ready(self, plan: Plan, part: Part, deadline: float) -> None:
        while not await is_ready(part.probe):
            if time.monotonic() > deadline:
                self._fail(
                    f"{part.handle} was not ready within {self.request.ready_timeout_s:g} s; see {self._log_of(part)}"
                )
                return
            await asyncio.sleep(POLL_S)
        if part.handle == "toxiproxy":
            await self._apply_links(plan)

    async def _apply_links(self, plan: Plan) -> None:
        """Once at the start, which fails without them; later until they are there."""
        while True:
            try:
                await apply_links(plan.toxiproxy_port, plan.links)
                return
            except StackUnavailable as error:
                self._fail(str(error))
            if not self.ready:
                return
            await asyncio.sleep(LINKS_AGAIN_S)

    def _died_at_start(self, part: Part, how: str) -> None:
        if not self.ready:
            self._fail(f"{part.handle} ended with {how} before it was ready; see {self._log_of(part)}")

    def _fail(self, sentence: str) -> None:
        """Before it is ready, a stack that misses a part is ended; afterwards parts come and go."""
        if self.ready:
            log.error("%s", sentence)
            return
        if self.failure is None:
            self.failure = StackUnavailable(sentence)
        self.stopping.set()

    def _log_of(self, part: Part) -> str:
        path = self.stack.log(part.log_name)
        with path.open("rb") as file:
            file.seek(max(path.stat().st_size - _LOG_TAIL_BYTES, 0))
            lines = file.read().decode(errors="replace").strip().splitlines()
        return f"{path}" + (f" (last line: {message_of(lines[-1])})" if lines else " (empty)")

    def _restarted(self, plan: Plan, part: Part) -> None:
        """Toxiproxy keeps nothing: its links are made again."""
        if part.handle == "toxiproxy":
            task = asyncio.get_running_loop().create_task(self._await_ready(plan, part, math.inf))
            self.repairs.add(task)
            task.add_done_callback(self.repairs.discard)

    async def _start_unless_stopped(self, plan: Plan, parts: list[Part]) -> None:
        """Await the start, unless the end is ordered (or a part fails) first."""
        starting = asyncio.ensure_future(self._start(plan, parts))
        ending = asyncio.ensure_future(self.stopping.wait())
        await asyncio.wait({starting, ending}, return_when=asyncio.FIRST_COMPLETED)
        ending.cancel()
        if self.stopping.is_set():
            starting.cancel()
            await asyncio.wait({starting})
        else:
            await starting

    def _announce(self, plan: Plan, parts: list[Part], seconds: float) -> None:
        found = describe(self.stack, plan, parts, edges_wanted=EDGE in self.request.only)
        write_whole(self.stack.endpoints, msgspec.json.format(msgspec.json.encode(found), indent=1))
        self.ready = True
        log.info("ready after %.1f s: %d parts", seconds, len(parts))
        self.on_ready()


def _raise_descriptor_limit() -> None:
    """As many open files as the machine allows; the parts inherit it."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def configure_log(path: Path) -> None:
    """The supervisor's own log file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    configure_logging("supervisor", path.open("a"))
    logging.getLogger("httpx").setLevel(logging.WARNING)
