"""Retention: what is old leaves log, index and lists; what is left is whole, and the lane stays within bounds."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

import numpy as np
import pytest
from lane_servers import OpenLane, numbers

from reference_server.timeline.entry import SLOT_BYTES, Status, make_seq, pack_entry
from reference_server.timeline.owner import PostPage, Removal
from reference_server.timeline.retention import Retention

Open = Callable[..., OpenLane]
DAY_S = 86_400.0


async def write_days(lane: OpenLane, keeper: Retention, days: range, each: int = 10) -> list[bytes]:
    """`each` posts a day to users 1 and 2; returns their ids."""
    posts = []
    for day in days:
        await keeper.step(day * DAY_S)
        posts += [lane.post(number % 5, hot=[1, 2]) for number in range(each)]
        await lane.applied()
    return posts


async def test_what_is_older_than_the_retention_is_gone_and_the_horizon_says_so(open_lane: Open) -> None:
    lane = await open_lane().join()
    keeper = Retention(lane.owner, lambda: 3 * DAY_S)
    posts = await write_days(lane, keeper, range(1, 8))
    before = lane.owner.head
    await keeper.step(8 * DAY_S)
    index = lane.owner.index
    assert lane.ids(1) == posts[40:]
    assert (index.first, index.next) == (41, 71)
    assert len(index.lists[2]) == 4 * 30
    assert sum(map(len, index.by_author.values())) == 30
    _, epoch, floor, _, slots, horizon_us = lane.owner.rebuild(1)
    oldest = int.from_bytes(slots[24:32], "big")
    assert (floor, horizon_us) == (make_seq(epoch, 41), oldest)
    assert lane.owner.missed(1, make_seq(epoch, 39)) is None
    assert lane.owner.missed(1, make_seq(epoch, 40)) is not None
    await lane.close()
    again = await open_lane().join()
    assert again.ids(1) == posts[40:]
    assert (again.owner.index.first, again.owner.head) == (41, before)
    assert again.owner.rebuild(1)[1:] == (epoch, floor, before, slots, horizon_us)


async def test_a_lane_without_records_goes_on_counting(open_lane: Open) -> None:
    lane = await open_lane().join()
    keeper = Retention(lane.owner, lambda: DAY_S)
    await write_days(lane, keeper, range(1, 3))
    await keeper.step(3 * DAY_S)
    await keeper.step(5 * DAY_S)
    assert lane.ids(1) == []
    await lane.close()
    again = await open_lane().join()
    assert (again.owner.index.first, again.owner.index.next) == (21, 21)
    post = again.post(3, hot=[1])
    assert again.ids(1) == [post]
    assert int.from_bytes(again.owner.rebuild(1)[4][:8], "big") == make_seq(again.owner.index.epoch, 21)


async def test_a_retention_that_changes_is_followed(open_lane: Open) -> None:
    lane = await open_lane().join()
    retention_s = 9 * DAY_S
    keeper = Retention(lane.owner, lambda: retention_s)
    await write_days(lane, keeper, range(1, 6))
    await keeper.step(6 * DAY_S)
    assert len(lane.ids(1)) == 50
    retention_s = 2 * DAY_S
    await keeper.step(6 * DAY_S)
    assert len(lane.ids(1)) == 20


async def test_the_clock_goes_on_in_the_next_owner(open_lane: Open) -> None:
    lane = await open_lane().join()
    await write_days(lane, Retention(lane.owner, lambda: 3 * DAY_S), range(1, 5))
    await lane.close()
    again = await open_lane().join()
    await Retention(again.owner, lambda: 3 * DAY_S).step(6 * DAY_S)
    assert len(again.ids(1)) == 20


async def test_what_the_cache_has_not_confirmed_stays(open_lane: Open) -> None:
    lane = await open_lane().join()
    keeper = Retention(lane.owner, lambda: DAY_S)
    await write_days(lane, keeper, range(1, 3))
    lane.owner.applied = 5
    await keeper.step(9 * DAY_S)
    assert lane.owner.index.first == 6
    lane.owner.applied = 20
    await keeper.step(10 * DAY_S)
    assert lane.owner.index.first == 21


async def test_a_deleted_post_stays_deleted_as_long_as_a_record_of_it_is_there(open_lane: Open) -> None:
    lane = await open_lane().join()
    keeper = Retention(lane.owner, lambda: 3 * DAY_S)
    started_s = time.time()  # marks are timed by the wall clock, so the steps are too
    await keeper.step(started_s)
    post = lane.post(1, hot=[2])
    lane.owner.write([Removal(post, Status.DELETED)], "posts", "77-0")
    await lane.applied()
    await keeper.step(started_s + 2 * DAY_S)
    assert lane.owner.rebuild(2)[4][SLOT_BYTES - 1] == Status.DELETED
    await keeper.step(started_s + 6 * DAY_S)
    assert lane.owner.rebuild(2)[4] == b""
    assert lane.owner.index.statuses == lane.owner.wal.statuses() == {}


async def test_the_repeat_of_a_post_that_is_kept_is_recognised(open_lane: Open) -> None:
    lane = await open_lane().join()
    keeper = Retention(lane.owner, lambda: 3 * DAY_S)
    posts = await write_days(lane, keeper, range(1, 6))
    await keeper.step(6 * DAY_S)
    kept, dropped = posts[-1], posts[0]
    assert lane.owner.wal.seen(kept) is not None
    assert lane.owner.wal.seen(dropped) is None
    page = PostPage(b"posts:9999-0", kept, 1, pack_entry(kept, 1, 1), numbers([1]), numbers([]), 0, True)
    lane.owner.write([page], "posts", "9999-0")
    assert lane.ids(1).count(kept) == 1


async def test_what_is_owed_to_a_user_is_what_is_still_there(open_lane: Open, graph: object) -> None:
    lane = await open_lane().join()
    graph.follow(7, [3], hot=False)  # type: ignore[attr-defined]
    keeper = Retention(lane.owner, lambda: 2 * DAY_S)
    for day in range(1, 6):
        await keeper.step(day * DAY_S)
        last = lane.post(7, hot=[], cold=[3])
    await lane.applied()
    await keeper.step(6 * DAY_S)
    assert await lane.merge.settle(3) == 2
    assert lane.ids(3)[-1] == last
    watermark = lane.owner.merged[3]
    assert lane.owner.wal.merged() == {3: watermark}
    lane.post(1, hot=[1])
    await lane.applied()
    await keeper.step(7 * DAY_S)
    await keeper.step(20 * DAY_S)
    assert lane.owner.merged == lane.owner.wal.merged() == {}


async def test_a_lane_is_bounded_whatever_the_rate(open_lane: Open) -> None:
    lane = await open_lane().join()
    keeper = Retention(lane.owner, lambda: 9 * DAY_S, max_records=25)
    posts = await write_days(lane, keeper, range(1, 4), each=20)
    await keeper.step(4 * DAY_S)
    assert lane.ids(2) == posts[-25:]


@pytest.mark.slow
async def test_memory_and_disk_stay_flat_under_steady_writes(open_lane: Open) -> None:
    lane = await open_lane(users=2000).join()
    everybody = np.arange(2000, dtype=np.uint32)
    nobody = numbers([])
    keeper = Retention(lane.owner, lambda: 20.0)
    sizes: list[tuple[int, int, int, int]] = []
    for second in range(150):
        items, author = [], second % 7
        for _ in range(50):
            post_id, entry = lane.posts.entry(author)
            source = b"posts:%d-0" % lane.posts.count
            items.append(PostPage(source, post_id, author, entry, everybody, nobody, 0, True))
        await lane.owner.wait_room()
        lane.owner.write(items, "posts", f"{lane.posts.count}-0")
        await lane.applied()
        await keeper.step(float(second))
        index = lane.owner.index
        lists = sum(numbers.__sizeof__() for numbers in index.lists)
        authors = sum(map(len, index.by_author.values())) + len(index.posted)
        sizes.append((index._capacity, lists, authors, lane.owner.wal.size_bytes()))
    await keeper.close()
    assert lane.owner.index.next == 7501
    assert 1000 <= lane.owner.index.next - lane.owner.index.first <= 1150
    middle, end = (np.array(sizes[start : start + 50]).max(axis=0) for start in (50, 100))
    assert (end[:3] <= 1.1 * middle[:3]).all(), (middle, end)
    await asyncio.to_thread(lane.owner.wal.compact, lane.owner.index.first)
    assert end[3] < 96 << 20  # 8 MB of pages are kept, up to 64 MB are not yet flushed; 60 MB were written, twice
    assert lane.owner.wal.size_bytes() < 12 << 20


@pytest.mark.parametrize("first", [1, 1000, 5000])
async def test_slots_wrap_around(open_lane: Open, first: int) -> None:
    lane = await open_lane().join()
    index = lane.owner.index
    index.start(first)
    for number in range(first, first + 3000):
        assert index.put_slot(number.to_bytes(SLOT_BYTES, "big")) == number
        if number % 700 == 0:
            index.drop(max(index.first, number - 500))
    rest = np.zeros(2000, index._slots.dtype)
    rest["ts_us"] = np.arange(2000)
    index.put_slots(rest)
    for number in range(index.first, first + 3000):
        assert index.slot(number) == number.to_bytes(SLOT_BYTES, "big")
    at = index.take(np.arange(first + 3000, first + 5000, dtype=np.uint32))
    assert at["ts_us"].tolist() == list(range(2000))
