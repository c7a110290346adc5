"""Who is listed: joined, imported, not taken back, not blocked; in which half of which page."""

from __future__ import annotations

import asyncio
import itertools
from pathlib import Path

import graph_cases
import msgspec
import numpy as np
import pytest
from graph_cases import DAY_US, NOW_US, days_ago

from reference_server.events import GraphEvent, Reader, decode
from reference_server.graph import view as view_module
from reference_server.graph.changes import Applied
from reference_server.graph.interactions import SLOT_US
from reference_server.graph.view import GraphView, _summed
from reference_server.partition import lane_of
from reference_server.seeding import read_population


def change(view: GraphView, verb: str, user: int, other: int = -1, hlc: int = 1) -> Applied:
    applied = Applied()
    view.changes.apply(GraphEvent(verb, user, hlc, "us-east", other), applied)
    view.changed(applied)
    return applied


def followers(view: GraphView, author: int) -> list[int]:
    return view.followers(author).users.tolist()


def followees(view: GraphView, user: int) -> list[int]:
    return view.followees(user).tolist()


@pytest.fixture
def joined(tmp_path: Path) -> GraphView:
    """0 follows 1 2 3, 1 follows 2, 3 follows 0 2; all joined; edges 0-1, 0-3 and 3-0 hot."""
    people = graph_cases.population(tmp_path / "p", 6, {0: [1, 2, 3], 1: [2], 3: [0, 2]}, hot=2)
    return graph_cases.view_of(people, tmp_path)


@pytest.fixture
def strangers(tmp_path: Path) -> GraphView:
    """The same follows, nobody joined."""
    people = graph_cases.population(tmp_path / "p", 6, {0: [1, 2, 3], 1: [2], 3: [0, 2]}, joined="none")
    return graph_cases.view_of(people, tmp_path)


def test_inherited_edges(joined: GraphView) -> None:
    assert followers(joined, 2) == [0, 1, 3]
    assert followees(joined, 0) == [1, 2, 3]
    assert joined.followers(2).hot.tolist() == [False, False, False]
    assert joined.followers(0).hot.tolist() == [True]
    assert followers(joined, 5) == []


def test_follow_and_unfollow(joined: GraphView) -> None:
    assert change(joined, "follow", 5, 2, hlc=1).authors == {2}
    assert followers(joined, 2) == [0, 1, 3, 5]
    assert followees(joined, 5) == [2]
    change(joined, "unfollow", 5, 2, hlc=2)
    change(joined, "unfollow", 0, 2, hlc=2)
    assert followers(joined, 2) == [1, 3]
    assert joined.unfollowed(0) == [2]
    change(joined, "follow", 0, 2, hlc=3)
    assert followers(joined, 2) == [0, 1, 3]
    assert joined.unfollowed(0) == []


@pytest.mark.parametrize("order", [[1, 2], [2, 1], [2, 1, 2, 1]])
def test_highest_clock_wins_in_any_order(joined: GraphView, order: list[int]) -> None:
    for hlc in order:
        change(joined, "unfollow" if hlc == 2 else "follow", 0, 1, hlc=hlc)
    assert followers(joined, 1) == []


@pytest.mark.parametrize("order", list(itertools.permutations(range(4))))
def test_each_thing_a_user_says_has_a_clock_of_its_own(joined: GraphView, order: tuple[int, ...]) -> None:
    both = Reader.MINOR | Reader.SAFE_MODE
    said = [(1, both, both), (2, 0, Reader.MINOR), (3, Reader.MINOR, Reader.MINOR), (4, 0, Reader.SAFE_MODE)]
    for place in order:
        hlc, other, mask = said[place]
        assert joined.changes.apply(GraphEvent("profile", 1, hlc, "us-east", other, mask), Applied())
    assert joined.changes.reader(1) == Reader.MINOR
    for other, mask in ((4, 1), (-1, 1), (1, 0), (1, 4)):
        assert not joined.changes.apply(GraphEvent("profile", 1, 9, "us-east", other, mask), Applied())


def test_an_event_from_before_there_was_a_mask_sets_all() -> None:
    old = msgspec.msgpack.encode(["graph", "profile", 5, 7, "us-east", 1])
    assert decode(old) == GraphEvent("profile", 5, 7, "us-east", 1, mask=3)


