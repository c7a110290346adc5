"""Fixtures of the edge's tests: sockets, redis, the stub owner, and edges in this process."""

from __future__ import annotations

import asyncio
import shutil
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from edge_stubs import DEADLINE_S, REGION, EdgeProcess, EdgeUnderTest, Stack, StubOwner, connect, context
from real_servers import Server, redis_cache, until

from reference_server.fep.edge import serving
from reference_server.parent import die_with_parent
from reference_server.settings import write_settings


@pytest.fixture
def redis_server(tmp_path: Path) -> Iterator[Server]:
    server = redis_cache(tmp_path)
    server.start()
    yield server
    server.kill()


@pytest.fixture
def sockets() -> Iterator[str]:
    folder = tempfile.mkdtemp(prefix="fs-")
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
async def owner(sockets: str, redis_server: Server) -> AsyncIterator[StubOwner]:
    stub = StubOwner(f"{sockets}/{REGION}.lane-0.sock", redis_server.port)
    await stub.start()
    yield stub
    await stub.stop()
    await stub.redis.aclose()


@pytest.fixture
async def stack(sockets: str, redis_server: Server, owner: StubOwner) -> AsyncIterator[Stack]:
    """Starts edges; settings (flags, defects) may be given."""
    running: list[tuple[EdgeUnderTest, asyncio.Event, asyncio.Task[None]]] = []

    async def start(**settings: object) -> EdgeUnderTest:
        ctx = context(sockets, redis_server.port, **settings)
        started: asyncio.Future[EdgeUnderTest] = asyncio.get_running_loop().create_future()

        async def hold() -> None:
            async with serving(ctx, ctx.region.fep_ports[0]) as edge:
                started.set_result(EdgeUnderTest(edge, ctx.region.fep_ports[0], ctx.flags))
                await ctx.stopping.wait()

        task = asyncio.create_task(hold())
        under_test = await started
        running.append((under_test, ctx.stopping, task))
        under_test.stop = ctx.stopping.set  # type: ignore[attr-defined]
        await until(lambda: under_test.edge.joined, "the bus is joined")
        return under_test

    yield start
    for under_test, stopping, task in running:
        stopping.set()
        await task
        await under_test.flags.close()
        for listener in under_test.listeners:
            await listener.closed()


@pytest.fixture
async def edge(sockets: str, redis_server: Server, owner: StubOwner) -> AsyncIterator[EdgeProcess]:
    """An edge as a process of its own, ready."""
    ctx = context(sockets, redis_server.port)
    path = Path(sockets) / "settings.json"
    write_settings(path, ctx.settings)
    arguments = ["--settings", str(path), "--region", REGION, "--name", "fep-0"]
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "reference_server.fep", *arguments, preexec_fn=die_with_parent
    )
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
