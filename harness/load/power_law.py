"""Generates follow graphs whose follower counts follow a power law. Pure, seeded, a million edges in under a second.

Celebrities get exactly the follower counts asked for. Everyone else gets a count from a Zipf-like law, below the
celebrity threshold; followers are drawn so that active users follow more.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from harness.core.errors import UsageError
from harness.core.seeds import rng

Ints = NDArray[np.int64]
Followees = NDArray[np.uint32]

EXPONENT = 0.75
"""followers of the r-th most followed user ~ r^-0.75: its density falls with exponent 1 + 1/0.75 = 2.3"""
ACTIVITY_SIGMA = 0.5
"""spread (log-normal) of how many users someone follows"""
ORDINARY_SHARE = 0.8
"""ordinary users stay below this share of the celebrity threshold"""
BLOCK_EDGES = 8_000_000
"""edges drawn at a time: some 400 MB of scratch memory"""
_DENSE = 4
"""users with more than 1/4 of all others as followers are drawn by permutation, the others by rejection"""


def celebrity_threshold(users: int, mean_follows: int, celebrities: Sequence[int]) -> int:
    """Follower count from which an author counts as a celebrity: users/10, more in small dense graphs."""
    threshold = max(users // 10, 4 * mean_follows, 2)
    return min([threshold, *celebrities]) if celebrities else threshold


def power_law_rows(users: int, mean_follows: int, celebrities: Sequence[int], seed: int) -> tuple[Ints, Followees]:
    """Whom everyone follows, as compressed rows; users 0, 1, ... are the celebrities.

    User u follows followees[offsets[u]:offsets[u + 1]], ascending: (offsets int64[users + 1], followees uint32[edges]),
    users x mean_follows edges in all. No self-follows, no duplicates. Raises UsageError when the graph cannot be that
    dense.

    Made a block of followers at a time, so that the scratch memory stays bounded: how many of an author's followers
    are in a block is binomial (the multinomial, one margin after the other; Devroye 1986, XI.2).
    """
    generator = rng(seed, "population", "edges")
    counts = np.concatenate(
        [np.asarray(celebrities, dtype=np.int64), _ordinary(users, mean_follows, celebrities, generator)]
    )
    dense = np.flatnonzero(counts > users // _DENSE)
    stars = [(int(v), np.sort(_permuted(users, int(v), int(counts[v]), generator))) for v in dense]
    counts[dense] = 0
    activity = np.cumsum(generator.lognormal(0.0, ACTIVITY_SIGMA, users))
    activity /= activity[-1]
    blocks = _blocks(users, int(counts.sum()), activity)
    refused = _draw_blocks(blocks, counts, activity, users, generator)
    _redraw(blocks, refused, activity, users, generator)
    for block, (followee, followers) in itertools.product(blocks, stars):
        block.add_star(followee, followers)
    return _joined(blocks, users)


class _Block:
    """The rows of the followers first .. end-1; row r is the follower first + r."""

    def __init__(self, first: int, end: int) -> None:
        self.first, self.end = first, end
        self.lengths: Ints = np.zeros(end - first, dtype=np.int64)
        self.followees: Followees = np.zeros(0, dtype=np.uint32)

    def fill(self, followers: Ints, followees: Ints) -> Ints:
        """Put the first edges in, `followees` ascending; returns the followees of self-follows and repeats."""
        itself = followers == followees
        rows, others = (followers[~itself] - self.first).astype(_narrow(self)), followees[~itself]
        order = np.argsort(rows, kind="stable")  # by radix where the numbers have 16 bits
        rows, others = rows[order], others[order]
        again = np.zeros(len(rows), dtype=np.bool_)
        again[1:] = (rows[1:] == rows[:-1]) & (others[1:] == others[:-1])
        self.lengths = np.bincount(rows[~again], minlength=self.end - self.first)
        self.followees = others[~again].astype(np.uint32)
        return np.concatenate([followees[itself], others[again]])

    def accept(self, followers: Ints, followees: Ints) -> Ints:
        """Add a few edges; returns the followees of those that are self-follows or there already."""
        order = np.lexsort((followees, followers))
        followers, followees = followers[order], followees[order]
        refused = followers == followees
        refused[1:] |= (followers[1:] == followers[:-1]) & (followees[1:] == followees[:-1])
        places, found = self._find(followers - self.first, followees)
        refused |= found
        fresh = ~refused
        self._insert(places[fresh], followers[fresh], followees[fresh])
        rest: Ints = followees[refused]
        return rest

    def add_star(self, followee: int, followers: Ints) -> None:
        """Add the block's share of the (ascending) followers of a much-followed user, drawn by permutation."""
        start, end = np.searchsorted(followers, [self.first, self.end])
        mine = followers[start:end]
        followees = np.full(len(mine), followee)
        self._insert(self._find(mine - self.first, followees)[0], mine, followees)

    def _insert(self, places: Ints, followers: Ints, followees: Ints) -> None:
        self.followees = np.insert(self.followees, places, followees.astype(np.uint32))
        self.lengths += np.bincount(followers - self.first, minlength=self.end - self.first)

    def _find(self, rows: Ints, followees: Ints) -> tuple[Ints, NDArray[np.bool_]]:
        """Where each followee stands or belongs in its row (binary search, all at once), and whether it is there."""
        ends = np.cumsum(self.lengths)
        high = ends[rows]
        last, low = high.copy(), high - self.lengths[rows]
        while (open_ := low < high).any():
            middle = (low + high) // 2
            below = open_ & (self.followees[np.minimum(middle, len(self.followees) - 1)] < followees)
            low = np.where(below, middle + 1, low)
            high = np.where(open_ & ~below, middle, high)
        inside = low < last
        found = np.zeros(len(rows), dtype=np.bool_)
        found[inside] = self.followees[low[inside]] == followees[inside]
        return low, found


