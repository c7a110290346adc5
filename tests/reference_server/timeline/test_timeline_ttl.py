"""A cached timeline lasts a day from its publication; what is appended meanwhile does not make it last longer."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import numpy as np
import pytest
from lane_servers import GraphStub, OpenLane, make_settings
from real_servers import Server

from reference_server.fanout.history import prewarm
from reference_server.timeline.cached import Slots, timeline_key
from reference_server.timeline.display import Key
from reference_server.timeline.reader import TimelineReader
from reference_server.timeline.slots import SLOT_DTYPE

USER, DAY_S = 7, 86_400
TAKES_S = 60
"""what a test may take, generously"""


@pytest.fixture
async def lane(tmp_path: Path, memcached: Server, graph: GraphStub, sockets: str) -> AsyncIterator[OpenLane]:
    opened = await OpenLane(tmp_path / "lane", memcached.port, graph).join()
    await opened.serve(f"{sockets}/test.lane-0.sock")
    yield opened
    await opened.close()


@pytest.fixture
async def reader(tmp_path: Path, memcached: Server, sockets: str, lane: OpenLane) -> AsyncIterator[TimelineReader]:
    async def pull(user: int, after: Key | None) -> Slots | None:
        return np.zeros(0, SLOT_DTYPE)

    settings = make_settings(tmp_path, sockets, memcached=memcached.port)
    opened = TimelineReader(settings, settings.region("test"), pull)
    yield opened
    await opened.close()


async def meta(memcached: Server, command: bytes) -> bytes:
    """The first line of memcached's answer."""
    streams, writer = await asyncio.open_connection("127.0.0.1", memcached.port)
    writer.write(command + b"\r\n")
    line = await streams.readline()
    writer.close()
    await writer.wait_closed()
    return line.strip()


async def ttl_s(memcached: Server, lane: OpenLane) -> int:
    """Seconds that the user's timeline has left."""
    line = await meta(memcached, b"mg %b t" % timeline_key(lane.writer.gen, USER).encode())
    code, _, flag = line.partition(b" t")
    assert code == b"HD", line
    return int(flag)


async def value_bytes(memcached: Server, lane: OpenLane) -> int:
    line = await meta(memcached, b"mg %b s" % timeline_key(lane.writer.gen, USER).encode())
    return int(line.partition(b" s")[2])


@pytest.mark.parametrize("how", ["read", "prewarmed"])
async def test_a_published_timeline_lasts_a_day_and_appends_do_not_change_that(
    lane: OpenLane, reader: TimelineReader, memcached: Server, how: str
) -> None:
    lane.post(1, [USER])
    await lane.applied()
    if how == "read":
        assert (await reader.read(USER)).source == "owner"
        async with asyncio.timeout(10):
            while (await reader.read(USER)).source != "cache":  # noqa: ASYNC110
                await asyncio.sleep(0.01)
    else:
        await prewarm(lane.owner, 800)
    assert DAY_S - TAKES_S <= await ttl_s(memcached, lane) <= DAY_S
    key = timeline_key(lane.writer.gen, USER).encode()
    assert await meta(memcached, b"mg %b T1000 t" % key) == b"HD t1000"  # as if most of the day had passed
    before = await value_bytes(memcached, lane)
    for _ in range(5):
        lane.post(1, [USER])
    await lane.applied()
    assert await value_bytes(memcached, lane) == before + 5 * SLOT_DTYPE.itemsize
    assert 1000 - TAKES_S <= await ttl_s(memcached, lane) <= 1000
    await reader.read(USER)
    assert await ttl_s(memcached, lane) <= 1000, "a read that finds it does not make it last longer either"
