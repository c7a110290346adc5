"""Chooses the pairs of users whose edge may change while a run lasts. Seeded and pure.

Followers are users who read: most of them panel sessions, which read all the time, the others listeners and readers.
Authors are users who post. All other edges of a run stay as they are, and most edges of each chosen follower too:
what durability says of stable followers needs them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from harness.core.seeds import rng
from harness.load.plan import EdgePair
from harness.load.population import Population

PANEL_SHARE = 0.7
"""share of the pairs whose follower is in the panel"""
STRANGER_SHARE = 0.25
"""share of the pairs that do not follow each other at first"""
MOST_OF_ONES = 0.25
"""of the authors someone follows, at most this share is in changing pairs (one is always allowed)"""
_DRAWS = 20
"""tries for one pair before it is given up: small populations have few"""


def choose_pairs(
    population: Population, panel: Sequence[int], others: Sequence[int], authors: Sequence[int], wanted: int, seed: int
) -> tuple[EdgePair, ...]:
    """At most `wanted` different pairs of a follower from `panel` or `others` and one of `authors`."""
    generator = rng(seed, "edge-pairs")
    is_author = np.zeros(population.users, dtype=bool)
    is_author[np.asarray(authors, dtype=np.int64)] = True
    chosen: dict[tuple[int, int], EdgePair] = {}
    taken: dict[int, int] = {}
    for _ in range(wanted):
        for pair in _drawn(population, panel, others, is_author, generator):
            room = max(1, int(MOST_OF_ONES * len(population.followees_of(pair.follower))))
            if (pair.follower, pair.author) not in chosen and taken.get(pair.follower, 0) < room:
                chosen[pair.follower, pair.author] = pair
                taken[pair.follower] = taken.get(pair.follower, 0) + 1
                break
    return tuple(chosen.values())


def _drawn(
    population: Population,
    panel: Sequence[int],
    others: Sequence[int],
    is_author: np.ndarray[tuple[int], np.dtype[np.bool_]],
    generator: np.random.Generator,
) -> Iterator[EdgePair]:
    """Some pairs drawn at random; fewer than asked for where someone follows no author, or every one."""
    by_panel = bool(panel) and (not others or generator.random() < PANEL_SHARE)
    is_stranger = generator.random() < STRANGER_SHARE
    group = panel if by_panel else others
    for _ in range(_DRAWS if group else 0):
        follower = group[int(generator.integers(len(group)))]
        followed = np.asarray(population.followees_of(follower), dtype=np.int64)
        candidates = followed[is_author[followed]]
        if is_stranger:
            candidates = np.setdiff1d(np.flatnonzero(is_author), np.append(followed, follower))
        if len(candidates):
            yield EdgePair(follower, int(candidates[int(generator.integers(len(candidates)))]), not is_stranger)
