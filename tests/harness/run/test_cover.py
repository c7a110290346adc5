"""Final readers cover each author once hot and once cold, where such followers exist."""

import numpy as np

from harness.run.cover import choose_readers


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
