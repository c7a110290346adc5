"""When edges change, and how: follows, unfollows, blocks, unblocks. Pure and seeded; the same plan gives the same.

    follows -> unfollow -> follow                     the usual way
    follows -> block (by either side) -> unblock -> follow
    a stranger -> follow

A pair that changed is left alone for EDGE_REST_S: long enough to see what its readers see then, in every region.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from harness.core.op import OpKind
from harness.core.seeds import rng
from harness.load.arrival_kinds import Arrival, ArrivalKind
from harness.load.arrivals import due_times
from harness.load.plan import EdgePair, LoadPlan

EDGE_REST_S = 10.0
"""shortest time between two changes of one pair; FACTS section 5 counts an edge as stable 5 s after a change"""
PAIRS_PER_CHANGE = 2.0
"""pairs there are for each change within the rest: every pair changes once in twice the rest"""
BLOCK_SHARE = 0.4
"""share of the changes of a followed pair that are blocks, half of them by the author"""
_REST_NS = round(EDGE_REST_S * 1e9)


@dataclass
class _Pair:
    """A pair and how it stands if every change so far took effect."""

    index: int
    pair: EdgePair
    follows: bool
    blocker: int = -1
    changed_ns: int = -_REST_NS


def pairs_needed(rate_per_s: float) -> int:
    """How many pairs a rate of changes takes."""
    return math.ceil(rate_per_s * EDGE_REST_S * PAIRS_PER_CHANGE)


def edge_changes(plan: LoadPlan) -> list[Arrival]:
    """Changes of edges, from t0; one that finds no rested pair is left out."""
    generator = rng(plan.seed, "load", "edges")
    due = due_times(generator, plan.rates.edges_per_s, 0, plan.end_ns)
    order = generator.permutation(len(plan.edge_pairs))
    waiting = deque(_Pair(int(i), plan.edge_pairs[i], plan.edge_pairs[i].follows) for i in order)
    return list(_changes(plan, generator, [int(at) for at in due], waiting))


def _changes(
    plan: LoadPlan, generator: np.random.Generator, due: list[int], waiting: deque[_Pair]
) -> Iterator[Arrival]:
    number = 0
    for at in due:
        if not waiting or at - waiting[0].changed_ns < _REST_NS:
            continue
        pair = waiting.popleft()
        kind, actor = _next_change(pair, generator.random() if plan.blocks else 1.0)
        pair.changed_ns = at
        waiting.append(pair)
        yield Arrival(
            due_ns=at, kind=ArrivalKind.EDGE, number=number, actor=actor, target=pair.index, variant=str(kind)
        )
        number += 1


def _next_change(pair: _Pair, drawn: float) -> tuple[OpKind, int]:
    """What happens to the pair next, and who does it. `drawn` from [0, 1) decides between unfollow and block."""
    follower, author = pair.pair.follower, pair.pair.author
    if pair.blocker >= 0:
        actor, pair.blocker, pair.follows = pair.blocker, -1, False
        return OpKind.UNBLOCK, actor
    if not pair.follows:
        pair.follows = True
        return OpKind.FOLLOW, follower
    if drawn >= BLOCK_SHARE:
        pair.follows = False
        return OpKind.UNFOLLOW, follower
    pair.blocker = follower if drawn < BLOCK_SHARE / 2 else author
    return OpKind.BLOCK, pair.blocker
