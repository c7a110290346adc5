"""Each pair counts for 30 days from its last interaction, takes one place, and too many make room."""

from __future__ import annotations

import pytest
from graph_cases import DAY_US, NOW_US

from reference_server.graph.interactions import LASTING_US, SLOT_US, Interactions


@pytest.mark.parametrize(
    ("at_us", "counts"),
    [(NOW_US - 31 * DAY_US, False), (NOW_US - LASTING_US, False), (NOW_US - LASTING_US + 1, True), (NOW_US, True)],
    ids=["31 days", "30 days", "just below", "now"],
)
def test_only_the_last_thirty_days_count(at_us: int, counts: bool) -> None:
    interactions = Interactions(lambda: NOW_US)
    assert interactions.note(1, 2, at_us) is counts
    assert (1 in interactions.users(2)) is counts
    assert interactions.last_us(1, 2) == (at_us if counts else -1)


def test_a_later_one_renews_and_an_earlier_one_does_not() -> None:
    moment = [NOW_US]
    interactions = Interactions(lambda: moment[0])
    assert interactions.note(1, 2, NOW_US - 20 * DAY_US)
    assert interactions.note(1, 2, NOW_US - 10 * DAY_US)
    assert not interactions.note(1, 2, NOW_US - 15 * DAY_US)
    moment[0] += 10 * DAY_US + SLOT_US
    assert interactions.end(10) == []
    assert interactions.last_us(1, 2) == NOW_US - 10 * DAY_US
    moment[0] += 10 * DAY_US
    assert interactions.end(10) == [(1, 2)]
    assert interactions.count == 0
    assert interactions.users(2) == ()


def test_what_is_over_is_forgotten_in_time_and_in_order() -> None:
    moment = [NOW_US]
    interactions = Interactions(lambda: moment[0])
    for user in range(100):
        interactions.note(user, 500, NOW_US - 29 * DAY_US + user * SLOT_US)
    moment[0] += DAY_US + 10 * SLOT_US
    ended = interactions.end(6)
    assert ended == [(user, 500) for user in range(6)]
    ended += interactions.end(6)
    assert ended == [(user, 500) for user in range(10)]
    assert interactions.count == 90


def test_a_pair_takes_one_place_however_often_it_interacts() -> None:
    moment = [NOW_US]
    interactions = Interactions(lambda: moment[0])
    for _ in range(5000):
        moment[0] += DAY_US // 100
        interactions.note(1, 2, moment[0])
        interactions.note(3, 2, moment[0])
        interactions.end(10)
    assert interactions.count == 2
    assert sum(map(len, interactions._slots.values())) == 2
    assert len(interactions._order) == len(interactions._slots) <= 4


def test_those_that_end_first_make_room() -> None:
    interactions = Interactions(lambda: NOW_US, kept=3)
    for user, days in enumerate((5, 1, 4, 3, 2)):
        interactions.note(user, 9, NOW_US - days * DAY_US)
    interactions.note(0, 9, NOW_US)
    assert sorted(interactions.make_room()) == [(2, 9), (3, 9)]
    assert set(interactions.users(9)) == {0, 1, 4}
    assert interactions.make_room() == []
