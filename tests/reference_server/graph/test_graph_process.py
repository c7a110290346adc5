"""The graph service as a process: fed by the real stream, killed, restarted, asked through its socket."""

from __future__ import annotations

import asyncio
import re
import resource
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import graph_cases
import numpy as np
import pytest
from stack_process import StackProcess

from reference_server.events import GraphEvent, Label, Reader, encode
from reference_server.graph.followees import all_followees
from reference_server.graph.interactions import wall_us
from reference_server.queue import Queue
from reference_server.rpc import RpcClient, RpcError, RpcTimeout, RpcUnavailable

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

    async def replicated(self, verb: str, user: int, other: int, hlc: int) -> None:
        """An event at a time of its own, as it comes from another region; await that it is applied."""
        data = encode(GraphEvent(verb, user, hlc, "elsewhere", other))
        await self.ask("sync", (await self.queue.link.call("XADD", "graph", "*", "e", data)).decode())

    async def temperatures(self, author: int) -> dict[int, str]:
        """The followers on the author's first page, himself left out."""
        hot, cold, *_ = await self.ask("followers", author, 0)
        found = dict.fromkeys(users(cold[1]), "cold") | dict.fromkeys(users(hot[1]), "hot")
        del found[author]
        return found

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
    assert await ask("user", 0) == {
        "exists": True,
        "joined": False,
        "import": "none",
        "done": 0,
        "total": 3,
        "reader": 0,
    }
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
    packed, following = await ask("followees", 0, 0)
    assert (users(packed), following) == ([2], None)
    await region.change("unfollow", 0, 2)
    await region.change("block", 3, 0)
    unfollowed, blocked, labels = await ask("excluded", 0)
    assert (users(unfollowed), users(blocked), labels) == ([2], [3], 0)
    await region.change("profile", 0, Reader.MINOR)
    assert (await ask("excluded", 0))[2] == Label.ADULT


async def test_an_interaction_makes_hot_for_thirty_days(region: Region) -> None:
    for user in range(6):
        await region.change("join", user)
    for user, days in ((1, 31), (2, 29), (3, 31), (4, 29)):
        verb, hlc = "like" if user < 3 else "follow", graph_cases.days_ago(days, wall_us())
        if verb == "like":
            await region.replicated("follow", user, 0, graph_cases.days_ago(200, wall_us()))
        await region.replicated(verb, user, 0, hlc)
    assert await region.temperatures(0) == {1: "cold", 2: "hot", 3: "cold", 4: "hot"}
    await region.replicated("like", 1, 0, graph_cases.days_ago(1, wall_us()))
    expected = {1: "hot", 2: "hot", 3: "cold", 4: "hot"}
    assert await region.temperatures(0) == expected, "renewed"

    await asyncio.to_thread(region.stack.restart, "us-east.graph")
    assert await region.temperatures(0) == expected, "times are stored"
    await region.ask("copy")
    database = Path(region.stack.settings.data("us-east")) / "graph.db"
    hold = Path(region.stack.endpoints["handles"]["us-east.graph"]["hold_file"])
    hold.touch()
    await asyncio.to_thread(region.stack.kill, "us-east.graph")
    database.unlink()
    hold.unlink()
    assert await region.temperatures(0) == expected, "times are in the copy"
    await region.replicated("like", 3, 0, graph_cases.days_ago(0, wall_us()))
    assert await region.temperatures(0) == expected | {3: "hot"}


async def test_reads_are_counted_by_call(region: Region) -> None:
    async def counted() -> dict[str, float]:
        text = (await region.ask("metrics")).decode()
        return {call: float(count) for call, count in re.findall(r'feed_graph_reads_total{call="(\w+)"} (\S+)', text)}

    calls = {"followers": (0, 0), "followees": (0, 0), "following": (0, 1), "excluded": (0,), "counts": (0,)}
    calls |= {"user": (0,), "follower_count": (0,), "excluded_changes": (0, 0)}
    before = await counted()
    assert set(before) == set(calls)
    for times, (call, arguments) in enumerate(calls.items(), 1):
        for _ in range(times):
            await region.ask(call, *arguments)
    with pytest.raises(RpcError):
        await region.client.call("user")
    after = await counted()
    gained = {call: after[call] - before[call] for call in calls}
    refused = {call: float(call == "user") for call in calls}
    assert gained == {call: times + refused[call] for times, call in enumerate(calls, 1)}


