"""Reads through cache, owner and durable store: complete whatever fails, and marked when they may be stale."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from lane_servers import GraphStub, OpenLane, Posts, ids_of, make_settings
from real_servers import Server, until

from reference_server import rpc
from reference_server.flags import Flags
from reference_server.timeline.cache_writer import State
from reference_server.timeline.cached import Slots, for_display, make_value, read_value
from reference_server.timeline.defects import LaneDefects
from reference_server.timeline.display import Key
from reference_server.timeline.reader import TimelineReader, TimelineUnavailable
from reference_server.timeline.slots import SLOT_DTYPE

USER = 7
CACHED = Flags().cached_entries
PLACE = (1 << 62, b"")
"""of a page that is not the first, and shows all"""
ReaderMaker = Callable[..., TimelineReader]


@pytest.fixture
async def lane(
    tmp_path: Path, memcached: Server, graph: GraphStub, sockets: str, request: pytest.FixtureRequest
) -> AsyncIterator[OpenLane]:
    defects = LaneDefects(forgets=getattr(request, "param", False))
    opened = await OpenLane(tmp_path / "lane", memcached.port, graph, defects=defects).join()
    await opened.serve(f"{sockets}/test.lane-0.sock")
    yield opened
    await opened.close()


@pytest.fixture
async def make_reader(tmp_path: Path, memcached: Server, sockets: str, lane: OpenLane) -> AsyncIterator[ReaderMaker]:
    readers: list[TimelineReader] = []

    def make(
        durable: Slots | None = None,
        defects: tuple[str, ...] = (),
        owner_timeout_s: float = 2.0,
        *,
        pull_fails: bool = False,
    ) -> TimelineReader:
        settings = make_settings(tmp_path, sockets, memcached=memcached.port, defects=defects)

        async def pull(user: int, after: Key | None) -> Slots | None:
            if pull_fails:
                return None
            return np.zeros(0, SLOT_DTYPE) if durable is None else durable

        readers.append(TimelineReader(settings, settings.region("test"), pull, owner_timeout_s=owner_timeout_s))
        return readers[-1]

    yield make
    for reader in readers:
        await reader.close()


async def connected(reader: TimelineReader) -> TimelineReader:
    await reader.wait_connected(5)
    assert all(cache.connected for cache in reader._caches)
    return reader


async def test_a_miss_is_rebuilt_once_and_published(lane: OpenLane, make_reader: ReaderMaker) -> None:
    reader = await connected(make_reader())
    posts = [lane.post(1, hot=[USER]) for _ in range(5)]
    view = await reader.read(USER, PLACE)
    assert (ids_of(view.slots), view.source, view.degraded) == (posts[::-1], "owner", "")
    await reader.settle()
    posts.append(lane.post(1, hot=[USER]))
    await lane.applied()
    view = await reader.read(USER, PLACE)
    assert (ids_of(view.slots), view.source, view.degraded) == (posts[::-1], "cache", "")


async def test_readers_that_miss_together_publish_once(lane: OpenLane, make_reader: ReaderMaker) -> None:
    reader = await connected(make_reader())
    posts = [lane.post(1, hot=[USER]) for _ in range(5)]
    views = await asyncio.gather(*[reader.read(USER, PLACE) for _ in range(20)])
    assert all(ids_of(view.slots) == posts[::-1] for view in views)
    await reader.settle()
    assert (await reader.read(USER, PLACE)).source == "cache"


async def test_first_pages_asked_for_at_once_all_have_what_is_owed(
    lane: OpenLane, make_reader: ReaderMaker, graph: GraphStub, memcached: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only one of them has it written; what the others had looked up by then lacks it."""
    graph.follow(1, [USER], hot=False)
    reader, settle = await connected(make_reader()), lane.merge.settle
    lane.post(2, hot=[USER])
    await reader.read(USER, PLACE)
    await reader.settle()
    lane.owner.activity.hot_until[USER] = 0.0
    reader._sessions.clear()
    assert memcached.send(b"md hot:7\r\n") == b"HD\r\n"
    looked = asyncio.Barrier(2)

    async def after_both_looked(user: int, *, everything: bool = False) -> int:
        await looked.wait()
        return await settle(user, everything=everything)

    monkeypatch.setattr(lane.merge, "settle", after_both_looked)
    owed = [lane.post(1, hot=[], cold=[USER]) for _ in range(3)]
    await lane.applied()
    views = await asyncio.gather(reader.read(USER), reader.read(USER))
    assert [set(owed) <= set(ids_of(view.slots)) for view in views] == [True, True]


