"""Generates follow graphs whose follower counts follow a power law. Pure, seeded, a million edges in under a second.

Celebrities get exactly the follower counts asked for. Everyone else gets a count from a Zipf-like law, below the
celebrity threshold; followers are drawn so that active users follow more.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from harness.core.errors import UsageError
from harness.core.seeds import rng

Ints = NDArray[np.int64]

EXPONENT = 0.75
"""followers of the r-th most followed user ~ r^-0.75: its density falls with exponent 1 + 1/0.75 = 2.3"""
ACTIVITY_SIGMA = 0.5
"""spread (log-normal) of how many users someone follows"""
ORDINARY_SHARE = 0.8
"""ordinary users stay below this share of the celebrity threshold"""
_DENSE = 4
"""users with more than 1/4 of all others as followers are drawn by permutation, the others by rejection"""


def celebrity_threshold(users: int, mean_follows: int, celebrities: Sequence[int]) -> int:
    """Follower count from which an author counts as a celebrity: users/10, more in small dense graphs."""
    threshold = max(users // 10, 4 * mean_follows, 2)
    return min([threshold, *celebrities]) if celebrities else threshold


def power_law_edges(users: int, mean_follows: int, celebrities: Sequence[int], seed: int) -> tuple[Ints, Ints]:
    """(followers, followees) of a graph of users x mean_follows edges; users 0, 1, ... are the celebrities.

    No self-follows, no duplicates; ordered by follower, then followee. Raises UsageError when the graph cannot be
    that dense.
    """
    generator = rng(seed, "population", "edges")
    counts = np.concatenate(
        [np.asarray(celebrities, dtype=np.int64), _ordinary(users, mean_follows, celebrities, generator)]
    )
    dense = counts > users // _DENSE
    keys = _drawn(users, np.where(dense, 0, counts), generator)
    parts = [keys, *(_permuted(users, int(v), int(counts[v]), generator) for v in np.flatnonzero(dense))]
    keys = np.sort(np.concatenate(parts))
    return keys // users, keys % users


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


def _permuted(users: int, followee: int, count: int, generator: np.random.Generator) -> Ints:
    """Edge keys (follower x users + followee) of one much-followed user."""
    followers = generator.permutation(users - 1)[:count]
    followers += followers >= followee
    keys: Ints = followers.astype(np.int64) * users + followee
    return keys


def _drawn(users: int, counts: Ints, generator: np.random.Generator) -> Ints:
    """Edge keys for many users at once: draw followers by activity, redraw self-follows and duplicates."""
    activity = np.cumsum(generator.lognormal(0.0, ACTIVITY_SIGMA, users))
    activity /= activity[-1]
    wanted = np.repeat(np.arange(users), counts)
    kept = np.empty(0, dtype=np.int64)
    while len(wanted):
        followers = np.searchsorted(activity, np.sort(generator.random(len(wanted))), side="right")
        generator.shuffle(wanted)
        keys = followers.astype(np.int64) * users + wanted
        fresh, first = np.unique(keys[followers != wanted], return_index=True)
        new = ~_contains(kept, fresh)
        accepted = np.flatnonzero(followers != wanted)[first[new]]
        refused = np.ones(len(wanted), dtype=bool)
        refused[accepted] = False
        kept = np.sort(np.concatenate([kept, fresh[new]]))
        wanted = wanted[refused]
    return kept


def _contains(ordered: Ints, values: Ints) -> NDArray[np.bool_]:
    """Which of `values` are in the ascending array `ordered`."""
    if not len(ordered):
        return np.zeros(len(values), dtype=np.bool_)
    at = np.minimum(np.searchsorted(ordered, values), len(ordered) - 1)
    found: NDArray[np.bool_] = ordered[at] == values
    return found