def _narrow(block: _Block) -> type[np.unsignedinteger]:
    return np.uint16 if block.end - block.first <= 1 << 16 else np.uint32


def _blocks(users: int, edges: int, activity: NDArray[np.float64]) -> list[_Block]:
    """Blocks of followers with about BLOCK_EDGES edges each."""
    pieces = max(1, -(-edges // BLOCK_EDGES))
    bounds = np.unique(np.searchsorted(activity, np.arange(1, pieces) / pieces)).tolist()
    places = [0, *(int(b) for b in bounds if 0 < b < users), users]
    return [_Block(first, end) for first, end in itertools.pairwise(places)]


def _draw_blocks(
    blocks: list[_Block], counts: Ints, activity: NDArray[np.float64], users: int, generator: np.random.Generator
) -> Ints:
    """Draw every author's followers, block by block; returns the authors of those that must be drawn again."""
    left, refused = counts.copy(), []
    everybody = np.arange(users, dtype=np.int64)
    for block in blocks:
        low = float(activity[block.first - 1]) if block.first else 0.0
        high = float(activity[block.end - 1])
        here = left if block.end == users else generator.binomial(left, min(1.0, (high - low) / (1.0 - low)))
        left = left - here
        followees = np.repeat(everybody, here)
        followers = block.first + _picked(activity[block.first : block.end], low, len(followees), generator)
        refused.append(block.fill(followers, followees))
    return np.concatenate(refused)


def _redraw(
    blocks: list[_Block], refused: Ints, activity: NDArray[np.float64], users: int, generator: np.random.Generator
) -> None:
    """Draw followers again, anywhere, until every one is a new edge."""
    while len(refused):
        followers, again = _picked(activity, 0.0, len(refused), generator), []
        for block in blocks:
            inside = (followers >= block.first) & (followers < block.end)
            if inside.any():
                again.append(block.accept(followers[inside], refused[inside]))
        refused = np.concatenate(again)


def _picked(activity: NDArray[np.float64], low: float, count: int, generator: np.random.Generator) -> Ints:
    """Places in the cumulative `activity` (which begins above `low`), drawn by their share of it.

    A guide table (Chen and Asau, 1974) says where to begin: a step or two further is the place.
    """
    slots = max(2 * len(activity), 1)
    drawn = generator.random(count)
    edges = low + (activity[-1] - low) * (np.arange(slots) / slots)
    guide = np.searchsorted(activity, edges)
    places: Ints = guide[(drawn * slots).astype(np.int64)]
    drawn *= activity[-1] - low
    drawn += low
    late = np.flatnonzero(activity[places] < drawn)
    while len(late):
        places[late] += 1
        late = late[(activity[places[late]] < drawn[late]) & (places[late] < len(activity) - 1)]
    return places


def _joined(blocks: list[_Block], users: int) -> tuple[Ints, Followees]:
    offsets = np.zeros(users + 1, dtype=np.int64)
    np.cumsum(np.concatenate([block.lengths for block in blocks]), out=offsets[1:])
    followees = np.empty(int(offsets[-1]), dtype=np.uint32)
    for block in blocks:
        followees[offsets[block.first] : offsets[block.end]] = block.followees
        block.followees = followees[:0]
    return offsets, followees


def _ordinary(users: int, mean_follows: int, celebrities: Sequence[int], generator: np.random.Generator) -> Ints:
    """Follower counts of the ordinary users, in random order; together with the celebrities users x mean_follows."""
    ordinary = users - len(celebrities)
    wanted = users * mean_follows - sum(celebrities)
    cap = max(1, int(ORDINARY_SHARE * celebrity_threshold(users, mean_follows, celebrities)))
    cap = min(users - 1, max(cap, -(-wanted // max(ordinary, 1))))
    if wanted < 0 or wanted > ordinary * (users - 1):
        raise UsageError(
            f"population.mean_follows: {users} users x {mean_follows} follows cannot hold celebrities with "
            f"{sum(celebrities)} followers and at most {users - 1} follows a user"
        )
    shape: NDArray[np.float64] = np.power(np.arange(1, ordinary + 1, dtype=np.float64), -EXPONENT)
    counts = _scaled(shape, wanted, cap)
    generator.shuffle(counts)
    return counts


def _scaled(shape: NDArray[np.float64], total: int, cap: int) -> Ints:
    """Whole numbers proportional to `shape`, each <= cap, with the given sum (total <= cap x len)."""
    low, high = 0.0, float(cap) / shape[-1] if len(shape) else 0.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if np.minimum(shape * middle, cap).sum() < total else (low, middle)
    exact = np.minimum(shape * high, cap)
    counts: Ints = np.floor(exact).astype(np.int64)
    order = np.argsort(counts - exact, kind="stable")
    room = order[counts[order] < cap]
    counts[room[: total - int(counts.sum())]] += 1
    return counts


def with_hyper_followers(
    offsets: Ints, followees: Followees, celebrities: int, follows: Sequence[int], seed: int
) -> tuple[Ints, Followees]:
    """The rows, in which users celebrities, celebrities + 1, ... follow exactly so many others.

    They follow the same celebrities as before, whose follower counts stay, and ordinary users at random in place of
    those whom they followed.
    """
    users, generator = len(offsets) - 1, rng(seed, "population", "hyper-followers")
    ordinary = np.arange(celebrities, users, dtype=np.uint32)
    rows, lengths = [followees[: offsets[celebrities]]], np.diff(offsets)
    for user, count in enumerate(follows, start=celebrities):
        row = followees[offsets[user] : offsets[user + 1]]
        stars = row[row < celebrities]
        drawn = generator.permutation(ordinary[ordinary != user])[: count - len(stars)]
        rows.append(np.concatenate([stars, np.sort(drawn)]))
        lengths[user] = len(rows[-1])
    rows.append(followees[offsets[celebrities + len(follows)] :])
    made = np.zeros(users + 1, dtype=np.int64)
    np.cumsum(lengths, out=made[1:])
    return made, np.concatenate(rows)


def _permuted(users: int, followee: int, count: int, generator: np.random.Generator) -> Ints:
    """The followers of one much-followed user."""
    followers: Ints = generator.permutation(users - 1)[:count]
    followers += followers >= followee
    return followers
