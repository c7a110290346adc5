"""The flag `wal` at run time: lanes are opened anew in the same process; what was acknowledged stays, once."""

from __future__ import annotations

import asyncio

import pytest
from fanout_region import FanoutRegion
from lost_logs import archive, feeds, post
from test_takeovers import posts_flowing

pytestmark = [pytest.mark.slow, pytest.mark.stack]
USERS = range(1, 45)
HOT, COLD, CELEBRITY = 1, 2, 3


def follow(region: FanoutRegion) -> None:
    """Author 1 is followed by hot users, 2 by cold ones, 3 is a celebrity of several pages; all by everybody."""
    region.graph.follow(HOT, [user for user in USERS if user != HOT])
    region.graph.follow(COLD, [user for user in USERS if user != COLD], hot=False)
    region.graph.follow(CELEBRITY, [user for user in USERS if user != CELEBRITY])


async def some(region: FanoutRegion) -> set[bytes]:
    """One post of each kind of author, three times."""
    kinds = ((HOT, "posts"), (COLD, "posts"), (CELEBRITY, "celeb"))
    return {await post(region, author, stream) for _ in range(3) for author, stream in kinds}


async def switch(region: FanoutRegion, value: bool) -> None:
    """Set the flag, wait until every lane is open under it; the workers are still the same processes."""
    before = [(await region.call(lane, "stats"))["epoch"] for lane in range(region.settings.lanes)]
    await region.set_flag_only("wal", value)
    async with asyncio.timeout(40):
        for lane, epoch in enumerate(before):
            while (stats := await region.call(lane, "stats"))["logged"] != value:  # noqa: ASYNC110
                await asyncio.sleep(0.02)
            assert stats["epoch"] > epoch
    assert all(worker.poll() is None for worker in region.workers)


async def lists(region: FanoutRegion) -> dict[int, set[bytes]]:
    """What each user's lane has for a first page; nothing twice."""
    found = await feeds(region, USERS)
    for user, ids in found.items():
        stored = await region.timeline(user)
        assert len(stored) == len(set(stored)), f"user {user}: something stands there twice"
        assert len(ids) == len(set(ids))
    return {user: set(ids) for user, ids in found.items()}


async def flush(region: FanoutRegion) -> None:
    """Everything cached is gone."""
    reader, writer = await asyncio.open_connection("127.0.0.1", region.memcached.port)
    writer.write(b"flush_all\r\n")
    assert await reader.readline() == b"OK\r\n"
    writer.close()
    await writer.wait_closed()


@pytest.mark.parametrize("region", [{"page": 10}], indirect=True)
async def test_off_and_on_again_leaves_every_post_once(region: FanoutRegion) -> None:
    follow(region)
    region.start_worker()
    await region.serving()
    logged = await some(region)
    await region.caught_up("posts", "celeb")
    await archive(region, trim=True)
    waiting = await some(region)  # acknowledged, but not in the durable store yet
    await region.caught_up("posts", "celeb")
    await flush(region)
    assert set.union(*(await lists(region)).values()) == logged | waiting

    await switch(region, False)
    await region.caught_up("posts", "celeb")
    await flush(region)
    for user, found in (await lists(region)).items():
        assert found == waiting, f"user {user}: what the archive lacks comes from the queue, the rest from the archive"
    for lane in range(2):
        stats = await region.call(lane, "stats")
        assert stats["horizon_us"] > 0, "readers are told to look in the durable store"
    unlogged = await some(region)
    await region.caught_up("posts", "celeb")
    await flush(region)
    assert all(found == waiting | unlogged for found in (await lists(region)).values())
    await archive(region, trim=True)
    late = await some(region)

    await switch(region, True)
    await region.caught_up("posts", "celeb")
    await flush(region)
    everything = logged | waiting | unlogged | late
    for user, found in (await lists(region)).items():
        assert found == everything, f"user {user}"
    last = await some(region)
    await region.caught_up("posts", "celeb")
    assert all(found == everything | last for found in (await lists(region)).values())


async def test_a_lane_that_logs_again_keeps_what_it_had_over_a_kill(region: FanoutRegion) -> None:
    follow(region)
    region.start_worker()
    await region.serving()
    await switch(region, False)
    posts = await some(region)
    await region.caught_up("posts", "celeb")
    await archive(region, trim=True)
    await switch(region, True)
    posts |= await some(region)
    await region.caught_up("posts", "celeb")
    epochs = [(await region.call(lane, "stats"))["epoch"] for lane in range(2)]
    region.workers[0].kill()
    region.workers[0].wait()
    region.start_worker()
    await region.serving()
    assert [(await region.call(lane, "stats"))["epoch"] for lane in range(2)] == epochs
    assert all(found == posts for found in (await lists(region)).values())


async def test_a_restore_that_a_switch_cut_off_begins_from_its_start(region: FanoutRegion) -> None:
    follow(region)
    region.start_worker()
    await region.serving()
    posts = await some(region)
    await region.caught_up("posts", "celeb")
    await archive(region, trim=True)
    await switch(region, False)
    region.graph.away = True  # the restore waits for follower pages
    await region.bus.flushall()
    await region.set_flag_only("wal", True)
    async with asyncio.timeout(20):
        while not region.graph.refused:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    await region.set_flag_only("wal", False)
    await region.serving()
    region.graph.away = False
    assert all(not found for found in (await lists(region)).values())
    await switch(region, True)
    assert all(found == posts for found in (await lists(region)).values())


@pytest.mark.parametrize("region", [{"lanes": 4, "fanout_workers": 2, "page": 10}], indirect=True)
async def test_two_workers_switch_while_posts_flow(region: FanoutRegion) -> None:
    region.graph.follow(1, USERS)
    for rank in range(2):
        region.start_worker(rank)
    await region.serving()
    async with posts_flowing(region) as posts:
        for value in (False, True):
            count = len(posts)
            await switch(region, value)
            async with asyncio.timeout(20):
                while len(posts) < count + 20:  # noqa: ASYNC110
                    await asyncio.sleep(0.01)
    await region.caught_up("posts", "celeb")
    for user in (10, 20, 30, 40):
        found = await region.timeline(user)
        assert sorted(found) == sorted(posts), f"user {user}"  # nothing was archived: all of it is in the queue