@pytest.mark.parametrize("after", [None, PLACE], ids=["first page", "page of a walk begun in another region"])
async def test_a_page_without_a_session_opens_one_and_brings_what_is_owed(
    lane: OpenLane,
    make_reader: ReaderMaker,
    graph: GraphStub,
    memcached: Server,
    monkeypatch: pytest.MonkeyPatch,
    after: Key | None,
) -> None:
    graph.follow(1, [USER], hot=False)
    reader = await connected(make_reader())
    opened, open_session = [], reader._open_session

    async def noticed(place: Any) -> bool:
        opened.append(place.user)
        return await open_session(place)

    monkeypatch.setattr(reader, "_open_session", noticed)
    owed = lane.post(1, hot=[1], cold=[USER])
    assert ids_of((await reader.read(USER, after)).slots) == [owed]
    assert memcached.send(b"mg hot:7\r\n") == b"HD\r\n"
    direct = lane.post(1, hot=[], cold=[USER])
    await lane.applied()
    assert ids_of((await reader.read(USER, after)).slots) == [direct, owed]
    assert opened == [USER]


async def test_publishing_against_concurrent_appends_loses_nothing(
    lane: OpenLane, make_reader: ReaderMaker, memcached: Server
) -> None:
    """Keys vanish, readers publish and the owner appends, all at once; every read is complete."""
    readers = [await connected(make_reader()) for _ in range(3)]
    posts: list[bytes] = []
    sources = set()
    done = False

    async def write() -> None:
        nonlocal done
        for number in range(600):
            if number > 120 and len(sources) == 2:
                break
            posts.append(lane.post(1, hot=[USER]))
            if number % (7 if number < 120 else 60) == 0:
                assert lane.owner.cache is not None
                memcached.send(b"md tl:%d:%d\r\n" % (lane.owner.cache.gen_of(USER), USER))
            await asyncio.sleep(0.001)
        done = True

    async def read(reader: TimelineReader) -> None:
        while not done:
            must_show = posts[: lane.owner.applied]
            view = await reader.read(USER, PLACE)
            sources.add(view.source)
            assert set(must_show) <= set(ids_of(view.slots))
            assert len(set(ids_of(view.slots))) == len(view.slots)

    await asyncio.gather(write(), *[read(reader) for reader in readers])
    await lane.applied()
    for reader in readers:
        await reader.settle()
    assert sources == {"cache", "owner"}
    for _ in range(3):
        assert set(ids_of((await readers[0].read(USER, PLACE)).slots)) == set(posts)
        await readers[0].settle()


async def test_the_cache_dies_and_returns_while_reads_go_on_complete(
    lane: OpenLane, make_reader: ReaderMaker, memcached: Server
) -> None:
    reader = await connected(make_reader())
    posts = [lane.post(1, hot=[USER]) for _ in range(5)]
    cache = lane.writer

    async def check(*sources: str) -> None:
        await lane.applied()
        view = await reader.read(USER)
        assert (ids_of(view.slots), view.degraded) == (posts[::-1], "")
        assert view.source in sources
        await reader.settle()

    await check("owner")
    await check("cache")
    memcached.kill()
    posts.append(lane.post(1, hot=[USER]))
    await check("owner")
    posts.append(lane.post(1, hot=[USER]))
    await check("owner")
    memcached.start()
    await until(lambda: reader._caches[0].connected, "the reader is back")
    posts.append(lane.post(1, hot=[USER]))
    await check("owner")
    await until(lambda: cache.state is State.UP, "the owner is back")
    posts.append(lane.post(1, hot=[USER]))
    await check("owner", "cache")
    await check("cache")


