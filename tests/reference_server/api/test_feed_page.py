from __future__ import annotations

import asyncio
from collections.abc import Collection, Sequence
from typing import Any

import numpy as np
import pytest

from reference_server.api.bodies import Hydrated
from reference_server.api.body_cache import tombstone
from reference_server.api.defects import PageDefects
from reference_server.api.feed_page import Filters, Page, Walk, arrived_after, make_page
from reference_server.api.post_ids import to_text
from reference_server.queue import RecentPost
from reference_server.settings import Settings
from reference_server.timeline.cached import Slots
from reference_server.timeline.display import Key, Row, TimelineView
from reference_server.timeline.entry import Status
from reference_server.timeline.slots import SLOT_DTYPE

ME = 1


def post_id(number: int) -> bytes:
    return number.to_bytes(16, "big")


def timeline(*entries: tuple[int, int, int, int]) -> Slots:
    """(ts, id, author, seq) in display order."""
    slots = np.zeros(len(entries), SLOT_DTYPE)
    for place, (ts_us, number, author, seq) in enumerate(entries):
        slots[place] = (seq, post_id(number), ts_us, author, 0.0, 0)
    return slots


class Archive:
    """The durable store: posts by (ts, id number), newest first."""

    is_lacking = False

    def __init__(self, *posts: tuple[int, int], is_away: bool = False) -> None:
        self.posts, self.is_away, self.asked = sorted(posts, reverse=True), is_away, 0

    async def older(self, user: int, before: Key, count: int) -> list[Row] | None:
        self.asked += 1
        if self.is_away:
            return None
        rows = [(post_id(number), ts_us, 7, 0) for ts_us, number in self.posts if (ts_us, post_id(number)) < before]
        return rows[:count]


class NoOwner:
    """Of timelines that are cached as a whole."""

    async def deeper(self, user: int, after: Key | None) -> TimelineView:
        raise AssertionError("nothing is deeper")


def walk_of(
    slots: Slots,
    own: Sequence[RecentPost] = (),
    filters: Filters | None = None,
    after: Key | None = None,
    archive: Archive | None = None,
    **view: int,
) -> Walk:
    """Through these slots, which stand in the raw timeline in any order."""
    raw = slots[np.random.default_rng(len(slots)).permutation(len(slots))].tobytes()
    view_of = TimelineView(raw, "", "cache", view.get("floor", 0), view.get("horizon_us", 0))
    return Walk(view_of, own, filters or Filters(ME), after, NoOwner(), archive or Archive(is_away=True))


def keys(*arguments: Any, **options: Any) -> list[tuple[int, int]]:
    places = asyncio.run(walk_of(*arguments, **options).take(10_000))
    return [(ts_us, int.from_bytes(one, "big")) for ts_us, one in places]


class Bodies:
    def __init__(self, deleted: set[int] = frozenset(), missing: set[int] = frozenset()) -> None:  # type: ignore[assignment]
        self.deleted, self.missing, self.asked = deleted, missing, 0

    def at_hand(self, ids: Sequence[bytes]) -> list[bytes] | None:
        return None

    async def get(self, ids: Sequence[bytes], sure: Collection[bytes] = ()) -> Hydrated:
        self.asked += len(ids)
        hydrated = Hydrated()
        for one in ids:
            number = int.from_bytes(one, "big")
            if number not in self.missing:
                text = b'{"id":"%b","author":"7","created_at_us":1,"text":"t","reply_to":null}' % to_text(one).encode()
                hydrated.values[one] = tombstone(7) if number in self.deleted else text
        return hydrated


async def page_of(count: int, limit: int, bodies: Bodies) -> tuple[list[int], Page]:
    slots = timeline(*((1000 - n, n, 7, n) for n in range(count)))
    page = await make_page(walk_of(slots), limit, bodies)
    return [int.from_bytes(one, "big") for _, one in page.keys], page


def test_own_posts_that_have_not_arrived_are_merged_in_display_order() -> None:
    slots = timeline((30, 3, 7, 1), (20, 2, ME, 2), (10, 1, 7, 3))
    own = [
        RecentPost(40, post_id(9)),
        RecentPost(25, post_id(8)),
        RecentPost(20, post_id(2)),
        RecentPost(5, post_id(5)),
    ]
    assert keys(slots, own) == [(40, 9), (30, 3), (25, 8), (20, 2), (10, 1), (5, 5)]
    assert keys(timeline(), own) == [(40, 9), (25, 8), (20, 2), (5, 5)]


def test_equal_times_are_ordered_by_id_and_a_cursor_may_stand_among_them() -> None:
    slots = timeline((10, 4, 7, 1), (10, 3, 7, 2), (10, 1, 7, 3))
    own = [RecentPost(10, post_id(2))]
    assert keys(slots, own) == [(10, 4), (10, 3), (10, 2), (10, 1)]
    assert keys(slots, own, after=(10, post_id(3))) == [(10, 2), (10, 1)]
    assert keys(slots, own, after=(10, post_id(2))) == [(10, 1)]
    assert keys(slots, own, after=(10, post_id(1))) == []
    assert keys(slots, own, after=(10, post_id(5))) == [(10, 4), (10, 3), (10, 2), (10, 1)]
    assert keys(slots, own, after=(9, post_id(9))) == []


