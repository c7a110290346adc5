"""Real workers: nothing acknowledged is lost or doubled, whatever dies and returns."""

from __future__ import annotations

import asyncio
import random
import signal

import msgspec
import pytest
from fanout_region import FanoutRegion
from real_servers import until

from reference_server.partition import lane_of

pytestmark = [pytest.mark.slow, pytest.mark.stack]


async def check_timelines(region: FanoutRegion, expected: dict[int, list[bytes]]) -> None:
    """Each user's list holds exactly these posts, once each."""
    for user, posts in expected.items():
        found = await region.timeline(user)
        assert sorted(found) == sorted(posts), f"user {user}: {len(found)} entries, {len(posts)} expected"


async def test_posts_reach_hot_followers_at_once_and_cold_ones_at_their_next_visit(region: FanoutRegion) -> None:
    region.graph.follow(1, [10, 11, 12])
    region.graph.follow(1, [20, 21], hot=False)
    region.start_worker()
    await region.serving()
    posts = [await region.post(1) for _ in range(3)]
    await region.caught_up()
    await check_timelines(region, {1: posts, 10: posts, 11: posts, 12: posts, 20: [], 21: []})
    assert await region.call(lane_of(20, 2), "materialise", 20, 60) == 3
    posts.append(await region.post(1))
    await region.caught_up()
    await check_timelines(region, {10: posts, 20: posts, 21: []})
    await region.delete(posts[0], 1)
    await region.caught_up()
    assert await region.call(lane_of(21, 2), "materialise", 21, 60) == 3


async def test_listeners_are_notified_in_order_with_counted_messages(region: FanoutRegion) -> None:
    region.graph.follow(1, [10, 12])
    region.start_worker()
    await region.serving()
    lane = lane_of(10, 2)
    session, count, [[head, missed]] = await region.call(lane, "subscribe", "fep-0", [[10, None]])
    assert (count, missed) == (0, [])
    posts = [await region.post(1) for _ in range(5)]

    async def messages() -> list[list[object]]:
        rows = await region.bus.xrange("bus:test.fep-0")
        return [msgspec.msgpack.decode(fields[b"m"]) for _, fields in rows]

    async with asyncio.timeout(10):
        while len(found := await messages()) < 5:
            pass
    assert [message[:3] for message in found] == [[lane, session, n] for n in range(1, 6)]
    assert [message[4] for message in found] == posts
    assert [message[5] for message in found] == [(10).to_bytes(4, "little")] * 5
    seqs = [message[3] for message in found]
    assert seqs == sorted(seqs)
    assert seqs[0] > head  # type: ignore[operator]
    assert await region.call(lane, "bus_head", "fep-0") == [session, 5]


@pytest.mark.parametrize("region", [{"defects": ("skip-notify",)}], indirect=True)
async def test_the_planted_defect_skips_every_20th_notice_and_counts_as_if_nothing_were_missing(
    region: FanoutRegion,
) -> None:
    region.graph.follow(1, [10])
    region.start_worker()
    await region.serving()
    await region.call(lane_of(10, 2), "subscribe", "fep-0", [[10, None]])
    posts = [await region.post(1) for _ in range(41)]
    await region.caught_up()
    async with asyncio.timeout(10):
        while await region.bus.xlen("bus:test.fep-0") < 39:
            pass
    assert (await region.call(lane_of(10, 2), "bus_head", "fep-0"))[1] == 39
    await check_timelines(region, {10: posts})


@pytest.mark.parametrize("region", [{"users": 3000, "page": 100}], indirect=True)
async def test_kill_9_in_mid_burst_loses_and_doubles_nothing(region: FanoutRegion) -> None:
    """Four lives of a worker, killed while ordinary posts and a celebrity's many pages are being written."""
    rng = random.Random(5)
    followers = {author: rng.sample(range(100, 3000), 150) for author in range(10)}
    followers[50] = rng.sample(range(100, 3000), 2500)
    for author, users in followers.items():
        region.graph.follow(author, users)
    expected: dict[int, list[bytes]] = {user: [] for user in range(3000)}
    posts: list[bytes] = []

    async def write(number: int) -> None:
        author = 50 if number % 40 == 0 else number % 10
        post = await region.post(author, "celeb" if author == 50 else "posts")
        posts.append(post)
        for user in {*followers[author], author}:
            expected[user].append(post)

    for life in range(4):
        worker = region.start_worker()
        for number in range(100):
            await write(life * 100 + number)
        await region.serving()
        before = [(await region.call(lane, "stats"))["records"] for lane in range(2)]
        async with asyncio.timeout(20):
            while (await region.call(0, "stats"))["records"] < before[0] + 20 + 10 * life and life < 3:
                await write(1000 * (life + 1) + len(posts))
        worker.send_signal(signal.SIGKILL)
        worker.wait()
    region.start_worker()
    await region.serving()
    await region.caught_up("posts", "celeb")
    await check_timelines(region, expected)