async def test_followees_come_in_pages(start_stack: Callable[..., StackProcess], tmp_path: Path) -> None:
    everybody = list(range(1, 2600))
    people = graph_cases.write_population(tmp_path / "p", 2600, {0: everybody})
    stack = start_stack("--population", str(people), "--regions", "us-east", "--only", "graph")
    await asyncio.to_thread(stack.await_ready)
    region = Region(stack)
    pages, start = [], 0
    while start is not None:
        packed, start = await region.ask("followees", 0, start)
        pages.append(users(packed))
    assert [len(page) for page in pages] == [1000, 1000, 599]
    assert [user for page in pages for user in page] == everybody
    assert (await all_followees(region.client, 0, 5.0)).tolist() == everybody
    assert (await all_followees(region.client, 1, 5.0)).tolist() == []
    with pytest.raises(RpcTimeout):
        await all_followees(region.client, 0, 0.0)
    await region.close()


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


async def test_nobody_is_answered_from_before_what_was_acknowledged(region: Region) -> None:
    for user in (1, 2):
        await region.change("join", user)
    hold = Path(region.stack.endpoints["handles"]["us-east.graph"]["hold_file"])
    hold.touch()
    await asyncio.to_thread(region.stack.kill, "us-east.graph")
    for _ in range(2500):
        await region.append("follow", 1, 2)
    last = await region.append("unfollow", 1, 2)
    hold.unlink()
    assert (await region.ask("stats"))["position"] == last
    assert users((await region.ask("excluded", 1))[0]) == [2]


async def test_an_import_that_the_disk_does_not_take_is_not_told_as_done(region: Region) -> None:
    await region.change("join", 0)
    resource.prlimit(region.stack.pid("us-east.graph"), resource.RLIMIT_FSIZE, (1, resource.RLIM_INFINITY))
    with pytest.raises((RpcError, RpcUnavailable)):
        await region.client.call("import_batch", 0, 0, 3)

    async def is_as_before() -> bool:
        return bool((await region.ask("user", 0))["done"] == 0)

    await until(is_as_before)  # another process, which tells what is stored
    assert await region.ask("import_batch", 0, 0, 3) == [3, 3]


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
        ("followees", (0, -1), "bad-request"),
        ("followees", (0, 7), "bad-request"),
        ("followees", (99, 0), "not-found"),
        ("import_batch", (0, -1, 5), "bad-request"),
        ("sync", ("soon",), "bad-request"),
    ]:
        with pytest.raises(RpcError) as caught:
            await region.client.call(method, *arguments)
        assert caught.value.code == code


async def test_garbage_in_the_stream_is_left_out(region: Region) -> None:
    await region.queue.link.call("XADD", "graph", "*", "e", b"\xff garbage")
    await region.queue.link.call("XADD", "graph", "*", "x", b"no event")
    late = encode(GraphEvent("follow", 1, 1 << 63, "us-east", 2))  # a clock that no database takes
    await region.queue.link.call("XADD", "graph", "*", "e", late)
    await region.change("join", 5)
    assert (await region.ask("user", 5))["joined"]
    assert b"feed_graph_events_rejected_total 3.0" in await region.ask("metrics")

    async def are_aside() -> bool:
        return bool(await region.queue.link.call("XLEN", "dead") == 3)

    await until(are_aside)  # behind the batch, which is counted first


async def test_a_damaged_database_costs_nothing(region: Region) -> None:
    database = Path(region.stack.settings.data("us-east")) / "graph.db"
    for user in (0, 1, 2):
        await region.change("join", user)
    await region.ask("import_batch", 0, 0, 1)
    copied = await region.ask("copy")
    await region.ask("import_batch", 0, 1, 3)
    await region.change("follow", 1, 2)
    before = [await region.ask(method, 2) for method in ("counts", "user")]
    hold = Path(region.stack.endpoints["handles"]["us-east.graph"]["hold_file"])
    hold.touch()
    await asyncio.to_thread(region.stack.kill, "us-east.graph")
    for path in (database, Path(f"{database}-wal")):
        path.write_bytes(b"garbage" + path.read_bytes()[7:5000])
    jobs = await region.queue.link.call("XLEN", "jobs")
    hold.unlink()
    assert [await region.ask(method, 2) for method in ("counts", "user")] != before  # until the import was done again

    async def asked_for() -> bool:
        return bool(await region.queue.link.call("XLEN", "jobs") == jobs + 1)

    await until(asked_for)
    assert (await region.ask("stats"))["position"] > copied  # the stream behind the copy was still there
    await region.ask("import_batch", 0, (await region.ask("user", 0))["done"], 3)
    assert [await region.ask(method, 2) for method in ("counts", "user")] == before


async def until(condition: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(10):
        while not await condition():  # noqa: ASYNC110
            await asyncio.sleep(0.02)
