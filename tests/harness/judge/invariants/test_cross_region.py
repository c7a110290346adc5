from __future__ import annotations

from made_history import AWAY, HOME

from harness.core.verdict import Outcome


def legal(made):
    h = made({1: [7]})
    h.post(7, "p1", at=1.0)
    h.read(1, [], at=2.0, region=AWAY)  # too early to tell
    h.read(1, ["p1"], at=4.2, region=AWAY)
    return h


def test_there_after_the_promise(made):
    check = legal(made).check("cross_region")
    assert check.verdict is Outcome.PASS
    assert check.observations == 1


def test_absent_after_the_promise(made):
    h = legal(made)
    h.read(1, [], at=5.0, region=AWAY)
    check = h.check("cross_region")
    assert check.evidence == [
        "post p1 acknowledged in us-east at 1.010 s; 3.990 s old, absent from the read of follower 1 in ap-tokyo "
        "at 5.000 s [calm]"
    ]


def test_a_cut_excuses_until_convergence(made):
    h = legal(made)
    h.fault(10.0, 20.0, kind="partition", handle="link")
    h.post(7, "p2", at=12.0)
    h.read(1, ["p1"], at=34.9, region=AWAY)
    assert h.check("cross_region").verdict is Outcome.PASS
    h.read(1, ["p1"], at=35.1, region=AWAY)
    assert h.check("cross_region").verdict is Outcome.FAIL


def test_due_from_the_promise_on(made):
    h = legal(made)
    read = h.read(1, [], at=4.01, region=AWAY)  # acknowledged at 1.01 s, promised within 3 s
    assert h.check("cross_region").verdict is Outcome.FAIL
    read.sent_ns -= 1
    assert h.check("cross_region").verdict is Outcome.PASS


def test_due_up_to_the_fault(made):
    h = legal(made)
    h.fault(10.0, 20.0)
    read = h.read(1, [], at=10.0, region=AWAY)
    assert h.check("cross_region").verdict is Outcome.PASS
    read.sent_ns -= 1
    assert h.check("cross_region").verdict is Outcome.FAIL


def test_due_again_as_soon_as_the_fault_has_healed(made):
    h = legal(made)
    h.fault(10.0, 20.0)
    read = h.read(1, [], at=35.0, region=AWAY)
    assert h.check("cross_region").verdict is Outcome.FAIL
    read.sent_ns -= 1
    assert h.check("cross_region").verdict is Outcome.PASS


def test_a_celebrity_has_his_own_promise_on_top(made):
    h = made({1: [0]}, celebrities=1)
    h.post(0, "star", at=1.0)
    read = h.read(1, [], at=9.01, region=AWAY)  # 1.01 + 3 + 5 s
    assert h.check("cross_region").verdict is Outcome.FAIL
    read.sent_ns -= 1
    assert h.check("cross_region").verdict is not Outcome.FAIL


def test_one_region_is_skipped_by_name(made):
    check = made({1: [7]}, regions=(HOME,)).check("cross_region")
    assert check.skipped
    assert check.reason == "skipped: target made has one region"


def test_no_such_read(made):
    h = made({1: [7]})
    h.post(7, "p1", at=1.0)
    h.read(1, ["p1"], at=9.0)
    assert h.check("cross_region").verdict is Outcome.INCONCLUSIVE
