from __future__ import annotations

import pytest
from made_history import AWAY

from harness.core.op import OpKind, OpOutcome
from harness.core.verdict import Outcome


def legal(made, **options):
    """p1 is acknowledged and shown, another post refused and not shown; its author's own feed is not judged."""
    h = made({1: [7], 2: [7]}, **options)
    h.post(8, "untimed", at=0.5, ts_us=0)
    h.post(7, "p1", at=1.0)
    h.post(7, "refused", at=2.0, outcome=OpOutcome.FAIL, status=503)
    h.post(7, "textless", at=2.0, outcome=OpOutcome.FAIL, status=503, text_hash=0)
    h.read(1, ["p1"], at=10.0)
    h.read(7, [], at=10.0)
    return h


def test_refused_is_refused_and_unmarked_is_fresh(made):
    check = legal(made).check("honest_degradation")
    assert check.verdict is Outcome.PASS
    assert check.observations == 2
    assert "1 writes were refused, 0 of them took effect" in check.reason


@pytest.mark.parametrize("fields", [{"status": 503}, {"status": 429}, {"status": 0, "error": "connection refused"}])
def test_a_refused_post_that_took_effect(made, fields):
    h = legal(made)
    h.post(7, "p9", at=3.0, outcome=OpOutcome.FAIL, **fields)
    h.post(8, "q", at=3.5)
    h.read(2, ["p9", "p1"], at=4.0)
    h.read(2, ["p9", "p1"], at=4.2)
    check = h.check("honest_degradation")
    assert check.verdict is Outcome.FAIL
    why = f"status {fields['status']}" if fields["status"] else "connection refused"
    assert check.evidence == [
        f"a post of user 7 refused in us-east ({why}) at 3.000 s; "
        "shown as post p9 to user 2 in us-east at 4.010 s [calm]"
    ]


def test_a_refused_post_that_was_sent_again(made):
    h = legal(made)
    h.post(7, "again", at=11.0, text="the same", outcome=OpOutcome.FAIL, status=429)
    h.post(7, "again", at=11.5, text="the same")
    h.read(2, ["again", "p1"], at=14.0)
    assert h.check("honest_degradation").verdict is Outcome.PASS


def test_a_refused_post_that_timed_out_as_well(made):
    h = legal(made)
    h.post(7, "again", at=11.0, text="the same", outcome=OpOutcome.INFO)
    h.post(7, "again", at=11.5, text="the same", outcome=OpOutcome.FAIL, status=503)
    h.read(2, ["again", "p1"], at=14.0)
    assert h.check("honest_degradation").verdict is Outcome.PASS


def test_another_author_may_have_written_the_same(made):
    h = legal(made)
    h.post(8, "q", at=11.0, text="the same", outcome=OpOutcome.FAIL, status=503)
    h.post(7, "p2", at=11.5, text="the same")
    h.read(2, ["p2", "p1"], at=14.0)
    assert h.check("honest_degradation").verdict is Outcome.PASS
    h.read(2, ["p2", "q", "p1"], at=14.0)
    assert "a post of user 8 refused" in h.check("honest_degradation").evidence[0]


def test_a_stale_page_must_say_so(made):
    h = legal(made)
    h.read(2, ["p1"], at=11.0)
    h.read(2, [], at=6.0, degraded="stale")
    h.read(2, [], at=6.0)  # late, by less than 3 s
    h.read(2, [], at=7.0, region=AWAY)
    assert h.check("honest_degradation").verdict is Outcome.PASS
    h.read(2, [], at=6.01)
    check = h.check("honest_degradation")
    assert check.verdict is Outcome.FAIL
    assert check.evidence == [
        "post p1 acknowledged to user 7 in us-east at 1.010 s; absent from a page of user 2 in us-east that is not "
        "marked degraded at 6.010 s [calm]"
    ]


def test_a_post_that_is_never_shown(made):
    h = legal(made)
    h.post(7, "p2", at=11.0)
    h.read(1, ["p1"], at=17.0)
    h.read(1, ["p1"], at=18.0)
    check = h.check("honest_degradation")
    assert check.value == 2
    assert "1 acknowledged posts were never shown" in check.reason
    assert "(and 1 later ones), and from all other reads, at 17.000 s" in check.evidence[0]


def test_a_fault_excuses_what_was_not_due_before_it(made):
    h = legal(made)
    h.fault(12.0, 20.0)
    h.post(7, "p2", at=11.0)
    h.read(1, ["p1"], at=34.9)
    assert h.check("honest_degradation").verdict is Outcome.PASS
    h.read(1, ["p2"], at=16.0)  # p1 was due long before
    assert h.check("honest_degradation").value == 1


def test_withdrawn_posts_are_left_out(made):
    h = legal(made)
    h.op(OpKind.MODERATE, 7, at=5.0, post="p1")
    h.read(1, [], at=12.0)
    assert h.check("honest_degradation").verdict is not Outcome.FAIL


def test_an_old_post_of_that_text_proves_nothing(made):
    h = legal(made)
    h.post(7, "x", at=3.0, text="hello", outcome=OpOutcome.FAIL, status=503)
    h.old(7, "old", ts=-100, text="hello")
    h.read(1, ["p1", "old"], at=12.0)
    assert h.check("honest_degradation").verdict is Outcome.PASS
    h.old(7, "not-old", ts=1.0, text="hello")
    h.read(1, ["not-old", "p1"], at=12.0)
    assert h.check("honest_degradation").value == 1


@pytest.mark.parametrize(("marked", "outcome"), [(150, Outcome.PASS), (151, Outcome.FAIL)])
def test_the_mark_is_no_way_out(made, marked, outcome):
    h = legal(made)
    for k in range(298):
        h.read(1, ["p1"], at=11.0 + k / 100, degraded="stale" if k < marked else "")
    check = h.check("honest_degradation")
    assert check.verdict is outcome
    told = "151 of 300 pages of the baseline marked stale, the last at 12.500 s [calm]"
    assert check.evidence == ([told] if outcome is Outcome.FAIL else [])


@pytest.mark.parametrize("border", ["end", "fault"])
def test_pages_count_from_the_begin_of_the_baseline_to_its_end_or_the_first_fault(made, border):
    h = legal(made)
    if border == "end":
        h.baseline = 20.0
    else:
        h.fault(20.0, 21.0)
    first = h.read(1, ["p1"], at=0.0, degraded="stale")
    for k in range(297):
        h.read(1, ["p1"], at=11.0 + k / 100, degraded="stale")
    h.read(1, ["p1"], at=20.0, degraded="stale")
    assert "298 of 300 pages" in h.check("honest_degradation").evidence[0]
    first.sent_ns -= 1
    assert h.check("honest_degradation").verdict is Outcome.PASS


def test_overload_may_reduce_all_pages(made):
    h = legal(made)
    for k in range(400):
        h.read(1, ["p1"], at=11.0 + k / 100, degraded="reduced")
    assert h.check("honest_degradation").verdict is Outcome.PASS


def test_marks_during_faults_and_after_them_are_honest(made):
    h = legal(made)
    h.fault(10.5, 11.0)
    for k in range(400):
        h.read(1, ["p1"], at=11.0 + k / 100, degraded="stale")
    assert h.check("honest_degradation").verdict is Outcome.PASS


def test_no_fresh_page_is_inconclusive(made):
    h = made({1: [7]})
    h.post(7, "p1", at=1.0)
    h.read(1, ["p1"], at=10.0, degraded="stale")
    assert h.check("honest_degradation").verdict is Outcome.INCONCLUSIVE