def test_block_hides_both_ways_until_it_ends(joined: GraphView) -> None:
    assert change(joined, "block", 2, 0, hlc=1).authors == {0, 2}
    assert joined.blocked(0) == {2}
    assert joined.blocked(2) == {0}
    assert followers(joined, 2) == [1, 3]
    assert followees(joined, 0) == [1, 3]
    change(joined, "unblock", 2, 0, hlc=2)
    assert followers(joined, 2) == [0, 1, 3]


def test_like_makes_the_edge_hot(joined: GraphView) -> None:
    assert joined.followers(2).hot.tolist() == [False, False, False]
    assert change(joined, "like", 1, 2, hlc=days_ago(2)).authors == {2}
    assert change(joined, "like", 1, 2, hlc=days_ago(1)).authors == set(), "a second like makes nobody hot"
    assert joined.followers(2).hot.tolist() == [False, True, False]


def test_an_interaction_counts_for_thirty_days(joined: GraphView) -> None:
    change(joined, "like", 0, 2, hlc=days_ago(31))
    change(joined, "like", 1, 2, hlc=days_ago(29))
    change(joined, "follow", 4, 2, hlc=days_ago(31))
    change(joined, "follow", 5, 2, hlc=days_ago(29))
    assert followers(joined, 2) == [0, 1, 3, 4, 5]
    assert joined.followers(2).hot.tolist() == [False, True, False, False, True]
    change(joined, "like", 0, 2, hlc=days_ago(0))
    change(joined, "follow", 4, 2, hlc=days_ago(1))
    assert joined.followers(2).hot.tolist() == [True, True, False, True, True]


def test_what_the_population_calls_hot_stays_so_whatever_else_happens(joined: GraphView) -> None:
    change(joined, "follow", 0, 1, hlc=days_ago(31))
    assert joined.followers(1).hot.tolist() == [True]
    change(joined, "unfollow", 0, 1, hlc=days_ago(10))
    assert followers(joined, 1) == []
    change(joined, "follow", 0, 1, hlc=days_ago(9))
    assert joined.followers(1).hot.tolist() == [True]


def test_hot_lists_follow_the_time(tmp_path: Path) -> None:
    moment = [NOW_US]
    people = graph_cases.population(tmp_path / "p", 6, {0: [1, 2, 3], 1: [2], 3: [0, 2]})
    view = graph_cases.view_of(people, tmp_path, now_us=lambda: moment[0])
    change(view, "like", 0, 2, hlc=days_ago(29))
    change(view, "like", 1, 2, hlc=days_ago(29))
    change(view, "follow", 5, 2, hlc=days_ago(28))
    change(view, "like", 1, 2, hlc=days_ago(5))
    assert end(view) == set()
    moment[0] += DAY_US + SLOT_US
    assert end(view) == {(0, 2)}
    assert view.followers(2).hot.tolist() == [False, True, False, True]
    moment[0] += DAY_US
    assert end(view) == {(5, 2)}
    assert view.followers(2).hot.tolist() == [False, True, False, False]
    assert followers(view, 2) == [0, 1, 3, 5], "cold, but still there"
    moment[0] += 30 * DAY_US
    assert end(view) == {(1, 2)}
    assert view.changes.interactions.count == 0


def end(view: GraphView) -> set[tuple[int, int]]:
    applied = Applied()
    while view.changes.end_interactions(1, applied):
        pass
    view.changed(applied)
    assert applied.authors == {author for _, author in applied.ended}
    return applied.ended


def test_pages_of_followees(tmp_path: Path) -> None:
    follows = {0: list(range(1, 2500))}
    people = graph_cases.population(tmp_path / "p", 3000, follows)
    view = graph_cases.view_of(people, tmp_path)
    for other in (2600, 1, 2999, 700):
        change(view, "follow", 0, other)
    change(view, "unfollow", 0, 1500, hlc=2)
    change(view, "block", 1000, 0)
    pages, start = [], 0
    while start is not None:
        page, start = view.followees_page(0, start)
        assert len(page) <= 1000
        pages.append(page.tolist())
    assert [len(page) for page in pages] == [999, 999, 501]
    wanted = [*range(1, 1000), *range(1001, 1500), *range(1501, 2500), 2600, 2999]
    assert [one for page in pages for one in page] == wanted == followees(view, 0)


