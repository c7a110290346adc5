"""A small stream server that misbehaves on demand, and an engine process under control, for the listeners' tests."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import msgspec

from harness.core.clock import NS_PER_S
from harness.core.op import Op, OpKind
from harness.core.seeds import rng
from harness.load.event_fetch import EventFetch
from harness.load.plan import LoadPlan, PlanPhase, PlanRegion, write_plan, write_tokens
from harness.load.recorder import Recorder
from harness.load.stream_fleet import StreamFleet
from harness.record.frames import read_segment
from harness.record.run_directory import RunDirectory

DEADLINE_S = 15.0
STREAM_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n"


async def until(condition: Callable[[], bool], what: str) -> None:
    """Wait for a condition, looking every few milliseconds; fail after DEADLINE_S."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + DEADLINE_S
    while not condition():
        assert loop.time() < deadline, f"not within {DEADLINE_S} s: {what}"
        await asyncio.sleep(0.005)


class StreamServer:
    """Every listener sees the same posts p1, p2, ...; number n has the resume token here.1.n."""

    def __init__(self) -> None:
        self.posts = 0
        self.url = ""
        self.requests: list[tuple[str, dict[str, str]]] = []
        """path with query, and headers, of each request in order"""
        self.refusals: list[bytes] = []
        """whole responses for the next requests of a stream"""
        self.hold_refusals = False
        """keep the connection of a refusal open"""
        self.feed_refusals: list[bytes] = []
        self.hold_feed: asyncio.Event | None = None
        """answers of the feed wait for it"""
        self.chunked = False
        self.resync_next = False
        self._grown = asyncio.Condition()
        self._writers: set[asyncio.StreamWriter] = set()
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self, port: int = 0) -> None:
        self._server = await asyncio.start_server(self._connection, "127.0.0.1", port)
        self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    async def stop(self) -> None:
        if self._server is not None:
            self._server.close()
        await self.cut()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def cut(self, torn: bytes = b"") -> None:
        """End every connection; `torn` is written just before."""
        for writer in list(self._writers):
            writer.write(self._coded(torn) if torn else b"")
            writer.close()
        self._writers.clear()
        await asyncio.sleep(0)

    @property
    def streaming(self) -> int:
        """Streams that are open."""
        return len(self._writers)

    async def publish(self, count: int = 1) -> None:
        async with self._grown:
            self.posts += count
            self._grown.notify_all()

    def _coded(self, data: bytes) -> bytes:
        return b"%x\r\n%b\r\n" % (len(data), data) if self.chunked else data

    async def _connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            await self._answer(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            self._writers.discard(writer)
            self._tasks.discard(task)
            writer.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        request_line, *lines = head.strip().split("\r\n")
        headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in lines)}
        target = request_line.split(" ")[1]
        self.requests.append((target, headers))
        if target != "/v1/stream":
            if self.hold_feed is not None:
                await self.hold_feed.wait()
            writer.write(self._feed(target))
        elif self.refusals:
            writer.write(self.refusals.pop(0))
            if self.hold_refusals:
                await reader.read()
        else:
            self._writers.add(writer)
            await self._stream(reader, writer, headers.get("last-event-id", ""))

    async def _stream(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, since: str) -> None:
        sent = int(since.rpartition(".")[2]) if since else self.posts
        chunked = b"Transfer-Encoding: chunked\r\n" if self.chunked else b""
        writer.write(STREAM_HEAD + chunked + b"\r\n" + self._coded(b"retry: 50\nid: here.1.%d\n\n" % sent))
        if self.resync_next:
            self.resync_next, sent = False, self.posts
            writer.write(self._coded(b'id: here.1.%d\nevent: resync\ndata: {"type":"resync"}\n\n' % sent))
        while not writer.is_closing():
            while sent < self.posts:
                sent += 1
                data = b'id: here.1.%d\nevent: new_post\ndata: {"type":"new_post","id":"p%d"}\n\n' % (sent, sent)
                writer.write(self._coded(data))
            async with self._grown:
                while self.posts == sent:
                    await self._grown.wait()

    def _feed(self, target: str) -> bytes:
        if self.feed_refusals:
            return self.feed_refusals.pop(0)
        url = urlsplit(target)
        since = parse_qs(url.query).get("since", ["p0"])[0]
        numbers = range(self.posts, int(since[1:]), -1)
        items = [{"id": f"p{n}", "author": "3", "created_at_us": n, "text": f"text {n}"} for n in numbers]
        body = json.dumps({"items": items, "next_cursor": None, "complete": True}).encode()
        return plain_response(200, body)


