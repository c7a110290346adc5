"""The edge as the process it is: uvloop, signals, kernel buffers."""

from __future__ import annotations

import asyncio
import signal
import sys
import uuid
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from edge_stubs import DEADLINE_S, REGION, Listener, RedisServer, StubOwner, ask, connect, context, until

from reference_server.settings import write_settings

pytestmark = pytest.mark.slow


class EdgeProcess:
    def __init__(self, process: asyncio.subprocess.Process, port: int) -> None:
        self.process, self.port = process, port
        self.listeners: list[Listener] = []

    async def listen(self, user: int) -> Listener:
        self.listeners.append(await ask(self.port, user))
        return self.listeners[-1]

    async def metric(self, name: str) -> float:
        listener = await connect(self.port)
        self.listeners.append(listener)
        listener.writer.write(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
        for line in (await listener.rest()).decode().splitlines():
            if line.startswith(name + " "):
                return float(line.rpartition(" ")[2])
        raise AssertionError(f"no metric {name}")


@pytest.fixture
async def edge(sockets: str, redis_server: RedisServer, owner: StubOwner) -> AsyncIterator[EdgeProcess]:
    ctx = context(sockets, redis_server.port)
    path = Path(sockets) / "settings.json"
    write_settings(path, ctx.settings)
    arguments = ["--settings", str(path), "--region", REGION, "--name", "fep-0"]
    process = await asyncio.create_subprocess_exec(sys.executable, "-m", "reference_server.fep", *arguments)
    edge = EdgeProcess(process, ctx.region.fep_ports[0])
    async with asyncio.timeout(DEADLINE_S):
        while True:
            try:
                listener = await connect(edge.port)
            except ConnectionRefusedError:
                await asyncio.sleep(0.02)
                continue
            edge.listeners.append(listener)
            listener.writer.write(b"GET /readyz HTTP/1.1\r\nHost: x\r\n\r\n")
            if b"200 OK" in await listener.rest():
                break
    yield edge
    if process.returncode is None:
        process.kill()
    await process.wait()
    for listener in edge.listeners:
        await listener.closed()


async def test_a_slow_listener_is_dropped_after_a_bounded_backlog(edge: EdgeProcess, owner: StubOwner) -> None:
    slow, quick = await edge.listen(1), await edge.listen(2)
    slow.writer.transport.pause_reading()  # type: ignore[attr-defined]

    async def count() -> int:
        blocks = 0
        while block := await quick.reader.read(65536):
            blocks += block.count(b"event: new_post")
        return blocks

    counting = asyncio.create_task(count())
    posts = 0
    while owner.listening["fep-0"] == {1, 2}:
        assert posts < 100_000
        await owner.publish(uuid.UUID(int=posts).bytes, [1, 2])
        posts += 1
    assert await edge.metric("feed_stream_slow_drops_total") == 1
    assert await edge.metric("feed_streams_open") == 1
    edge.process.send_signal(signal.SIGTERM)
    assert await counting == posts


async def test_sigterm_ends_streams_cleanly_and_the_process_with_status_0(edge: EdgeProcess, owner: StubOwner) -> None:
    listeners = [await edge.listen(user) for user in range(50)]
    for listener in listeners:
        await listener.block()
    edge.process.send_signal(signal.SIGTERM)
    for listener in listeners:
        assert (await listener.rest()).replace(b": hb\n\n", b"") == b""
    async with asyncio.timeout(DEADLINE_S):
        assert await edge.process.wait() == 0
    await until(lambda: not owner.listening["fep-0"], "everybody has left")
