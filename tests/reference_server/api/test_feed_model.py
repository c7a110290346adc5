"""Walks against a model: whatever is inserted and deleted between pages, nothing is skipped and nothing comes twice.

The feed of the model is a set of posts. The lane has let go of some of the old ones, keeps repeats, and gets posts in
any order of display; of what it has a part is cached; the durable store lacks a few; the reader's own newest posts
stand in a list apart.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Sequence

from hypothesis import given, settings
from hypothesis import strategies as st

from reference_server.api import feed_page
from reference_server.api.bodies import Hydrated
from reference_server.api.body_cache import tombstone
from reference_server.api.feed_page import Filters, Page, Walk, make_page
from reference_server.queue import RecentPost
from reference_server.timeline.cached import CachedTimeline, newest_part
from reference_server.timeline.display import Key, Row, TimelineView
from reference_server.timeline.entry import make_seq, pack_entry

ME, BLOCKED = 1, 9
UNARCHIVED = 7
"""one post in so many is not in the durable store yet, and so still in the lane"""
AUTHORS = (ME, 2, 3, BLOCKED)
TIMES = st.integers(0, 12)


class Model:
    """All posts by number: (time, author); which the lane has, which are deleted."""

    def __init__(self, posts: list[tuple[int, int]], horizon_us: int, cached: int) -> None:
        self.posts: dict[int, tuple[int, int]] = {}
        self.arrived: list[int] = []
        self.deleted: set[int] = set()
        self.horizon_us, self.cached = horizon_us, cached
        for ts_us, author in posts:
            self.insert(ts_us, author)

    def insert(self, ts_us: int, author: int) -> int:
        number = len(self.posts) + 1
        self.posts[number] = ts_us, author
        self.arrived.append(number)
        return number

    def key(self, number: int) -> Key:
        return self.posts[number][0], number.to_bytes(16, "big")

    def visible(self) -> set[int]:
        return {n for n, (_, author) in self.posts.items() if author != BLOCKED and n not in self.deleted}

    # --- what a page asks

    def view(self) -> TimelineView:
        """What is cached of it."""
        whole = self.whole()
        part = newest_part(CachedTimeline(whole.floor, 0, whole.raw, whole.horizon_us), self.cached)
        return TimelineView(part.slots, floor=part.floor, horizon_us=part.horizon_us, cut_us=part.cut_us)

    async def deeper(self, user: int, after: Key | None) -> TimelineView:
        return self.whole()

    def whole(self) -> TimelineView:
        """What the lane still has; each third entry twice."""
        raw = b""
        for seq, number in enumerate(self.arrived, 1):
            ts_us, author = self.posts[number]
            if ts_us >= self.horizon_us or number % 4 == 0 or number % UNARCHIVED == 0:
                slot = make_seq(1, seq).to_bytes(8, "big") + pack_entry(number.to_bytes(16, "big"), ts_us, author)
                raw += slot * (2 if number % 3 == 0 else 1)
        return TimelineView(raw, floor=make_seq(1, 0), horizon_us=self.horizon_us)

    def own(self) -> list[RecentPost]:
        mine = [self.key(n) for n, (_, author) in self.posts.items() if author == ME and n not in self.deleted]
        return [RecentPost(*key) for key in sorted(mine, reverse=True)]

    is_lacking = False

    async def older(self, user: int, before: Key, count: int) -> list[Row] | None:
        archived = [n for n in self.posts if n not in self.deleted and n % UNARCHIVED]
        keys = sorted(map(self.key, archived), reverse=True)
        behind = [key for key in keys if key < before][:count]
        return [(one, ts_us, self.posts[int.from_bytes(one, "big")][1], 0) for ts_us, one in behind]

    async def get(self, ids: Sequence[bytes], sure: Collection[bytes] = ()) -> Hydrated:
        numbers = {one: int.from_bytes(one, "big") for one in ids}
        return Hydrated({one: tombstone(2) if n in self.deleted else b"{}" for one, n in numbers.items()})

    def at_hand(self, ids: Sequence[bytes]) -> list[bytes] | None:
        return None

    async def page(self, after: Key | None, limit: int) -> Page:
        walk = Walk(self.view(), self.own(), Filters(ME, frozenset({BLOCKED})), after, self, self)
        return await make_page(walk, limit, self)


POSTS = st.lists(st.tuples(TIMES, st.sampled_from(AUTHORS)), max_size=60)
CHANGES = st.lists(
    st.one_of(
        st.tuples(st.just("insert"), TIMES, st.sampled_from(AUTHORS)),
        st.tuples(st.just("delete"), st.integers(0, 200), st.just(0)),
        st.tuples(st.just("let go"), st.integers(1, 3), st.just(0)),
    ),
    max_size=4,
)


def change(model: Model, what: str, number: int, author: int) -> None:
    if what == "insert":
        model.insert(number, author)
    elif what == "delete" and model.posts:
        model.deleted.add(1 + number % len(model.posts))
    elif what == "let go" and model.horizon_us:
        model.horizon_us += number


@settings(max_examples=300)
@given(
    POSTS,
    st.lists(CHANGES, max_size=12),
    st.integers(1, 9),
    st.sampled_from([0, 1, 6, 7, 20]),
    st.integers(1, 7),
    st.sampled_from([1, 3, 8, 100]),
)
def test_a_walk_meets_what_stays_exactly_once_in_order(
    posts: list[tuple[int, int]],
    rounds: list[list[tuple[str, int, int]]],
    limit: int,
    horizon_us: int,
    older_count: int,
    cached: int,
) -> None:
    model = Model(posts, horizon_us, cached)
    usual, feed_page._OLDER_COUNT = feed_page._OLDER_COUNT, older_count
    try:
        asyncio.run(check_walk(model, rounds, limit))
    finally:
        feed_page._OLDER_COUNT = usual


async def check_walk(model: Model, rounds: list[list[tuple[str, int, int]]], limit: int) -> None:
    before, walked, after = model.visible(), list[Key](), None
    while True:
        page = await model.page(after, limit)
        assert not page.degraded
        shown = {int.from_bytes(one, "big") for _, one in page.keys}
        assert shown <= model.visible()
        assert all(after is None or key < after for key in page.keys)
        walked += page.keys
        if page.cursor is None:
            break
        assert len(page.keys) == limit
        after = page.cursor
        for one in rounds.pop() if rounds else []:
            change(model, *one)
    assert walked == sorted(set(walked), reverse=True)
    met = {int.from_bytes(one, "big") for _, one in walked}
    assert before - model.deleted <= met
    assert met <= set(model.posts)
