from __future__ import annotations

from made_history import AWAY, HOME

from harness.core.op import OpKind, OpOutcome
from harness.core.verdict import Outcome


def legal(made):
    h = made({1: [7]})
    h.old(7, "old", ts=-10)
    h.post(7, "p1", at=1.0)
    h.read(1, ["old"], at=40.0, session="not-final")
    for at in (50.0, 51.0, 52.0):
        for region in (HOME, AWAY):
            h.read(1, ["p1", "old"], at=at, final=True, region=region, session=f"final-{region}-{at}")
    return h


def test_equal_feeds(made):
    check = legal(made).check("convergence")
    assert check.verdict is Outcome.PASS
    assert check.observations == 3
    assert "up to 3 consecutive samples" in check.reason


def test_one_sample_differs(made):
    h = legal(made)
    h.read(1, ["p1", "old"], at=53.0, final=True, region=HOME)
    h.read(1, ["old"], at=53.0, final=True, region=AWAY)
    check = h.check("convergence")
    assert check.value == 1
    assert check.evidence == [
        "post p1 written at 1.010 s; in final sample 4 of user 1 it is in the feed of us-east, absent from that of "
        "ap-tokyo at 53.000 s [calm]"
    ]


def test_walks_of_different_depth_are_compared_where_both_reach(made):
    h = legal(made)
    h.read(1, ["p1", "old"], at=53.0, final=True, region=HOME)
    h.read(1, ["p1"], at=53.0, final=True, region=AWAY, more=True)
    assert h.check("convergence").verdict is Outcome.PASS
    h.old(7, "older", ts=-20)
    h.read(1, ["p1", "old"], at=54.0, final=True, region=HOME, more=True)
    h.read(1, ["p1", "older"], at=54.0, final=True, region=AWAY, more=True)
    assert "post old written" in h.check("convergence").evidence[0]


def test_a_walk_with_a_hole_is_left_out(made):
    h = legal(made)
    h.old(7, "older", ts=-20)
    h.read(1, ["p1", "old", "older"], at=53.0, final=True, region=HOME)
    h.read(1, ["p1"], at=53.0, final=True, region=AWAY, more=True)
    h.read(1, ["older"], at=53.1, final=True, region=AWAY, page=2)
    assert h.check("convergence").verdict is Outcome.PASS


def test_samples_before_heal_and_convergence_are_left_out(made):
    h = legal(made)
    h.fault(30.0, 35.0)
    h.read(1, ["p1", "old"], at=49.0, final=True, region=HOME)
    h.read(1, ["old"], at=49.0, final=True, region=AWAY)
    check = h.check("convergence")
    assert check.verdict is Outcome.PASS
    assert check.observations == 3  # 35 + 15 = 50: the rounds at 50, 51 and 52


def test_two_samples_of_a_user_are_too_few(made):
    h = legal(made)
    h.fault(30.0, 36.0)
    check = h.check("convergence")
    assert check.verdict is Outcome.INCONCLUSIVE
    assert check.observations == 2
    assert "no user has 3 consecutive samples in two regions" in check.reason


def test_samples_that_failed_are_told(made):
    h = legal(made)
    h.read(1, [], at=53.0, final=True, outcome=OpOutcome.FAIL, status=503, error="overloaded")
    check = h.check("convergence")
    assert check.verdict is Outcome.INCONCLUSIVE
    assert "1 of 7 final reads failed, the first with status 503 overloaded" in check.reason


def test_samples_count_from_the_moment_all_must_be_there(made):
    h = legal(made)
    h.post(7, "last", at=46.99)  # acknowledged at 47 s, promised everywhere by 50 s
    h.ops = [op for op in h.ops if not op.final]
    for at in (50.0, 51.0, 52.0):
        h.read(1, ["last", "p1", "old"], at=at, final=True, region=HOME, session=f"home-{at}")
        away = h.read(1, ["last", "p1", "old"], at=at, final=True, region=AWAY, session=f"away-{at}")
    check = h.check("convergence")
    assert (check.verdict, check.observations) == (Outcome.PASS, 3)
    next(op for op in h.ops if op.final).sent_ns -= 1
    assert h.check("convergence").observations == 2
    assert away.final


def test_degraded_samples_are_left_out(made):
    h = legal(made)
    h.read(1, ["p1", "old"], at=53.0, final=True, region=HOME)
    h.read(1, ["old"], at=53.0, final=True, region=AWAY, degraded="stale")
    assert h.check("convergence").verdict is Outcome.PASS


def test_deleted_posts_do_not_count(made):
    h = legal(made)
    h.op(OpKind.DELETE, 7, at=40.0, post="p1")
    h.read(1, ["p1", "old"], at=53.0, final=True, region=HOME)
    h.read(1, ["old"], at=53.0, final=True, region=AWAY)
    assert h.check("convergence").verdict is Outcome.PASS


def test_one_region_only_is_inconclusive(made):
    h = made({1: [7]})
    h.post(7, "p1", at=1.0)
    h.read(1, ["p1"], at=50.0, final=True)
    assert h.check("convergence").verdict is Outcome.INCONCLUSIVE
