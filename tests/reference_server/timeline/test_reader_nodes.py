"""One lane over three memcached nodes: one dies and comes back, and only its users notice, and only in the cache."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from lane_servers import GraphStub, OpenLane, ids_of, make_settings
from real_servers import Server, memcached_server, until

from reference_server.partition import node_of
from reference_server.timeline.cache_writer import State
from reference_server.timeline.cached import Slots
from reference_server.timeline.display import Key
from reference_server.timeline.reader import TimelineReader
from reference_server.timeline.slots import SLOT_DTYPE

NODES = 3
USERS = range(30)
LOST = 1


async def nothing(user: int, after: Key | None) -> Slots | None:
    return np.zeros(0, SLOT_DTYPE)


@pytest.fixture
def nodes() -> Iterator[list[Server]]:
    servers = [memcached_server() for _ in range(NODES)]
    for server in servers:
        server.start()
    yield servers
    for server in servers:
        server.kill()


@pytest.fixture
async def lane(tmp_path: Path, nodes: list[Server], graph: GraphStub, sockets: str) -> AsyncIterator[OpenLane]:
    first, *others = (node.port for node in nodes)
    opened = await OpenLane(tmp_path / "lane", first, graph, more_ports=others).join()
    await opened.serve(f"{sockets}/test.lane-0.sock")
    yield opened
    await opened.close()


@pytest.fixture
async def readers(
    tmp_path: Path, nodes: list[Server], sockets: str, lane: OpenLane
) -> AsyncIterator[list[TimelineReader]]:
    ports = tuple(node.port for node in nodes)
    settings = make_settings(tmp_path, sockets, memcached=ports)
    opened = [TimelineReader(settings, settings.region("test"), nothing, owner_timeout_s=2.0) for _ in range(2)]
    for reader in opened:
        await reader.wait_connected(5)
    yield opened
    for reader in opened:
        await reader.close()


async def read_all(reader: TimelineReader, posts: list[bytes]) -> dict[int, Counter[str]]:
    """Where the timelines of each node's users came from; all are checked for completeness."""
    views = await asyncio.gather(*(reader.read(user) for user in USERS))
    await reader.settle()
    sources: dict[int, Counter[str]] = {node: Counter() for node in range(NODES)}
    for user, view in zip(USERS, views, strict=True):
        assert (ids_of(view.slots), view.degraded) == (posts[::-1], "")
        sources[node_of(user, NODES)][view.source] += 1
    return sources


async def test_a_lost_node_leaves_its_users_to_the_owner_and_nobody_else(
    lane: OpenLane, readers: list[TimelineReader], nodes: list[Server]
) -> None:
    reader = readers[0]
    posts = [lane.post(1, hot=USERS) for _ in range(5)]
    await lane.applied()
    await read_all(reader, posts)
    assert all(set(found) == {"cache"} for found in (await read_all(reader, posts)).values())

    nodes[LOST].kill()
    posts.append(lane.post(1, hot=USERS))
    await lane.applied()
    for _ in range(2):
        sources = await read_all(reader, posts)
        assert {node: set(found) for node, found in sources.items()} == {0: {"cache"}, 1: {"owner"}, 2: {"cache"}}

    nodes[LOST].start()
    cache = lane.owner.cache
    assert cache is not None
    await until(lambda: cache.nodes[LOST].state is State.UP and reader._caches[LOST].connected, "the node is back")
    posts.append(lane.post(1, hot=USERS))
    await lane.applied()
    async with asyncio.timeout(10):
        while set((await read_all(reader, posts))[LOST]) != {"cache"}:
            pass


async def test_each_node_has_its_own_generation(
    lane: OpenLane, readers: list[TimelineReader], nodes: list[Server]
) -> None:
    posts = [lane.post(1, hot=USERS)]
    await lane.applied()
    await read_all(readers[0], posts)
    cache = lane.owner.cache
    assert cache is not None
    before = [node.gen for node in cache.nodes]
    cache.nodes[LOST]._client.reset()
    posts.append(lane.post(1, hot=USERS))
    await lane.applied()
    await until(lambda: cache.nodes[LOST].gen > before[LOST], "the node has a higher generation")
    assert [node.gen for node in cache.nodes if node is not cache.nodes[LOST]] == [before[0], before[2]]
    sources = await read_all(readers[0], posts)
    assert {node: set(found) for node, found in sources.items()} == {0: {"cache"}, 1: {"owner"}, 2: {"cache"}}


async def test_fifty_readers_of_one_lost_key_cost_one_rebuild(
    lane: OpenLane, readers: list[TimelineReader], nodes: list[Server], monkeypatch: pytest.MonkeyPatch
) -> None:
    user = 7
    posts = [lane.post(1, hot=[user]) for _ in range(20)]
    await lane.applied()
    for reader in readers:
        await reader.read(user)
        await reader.settle()
    calls = 0
    rebuild = lane.owner.rebuild

    def counted(of: int) -> Any:
        nonlocal calls
        calls += 1
        return rebuild(of)

    monkeypatch.setattr(lane.owner, "rebuild", counted)
    nodes[node_of(user, NODES)].send(b"flush_all\r\n")
    views = await asyncio.gather(*(reader.read(user) for reader in readers for _ in range(25)))
    assert all(ids_of(view.slots) == posts[::-1] for view in views)
    assert calls == 1