async def test_a_paused_cache_holds_nobody_up_for_long_and_is_outdated_when_it_goes_on(
    lane: OpenLane, make_reader: ReaderMaker, memcached: Server
) -> None:
    reader = await connected(make_reader())
    posts = [lane.post(1, hot=[USER])]
    await reader.read(USER)
    await reader.settle()
    assert (await reader.read(USER)).source == "cache"
    cache = lane.writer
    gen = cache.gen
    memcached.pause()
    posts.append(lane.post(1, hot=[USER]))
    async with asyncio.timeout(4):
        await lane.owner.wait_applied(2)
    assert cache.state is State.DOWN
    view = await reader.read(USER)
    assert (ids_of(view.slots), view.degraded) == (posts[::-1], "")
    memcached.resume()
    await until(lambda: cache.state is State.UP and reader._caches[0].connected, "both are back")
    assert cache.gen > gen
    assert ids_of((await reader.read(USER)).slots) == posts[::-1]


async def test_a_flushed_cache_is_filled_again(lane: OpenLane, make_reader: ReaderMaker, memcached: Server) -> None:
    reader = await connected(make_reader())
    posts = [lane.post(1, hot=[USER])]
    await reader.read(USER)
    await reader.settle()
    memcached.send(b"flush_all\r\n")
    posts.append(lane.post(1, hot=[USER]))
    await lane.applied()
    assert ids_of((await reader.read(USER)).slots) == posts[::-1]

    async def hit() -> bool:
        view = await reader.read(USER)
        assert ids_of(view.slots) == posts[::-1]
        await reader.settle()
        return view.source == "cache"

    async with asyncio.timeout(10):
        while not await hit():
            pass


async def test_a_higher_generation_makes_cached_timelines_unreadable(
    lane: OpenLane, make_reader: ReaderMaker, memcached: Server
) -> None:
    reader = await connected(make_reader())
    post = lane.post(1, hot=[USER])
    await reader.read(USER, PLACE)
    await reader.settle()
    assert (await reader.read(USER, PLACE)).source == "cache"
    cache = lane.writer
    cache._client.reset()
    later = lane.post(1, hot=[USER])
    await lane.applied()
    view = await reader.read(USER, PLACE)
    assert (view.source, ids_of(view.slots)) == ("owner", [later, post])


async def test_a_silent_owner_leaves_the_durable_store_marked_and_unpublished(
    lane: OpenLane, make_reader: ReaderMaker
) -> None:
    _, entry = Posts().entry(1)
    durable = for_display(bytes(8) + entry)
    reader = await connected(make_reader(durable, owner_timeout_s=0.03))
    lane.post(1, hot=[USER])
    blocked = asyncio.Event()

    async def silent(_: int) -> None:
        await blocked.wait()

    assert lane.server is not None
    lane.server.close()
    path = reader._owners[0].path
    server = await rpc.serve(path, {"rebuild": silent, "materialise": lane.service.materialise})
    view = await reader.read(USER)
    assert (view.source, view.degraded, ids_of(view.slots)) == ("durable", "stale", ids_of(durable))
    await reader.settle()
    server.close()
    lane.server = await rpc.serve(path, lane.service.handlers())
    for owner in reader._owners:
        owner.close()
    async with asyncio.timeout(10):
        while (view := await reader.read(USER)).source == "durable":
            await reader.settle()
    assert len(view.slots) == 1
    assert view.degraded == ""


@pytest.mark.parametrize("is_leased", [True, False])
async def test_a_slow_owner_is_waited_for_when_nobody_else_can_tell(
    lane: OpenLane, make_reader: ReaderMaker, memcached: Server, is_leased: bool
) -> None:
    reader = await connected(make_reader(owner_timeout_s=0.03, pull_fails=True))
    post = lane.post(1, hot=[USER])
    await lane.applied()
    if not is_leased:
        memcached.kill()
        await until(lambda: not reader._caches[0].connected, "the reader has noticed")

    async def slow(user: int) -> list[Any]:
        await asyncio.sleep(0.1)
        return await lane.service.rebuild(user)

    assert lane.server is not None
    lane.server.close()
    server = await rpc.serve(reader._owners[0].path, {**lane.service.handlers(), "rebuild": slow})
    view = await reader.read(USER, PLACE)
    assert (view.source, ids_of(view.slots)) == ("owner", [post])
    await reader.settle()
    server.close()


