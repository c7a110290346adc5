"""Who comes back after posts that were owed have been dropped is told how far back the timeline goes."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import numpy as np
import pytest
from lane_servers import GraphStub, OpenLane, ids_of, make_settings
from real_servers import Server

from reference_server.timeline.cached import Slots
from reference_server.timeline.display import Key
from reference_server.timeline.reader import TimelineReader
from reference_server.timeline.retention import Retention
from reference_server.timeline.slots import SLOT_DTYPE

Open = Callable[..., OpenLane]
USER, COLD, HOT = 7, 1, 2
DAY_S = 86_400.0
BEHIND = (1 << 62, b"")
"""a place of a page that is not the first"""


@pytest.fixture
async def lane(open_lane: Open, graph: GraphStub, sockets: str) -> OpenLane:
    graph.follow(COLD, [USER], hot=False)
    opened = await open_lane().join()
    await opened.serve(f"{sockets}/test.lane-0.sock")
    return opened


@pytest.fixture
async def reader(tmp_path: Path, memcached: Server, sockets: str, lane: OpenLane) -> AsyncIterator[TimelineReader]:
    async def pull(user: int, after: Key | None) -> Slots | None:
        return np.zeros(0, SLOT_DTYPE)

    settings = make_settings(tmp_path, sockets, memcached=memcached.port)
    opened = TimelineReader(settings, settings.region("test"), pull, owner_timeout_s=2.0)
    await opened.wait_connected(5)
    yield opened
    await opened.close()


async def go_away(lane: OpenLane, reader: TimelineReader, memcached: Server) -> None:
    """The user's session is over, as after eleven minutes."""
    await reader.settle()
    await reader._caches[0].submit(b"")  # the mark of the last read has been set
    lane.owner.activity.hot_until[USER] = time.time() - 1
    memcached.send(b"md hot:%d\r\n" % USER)


async def write_and_drop(lane: OpenLane, kept: int) -> tuple[list[bytes], int]:
    """Ten posts of a cold author, of which all but the newest are dropped. Returns those, and the time of the last."""
    keeper = Retention(lane.owner, lambda: DAY_S)
    await keeper.step(DAY_S)
    for _ in range(10 - kept):
        lane.post(COLD, hot=[], cold=[USER])
    dropped_us = 1_000_000 + lane.posts.count
    await keeper.step(1.5 * DAY_S)
    rest = [lane.post(COLD, hot=[], cold=[USER]) for _ in range(kept)]
    await lane.applied()
    await keeper.step(2.6 * DAY_S)
    assert lane.owner.index.next - lane.owner.index.first == kept
    return rest, dropped_us


@pytest.mark.parametrize("kept", [0, 3])
async def test_posts_dropped_before_they_were_handed_over_are_not_missed_in_silence(
    lane: OpenLane, reader: TimelineReader, memcached: Server, kept: int
) -> None:
    lane.post(HOT, hot=[USER])
    await reader.read(USER)
    await reader.settle()
    assert (view := await reader.read(USER)).source == "cache"
    assert view.horizon_us == 0
    await go_away(lane, reader, memcached)
    rest, dropped_us = await write_and_drop(lane, kept)
    view = await reader.read(USER)
    assert ids_of(view.slots) == rest[::-1]
    assert view.horizon_us > dropped_us
    await reader.settle()
    for after in (None, BEHIND):
        view = await reader.read(USER, after)
        assert (view.source, view.horizon_us > dropped_us, ids_of(view.slots)) == ("cache", True, rest[::-1])


async def test_what_is_cached_stays_where_nothing_owed_can_have_been_dropped(
    lane: OpenLane, reader: TimelineReader, memcached: Server
) -> None:
    await reader.read(USER)
    await reader.settle()
    await write_and_drop(lane, 3)
    await go_away(lane, reader, memcached)
    await reader.read(USER)
    await go_away(lane, reader, memcached)
    post = lane.post(COLD, hot=[], cold=[USER])
    view = await reader.read(USER)
    assert (view.source, ids_of(view.slots)[0]) == ("cache", post)