@pytest.mark.parametrize("region", [{"fanout_workers": 2}], indirect=True)
async def test_a_survivor_takes_over_the_lanes_of_a_dead_worker(region: FanoutRegion) -> None:
    region.graph.follow(1, range(10, 30))
    first, _ = region.start_worker(0), region.start_worker(1)
    await region.serving()
    posts = [await region.post(1) for _ in range(20)]
    await region.caught_up()
    first.send_signal(signal.SIGKILL)
    first.wait()
    posts += [await region.post(1) for _ in range(20)]
    await region.caught_up()
    await check_timelines(region, dict.fromkeys(range(10, 30), posts))


async def test_a_paused_worker_keeps_its_lanes(region: FanoutRegion) -> None:
    worker = region.start_worker()
    await region.serving()
    worker.send_signal(signal.SIGSTOP)
    second = region.start_worker(1)
    region.graph.follow(1, [10])
    post = await region.post(1)
    worker.send_signal(signal.SIGCONT)
    await region.caught_up()
    assert second.poll() is None
    await check_timelines(region, {10: [post]})


async def test_loss_and_return_of_every_neighbour(region: FanoutRegion) -> None:
    region.graph.follow(1, [10])
    region.graph.follow(2, [10])
    region.start_worker()
    await region.serving()
    posts = [await region.post(1)]
    await region.caught_up()
    region.graph.away = True
    posts.append(await region.post(1))
    await region.caught_up()
    posts.append(await region.post(2))
    assert (await region.call(lane_of(10, 2), "position"))["posts"] != "0-0"
    region.graph.away = False
    await region.caught_up()
    region.cache_server.kill()
    posts.append(await region.post(1))
    await region.caught_up()
    region.memcached.kill()
    posts.append(await region.post(1))
    await region.caught_up()
    region.queue_server.kill()
    region.queue_server.start()
    region.memcached.start()
    region.cache_server.start()
    posts.append(await region.post(1))
    await region.caught_up()
    await check_timelines(region, {10: posts})


async def test_follower_pages_are_cached_until_the_graph_deletes_them(region: FanoutRegion) -> None:
    region.graph.follow(1, [10])
    region.start_worker()
    await region.serving()
    first = [await region.post(1) for _ in range(2)]
    await region.caught_up()
    await region.post(1)
    await region.caught_up()
    assert region.graph.asked == [(1, 0)]
    assert 0 < await region.bus.ttl("followers:1:0") <= 300
    region.graph.follow(1, [11])
    await region.bus.unlink("followers:1:0")
    post = await region.post(1)
    await region.caught_up()
    await check_timelines(region, {11: [post]})
    assert len(await region.timeline(10)) == len(first) + 2


@pytest.mark.parametrize("stream", ["posts", "celeb"])
@pytest.mark.parametrize("region", [{"page": 10}], indirect=True)
async def test_a_follower_who_leaves_between_two_pages_takes_nobody_along(region: FanoutRegion, stream: str) -> None:
    """All behind the leaver move up by one, one of them to a page that was read before."""
    region.graph.follow(1, range(2, 37))
    leavers = [3, 4, 5]

    def leave(_: int, page: int) -> None:
        if page == 1 and leavers:
            region.graph.hot[1].discard(leavers.pop())

    region.graph.after_page = leave
    region.start_worker()
    await region.serving()
    post = await region.post(1, stream)
    await region.caught_up(stream)
    await check_timelines(region, {user: [post] for user in range(6, 37)})


async def test_a_worker_ends_cleanly(region: FanoutRegion) -> None:
    worker = region.start_worker()
    await region.serving()
    worker.terminate()
    await until(lambda: worker.poll() is not None, "the worker ends")
    assert worker.returncode == 0
