"""Celebrities' posts: fair among each other, slow beside ordinary posts, whole whatever dies in their middle."""

from __future__ import annotations

import asyncio
import random
import signal

import pytest
from fanout_region import FanoutRegion

from reference_server.fanout.celebrities import LEAST_REST_S, LONGEST_REST, LONGEST_REST_S, rest_after, rest_ratio
from reference_server.partition import lane_of
from reference_server.rpc import RpcError
from reference_server.timeline.entry import Status

BIG, SMALL, MORE = 1, 2, (3, 4, 5, 6)
small_pages = pytest.mark.parametrize("region", [{"users": 3000, "page": 50}], indirect=True)


def test_the_later_ordinary_posts_are_the_longer_is_the_rest() -> None:
    assert [rest_ratio(lag_s) for lag_s in (0.0, 0.01, 0.1, 60.0)] == [1.0, 1.0, 2.0, LONGEST_REST]


def test_a_rest_is_bounded_however_long_memcached_was_waited_for() -> None:
    assert [rest_after(slice_s, 0.0) for slice_s in (0.0, 0.005, 2.0)] == [LEAST_REST_S, 0.005, LONGEST_REST_S]
    assert rest_after(0.01, 60.0) == LONGEST_REST * 0.01


@pytest.mark.slow
@pytest.mark.stack
@small_pages
async def test_a_post_that_waits_for_an_earlier_one_does_not_hold_what_came_before_it(region: FanoutRegion) -> None:
    """BIG's post as a celebrity cannot go on, so the one as an ordinary author waits (for ten seconds)."""
    region.graph.follow(BIG, range(100, 400))
    region.graph.follow(SMALL, [50])

    def refuse(author: int, page: int) -> None:
        if (author, page) == (BIG, 1):
            raise RpcError("unavailable", "stub")

    region.graph.after_page = refuse
    await region.post(BIG, "celeb")
    before = await region.post(SMALL)
    await region.post(BIG)
    region.start_worker()
    await region.serving()
    async with asyncio.timeout(5):
        while await region.timeline(50) != [before]:
            pass


@pytest.mark.slow
@pytest.mark.stack
@small_pages
async def test_a_small_celebrity_is_not_held_up_by_a_big_one(region: FanoutRegion) -> None:
    region.graph.follow(BIG, range(100, 3000))
    region.graph.follow(SMALL, range(10, 90))
    posts = [await region.post(BIG, "celeb"), await region.post(SMALL, "celeb")]
    region.start_worker()
    await region.serving()
    await region.caught_up("celeb")
    for lane in range(2):
        (last,) = [u for u in range(2999, 2900, -1) if lane_of(u, 2) == lane][:1]
        (first,) = [u for u in range(10, 90) if lane_of(u, 2) == lane][-1:]
        small, big = (await region.arrivals(first))[posts[1]], (await region.arrivals(last))[posts[0]]
        assert big - small > 40, "the big one's other pages come after the small one's last"


@pytest.mark.slow
@pytest.mark.stack
@small_pages
async def test_posts_of_one_author_are_complete_one_after_the_other(region: FanoutRegion) -> None:
    region.graph.follow(BIG, range(100, 400))
    first, second = [await region.post(BIG, "celeb", entry=f"1-{n}") for n in (1, 2)]
    # no celebrity any more: the other stream, which must not overtake, also where all happens in one millisecond
    third = await region.post(BIG, entry="1-1")
    region.start_worker()
    await region.serving()
    await region.caught_up("celeb", "posts")
    found = {user: await region.arrivals(user) for user in range(100, 400, 7)}
    for lane in range(2):
        arrivals = [seqs for user, seqs in found.items() if lane_of(user, 2) == lane]
        for earlier, later in ((first, second), (second, third)):
            assert max(seqs[earlier] for seqs in arrivals) < min(seqs[later] for seqs in arrivals)


@pytest.mark.slow
@pytest.mark.stack
@small_pages
async def test_kill_9_with_several_celebrities_under_way_loses_and_doubles_nothing(region: FanoutRegion) -> None:
    rng = random.Random(8)
    followers = {author: rng.sample(range(100, 2000), 200 + 300 * n) for n, author in enumerate((BIG, SMALL, *MORE))}
    for author, users in followers.items():
        region.graph.follow(author, users)
    expected: dict[int, list[bytes]] = {user: [] for user in range(2000)}
    hidden = []
    for life in range(3):
        for author, users in followers.items():
            post = await region.post(author, "celeb")
            for user in {*users, author}:
                expected[user].append(post)
            if author == SMALL:
                hidden.append(post)
                await region.change_status(post, author, Status.HIDDEN_BY_AUTHOR, life + 1, "celeb")
        worker = region.start_worker()
        await region.serving()
        before = (await region.call(0, "stats"))["records"]
        async with asyncio.timeout(20):
            while life < 2 and (await region.call(0, "stats"))["records"] < before + 25 + 10 * life:
                pass
        if life < 2:
            worker.send_signal(signal.SIGKILL)
            worker.wait()
    await region.caught_up("celeb")
    for user, posts in list(expected.items())[::4]:
        assert sorted(await region.timeline(user)) == sorted(posts), f"user {user}"
    assert await region.statuses(followers[SMALL][0], hidden) == [Status.HIDDEN_BY_AUTHOR] * 3


@pytest.mark.slow
@pytest.mark.stack
@small_pages
async def test_the_follower_list_may_change_while_a_worker_is_dead(region: FanoutRegion) -> None:
    """The dead worker had written some pages; all behind those who leave move to pages that were written."""
    region.graph.follow(BIG, range(100, 1100))
    post = await region.post(BIG, "celeb")
    worker = region.start_worker()
    await region.serving()
    async with asyncio.timeout(20):
        while (await region.call(0, "stats"))["records"] < 5:
            pass
    worker.send_signal(signal.SIGKILL)
    worker.wait()
    region.graph.hot[BIG] -= set(range(100, 140))
    for page in range(25):
        await region.bus.unlink(f"followers:{BIG}:{page}")
    region.start_worker()
    await region.serving()
    await region.caught_up("celeb")
    for user in range(140, 1100, 7):
        assert await region.timeline(user) == [post], f"user {user}"


@pytest.mark.slow
@pytest.mark.stack
@small_pages
async def test_ordinary_posts_go_between_the_pages_of_celebrities(region: FanoutRegion) -> None:
    """How many of their pages were written between an ordinary post's arrival in the queue and its own page."""
    region.graph.follow(SMALL, range(10, 90))
    for author in (BIG, *MORE):
        region.graph.follow(author, range(100, 3000))
    region.start_worker()
    await region.serving()
    for author in (BIG, *MORE):
        await region.post(author, "celeb")
    reader = next(user for user in range(10, 90) if lane_of(user, 2) == 0)
    pages, posts = [], []
    for _ in range(15):
        before = (await region.call(0, "stats"))["records"]
        posts.append(await region.post(SMALL))
        await region.caught_up("posts")
        pages.append(((await region.arrivals(reader))[posts[-1]] & ((1 << 48) - 1)) - before)
    assert (await region.call(0, "stats"))["records"] < 5 * 58 + 15, "all celebrities were done too soon"
    assert sorted(pages)[7] <= 12, pages