async def test_no_empty_page_stands_for_one_that_nobody_can_tell(
    lane: OpenLane, make_reader: ReaderMaker, memcached: Server
) -> None:
    reader = await connected(make_reader(owner_timeout_s=0.03, pull_fails=True))
    memcached.kill()
    assert lane.server is not None
    lane.server.close()
    with contextlib.suppress(FileNotFoundError):
        Path(reader._owners[0].path).unlink()
    for read in (reader.read(USER), reader.deeper(USER, PLACE)):
        with pytest.raises(TimelineUnavailable):
            await read


async def test_without_owner_and_cache_reads_are_stale_but_answered(
    lane: OpenLane, make_reader: ReaderMaker, memcached: Server
) -> None:
    reader = await connected(make_reader())
    memcached.kill()
    assert lane.server is not None
    lane.server.close()
    with contextlib.suppress(FileNotFoundError):
        Path(reader._owners[0].path).unlink()
    view = await reader.read(USER)
    assert (view.source, view.degraded) == ("durable", "stale")


async def test_an_overgrown_value_is_trimmed_by_its_readers(
    lane: OpenLane, make_reader: ReaderMaker, memcached: Server
) -> None:
    reader = await connected(make_reader())
    await reader.read(USER, PLACE)
    await reader.settle()
    posts = [lane.post(1, hot=[USER]) for _ in range(1100)]
    await lane.applied()
    assert lane.owner.cache is not None
    view = await reader.read(USER, PLACE)
    assert ids_of(view.slots) == posts[::-1]
    await reader.settle()
    answer = memcached.send(b"mg tl:%d:%d v\r\n" % (lane.owner.cache.gen_of(USER), USER))
    timeline = read_value(answer.partition(b"\r\n")[2][:-2])
    assert timeline is not None
    assert ids_of(for_display(timeline.slots)) == posts[: -CACHED - 1 : -1]
    assert timeline.floor == int.from_bytes(timeline.slots[:8], "big")
    cut_us = timeline.cut_us
    for after in (None, (cut_us + 1, b"")):
        view = await reader.read(USER, after)
        assert (view.source, view.cut_us, view.is_whole) == ("cache", cut_us, False)
    for view in (await reader.read(USER, (cut_us, b"")), await reader.deeper(USER, None)):
        assert (view.source, view.degraded, view.cut_us, ids_of(view.slots)) == ("owner", "", 0, posts[::-1])


async def test_of_a_long_timeline_the_newest_part_is_published(lane: OpenLane, make_reader: ReaderMaker) -> None:
    posts = [lane.post(1, hot=[USER]) for _ in range(CACHED + 50)]
    await lane.applied()
    reader = await connected(make_reader())
    assert len((await reader.read(USER)).slots) == len(posts)
    await reader.settle()
    view = await reader.read(USER)
    assert (view.source, ids_of(view.slots)) == ("cache", posts[: -CACHED - 1 : -1])
    assert view.cut_us


async def test_a_placeholder_of_a_reader_that_died_is_taken_over(
    lane: OpenLane, make_reader: ReaderMaker, memcached: Server
) -> None:
    reader = await connected(make_reader())
    assert lane.owner.cache is not None
    key = b"tl:%d:%d" % (lane.owner.cache.gen_of(USER), USER)
    memcached.send(b"mg %b v N5\r\n" % key)
    post = lane.post(1, hot=[USER])
    await lane.applied()
    assert ids_of((await reader.read(USER, PLACE)).slots) == [post]
    await reader.settle()
    assert ids_of((await reader.read(USER, PLACE)).slots) == [post]


async def test_damaged_values_are_no_timelines(lane: OpenLane, make_reader: ReaderMaker, memcached: Server) -> None:
    reader = await connected(make_reader())
    post = lane.post(1, hot=[USER])
    assert lane.owner.cache is not None
    value = make_value(0, 0, b"half a slot")
    memcached.send(b"ms tl:%d:%d %d\r\n%b\r\n" % (lane.owner.cache.gen_of(USER), USER, len(value), value))
    assert ids_of((await reader.read(USER, PLACE)).slots) == [post]
    await reader.settle()
    assert (await reader.read(USER, PLACE)).source == "cache"


