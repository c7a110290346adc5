from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from reference_server.api.bodies import Hydrated
from reference_server.api.body_cache import tombstone
from reference_server.api.cursors import Key
from reference_server.api.defects import PageDefects
from reference_server.api.feed_page import Filters, Page, Slots, arrived_after, candidates, make_page, pending_posts
from reference_server.api.post_ids import to_text
from reference_server.queue import RecentPost
from reference_server.settings import Settings
from reference_server.timeline.entry import SLOT_DTYPE

ME = 1


def post_id(number: int) -> bytes:
    return number.to_bytes(16, "big")


def timeline(*entries: tuple[int, int, int, int]) -> Slots:
    """(ts, id, author, seq) in display order."""
    slots = np.zeros(len(entries), SLOT_DTYPE)
    for place, (ts_us, number, author, seq) in enumerate(entries):
        slots[place] = (seq, post_id(number), ts_us, author, 0.0, 0)
    return slots


def keys(slots: Slots, own: Sequence[RecentPost] = (), filters: Filters | None = None, after: Key | None = None):  # type: ignore[no-untyped-def]
    return [(ts, int.from_bytes(one, "big")) for ts, one in candidates(slots, own, filters or Filters(ME), after)]


class Bodies:
    def __init__(self, deleted: set[int] = frozenset(), missing: set[int] = frozenset()) -> None:  # type: ignore[assignment]
        self.deleted, self.missing, self.asked = deleted, missing, 0

    async def get(self, ids: Sequence[bytes]) -> Hydrated:
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
    page = await make_page(candidates(slots, (), Filters(ME), None), limit, bodies)  # type: ignore[arg-type]
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
    assert [post.id for post in pending_posts(slots, own)] == [post_id(9), post_id(8), post_id(5)]
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
    slots["status"][4] = 1
    filters = Filters(ME, frozenset({8, ME}), frozenset({post_id(2), post_id(77)}))
    own = [RecentPost(60, post_id(6)), RecentPost(55, post_id(77))]
    assert keys(slots, own, filters) == [(60, 6), (50, 5), (30, 3)]


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


def arrivals(slots: Slots, anchor: int, limit: int = 800, user: int = 99) -> tuple[list[int], bool] | None:
    found = arrived_after(slots, post_id(anchor), user, limit)
    return None if found is None else ([int.from_bytes(one, "big") for one in found[0]["id"].tolist()], found[1])


def test_what_is_new_follows_arrival_not_display() -> None:
    slots = timeline((50, 5, 7, 3), (40, 4, 8, 1), (30, 3, 7, 4), (20, 2, 7, 2))
    assert arrivals(slots, 4) == ([5, 3, 2], True)
    assert arrivals(slots, 5) == ([3], True)
    assert arrivals(slots, 3) == ([], True)
    assert arrivals(slots, 77) is None


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
        defects.spoil(page)
    assert [int.from_bytes(one, "big") for _, one in page.keys] == expected


async def test_the_phantom_is_in_order_and_the_skipping_cursor_skips_one() -> None:
    settings = Settings(directory="", sockets="", secret="", regions=(), defects=("phantom-post", "cursor-skip"))
    defects = PageDefects(settings)
    for _ in range(20):
        slots = timeline(*((1_700_000_000_000_000 - 1000 * n, n, 7, n) for n in range(9)))
        page = await make_page(candidates(slots, (), Filters(ME), None), 4, Bodies())  # type: ignore[arg-type]
        defects.spoil(page)
    assert len(page.keys) == 5
    assert page.keys == sorted(page.keys, reverse=True)
    assert b"nobody wrote this" in page.bodies[2]
    assert page.cursor == (1_700_000_000_000_000 - 4000, post_id(4))
