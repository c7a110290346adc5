from __future__ import annotations

import msgspec
import pytest
from made_history import AWAY, HOME

from harness.contract.profile import Capabilities
from harness.core.load_rates import Load
from harness.core.op import OpKind, OpOutcome
from harness.core.verdict import Outcome


def legal(made, **options):
    """User 9 answers p1 with r1; user 1, who sees the answer, finds what it answers.

    Until then p1 need not be found: he saw no answer to it, only another user did; nor need p2, which has none.
    """
    h = made({1: [9]}, **options)
    h.post(7, "p1", at=1.0)
    h.post(7, "p2", at=1.1)
    h.post(9, "r1", at=2.0, reply_to="p1", region=AWAY)
    h.read(2, ["r1"], at=2.1)
    h.read(1, ["p2"], at=2.2)
    h.look_up(1, "r1", at=2.3)
    h.look_up(1, "p1", at=2.4, found=False)
    h.read(1, ["r1"], at=3.0)
    h.look_up(1, "p1", at=3.1)
    h.look_up(1, "p2", at=3.2, found=False)
    h.op(OpKind.LIKE, 1, at=3.3, post="p1")
    return h


def test_the_parent_of_a_visible_reply_is_found(made):
    check = legal(made).check("causal")
    assert check.verdict is Outcome.PASS
    assert check.observations == 1
    assert "parents of 1 replies" in check.reason


def test_a_reply_before_its_parent(made):
    h = legal(made)
    h.post(9, "r2", at=3.4, reply_to="p1")
    h.read(1, ["r2"], at=3.5)
    h.op(OpKind.DELETE, 7, at=3.6, post="p2")
    h.op(OpKind.DELETE, 7, at=3.6, post="p1", outcome=OpOutcome.FAIL, status=503)
    h.op(OpKind.UNFOLLOW, 2, at=3.7, author=7)
    h.op(OpKind.UNFOLLOW, 1, at=3.7, author=9)
    h.look_up(1, "p1", at=4.0, found=False)
    check = h.check("causal")
    assert check.verdict is Outcome.FAIL
    assert check.evidence == [
        "post p1 acknowledged in us-east at 1.010 s; r1, a reply to it, acknowledged in ap-tokyo at 2.010 s; "
        "r1 shown to user 1 in us-east at 3.010 s; p1 not found by user 1 in us-east at 4.000 s [calm]"
    ]


def test_a_target_that_says_404(made):
    h = legal(made)
    h.look_up(1, "p1", at=3.01, found=False, outcome=OpOutcome.FAIL, status=404)  # when r1 was answered
    assert h.check("causal").verdict is Outcome.FAIL


def test_a_target_that_finds_another_post(made):
    h = legal(made)
    h.look_up(1, "p1", at=4.0, ids=["p2"])
    assert h.check("causal").verdict is Outcome.FAIL


@pytest.mark.parametrize(
    "fields",
    [
        {"outcome": OpOutcome.FAIL, "status": 503},
        {"outcome": OpOutcome.INFO, "error": "timeout"},
        {"degraded": "stale"},
        {"session": "somebody-else"},
        {"region": AWAY},
    ],
)
def test_a_look_up_that_proves_nothing(made, fields):
    h = legal(made)
    h.look_up(1, "p1", at=4.0, found=False, **fields)
    assert h.check("causal").verdict is Outcome.PASS


def test_a_look_up_that_began_before_the_reply_was_seen(made):
    h = legal(made)
    h.look_up(1, "p1", at=3.005, found=False)
    assert h.check("causal").verdict is Outcome.PASS


@pytest.mark.parametrize("kind", [OpKind.DELETE, OpKind.HIDE, OpKind.MODERATE])
@pytest.mark.parametrize("outcome", [OpOutcome.OK, OpOutcome.INFO])
def test_a_parent_that_may_be_withdrawn(made, kind, outcome):
    h = legal(made)
    h.op(kind, 7, at=3.5, post="p1", outcome=outcome)
    h.look_up(1, "p1", at=4.0, found=False)
    assert h.check("causal").verdict is Outcome.PASS


def test_a_parent_deleted_afterwards(made):
    h = legal(made)
    h.look_up(1, "p1", at=4.0, found=False)
    h.op(OpKind.DELETE, 7, at=4.01, post="p1")  # when the answer came
    assert h.check("causal").verdict is Outcome.FAIL


def test_a_parent_whose_author_was_blocked(made):
    h = legal(made)
    h.op(OpKind.BLOCK, 7, at=3.5, author=1)
    h.look_up(1, "p1", at=4.0, found=False)
    assert h.check("causal").verdict is not Outcome.FAIL


def test_an_old_parent(made):
    h = legal(made)
    h.old(7, "old", ts=-100)
    h.post(9, "r2", at=5.0, reply_to="old")
    h.read(1, ["r2"], at=6.0)
    h.look_up(1, "old", at=6.1, found=False)
    assert "post old written before the run" in h.check("causal").evidence[0]


def test_an_old_parent_whose_author_was_blocked(made):
    h = made({1: [9]})
    h.old(0, "old", ts=-100)
    h.look_up(2, "old", at=1.0, item_authors=[-1])
    h.read(2, ["old"], at=1.1)
    h.op(OpKind.BLOCK, 0, at=2.0, author=1)
    h.post(9, "r1", at=3.0, reply_to="old")
    h.read(1, ["r1"], at=4.0)
    h.look_up(1, "old", at=4.1, found=False)
    assert h.check("causal").verdict is not Outcome.FAIL


def test_nobody_looks_is_inconclusive(made):
    h = made({1: [9]})
    h.post(7, "p1", at=1.0)
    h.post(9, "r1", at=2.0, reply_to="p1")
    h.read(1, ["r1"], at=3.0)
    assert h.check("causal").verdict is Outcome.INCONCLUSIVE


def test_without_replies_or_look_ups_it_is_skipped(made):
    h = legal(made, able=Capabilities(batch=False), regions=(HOME, AWAY))
    assert h.check("causal").reason == "skipped: target made lacks batch"
    h.profile = msgspec.structs.replace(h.profile, capabilities=Capabilities())
    h.scenario = msgspec.structs.replace(h.scenario, load=Load())
    assert h.check("causal").skipped
