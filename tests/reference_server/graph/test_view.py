"""Who is listed: joined, imported, not taken back, not blocked; in which half of which page."""

from __future__ import annotations

from pathlib import Path

import graph_cases
import numpy as np
import pytest

from reference_server.events import GraphEvent
from reference_server.graph.changes import Applied
from reference_server.graph.view import GraphView
from reference_server.partition import lane_of


def change(view: GraphView, verb: str, user: int, other: int = -1, hlc: int = 1) -> Applied:
    applied = Applied()
    view.changes.apply(GraphEvent(verb, user, hlc, "us-east", other), applied)
    view.forget(applied.authors)
    return applied


def followers(view: GraphView, author: int) -> list[int]:
    return view.followers(author).users.tolist()


def followees(view: GraphView, user: int) -> list[int]:
    return view.followees(user).users.tolist()


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
    assert joined.followees(0).hot.tolist() == [True, False, True]
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


def test_block_hides_both_ways_until_it_ends(joined: GraphView) -> None:
    assert change(joined, "block", 2, 0, hlc=1).authors == {0, 2}
    assert joined.blocked(0) == {2}
    assert joined.blocked(2) == {0}
    assert followers(joined, 2) == [1, 3]
    assert followees(joined, 0) == [1, 3]
    change(joined, "unblock", 2, 0, hlc=2)
    assert followers(joined, 2) == [0, 1, 3]


def test_like_makes_the_edge_hot(joined: GraphView) -> None:
    assert change(joined, "like", 1, 2).authors == {2}
    assert change(joined, "like", 1, 2).authors == set(), "a second like changes nothing"
    assert joined.followers(2).hot.tolist() == [False, True, False]
    assert joined.followees(1).hot.tolist() == [True]


@pytest.mark.parametrize(
    ("verb", "user", "other"), [("follow", 0, 0), ("follow", 0, 9), ("join", 9, -1), ("poke", 0, 1), ("follow", -1, 0)]
)
def test_nonsense_is_rejected(joined: GraphView, verb: str, user: int, other: int) -> None:
    assert not joined.changes.apply(GraphEvent(verb, user, 1, "us-east", other), Applied())


def test_listed_only_when_both_joined_and_imported(strangers: GraphView) -> None:
    def cover(count: int) -> tuple[int, int]:
        applied = Applied()
        reached = strangers.changes.cover(0, 0, count, applied)
        strangers.forget(applied.authors)
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