def plain_response(status: int, body: bytes = b"", **headers: object) -> bytes:
    """A whole response; the connection ends after it."""
    extra = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items())
    return f"HTTP/1.1 {status} X\r\nContent-Length: {len(body)}\r\nConnection: close\r\n{extra}\r\n".encode() + body


def make_plan(folder: Path, url: str, listeners: int, **fields: Any) -> LoadPlan:
    """A plan with listeners 0, 1, ... in one region; their tokens are t0, t1, ..."""
    run = RunDirectory(folder / "run").create()
    write_tokens(run.path / "tokens.json", {user: f"t{user}" for user in range(listeners)})
    plain: dict[str, Any] = {
        "seed": 42,
        "run": str(run.path),
        "users": listeners,
        "phases": (PlanPhase("warmup", -NS_PER_S, 0), PlanPhase("baseline", 0, NS_PER_S // 10)),
        "regions": {"here": PlanRegion(api=url, stream=url)},
        "tokens": str(run.path / "tokens.json"),
        "listeners": tuple((user, "here") for user in range(listeners)),
        "reconnect_jitter_s": 0.02,
        "fetch_jitter_s": 0.02,
    }
    return LoadPlan(**{**plain, **fields})


class EngineProcess:
    """`python -m harness.load.stream_engine`: its status lines and its input."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.status: dict[str, Any] = {}

    async def wait(self, condition: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        """The first status line for which the condition holds."""
        assert self.process.stdout is not None
        async with asyncio.timeout(DEADLINE_S):
            while not self.status or not condition(self.status):
                line = await self.process.stdout.readline()
                assert line, f"the engine ended; last status {self.status}"
                self.status = msgspec.json.decode(line)
        return self.status

    def send(self, **command: object) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(msgspec.json.encode(command) + b"\n")


@asynccontextmanager
async def engine_process(
    plan: LoadPlan, index: int = 0, count: int = 1, program: tuple[str, str] = ("-m", "harness.load.stream_engine")
) -> AsyncIterator[EngineProcess]:
    """An engine with that plan; killed when the block ends."""
    path = Path(plan.run) / "plan.json"
    write_plan(path, plan)
    pipe = asyncio.subprocess.PIPE
    arguments = [str(path), f"streams-{index}", str(index), str(count)]
    process = await asyncio.create_subprocess_exec(sys.executable, *program, *arguments, stdin=pipe, stdout=pipe)
    try:
        yield EngineProcess(process)
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


class FleetUnderTest:
    """A fleet that runs in this process."""

    def __init__(self, fleet: StreamFleet, fetch: EventFetch, recorder: Recorder, plan: LoadPlan) -> None:
        self.fleet, self.fetch, self.recorder, self.plan = fleet, fetch, recorder, plan

    def ops(self, *kinds: OpKind) -> list[Op]:
        self.recorder.history.flush()
        return [op for op in read_ops(self.plan) if not kinds or op.kind in kinds]

    def posts(self, user: int) -> list[str]:
        """What a listener heard of, in order."""
        return [op.post for op in self.ops(OpKind.EVENT) if op.user == user]


@asynccontextmanager
async def running(plan: LoadPlan) -> AsyncIterator[FleetUnderTest]:
    """The plan's listeners in this process."""
    recorder = Recorder(plan, "streams-0")
    tokens = plan.read_tokens()
    fetch = EventFetch(plan.regions, tokens, recorder, plan.fetch_ratio, plan.fetch_jitter_s, rng(1, "fetch"))
    fleet = StreamFleet(plan, tokens, recorder, rng(1, "reconnect"), fetch.event)
    tasks = [asyncio.create_task(fleet.run()), asyncio.create_task(fleet.sweep())]
    fleet.open_all(plan.listening.open_per_s)
    try:
        yield FleetUnderTest(fleet, fetch, recorder, plan)
    finally:
        await fetch.close(1)
        fleet.close_all()
        await until(lambda: fleet.is_closed, "streams closed")
        for task in tasks:
            task.cancel()
        recorder.close()


def read_ops(plan: LoadPlan, name: str = "streams-0") -> list[Op]:
    """The rows an engine wrote."""
    return list(read_segment(plan.directory.history / f"{name}.jsonl"))
