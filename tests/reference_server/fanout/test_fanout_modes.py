"""Push, pull and hybrid: at rest everybody has the same feed, whatever was switched meanwhile."""

from __future__ import annotations

import random
import time

import pytest
from fanout_region import FanoutRegion

from reference_server.partition import lane_of

pytestmark = [pytest.mark.slow, pytest.mark.stack]
AUTHORS, CELEBRITY = range(1, 6), 9

PULL, HYBRID = {"fanout": "pull"}, {"fanout": "hybrid"}


def follow(region: FanoutRegion) -> dict[int, set[int]]:
    """Hot and cold follows at random; author -> who must have the posts."""
    rng = random.Random(3)
    for author in (*AUTHORS, CELEBRITY):
        followers = rng.sample(range(10, 50), 36 if author == CELEBRITY else 12)
        half = len(followers) // 3
        region.graph.follow(author, followers[:half])
        region.graph.follow(author, followers[half:], hot=False)
    return {a: region.graph.hot[a] | region.graph.cold[a] | {a} for a in (*AUTHORS, CELEBRITY)}


class Written:
    """Posts written so far, and who must have them."""

    def __init__(self, region: FanoutRegion) -> None:
        self.region, self.followers = region, follow(region)
        self.expected: dict[int, list[bytes]] = {user: [] for user in range(50)}
        self.by_author: dict[int, list[bytes]] = {}

    async def some(self, count: int) -> None:
        for number in range(count):
            author = CELEBRITY if number % 4 == 0 else AUTHORS[number % len(AUTHORS)]
            post = await self.region.post(author, "celeb" if author == CELEBRITY else "posts")
            self.by_author.setdefault(author, []).append(post)
            for user in self.followers[author]:
                self.expected[user].append(post)

    async def check(self) -> None:
        """At rest everybody has everything, once."""
        await self.region.caught_up("posts", "celeb")
        for user, posts in self.expected.items():
            assert sorted(await self.region.first_page(user)) == sorted(posts), f"user {user}"

    async def check_order(self, users: list[int]) -> None:
        """Whoever has a post of an author has that author's earlier ones, at any moment."""
        for user in users:
            held = set(await self.region.timeline(user))
            for author, posts in self.by_author.items():
                if user in self.followers[author]:
                    has = [post in held for post in posts]
                    assert has == sorted(has, reverse=True), f"user {user}, author {author}: {has}"


@pytest.mark.parametrize("region", [{"flags": f} for f in (PULL, HYBRID)], indirect=True)
async def test_whatever_the_mode_the_feed_is_the_same_at_rest(region: FanoutRegion) -> None:
    written = Written(region)
    region.start_worker()
    await region.serving()
    for user in range(10, 20):
        await region.first_page(user)
    await written.some(12)
    for user in range(10, 30):
        await region.first_page(user)
    await written.some(12)
    await written.check()


@pytest.mark.parametrize("region", [{"flags": PULL}], indirect=True)
async def test_pulled_posts_wait_for_a_first_page_unless_a_stream_is_open(region: FanoutRegion) -> None:
    region.graph.follow(1, [10, 11, 12])
    region.start_worker()
    await region.serving()
    await region.first_page(11)
    await region.call(lane_of(12, 2), "subscribe", "fep-0", [[12, None]])
    posts = [await region.post(1) for _ in range(2)]
    await region.caught_up()
    assert [await region.timeline(user) for user in (1, 10, 11, 12)] == [[], [], [], posts]
    assert [await region.first_page(user) for user in (1, 10, 11, 12)] == [posts] * 4
    posts.append(await region.post(1))
    await region.caught_up()
    assert [await region.timeline(user) for user in (11, 12)] == [posts[:2], posts]
    assert await region.first_page(11) == posts  # again, although it was merged just now


@pytest.mark.parametrize("region", [{"flags": HYBRID}], indirect=True)
async def test_hybrid_pulls_celebrities_only(region: FanoutRegion) -> None:
    for author in (1, CELEBRITY):
        region.graph.follow(author, [10])
    region.start_worker()
    await region.serving()
    pushed, pulled = await region.post(1), await region.post(CELEBRITY, "celeb")
    await region.caught_up("posts", "celeb")
    assert await region.timeline(10) == [pushed]
    assert await region.first_page(10) == [pushed, pulled]


async def test_with_one_tier_cold_followers_are_written_at_once(region: FanoutRegion) -> None:
    region.graph.follow(1, [10], hot=False)
    region.start_worker()
    await region.serving()
    posts = [await region.post(1)]
    await region.caught_up()
    assert await region.timeline(10) == []
    await region.set_flag("two_tier", False)
    posts.append(await region.post(1))
    await region.caught_up()
    assert await region.timeline(10) == posts[1:]
    assert sorted(await region.first_page(10)) == sorted(posts)


async def test_switching_back_and_forth_loses_and_doubles_nothing_and_keeps_the_order_of_an_author(
    region: FanoutRegion,
) -> None:
    """Readers have sessions throughout; while posts are pushed they are not merged again, as the api does it."""
    written = Written(region)
    region.start_worker()
    await region.serving()
    in_session = list(range(10, 30))
    for user in in_session:
        await region.first_page(user)
    for mode in ("pull", "push", "hybrid", "pull", "push"):
        await written.some(8)
        await region.set_flag("fanout", mode)
        for _ in range(3):
            await written.some(4)
            if mode != "push":
                for user in in_session[:10]:
                    await region.first_page(user)
            await written.check_order(in_session)
    await region.caught_up("posts", "celeb")
    deadline = time.monotonic() + 5
    for user in in_session:  # pushed to again, without another merge
        while sorted(await region.timeline(user)) != sorted(written.expected[user]):
            assert time.monotonic() < deadline, f"user {user}"
    await written.check()


async def test_a_worker_that_dies_in_pull_mode_and_returns_to_push_merges_sessions_first(region: FanoutRegion) -> None:
    region.graph.follow(1, [10])
    worker = region.start_worker()
    await region.serving()
    await region.first_page(10)
    await region.set_flag("fanout", "pull")
    posts = [await region.post(1) for _ in range(3)]
    await region.caught_up()
    assert await region.timeline(10) == []
    worker.kill()
    worker.wait()
    await region.set_flag("fanout", "push", workers=())
    region.start_worker()
    await region.serving()
    deadline = time.monotonic() + 10
    while await region.timeline(10) != posts:
        assert time.monotonic() < deadline
