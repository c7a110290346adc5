from __future__ import annotations

import pytest
from made_history import AWAY, HOME

from harness.core.op import OpKind, OpOutcome

FOLLOW, UNFOLLOW, BLOCK, UNBLOCK = OpKind.FOLLOW, OpKind.UNFOLLOW, OpKind.BLOCK, OpKind.UNBLOCK


def edge_since(made, *changes, follows=(7,), faults=()):
    """Seconds since when user 1 follows user 7 for certain; None: not known. changes: (kind, at, fields)."""
    h = made({1: follows, 7: []})
    h.post(7, "p1", at=0.5)
    h.read(1, [], at=0.6)
    for start, end in faults:
        h.fault(start, end)
    for kind, at, fields in changes:
        user, author = (1, 7) if not fields.pop("by_author", False) else (7, 1)
        h.op(kind, user, at=at, author=author, **fields)
    with h.trial() as trial:
        rows = trial.rows("SELECT since_ns FROM edge WHERE follower = 1 AND author = 7")
        return (rows[0][0] - trial.case.t0_ns) / 1e9 if rows else None


def test_an_edge_of_the_population_holds_always(made):
    assert edge_since(made) < -1e9


@pytest.mark.parametrize(
    ("why", "changes", "since"),
    [
        ("followed again", [(UNFOLLOW, 2.0, {}), (FOLLOW, 3.0, {})], 3.01),
        ("unfollowed last", [(FOLLOW, 2.0, {}), (UNFOLLOW, 3.0, {})], None),
        ("a refused unfollow changes nothing", [(UNFOLLOW, 2.0, {"outcome": OpOutcome.FAIL})], -1),
        ("an unfollow without an answer", [(UNFOLLOW, 2.0, {"outcome": OpOutcome.INFO})], None),
        ("nor does a follow make it known", [(UNFOLLOW, 2.0, {"outcome": OpOutcome.INFO}), (FOLLOW, 3.0, {})], None),
        ("a follow without an answer", [(FOLLOW, 2.0, {"outcome": OpOutcome.INFO})], None),
        ("blocked", [(BLOCK, 2.0, {})], None),
        ("blocked by the author", [(BLOCK, 2.0, {"by_author": True})], None),
        ("unblocked: the follow may be gone", [(BLOCK, 2.0, {}), (UNBLOCK, 3.0, {})], None),
        ("unblocked and followed again", [(BLOCK, 2.0, {}), (UNBLOCK, 3.0, {}), (FOLLOW, 4.0, {})], 4.01),
        (
            "the other's block is still there",
            [(BLOCK, 1.0, {"by_author": True}), (BLOCK, 2.0, {}), (UNBLOCK, 3.0, {}), (FOLLOW, 4.0, {})],
            None,
        ),
        ("followed while blocked", [(BLOCK, 2.0, {}), (FOLLOW, 3.0, {})], None),
        ("an unblock alone", [(UNBLOCK, 3.0, {"by_author": True})], None),
        ("two at once", [(UNFOLLOW, 2.0, {"took": 2.0}), (FOLLOW, 3.0, {})], None),
        ("in two regions", [(UNFOLLOW, 2.0, {"region": AWAY}), (FOLLOW, 3.0, {"region": HOME})], None),
        ("in two, long after", [(UNFOLLOW, 2.0, {"region": AWAY}), (FOLLOW, 5.1, {"region": HOME})], 5.11),
    ],
)
def test_changes_of_an_edge(made, why, changes, since):
    found = edge_since(made, *changes)
    assert (found is None) if since is None else (found < -1e9 if since < 0 else found == since), why


def test_a_follow_during_a_fault_counts_from_the_end_of_its_window(made):
    assert edge_since(made, (FOLLOW, 3.0, {}), follows=(), faults=[(2.0, 4.0)]) == 19.0
    assert edge_since(made, (FOLLOW, 1.0, {}), follows=(), faults=[(2.0, 4.0)]) == 1.01


@pytest.mark.parametrize(
    ("why", "joined", "since"),
    [
        ("never signed up", {}, None),
        ("never seen imported", {OpKind.SIGNUP: 3.0}, None),
        ("from the later of the two", {OpKind.SIGNUP: 3.0, OpKind.IMPORT: 4.0}, 4.01),
    ],
)
@pytest.mark.parametrize("late", [0, 2])
def test_an_edge_of_who_joins_late_counts_from_then(made, late, why, joined, since):
    """User 0 is a late celebrity, 2 a newcomer, 1 was there; each follows the other two."""
    h = made({0: (1, 2), 1: (0, 2), 2: (0, 1)}, late_celebrities=1, newcomers=1)
    for user in range(3):
        h.post(user, f"p{user}", at=0.5)
        h.read(user, [], at=0.6)
        if user != 1:
            for kind, at in (joined if user == late else {OpKind.SIGNUP: 1.0, OpKind.IMPORT: 1.0}).items():
                h.op(kind, user, at=at)
    with h.trial() as trial:
        found = {
            (follower, author): (since_ns - trial.case.t0_ns) / 1e9
            for follower, author, since_ns in trial.rows("SELECT follower, author, since_ns FROM edge")
            if follower != author
        }
        assert trial.rows("SELECT author FROM star") == [(0,)]
    own, others = ([at for pair, at in found.items() if (late in pair) is his] for his in (True, False))
    assert others == [1.01] * 2
    assert own == ([] if since is None else [since] * 4), why
