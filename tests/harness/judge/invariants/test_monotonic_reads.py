from __future__ import annotations

from made_history import AWAY

from harness.core.op import OpKind, OpOutcome
from harness.core.verdict import Outcome


def legal(made):
    h = made({1: [7], 2: [7]})
    h.old(7, "old", ts=-10)
    h.post(7, "p1", at=1.0)
    h.post(7, "p2", at=2.0)
    h.read(1, ["p1", "old"], at=1.5)
    h.read(1, ["p2", "p1", "old"], at=5.0)
    return h


def test_what_was_seen_stays(made):
    check = legal(made).check("monotonic_reads")
    assert check.verdict is Outcome.PASS
    assert check.observations == 2


def test_a_seen_post_that_vanishes(made):
    h = legal(made)
    h.read(1, ["p2", "old"], at=6.0)
    check = h.check("monotonic_reads")
    assert check.value == 1
    assert check.evidence == [
        "post p1 seen at 1.510 s; missing from the read of user 1 (s-1) in us-east at 6.000 s [calm]"
    ]


def test_a_post_from_before_the_run_that_vanishes(made):
    h = legal(made)
    h.read(1, ["p2", "p1"], at=6.0)
    assert "post old" in h.check("monotonic_reads").evidence[0]


def test_a_late_arrival_between_two_reads_is_legal(made):
    h = legal(made)
    h.post(8, "late", at=1.2)  # older than p2, delivered after it
    h.read(1, ["p2", "late", "p1", "old"], at=7.0)
    h.read(1, ["p2", "late"], at=8.0, more=True)
    assert h.check("monotonic_reads").verdict is Outcome.PASS


def test_a_shorter_page_does_not_cover_what_is_below(made):
    h = legal(made)
    h.read(1, ["p2"], at=6.0, more=True)
    assert h.check("monotonic_reads").verdict is Outcome.PASS


def test_a_second_page_must_show_what_lies_in_its_range(made):
    h = legal(made)
    h.read(1, ["p2"], at=6.0, more=True)
    h.read(1, ["old"], at=6.1, page=1)
    assert h.check("monotonic_reads").value == 1


def test_an_overlapping_read_need_not_show_it(made):
    h = legal(made)
    h.post(7, "p3", at=7.0)
    h.read(1, ["p3", "p2", "p1", "old"], at=7.1, took=1.0)
    h.read(1, ["p2", "p1", "old"], at=7.5)  # sent before the other was answered
    assert h.check("monotonic_reads").verdict is Outcome.PASS


def test_a_read_asked_for_as_the_other_was_answered_must_show_it(made):
    h = legal(made)
    h.post(7, "p3", at=7.0)
    h.read(1, ["p3", "p2", "p1", "old"], at=7.1, took=1.0)
    read = h.read(1, ["p2", "p1", "old"], at=8.1)
    assert h.check("monotonic_reads").verdict is Outcome.FAIL
    read.sent_ns -= 1
    assert h.check("monotonic_reads").verdict is Outcome.PASS


def test_seen_in_feed_new(made):
    h = legal(made)
    h.post(7, "p3", at=7.0)
    h.read(1, ["p3"], at=7.5, kind=OpKind.FEED_NEW)
    h.read(1, ["p2", "p1", "old"], at=8.0)
    assert "post p3" in h.check("monotonic_reads").evidence[0]


def test_a_degraded_feed_new_and_a_look_up_teach_nothing(made):
    h = legal(made)
    h.post(7, "p3", at=7.0)
    h.read(1, ["p3"], at=7.5, kind=OpKind.FEED_NEW, degraded="stale")
    h.read(1, ["p3"], at=7.6, kind=OpKind.FETCH)
    h.read(1, ["p2", "p1", "old"], at=8.0)
    assert h.check("monotonic_reads").verdict is Outcome.PASS


def test_other_sessions_and_regions_see_for_themselves(made):
    h = legal(made)
    h.read(2, ["p1", "old"], at=6.0)
    h.read(1, ["p1", "old"], at=6.0, session="another")
    h.read(1, ["p1", "old"], at=6.0, region=AWAY)
    assert h.check("monotonic_reads").verdict is Outcome.PASS


def test_degraded_reads_are_marked_so_may_lack_it(made):
    h = legal(made)
    h.read(1, ["old"], at=6.0, degraded="stale")
    assert h.check("monotonic_reads").verdict is Outcome.PASS


def test_deleted_and_unfollowed_may_vanish(made):
    h = legal(made)
    h.op(OpKind.DELETE, 7, at=5.5, post="p1")
    h.read(1, ["p2", "old"], at=6.0)
    assert h.check("monotonic_reads").verdict is Outcome.PASS
    h.op(OpKind.UNFOLLOW, 1, at=7.0, author=7, outcome=OpOutcome.INFO)
    h.read(1, [], at=8.0)
    assert h.check("monotonic_reads").verdict is not Outcome.FAIL


def test_a_phantom_that_vanishes_is_the_business_of_no_phantom(made):
    h = legal(made)
    h.old(7, "made-up", ts=3.0)
    h.read(1, ["made-up", "p2", "p1", "old"], at=6.0)
    h.read(1, ["p2", "p1", "old"], at=7.0)
    assert h.check("monotonic_reads").verdict is Outcome.PASS


def test_nobody_reads_twice(made):
    h = made({1: [7], 2: [7]})
    h.post(7, "p1", at=1.0)
    h.read(1, ["p1"], at=2.0)
    h.read(2, ["p1"], at=2.0)
    assert h.check("monotonic_reads").verdict is Outcome.INCONCLUSIVE


def test_a_post_seen_in_feed_new_only_whose_author_was_unfollowed(made):
    h = legal(made)
    h.post(8, "q", at=7.0)
    h.read(1, ["q"], at=7.5, kind=OpKind.FEED_NEW)
    h.op(OpKind.UNFOLLOW, 1, at=8.0, author=8)
    h.read(1, ["p2", "p1", "old"], at=9.0)
    assert h.check("monotonic_reads").verdict is Outcome.PASS
