"""Final readers cover each author once hot and once cold, where such followers exist."""

import numpy as np
import pytest

from harness.judge.case import FEED_DEPTH, STABLE_EDGE_NS
from harness.load.population import Population
from harness.run.cover import Arrivals, choose_readers, final_readers, posts_in_feeds


def graph(edges: dict[int, list[tuple[int, int]]], users: int):
    offsets, followees, hot = [0], [], []
    for user in range(users):
        for followee, is_hot in sorted(edges.get(user, [])):
            followees.append(followee)
            hot.append(is_hot)
        offsets.append(len(followees))
    return np.array(offsets), np.array(followees, dtype=np.uint32), np.array(hot, dtype=np.uint8)


def chosen(edges, authors, users=6, allowed=None, most=10):
    allowed = np.arange(users) if allowed is None else np.array(allowed)
    return choose_readers(np.array(authors), *graph(edges, users), allowed, most).tolist()


def test_one_reader_who_covers_everything_is_enough():
    assert chosen({5: [(0, 1), (1, 1)], 4: [(0, 1)], 3: [(1, 1)]}, [0, 1]) == [5]


def test_hot_and_cold_followers_are_both_chosen():
    assert sorted(chosen({5: [(0, 1)], 4: [(0, 0)]}, [0])) == [4, 5]


def test_an_author_without_followers_needs_no_reader():
    assert chosen({5: [(0, 1)]}, [1]) == []


def test_only_allowed_users_read():
    assert chosen({5: [(0, 1)], 4: [(0, 1)]}, [0], allowed=[4]) == [4]


def test_the_number_of_readers_is_bounded():
    assert len(chosen({2: [(0, 1)], 3: [(1, 1)], 4: [(5, 1)]}, [0, 1, 5], most=2)) == 2


def test_a_feed_has_the_posts_of_whom_one_follows_and_ones_own():
    offsets, followees, _ = graph({0: [(1, 1), (2, 0)], 2: [(0, 1)], 3: []}, 4)
    assert posts_in_feeds(np.array([5, 10, 200, 7]), offsets, followees).tolist() == [215, 10, 205, 7]


@pytest.mark.parametrize(
    ("why", "each", "readers"),
    [
        ("one is enough while a feed shows all of it", FEED_DEPTH // 3, [5]),
        ("who gets more than that reads beside the others", FEED_DEPTH // 2, [2, 3, 4, 5]),
    ],
)
def test_who_gets_more_than_a_feed_shows_does_not_stand_for_others(why, each, readers):
    arrays = graph({2: [(6, 1)], 3: [(7, 1)], 4: [(8, 1)], 5: [(6, 1), (7, 1), (8, 1)]}, 9)
    population = Population(*arrays, celebrities=(), threshold=9)
    found = final_readers(population, {6: each, 7: each, 8: each}, np.arange(6))
    assert sorted(found) == readers, why
    assert found[-1] == 5


def test_who_gets_more_than_a_feed_shows_reads_where_nobody_else_can():
    population = Population(*graph({5: [(6, 1), (7, 0)]}, 8), celebrities=(), threshold=9)
    assert final_readers(population, {6: FEED_DEPTH, 7: FEED_DEPTH}, np.arange(6)) == [5]


def test_who_came_after_a_post_does_not_stand_for_who_was_there():
    population = Population(
        *graph({2: [(0, 1)], 3: [(0, 1)], 4: [(0, 1)], 5: [(0, 1), (1, 1)]}, 6), celebrities=(), threshold=9
    )
    settled = {0: 0, 1: 0, 2: 100, 3: 200, 5: 400}  # 4 signed up, but has no follows yet
    stable = {user: ns - STABLE_EDGE_NS for user, ns in settled.items()}
    written, allowed = {0: 2, 1: 1}, np.array([2, 3, 4, 5])
    arrivals = Arrivals.of(6, stable, first={0: 100, 1: 399}, last={0: 250, 1: 399})
    assert final_readers(population, written, allowed, arrivals) == [2], "there at both of 0's posts; nobody saw 1's"
    arrivals = Arrivals.of(6, stable, first={0: 99, 1: 400}, last={0: 250, 1: 400})
    assert sorted(final_readers(population, written, allowed, arrivals)) == [2, 5], (
        "nobody saw 0's first, 2 did the last"
    )