def test_a_walk_by_cursors_is_the_whole_in_one_piece_whatever_the_page_size() -> None:
    slots = timeline(*((1000 - n // 3, 2000 - n, 7, n) for n in range(700)))
    own = [RecentPost(1000 - n, post_id(5000 + n)) for n in range(0, 200, 7)]
    whole = keys(slots, own)
    assert whole == sorted(whole, reverse=True)
    for size in (1, 7, 64, 65, 700):
        walked, after = [], None
        while chunk := keys(slots, own, after=after)[:size]:
            walked += chunk
            after = (chunk[-1][0], post_id(chunk[-1][1]))
        assert walked == whole


def test_filters_hide_authors_statuses_and_seen_ids_but_never_own_posts() -> None:
    slots = timeline((50, 5, 7, 1), (40, 4, 8, 2), (30, 3, ME, 3), (20, 2, 9, 4), (10, 1, 7, 5))
    slots["status"][4] = Status.DELETED
    filters = Filters(ME, frozenset({8, ME}), frozenset({post_id(2), post_id(77)}))
    own = [RecentPost(60, post_id(6)), RecentPost(55, post_id(77))]
    assert keys(slots, own, filters) == [(60, 6), (50, 5), (30, 3)]
    slots["status"][4] = Status.HIDDEN_BY_AUTHOR  # or was, when the timeline was cached: its body tells
    assert keys(slots, own, filters) == [(60, 6), (50, 5), (30, 3), (10, 1)]


async def test_a_page_is_full_although_posts_are_deleted() -> None:
    bodies = Bodies(deleted=set(range(0, 50)), missing={51})
    numbers, page = await page_of(100, 10, bodies)
    assert numbers == [50, *range(52, 61)]
    assert page.cursor == (1000 - 60, post_id(60))


async def test_the_last_page_has_no_cursor() -> None:
    assert (await page_of(10, 10, Bodies()))[1].cursor is None
    assert (await page_of(11, 10, Bodies()))[1].cursor == (991, post_id(9))
    assert (await page_of(20, 10, Bodies(deleted=set(range(10, 20)))))[1].cursor is None
    assert (await page_of(0, 10, Bodies()))[0] == []


async def test_a_page_costs_what_it_shows() -> None:
    bodies = Bodies()
    await page_of(800, 5, bodies)
    assert bodies.asked <= 20


def arrivals(
    slots: Slots, anchor: int, limit: int = 800, user: int = 99, floor: int = 0
) -> tuple[list[int], bool] | None:
    found = arrived_after(slots, post_id(anchor), user, limit, floor)
    return None if found is None else ([int.from_bytes(one, "big") for one in found[0]["id"].tolist()], found[1])


def test_what_is_new_follows_arrival_not_display() -> None:
    slots = timeline((50, 5, 7, 3), (40, 4, 8, 1), (30, 3, 7, 4), (20, 2, 7, 2))
    assert arrivals(slots, 4) == ([5, 3, 2], True)
    assert arrivals(slots, 5) == ([3], True)
    assert arrivals(slots, 3) == ([], True)
    assert arrivals(slots, 77) is None
    assert arrivals(slots, 5, floor=3) == ([3], True)
    assert arrivals(slots, 5, floor=4) is None


def test_a_limit_keeps_what_arrived_first() -> None:
    slots = timeline((50, 5, 7, 3), (40, 4, 8, 1), (30, 3, 7, 4), (20, 2, 7, 2))
    assert arrivals(slots, 4, limit=2) == ([5, 2], False)


def test_what_came_between_an_own_post_and_its_arrival_is_new() -> None:
    slots = timeline((50, 5, 7, 2), (40, 4, ME, 3), (30, 3, 7, 1))
    assert arrivals(slots, 4, user=ME) == ([5], True)
    assert arrivals(slots, 4, user=99) == ([], True)


@pytest.mark.parametrize(
    ("defect", "expected"),
    [
        ("duplicate-entry", [0, 1, 2, 2, 3]),
        ("unordered-page", [1, 0, 2, 3]),
    ],
)
async def test_page_defects_show_on_the_twentieth_page(defect: str, expected: list[int]) -> None:
    defects = PageDefects(Settings(directory="", sockets="", secret="", regions=(), defects=(defect,)))
    for _ in range(20):
        _, page = await page_of(4, 4, Bodies())
        defects.spoil(page, ME)
    assert [int.from_bytes(one, "big") for _, one in page.keys] == expected


async def test_the_phantom_is_in_order_and_the_skipping_cursor_skips_one() -> None:
    settings = Settings(directory="", sockets="", secret="", regions=(), defects=("phantom-post", "cursor-skip"))
    defects = PageDefects(settings)
    for _ in range(20):
        slots = timeline(*((1_700_000_000_000_000 - 1000 * n, n, 7, n) for n in range(9)))
        page = await make_page(walk_of(slots), 4, Bodies())
        defects.spoil(page, ME)
    assert len(page.keys) == 5
    assert page.keys == sorted(page.keys, reverse=True)
    assert b"nobody wrote this" in page.bodies[2]
    assert page.cursor == (1_700_000_000_000_000 - 4000, post_id(4))
