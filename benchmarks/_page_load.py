"""Load on one HTTP port: a lean HTTP/1.1 client, the processor time the server spent, a server to compare with."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from reference_server.parent import die_with_parent

_TICKS_A_SECOND = os.sysconf("SC_CLK_TCK")
START_LIMIT_S = 15.0
MAX_CURSOR_CHARS = 200


class Connection(asyncio.Protocol):
    """One keep-alive connection; one request at a time."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._buffer = bytearray()
        self._body_at = self._size = 0
        self._answer: asyncio.Future[bytes] | None = None
        self.degraded = 0
        """answers marked so"""

    @classmethod
    async def open(cls, port: int) -> Connection:
        """Connect to the port."""
        _, connection = await asyncio.get_running_loop().create_connection(cls, "127.0.0.1", port)
        return connection

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]

    def request(self, data: bytes) -> asyncio.Future[bytes]:
        """Send a request; the future holds the body of its answer, or ConnectionError: it is no 200."""
        self._answer = asyncio.get_running_loop().create_future()
        assert self._transport is not None
        self._transport.write(data)
        return self._answer

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        if not self._size:
            end = self._buffer.find(b"\r\n\r\n")
            if end < 0:
                return
            head = bytes(self._buffer[:end]).lower()
            if not head.startswith(b"http/1.1 200"):
                self._fail(head.decode())
                return
            self.degraded += b"feed-degraded" in head
            self._body_at = end + 4
            self._size = self._body_at + int(head.partition(b"content-length: ")[2].partition(b"\r\n")[0])
        if len(self._buffer) >= self._size:
            body = bytes(self._buffer[self._body_at : self._size])
            del self._buffer[: self._size]
            self._size = 0
            assert self._answer is not None
            self._answer.set_result(body)

    def connection_lost(self, exc: Exception | None) -> None:
        self._fail("the server hung up")

    def _fail(self, reason: str) -> None:
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(ConnectionError(reason))
        self.close()

    def close(self) -> None:
        """Hang up."""
        if self._transport is not None:
            self._transport.abort()


class Walker:
    """The requests of readers who read first pages, and now and then the page behind."""

    def __init__(self, tokens: list[str], next_one_in: int) -> None:
        self._heads = [f" HTTP/1.1\r\nHost: bench\r\nAuthorization: Bearer {token}\r\n\r\n" for token in tokens]
        self._next_one_in = next_one_in
        self._walks = 0
        self.latencies_ms: list[float] = []
        self.pages = self.degraded = 0
        """so far"""

    async def walk(self, connection: Connection, due: float) -> None:
        """A first page, which was due at that moment of time.perf_counter(), and perhaps a second."""
        self._walks += 1
        head = self._heads[self._walks * 7919 % len(self._heads)]
        body = await connection.request(b"GET /v1/feed" + head.encode())
        now = time.perf_counter()
        self.latencies_ms.append((now - due) * 1000)
        self.pages += 1
        cursor = body[-MAX_CURSOR_CHARS:].partition(b'"next_cursor":"')[2][:-2].decode()
        if self._walks % self._next_one_in == 0 and cursor:  # a degraded page may have none
            await connection.request(f"GET /v1/feed?cursor={cursor}{head}".encode())
            self.latencies_ms.append((time.perf_counter() - now) * 1000)
            self.pages += 1


async def closed_loop(port: int, walker: Walker, seconds: float, connections: int) -> None:
    """Ask as fast as answers come."""
    opened = [await Connection.open(port) for _ in range(connections)]
    started = time.perf_counter()

    async def work(connection: Connection) -> None:
        while time.perf_counter() - started < seconds:
            await walker.walk(connection, time.perf_counter())

    await asyncio.gather(*[work(connection) for connection in opened])
    for connection in opened:
        walker.degraded += connection.degraded
        connection.close()


async def open_loop(port: int, walker: Walker, seconds: float, walks_per_s: float, connections: int) -> None:
    """Begin walks on a fixed schedule, whether the earlier ones have ended or not."""
    free: asyncio.LifoQueue[Connection] = asyncio.LifoQueue()
    for _ in range(connections):
        free.put_nowait(await Connection.open(port))

    async def one(due: float) -> None:
        connection = await free.get()
        await walker.walk(connection, due)
        free.put_nowait(connection)

    async with asyncio.TaskGroup() as group:
        started, begun = time.perf_counter(), 0
        while begun < seconds * walks_per_s:
            while begun < (time.perf_counter() - started) * walks_per_s:
                group.create_task(one(started + begun / walks_per_s))
                begun += 1
            await asyncio.sleep(0.0005)
    while not free.empty():
        connection = free.get_nowait()
        walker.degraded += connection.degraded
        connection.close()


@contextmanager
def server_on_core(core: int, argv: list[str], environment: dict[str, str], port: int) -> Iterator[Callable[[], float]]:
    """Run a server on one core until it listens; yields a function that tells the processor seconds it has used."""
    process = subprocess.Popen(
        ["taskset", "-c", str(core), *argv],
        env=os.environ | environment,
        stdout=sys.stderr,
        start_new_session=True,
        preexec_fn=die_with_parent,
    )
    try:
        yield lambda: _cpu_s(process.pid)
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _family(pid: int) -> list[int]:
    """The process and all its descendants."""
    found = [pid]
    for parent in found:
        for task in Path(f"/proc/{parent}/task").glob("*/children"):
            found += [int(child) for child in task.read_text().split()]
    return found


def _cpu_s(pid: int) -> float:
    """Processor seconds of a process and its descendants."""
    ticks = 0
    for member in _family(pid):
        fields = Path(f"/proc/{member}/stat").read_text().rpartition(")")[2].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks / _TICKS_A_SECOND


async def wait_answer(port: int, request: bytes) -> bytes:
    """The body of the first good answer to a request."""
    deadline = time.monotonic() + START_LIMIT_S
    while True:
        try:
            connection = await Connection.open(port)
            body = await connection.request(request)
            connection.close()
            return body
        except OSError:
            if time.monotonic() > deadline:
                raise
            await asyncio.sleep(0.05)
