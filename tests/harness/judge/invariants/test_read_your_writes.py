from __future__ import annotations

from made_history import AWAY

from harness.core.op import OpKind
from harness.core.verdict import Outcome


def legal(made):
    h = made({1: [7]})
    h.post(1, "mine", at=1.0)
    h.read(1, ["mine"], at=1.02)
    return h


def test_own_post_in_the_next_read(made):
    check = legal(made).check("read_your_writes")
    assert check.verdict is Outcome.PASS
    assert check.observations == 1


def test_own_post_absent(made):
    h = legal(made)
    h.read(1, [], at=2.0)
    h.read(1, [], at=3.0)
    check = h.check("read_your_writes")
    assert check.value == 2
    assert check.evidence == [
        "post mine acknowledged to user 1 in us-east at 1.010 s; absent from his own read (and 1 later ones) "
        "at 2.000 s [calm]"
    ]


def test_a_read_asked_for_before_the_acknowledgement_need_not_show_it(made):
    h = legal(made)
    h.read(1, [], at=1.005)
    assert h.check("read_your_writes").verdict is Outcome.PASS


def test_a_page_that_ends_above_it_need_not_show_it(made):
    h = legal(made)
    h.post(7, "newer", at=5.0)
    h.read(1, ["newer"], at=6.0, more=True)
    assert h.check("read_your_writes").verdict is Outcome.PASS


def test_a_second_page_need_not_show_what_belongs_above_it(made):
    h = legal(made)
    h.old(7, "old", ts=-10)
    h.old(7, "older", ts=-20)
    h.read(1, ["old"], at=0.5, more=True)
    h.read(1, ["older"], at=3.0, page=1)
    assert h.check("read_your_writes").verdict is Outcome.PASS


def test_faults_are_no_excuse_but_a_mark_is(made):
    h = legal(made)
    h.fault(0.5, 30.0)
    h.read(1, [], at=2.0, degraded="stale")
    assert h.check("read_your_writes").verdict is Outcome.PASS
    h.read(1, [], at=3.0)
    assert h.check("read_your_writes").verdict is Outcome.FAIL


def test_due_from_the_acknowledgement_on(made):
    h = legal(made)
    read = h.read(1, [], at=1.01)
    assert h.check("read_your_writes").verdict is Outcome.FAIL
    read.sent_ns -= 1
    assert h.check("read_your_writes").verdict is Outcome.PASS


def test_evidence_tells_of_own_posts_of_the_region_only(made):
    h = legal(made)
    h.post(7, "foreign", at=1.5)
    h.post(1, "second", at=2.5)
    h.read(1, [], at=2.0)
    h.read(1, [], at=9.0, region=AWAY)
    h.read(1, ["mine"], at=10.0)
    check = h.check("read_your_writes")
    assert check.value == 2
    assert ["post mine" in e for e in check.evidence] == [True, False]
    assert "post second" in check.evidence[1]
    assert not any("later ones" in e for e in check.evidence)


def test_another_region_is_not_judged_here(made):
    h = legal(made)
    h.read(1, [], at=1.1, region=AWAY)
    assert h.check("read_your_writes").verdict is Outcome.PASS


def test_deleted_by_himself(made):
    h = legal(made)
    h.op(OpKind.DELETE, 1, at=2.0, post="mine")
    h.read(1, [], at=3.0)
    assert h.check("read_your_writes").verdict is not Outcome.FAIL


def test_nobody_reads_his_own(made):
    h = made({1: [7]})
    h.post(7, "p", at=1.0)
    h.read(1, ["p"], at=2.0)
    assert h.check("read_your_writes").verdict is Outcome.INCONCLUSIVE