@pytest.mark.parametrize("lane", [True], indirect=True)
async def test_the_planted_defect_publishes_what_the_durable_store_has(
    lane: OpenLane, make_reader: ReaderMaker
) -> None:
    posts = Posts()
    rows = [posts.entry(1) for _ in range(3)]
    archived = b"".join(bytes(8) + entry for _, entry in rows[:2])
    reader = await connected(make_reader(for_display(archived), defects=("no-wal",)))
    view = await reader.read(USER, PLACE)
    assert (view.degraded, ids_of(view.slots)) == ("", [rows[1][0], rows[0][0]])
    await reader.settle()
    view = await reader.read(USER, PLACE)
    assert (view.source, ids_of(view.slots)) == ("cache", [rows[1][0], rows[0][0]])


async def test_a_node_that_goes_on_after_a_pause_is_believed_only_once_the_owner_stands_by_it(
    lane: OpenLane, make_reader: ReaderMaker, memcached: Server
) -> None:
    reader = await connected(make_reader())
    posts = [lane.post(1, hot=[USER])]
    await reader.read(USER, PLACE)
    await reader.settle()
    assert (await reader.read(USER, PLACE)).source == "cache"
    writer = lane.writer
    memcached.pause()  # nobody reads meanwhile
    posts.append(lane.post(1, hot=[USER]))
    async with asyncio.timeout(5):
        await lane.applied()
    assert writer.state is State.DOWN
    posts.append(lane.post(1, hot=[USER]))  # not even sent there
    memcached.resume()
    sources = set()
    while writer.state is not State.UP or "cache" not in sources:
        view = await reader.read(USER, PLACE)
        assert ids_of(view.slots) == posts[::-1]
        sources.add(view.source)
        await reader.settle()
    assert sources == {"owner", "cache"}


async def test_an_owner_that_is_slow_still_fills_the_cache(lane: OpenLane, make_reader: ReaderMaker) -> None:
    """Otherwise every read would miss, and an owner that is slow under misses would stay so."""
    reader = await connected(make_reader(owner_timeout_s=0.03))
    post = lane.post(1, hot=[USER])
    await lane.applied()
    assert lane.server is not None
    lane.server.close()

    released = asyncio.Event()

    async def slow(user: int) -> list[Any]:
        await released.wait()
        return await lane.service.rebuild(user)

    lane.server = await rpc.serve(reader._owners[0].path, lane.service.handlers() | {"rebuild": slow})
    assert (await reader.read(USER, PLACE)).source == "durable"
    released.set()
    await reader.settle()
    view = await reader.read(USER, PLACE)
    assert (view.source, ids_of(view.slots)) == ("cache", [post])


async def test_an_owner_that_is_slow_is_asked_once_and_not_loaded_further(
    lane: OpenLane, make_reader: ReaderMaker
) -> None:
    """The cache is full, but a new connection has to be vouched for: that must not turn every read into a rebuild."""
    reader = await connected(make_reader(owner_timeout_s=0.03))
    post = lane.post(1, hot=[USER])
    await reader.read(USER, PLACE)
    await reader.settle()
    assert (await reader.read(USER, PLACE)).source == "cache"
    released, asked = asyncio.Event(), list[str]()

    async def generation(user: int) -> int:
        asked.append("generation")
        await released.wait()
        return await lane.service.generation(user)

    async def rebuild(user: int) -> list[Any]:
        asked.append("rebuild")
        return await lane.service.rebuild(user)

    assert lane.server is not None
    lane.server.close()
    handlers = lane.service.handlers() | {"generation": generation, "rebuild": rebuild}
    lane.server = await rpc.serve(reader._owners[0].path, handlers)
    reader._owners[0].close()  # so that the next call goes to the new server
    reader._caches[0].reset()
    await connected(reader)
    views = await asyncio.gather(*[reader.read(USER, PLACE) for _ in range(20)])
    assert all((view.source, view.degraded, ids_of(view.slots)) == ("cache", "stale", [post]) for view in views)
    assert asked == ["generation"]
    released.set()
    while (await reader.read(USER, PLACE)).degraded:
        pass
    assert asked == ["generation"]
