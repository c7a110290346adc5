"""The graph service as a process: fed by the real stream, killed, restarted, asked through its socket."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import graph_cases
import numpy as np
import pytest
from stack_process import StackProcess

from reference_server.events import GraphEvent
from reference_server.queue import Queue
from reference_server.rpc import RpcClient, RpcError, RpcUnavailable

pytestmark = [pytest.mark.stack, pytest.mark.slow]


class Region:
    """One region's graph service and queue."""

    def __init__(self, stack: StackProcess) -> None:
        settings = stack.settings
        self.stack = stack
        self.client = RpcClient(settings.socket("us-east", "graph"), timeout_s=6)
        self.queue = Queue.of(settings, settings.region("us-east"))
        self.clock = 0

    async def change(self, verb: str, user: int, other: int = -1) -> None:
        """Append an event and await that it is applied."""
        await self.ask("sync", await self.append(verb, user, other))

    async def append(self, verb: str, user: int, other: int = -1) -> str:
        self.clock += 256
        return await self.queue.append_graph(GraphEvent(verb, user, self.clock, "us-east", other))

    async def ask(self, method: str, *arguments: Any) -> Any:
        """The call's result, also across a restart."""
        async with asyncio.timeout(15):
            while True:
                try:
                    return await self.client.call(method, *arguments)
                except RpcUnavailable:
                    await asyncio.sleep(0.02)

    async def close(self) -> None:
        self.client.close()
        await self.queue.close()


@pytest.fixture
async def region(start_stack: Callable[..., StackProcess], tmp_path: Path) -> AsyncIterator[Region]:
    """Six users who have not joined; 0 follows 1 2 3."""
    people = graph_cases.write_population(tmp_path / "p", 6, {0: [1, 2, 3]}, joined="none")
    stack = start_stack("--population", str(people), "--regions", "us-east", "--only", "graph")
    await asyncio.to_thread(stack.await_ready)
    opened = Region(stack)
    yield opened
    await opened.close()


def users(packed: bytes) -> list[int]:
    found: list[int] = np.frombuffer(packed, "<u4").tolist()
    return found


async def test_a_users_life(region: Region) -> None:
    ask = region.ask
    assert await ask("user", 0) == {"exists": True, "joined": False, "import": "none", "done": 0, "total": 3}
    assert (await ask("user", 99))["exists"] is False
    await region.change("join", 0)
    assert (await ask("user", 0))["import"] == "pending"
    assert await ask("import_batch", 0, 0, 2) == [2, 3]
    assert (await ask("user", 0))["import"] == "running"
    assert await ask("import_batch", 0, 2, 2) == [3, 3]
    assert (await ask("user", 0))["import"] == "done"
    await region.change("join", 2)
    assert await ask("counts", 2) == [1, 0]
    assert await ask("counts", 0) == [0, 1]
    assert await ask("follower_count", 2) == 1
    packed, hot = await ask("followees", 0)
    assert (users(packed), hot) == ([2], b"\0")
    await region.change("unfollow", 0, 2)
    await region.change("block", 3, 0)
    assert [users(part) for part in await ask("excluded", 0)] == [[2], [3]]


async def test_sigkill_loses_nothing_and_doubles_nothing(region: Region) -> None:
    await region.change("join", 1)
    await region.change("join", 2)
    await region.ask("import_batch", 0, 0, 3)
    for _ in range(3):
        pending = [await region.append("follow", 1, 2), await region.append("unfollow", 1, 2)]
        await asyncio.to_thread(region.stack.kill, "us-east.graph")
        pending += [await region.append("join", 0), await region.append("follow", 1, 0)]
        await region.ask("sync", next(p for p in reversed(pending) if p))
        assert users((await region.ask("excluded", 1))[0]) == [2]
        hot, cold, *_ = await region.ask("followers", 2, 0)
        assert sorted(users(hot[1]) + users(cold[1])) == [0, 2]
        assert await region.ask("counts", 0) == [1, 2]


async def test_queue_and_cache_may_die(region: Region) -> None:
    await region.change("join", 0)
    await asyncio.to_thread(region.stack.restart, "us-east.redis-queue")
    await asyncio.to_thread(region.stack.restart, "us-east.redis-cache")
    assert (await region.ask("user", 0))["joined"]
    await retried(lambda: region.change("join", 1))
    assert (await region.ask("user", 1))["joined"]


async def retried(action: Callable[[], Awaitable[None]]) -> None:
    async with asyncio.timeout(10):
        while True:
            try:
                return await action()
            except ConnectionError:
                await asyncio.sleep(0.05)


async def test_bad_calls(region: Region) -> None:
    for method, arguments, code in [
        ("followers", (99, 0), "not-found"),
        ("followers", (0, -1), "bad-request"),
        ("counts", (-1,), "not-found"),
        ("import_batch", (0, -1, 5), "bad-request"),
        ("sync", ("soon",), "bad-request"),
    ]:
        with pytest.raises(RpcError) as caught:
            await region.client.call(method, *arguments)
        assert caught.value.code == code


async def test_garbage_in_the_stream_is_left_out(region: Region) -> None:
    await region.queue.link.call("XADD", "graph", "*", "e", b"\xff garbage")
    await region.queue.link.call("XADD", "graph", "*", "x", b"no event")
    await region.change("join", 5)
    assert (await region.ask("user", 5))["joined"]
    assert b"feed_graph_events_rejected_total 2.0" in await region.ask("metrics")
