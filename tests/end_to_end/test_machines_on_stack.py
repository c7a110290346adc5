"""Two workers, one of them on a machine of its own network and clock, load the reference stack; then one is killed."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import subprocess
import threading
import tomllib
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import tomli_w
from far_machine import AHEAD_S, FarMachine, made_far_machine
from shared_runs import generator_of, ops_of, port_of, started, t0_of, write_secret
from small_runs import phase, wait_until
from stack_process import StackProcess

from harness.contract.profile import TARGETS
from harness.core.clock import NS_PER_S
from harness.core.errors import ExitCode
from harness.core.op import OpKind
from harness.load.plan import read_plan
from harness.load.schedule import arrivals
from harness.record.clocks import read_clocks
from harness.record.run_directory import RunDirectory

pytestmark = [pytest.mark.slow, pytest.mark.stack, pytest.mark.nightly, pytest.mark.timeout(300)]

USERS = 200
SCENARIO = f"""
name = "far"
about = "A small load from three places."
warmup = "1s"
[population]
users = {USERS}
mean_follows = 6
listeners = 45
panel = 24
[load]
posts = "10/s"
reads = "40/s"
moderations = "0.5/s"
[expect]
"feed_read" = ["failures == 0"]
"post_accept" = ["failures == 0"]
"invariants" = ["durability", "no_phantom", "no_duplicates", "order", "sse_completeness"]
"""


class Passage:
    """Takes connections at an address that others reach, and passes them on to the same ports of 127.0.0.1."""

    def __init__(self, host: str, ports: list[int]) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._servers: list[asyncio.Server] = []
        for port in ports:
            self._do(self._serve(host, port))

    async def _serve(self, host: str, port: int) -> None:
        async def passed_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            to_reader, to_writer = await asyncio.open_connection("127.0.0.1", port)
            await asyncio.gather(carry(reader, to_writer), carry(to_reader, writer))

        self._servers.append(await asyncio.start_server(passed_on, host, port))

    def _do(self, work: Coroutine[None, None, None]) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result(10)

    async def _end(self) -> None:
        for server in self._servers:
            server.close()
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def close(self) -> None:
        self._do(self._end())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()


async def carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """All that comes, until one side ends."""
    try:
        with contextlib.suppress(OSError):
            while block := await reader.read(1 << 16):
                writer.write(block)
                await writer.drain()
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


@dataclass(frozen=True)
class Place:
    """A stack that a far machine reaches, and the profile that says how."""

    stack: StackProcess
    far: FarMachine
    target: Path
    scenario: Path
    secret: Path


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    folder = tmp_path_factory.mktemp("far")
    with made_far_machine() as far:
        stack = StackProcess(folder / "stack", "--users", str(USERS))
        try:
            endpoints = stack.await_ready().endpoints
            regions = {
                name: {key: urls[key].replace("127.0.0.1", far.near) for key in ("api", "stream")}
                for name, urls in endpoints["regions"].items()
            }
            told = tomllib.loads((TARGETS / "reference.toml").read_text())
            profile = {key: told[key] for key in ("users", "capabilities", "slo")}
            profile |= {
                "name": "mine",
                "regions": regions,
                "operator": {"token_file": endpoints["operator_token_file"]},
            }
            (folder / "mine.toml").write_text(tomli_w.dumps(profile))
            scenario = folder / "far.toml"
            scenario.write_text(SCENARIO + phase("steady", 8))
            ports = [int(urlsplit(url).port or 0) for urls in regions.values() for url in urls.values()]
            passage = Passage(far.near, ports)
            try:
                yield Place(stack, far, folder / "mine.toml", scenario, write_secret(folder))
            finally:
                passage.close()
        finally:
            stack.end()


class Shared:
    """A run of three load processes: at the master, at a worker beside it, and at one far away."""

    def __init__(self, place: Place, folder: Path) -> None:
        self.out, self.folder, self.place = folder / "run", folder, place
        allowed = ("--allow-host", place.far.near)
        shared = ("--master", "--expect-workers", "2", "--bind", f"{place.far.near}:0", "--secret-file", place.secret)
        words = ("run", place.scenario, "--target", place.target, "--out", self.out, *shared, *allowed)
        self.master = started(folder / "run.txt", *words)
        words = ("worker", f"{place.far.near}:{port_of(self.master)}", "--secret-file", place.secret, *allowed)
        self.near = self._worker("near", words, ())
        self._wait(lambda: "joined" in self.told("near"), "the first has joined: it has the lower numbers")
        self.far = self._worker("far", words, place.far.launcher)

    def _worker(self, name: str, words: tuple[str | Path, ...], launcher: tuple[str, ...]) -> subprocess.Popen[str]:
        self.scratch(name).mkdir()
        told = self.folder / f"{name}.txt"
        return started(told, *words, env={"TMPDIR": str(self.scratch(name))}, launcher=launcher)

    def scratch(self, name: str) -> Path:
        """Where a worker keeps what it needs."""
        return self.folder / f"{name}-scratch"

    def told(self, name: str) -> str:
        return (self.folder / f"{name}.txt").read_text()

    def _wait(self, condition: Callable[[], object], what: str) -> None:
        wait_until(lambda: condition() or self.master.poll() is not None, 90, what)
        assert self.master.poll() is None, self.told("run")

    def wait_sending(self) -> None:
        """Until the load is under way: the master's own process has written what it did."""
        segment = self.out / "history" / "locust-0.jsonl"
        self._wait(lambda: segment.exists() and segment.stat().st_size > 0, "the load is under way")

    def end(self) -> None:
        for process in (self.master, self.near, self.far):
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
                process.wait(60)


