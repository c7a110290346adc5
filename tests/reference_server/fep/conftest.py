"""Fixtures of the edge's tests: sockets, redis, the stub owner, and edges in this process."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator

import pytest
from edge_stubs import REGION, EdgeUnderTest, RedisServer, Stack, StubOwner, context, until

from reference_server.fep.edge import serving


@pytest.fixture
def redis_server() -> Iterator[RedisServer]:
    server = RedisServer()
    server.start()
    yield server
    server.kill()


@pytest.fixture
def sockets() -> Iterator[str]:
    folder = tempfile.mkdtemp(prefix="fs-")
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
async def owner(sockets: str, redis_server: RedisServer) -> AsyncIterator[StubOwner]:
    stub = StubOwner(f"{sockets}/{REGION}.lane-0.sock", redis_server.port)
    await stub.start()
    yield stub
    await stub.stop()
    await stub.redis.aclose()


@pytest.fixture
async def stack(sockets: str, redis_server: RedisServer, owner: StubOwner) -> AsyncIterator[Stack]:
    """Starts edges; settings (flags, defects) may be given."""
    running: list[tuple[EdgeUnderTest, asyncio.Event, asyncio.Task[None]]] = []

    async def start(**settings: object) -> EdgeUnderTest:
        ctx = context(sockets, redis_server.port, **settings)
        started: asyncio.Future[EdgeUnderTest] = asyncio.get_running_loop().create_future()

        async def hold() -> None:
            async with serving(ctx, ctx.region.fep_ports[0]) as edge:
                started.set_result(EdgeUnderTest(edge, ctx.region.fep_ports[0]))
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
        for listener in under_test.listeners:
            await listener.closed()