def test_pages_of_followees_pass_nobody_by_when_others_go(tmp_path: Path) -> None:
    people = graph_cases.population(tmp_path / "p", 3000, {0: list(range(1, 2500))})
    view = graph_cases.view_of(people, tmp_path)
    first, start = view.followees_page(0, 0)
    for other in range(1, 100):
        change(view, "unfollow", 0, other)
    second, _ = view.followees_page(0, start or 0)
    assert [*first.tolist(), *second.tolist()] == list(range(1, 2001))


async def test_a_long_list_is_made_in_pieces_and_others_go_between(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(view_module, "PIECE", 10)
    users = 400
    people = graph_cases.population(tmp_path / "p", users, {u: [7] for u in range(users) if u != 7}, joined="none")
    view = graph_cases.view_of(people, tmp_path)
    view.changes.covered[:] = 1
    view.changes.joined[:200] = True
    asked = [asyncio.create_task(view.prepare(7)) for _ in range(3)]
    turns = 0
    while 7 not in view._kept:
        await asyncio.sleep(0)
        change(view, "join", 399 - turns)
        change(view, "unfollow", 2 * turns, 7, hlc=1)
        turns += 1
    await asyncio.gather(*asked)
    assert turns > 40, "a turn a piece"
    kept, fresh = view._kept[7], view._followers(7)
    assert kept.touched, "who changed meanwhile is looked at again"
    assert followers(view, 7) == fresh.users.tolist()
    assert view._kept[7] is kept
    assert kept.version == _summed(fresh.users)
    assert {399 - turn for turn in range(turns)} <= set(followers(view, 7)), "who joined meanwhile is in it"
    assert not {2 * turn for turn in range(turns)} & set(followers(view, 7)), "who went meanwhile is not"
    await view.prepare(7)
    assert view._kept[7] is kept


def test_a_mended_list_is_what_a_new_one_would_be(tmp_path: Path) -> None:
    random = np.random.default_rng(5)
    users, moment = 40, [NOW_US]
    follows = {u: random.choice(users, random.integers(0, 30), replace=False).tolist() for u in range(users)}
    follows = {u: [other for other in row if other != u] for u, row in follows.items()}
    people = graph_cases.population(tmp_path / "p", users, follows, joined="none", hot=4)
    view = graph_cases.view_of(people, tmp_path, now_us=lambda: moment[0], kept=200)
    verbs = ["join", "join", "cover", "follow", "unfollow", "block", "unblock", "like", "end"]
    mended = 0
    for _ in range(3000):
        verb, user, other = str(random.choice(verbs)), *random.integers(0, users, 2).tolist()
        moment[0] += int(random.integers(0, DAY_US // 10))
        if verb == "end":
            end(view)
        elif verb == "cover":
            applied = Applied()
            view.changes.cover(user, int(view.changes.covered[user]), 5, applied)
            view.changed(applied)
        else:
            change(view, verb, user, other, hlc=moment[0] - int(random.integers(0, 40 * DAY_US)) << 8)
        author = int(random.integers(0, users))
        kept = view._kept.get(author)
        mended += bool(kept and kept.touched)
        edges, fresh = view.followers(author), view._followers(author)
        assert edges.users.tolist() == fresh.users.tolist()
        assert edges.hot.tolist() == fresh.hot.tolist()
        assert view._kept[author].version == _summed(fresh.users)
    assert mended > 300, "lists were mended, not made anew"


@pytest.mark.parametrize(
    ("verb", "user", "other"), [("follow", 0, 0), ("follow", 0, 9), ("join", 9, -1), ("poke", 0, 1), ("follow", -1, 0)]
)
def test_nonsense_is_rejected(joined: GraphView, verb: str, user: int, other: int) -> None:
    assert not joined.changes.apply(GraphEvent(verb, user, 1, "us-east", other), Applied())


def test_listed_only_when_both_joined_and_imported(strangers: GraphView) -> None:
    def cover(count: int) -> tuple[int, int]:
        applied = Applied()
        reached = strangers.changes.cover(0, 0, count, applied)
        strangers.changed(applied)
        return reached

    change(strangers, "join", 2)
    change(strangers, "join", 0)
    assert followers(strangers, 2) == []
    assert cover(1) == (1, 3)
    assert followers(strangers, 2) == []
    assert cover(2) == (2, 3)
    assert followers(strangers, 2) == [0]
    assert followees(strangers, 0) == [2], "1 is imported but has not joined"
    assert change(strangers, "join", 1).authors == {1}
    assert followees(strangers, 0) == [1, 2]


def test_join_wakes_what_was_imported_before(strangers: GraphView) -> None:
    strangers.changes.cover(3, 0, 2, Applied())
    change(strangers, "join", 2)
    assert followers(strangers, 2) == []
    assert change(strangers, "join", 3).authors == {0, 2, 3}
    assert followers(strangers, 2) == [3]


def test_import_batches_run_from_the_front_and_repeat_freely(strangers: GraphView) -> None:
    cover = strangers.changes.cover
    assert cover(0, 2, 5, Applied()) == (0, 3), "behind a gap"
    assert cover(0, 0, 2, Applied()) == (2, 3)
    assert cover(0, 0, 2, Applied()) == (2, 3)
    assert cover(0, 2, 500, Applied()) == (3, 3)
    assert cover(4, 0, 500, Applied()) == (0, 0)


def test_unfollow_beats_a_later_import(strangers: GraphView) -> None:
    for user in (0, 2):
        change(strangers, "join", user)
    change(strangers, "unfollow", 0, 2, hlc=5)
    strangers.changes.cover(0, 0, 3, Applied())
    assert followers(strangers, 2) == []


def test_follow_counts_before_its_import(strangers: GraphView) -> None:
    for user in (0, 2):
        change(strangers, "join", user)
    change(strangers, "follow", 0, 2)
    assert followers(strangers, 2) == [0]
    assert followees(strangers, 0) == [2]


def numbers(page: tuple[list[int], bytes]) -> list[int]:
    return np.frombuffer(page[1], "<u4").tolist()


def test_pages_of_ten_thousand_followers(tmp_path: Path) -> None:
    users = 10_501
    people = graph_cases.population(tmp_path / "p", users, {u: [7] for u in range(users) if u != 7}, hot=3)
    view = graph_cases.view_of(people, tmp_path)
    seen: list[int] = []
    for page in range(11):
        hot, cold, last = view.page(7, page)
        assert last is (page == 10)
        assert set(numbers(hot)) - {7} == set(view.followers(7).users[page * 1000 : (page + 1) * 1000]) - set(
            numbers(cold)
        )
        for part in (hot, cold):
            for lane in range(4):
                mine = numbers(part)[part[0][lane] : part[0][lane + 1]]
                assert mine == sorted(mine)
                assert {lane_of(user, 4) for user in mine} <= {lane}
        assert (7 in numbers(hot)) is (page == 0), "the author is with its own first page"
        seen += numbers(hot) + numbers(cold)
    assert sorted(seen) == list(range(users))
    assert view.page(7, 11) == (([0] * 5, b""), ([0] * 5, b""), True)


def test_page_of_someone_who_did_not_join_is_empty(strangers: GraphView) -> None:
    assert strangers.page(2, 0) == (([0] * 5, b""), ([0] * 5, b""), True)


def test_page_of_someone_without_followers_holds_the_author(joined: GraphView) -> None:
    hot, cold, last = joined.page(5, 0)
    assert (numbers(hot), numbers(cold), last) == ([5], [], True)


@pytest.fixture(params=[False, True], ids=["sound", "pending-follows-lost"])
def late(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[GraphView, bool]:
    """Everybody follows 0, who has not joined, nor has 5, who follows 0 and 1; all others have."""
    follows = {1: [0], 2: [0, 1], 3: [0], 4: [0], 5: [0, 1]}
    people = read_population(graph_cases.write_population(tmp_path / "p", 6, follows, late=[0, 5]))
    view = graph_cases.view_of(people, tmp_path)
    return GraphView(people, view.inverse, view.changes, 4, loses_pending=request.param), request.param


def test_pending_follows_fire_when_their_author_joins(late: tuple[GraphView, bool]) -> None:
    view, is_defective = late
    assert (followers(view, 0), followers(view, 1), followees(view, 2)) == ([], [2], [1])
    change(view, "join", 0)
    assert followers(view, 0) == ([] if is_defective else [1, 2, 3, 4])
    assert followees(view, 2) == ([1] if is_defective else [0, 1])
    change(view, "join", 5)
    assert 5 not in followers(view, 0), "his follows are not imported yet"
    applied = Applied()
    view.changes.cover(5, 0, 2, applied)
    view.changed(applied)
    assert followers(view, 0) == ([5] if is_defective else [1, 2, 3, 4, 5])
    change(view, "follow", 3, 0, hlc=9)
    assert 3 in followers(view, 0), "a follow by hand is one in any case"