@pytest.fixture
def shared(place: Place, tmp_path: Path) -> Iterator[Shared]:
    made = Shared(place, tmp_path)
    yield made
    made.end()


def secrets_of(folder: Path) -> list[str]:
    """Files that may hold tokens, or are half written."""
    return [path.name for path in folder.rglob("*") if "token" in path.name or path.name.endswith(".part")]


def test_two_workers_and_the_master_load_the_stack_as_one(shared: Shared) -> None:
    assert shared.master.wait(120) == ExitCode.PASS, shared.told("run")
    assert shared.near.wait(30) == 0, shared.told("near")
    assert shared.far.wait(30) == 0, shared.told("far")
    generator = generator_of(shared.out)
    assert (generator["verdict"], generator["of_all"]) == ("pass", "pass")
    clocks = read_clocks(RunDirectory(shared.out).clocks)
    assert set(clocks) == {f"{kind}-{index}" for kind in ("locust", "streams") for index in range(3)}
    assert clocks["locust-0"].machine == clocks["locust-1"].machine != clocks["locust-2"].machine
    clock = clocks["locust-2"]
    assert abs(clock.offset_ns + AHEAD_S * NS_PER_S) <= clock.error_ns < NS_PER_S / 20

    ops, t0_ns = ops_of(shared.out), t0_of(shared.out)
    planned = arrivals(read_plan(shared.out / "plan.json"))
    moderates = {OpKind.MODERATE, OpKind.LIFT}
    done = sorted(op.due_ns - t0_ns for op in ops if op.kind in {OpKind.FEED, OpKind.POST, *moderates})
    assert len(done) == len(planned)
    assert max(abs(due - a.due_ns) for due, a in zip(done, planned, strict=True)) <= clock.error_ns + 1
    for kind, processes in ((OpKind.POST, 3), (OpKind.FEED, 3), (OpKind.EVENT, 3)):
        assert len({op.id >> 38 for op in ops if op.kind is kind}) == processes, kind
    assert {op.user for op in ops if op.kind in moderates}
    for name in ("near", "far"):
        assert list(shared.scratch(name).iterdir()) == []
    assert secrets_of(shared.out) == []
    assert shared.place.far.processes() == []


def test_ctrl_c_at_the_master_ends_its_workers(shared: Shared) -> None:
    shared.wait_sending()
    shared.master.send_signal(signal.SIGINT)
    assert shared.master.wait(60) == ExitCode.INTERRUPTED, shared.told("run")
    for name, worker in (("near", shared.near), ("far", shared.far)):
        assert worker.wait(30) == ExitCode.ENVIRONMENT, shared.told(name)
        assert "the link was cut" in shared.told(name)
        assert list(shared.scratch(name).iterdir()) == []
    assert shared.place.far.processes() == []
    assert secrets_of(shared.out) == []


def test_a_far_worker_that_is_killed_leaves_nothing_but_an_unproven_run(shared: Shared) -> None:
    shared.wait_sending()
    shared.far.send_signal(signal.SIGKILL)
    shared.far.wait(10)
    wait_until(lambda: shared.place.far.processes() == [], 20, "no process of the worker is left")
    assert shared.master.wait(120) == ExitCode.INCONCLUSIVE, shared.told("run")
    assert shared.near.wait(30) == 0, shared.told("near")
    generator = generator_of(shared.out)
    assert (generator["verdict"], generator["of_all"]) == ("inconclusive", "inconclusive")
    for name in ("locust-2", "streams-2"):
        assert f"{name} did not finish: the process was lost" in str(generator["reason"])
    ops, t0_ns = ops_of(shared.out), t0_of(shared.out)
    end_s = max(op.due_ns - t0_ns for op in ops if op.kind is OpKind.FEED) / NS_PER_S
    assert end_s > 7, "the others went on to the end"
    assert secrets_of(shared.out) == secrets_of(shared.scratch("far")) == []
    assert list(shared.scratch("near").iterdir()) == []
    stack = shared.place.stack
    parts = [name for name, handle in stack.endpoints["handles"].items() if handle["backend"] == "process"]
    assert len(parts) > 10
    assert [name for name in parts if not stack.pid(name)] == []
