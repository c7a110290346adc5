"""Who must read at the end, so that every acknowledged post is looked for by a hot and by a cold follower.

Whoever gets more than a feed shows cannot look for all of it: of these, as many read beside the others as would be
enough if they could.

Pure. A greedy set cover over (author, tier) pairs: the reader who covers most of what is still uncovered comes next
(Chvatal 1979: at most ln n times more readers than the best cover).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from harness.judge.case import FEED_DEPTH, FOREVER_NS, STABLE_EDGE_NS
from harness.load.population import Population

MAX_READERS = 700
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Arrivals:
    """Where users sign up during the run: who followed already when a post was written. int64[users] each, in ns."""

    settled_ns: Ints
    """when a user's follows were there; FOREVER_NS: never"""
    first_ns: Ints
    """when an author's first post was acknowledged"""
    last_ns: Ints
    """the same for the last one"""

    @classmethod
    def of(cls, users: int, settled: Mapping[int, int], first: Mapping[int, int], last: Mapping[int, int]) -> Arrivals:
        """From user -> ns each; who is in none has never followed, and never written."""
        arrays = [np.full(users, FOREVER_NS, dtype=np.int64) for _ in range(3)]
        for array, of in zip(arrays, (settled, first, last), strict=True):
            array[list(of)] = list(of.values())
        return cls(*arrays)

    def followed(self, follower: Ints, author: Ints) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
        """Whether each of these followed that author's first post, and the last one, for long enough to count."""
        since = np.maximum(self.settled_ns[follower], self.settled_ns[author]) + STABLE_EDGE_NS
        return since <= self.first_ns[author], since <= self.last_ns[author]


def final_readers(
    population: Population, written: Mapping[int, int], allowed: Ints, arrivals: Arrivals | None = None
) -> list[int]:
    """Who of those `allowed` reads; `written`: author -> posts of the run. In descending order of what each covers."""
    graph, posts = population, np.zeros(population.users, dtype=np.int64)
    for author, count in written.items():
        posts[author] = count
    is_deep = posts_in_feeds(posts, graph.offsets, graph.followees)[allowed] > FEED_DEPTH
    chosen: list[int] = []
    for group in (allowed[~is_deep], allowed[is_deep]):
        most = MAX_READERS - len(chosen)
        readers = choose_readers(
            np.flatnonzero(posts), graph.offsets, graph.followees, graph.hot, group, most, arrivals
        )
        chosen += [int(user) for user in readers]
    return chosen


def posts_in_feeds(posts: Ints, offsets: Ints, followees: npt.NDArray[np.uint32]) -> Ints:
    """int64[users]: how many of `posts` (by each user) belong into the feed of each: by followees, and own."""
    sums = np.concatenate([[0], np.cumsum(posts[followees])])
    found: Ints = sums[offsets[1:]] - sums[offsets[:-1]] + posts
    return found


def choose_readers(
    authors: Ints,
    offsets: Ints,
    followees: npt.NDArray[np.uint32],
    hot: npt.NDArray[np.uint8],
    allowed: Ints,
    most: int,
    arrivals: Arrivals | None = None,
) -> Ints:
    """Users that together follow each of `authors` over a hot and over a cold edge, where such followers exist.

    With `arrivals`: for the first and the last post of each author, as there may be other followers for either.

    offsets int64[users + 1], followees uint32[edges], hot uint8[edges]: the population's follow graph by follower.
    `allowed` are the users who may read, `most` bounds the answer. Users in descending order of what they added.
    """
    users, pairs = _candidate_pairs(authors, offsets, followees, hot, allowed)
    if arrivals is not None:
        first, last = arrivals.followed(users, pairs // 2)
        users, pairs = (
            np.concatenate([users[first], users[last]]),
            np.concatenate([pairs[first] * 2, pairs[last] * 2 + 1]),
        )
    chosen: list[int] = []
    uncovered = np.ones(len(pairs), dtype=bool)
    while len(chosen) < most and uncovered.any():
        gains = np.bincount(users[uncovered])
        reader = int(gains.argmax())
        chosen.append(reader)
        done = np.unique(pairs[(users == reader) & uncovered])
        uncovered &= ~np.isin(pairs, done)
    return np.asarray(chosen, dtype=np.int64)


def _candidate_pairs(
    authors: Ints, offsets: Ints, followees: npt.NDArray[np.uint32], hot: npt.NDArray[np.uint8], allowed: Ints
) -> tuple[Ints, Ints]:
    """For each edge to one of the authors: the follower, and the (author, tier) pair as author * 2 + hot."""
    wanted = np.zeros(len(offsets) - 1, dtype=bool)
    wanted[authors] = True
    may_read = np.zeros(len(offsets) - 1, dtype=bool)
    may_read[allowed] = True
    followers = np.repeat(np.arange(len(offsets) - 1), np.diff(offsets))
    chosen = wanted[followees] & may_read[followers]
    pairs = followees[chosen].astype(np.int64) * 2 + (hot[chosen] != 0)
    return followers[chosen], pairs
