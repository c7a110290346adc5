"""A node is flushed under load: each timeline is made again once, and the load does not feed itself."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
from lane_servers import GraphStub, OpenLane, make_settings
from real_servers import Server, until

from reference_server.timeline.reader import TimelineReader

USERS = 50
READERS = 3
"""as many api processes"""


async def nothing(*_: Any) -> None:
    return None


@pytest.fixture
async def lane(tmp_path: Path, memcached: Server, graph: GraphStub, sockets: str) -> AsyncIterator[OpenLane]:
    opened = await OpenLane(tmp_path / "lane", memcached.port, graph, USERS).join()
    await opened.serve(f"{sockets}/test.lane-0.sock")
    yield opened
    await opened.close()


@pytest.fixture
async def readers(
    tmp_path: Path, memcached: Server, sockets: str, lane: OpenLane
) -> AsyncIterator[list[TimelineReader]]:
    settings = make_settings(tmp_path, sockets, memcached=memcached.port, users=USERS)
    async with AsyncExitStack() as stack:
        opened = []
        for _ in range(READERS):
            reader = TimelineReader(settings, settings.region("test"), nothing, owner_timeout_s=5.0)
            stack.push_async_callback(reader.close)
            await reader.wait_connected(5)
            opened.append(reader)
        yield opened


def count_rebuilds(lane: OpenLane, monkeypatch: pytest.MonkeyPatch) -> Counter[int]:
    counts: Counter[int] = Counter()
    rebuild = lane.owner.rebuild

    def counted(user: int) -> Any:
        counts[user] += 1
        return rebuild(user)

    monkeypatch.setattr(lane.owner, "rebuild", counted)
    return counts


async def read_all(readers: list[TimelineReader]) -> Counter[str]:
    """Every user, in all readers at once; where the timelines came from."""
    views = await asyncio.gather(*[reader.read(user) for user in range(USERS) for reader in readers])
    for reader in readers:
        await reader.settle()
    return Counter(view.source for view in views)


async def test_a_flush_costs_one_rebuild_a_timeline(
    lane: OpenLane, readers: list[TimelineReader], memcached: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(20):
        lane.post(1, hot=range(USERS))
    await lane.applied()
    await read_all(readers)
    assert await read_all(readers) == {"cache": READERS * USERS}
    counts = count_rebuilds(lane, monkeypatch)
    for _ in range(5):
        counts.clear()
        memcached.send(b"flush_all\r\n")
        while (await read_all(readers))["cache"] < READERS * USERS:
            pass
        assert counts == dict.fromkeys(range(USERS), 1)


async def test_after_a_flush_under_writes_everything_is_a_hit_again_and_complete(
    lane: OpenLane, readers: list[TimelineReader], memcached: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is appended between lease and publishing costs another round; once published, nothing is asked any more."""
    counts = count_rebuilds(lane, monkeypatch)
    done = asyncio.Event()

    async def write() -> None:
        while not done.is_set():
            await lane.owner.wait_room()
            lane.post(1, hot=range(USERS))
            await lane.applied()
            await asyncio.sleep(0.02)

    writing = asyncio.create_task(write())
    await until(lambda: lane.owner.applied > 5, "posts are written")
    while (await read_all(readers))["cache"] < READERS * USERS:
        pass
    counts.clear()
    memcached.send(b"flush_all\r\n")
    async with asyncio.timeout(10):
        while (await read_all(readers))["cache"] < READERS * USERS:
            pass
    rebuilds = counts.total()
    assert (await read_all(readers))["cache"] == READERS * USERS
    done.set()
    await writing
    assert counts.total() == rebuilds
    must_show = lane.ids(0)
    view = await readers[0].read(0)
    assert view.source == "cache"
    assert {view.raw[place + 8 : place + 24] for place in range(0, len(view.raw), 45)} >= set(must_show)
