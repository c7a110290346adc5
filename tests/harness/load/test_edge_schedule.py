"""Edges change by rules: a pair rests between two changes, and each change fits the one before."""

from __future__ import annotations

import itertools
from collections import Counter, defaultdict
from typing import Any

import msgspec
import pytest

from harness.core.clock import NS_PER_S
from harness.core.load_rates import Load
from harness.load.edge_schedule import EDGE_REST_S, edge_changes, pairs_needed
from harness.load.plan import EdgePair

PAIRS = tuple(EdgePair(follower=100 + i, author=i, follows=i % 4 > 0) for i in range(80))
MAY_FOLLOW = {
    "unfollow": {"follow"},
    "follow": {"unfollow", "block"},
    "block": {"unblock"},
    "unblock": {"follow"},
}


@pytest.fixture
def plan(make_plan_of: Any) -> Any:
    return make_plan_of(rates=Load(edges_per_s=4), edge_pairs=PAIRS, seconds=120.0)


def test_a_pair_rests_between_two_changes(plan: Any) -> None:
    changed: dict[int, int] = {}
    changes = edge_changes(plan)
    for change in changes:
        before = changed.get(change.target, -plan.end_ns)
        assert change.due_ns - before >= EDGE_REST_S * NS_PER_S
        changed[change.target] = change.due_ns
    assert len(changed) == len(PAIRS)
    assert len(changes) == pytest.approx(4 * 120, rel=0.15)


def test_each_change_fits_the_one_before(plan: Any) -> None:
    by_pair = defaultdict(list)
    for change in edge_changes(plan):
        by_pair[change.target].append(change)
    for index, changes in by_pair.items():
        kinds = [change.variant for change in changes]
        assert kinds[0] in ({"unfollow", "block"} if PAIRS[index].follows else {"follow"})
        assert all(after in MAY_FOLLOW[before] for before, after in itertools.pairwise(kinds))
        for block, unblock in itertools.pairwise(changes):
            assert block.variant != "block" or block.actor == unblock.actor


def test_followers_unfollow_and_either_side_blocks(plan: Any) -> None:
    sides = Counter((c.variant, c.actor == PAIRS[c.target].author) for c in edge_changes(plan))
    assert sides["follow", True] == sides["unfollow", True] == 0
    assert sides["block", True] > 5
    assert sides["block", False] > 5
    assert sides["unfollow", False] > sides["block", True]


def test_without_blocks_nobody_blocks(plan: Any) -> None:
    kinds = {change.variant for change in edge_changes(msgspec.structs.replace(plan, blocks=False))}
    assert kinds == {"follow", "unfollow"}


def test_more_changes_than_the_pairs_can_take_are_left_out(plan: Any) -> None:
    few = edge_changes(msgspec.structs.replace(plan, edge_pairs=PAIRS[:5]))
    assert 5 * (120 / EDGE_REST_S - 2) <= len(few) <= 5 * 120 / EDGE_REST_S
    assert edge_changes(msgspec.structs.replace(plan, edge_pairs=())) == []


def test_a_rate_has_twice_the_pairs_that_its_rest_takes() -> None:
    assert pairs_needed(3) == 2 * 3 * EDGE_REST_S
    assert pairs_needed(0) == 0
