from __future__ import annotations

from made_history import AWAY

from harness.core.op import OpKind, OpOutcome
from harness.core.verdict import Outcome


def legal(made):
    """One read of everything, then a walk in pages of two."""
    h = made({1: [7]})
    h.post(8, "untimed", at=0.5, ts_us=0)
    for k in range(4):
        h.post(7, f"p{k}", at=1.0 + k)
    h.read(1, ["p3", "p2", "p1", "p0"], at=8.0)
    h.read(1, ["p3", "p2"], at=9.0, more=True)
    h.read(1, ["p1", "p0"], at=9.1, page=1)
    return h


def test_a_complete_walk(made):
    check = legal(made).check("cursor_completeness")
    assert check.verdict is Outcome.PASS
    assert check.observations == 4
    assert "1 walks" in check.reason


def test_a_cursor_that_skips(made):
    h = legal(made)
    h.read(1, ["p3", "p2"], at=10.0, more=True)
    h.read(1, ["p0"], at=10.1, page=1)
    check = h.check("cursor_completeness")
    assert check.evidence == [
        "post p1 seen at 8.010 s; missing from the walk of user 1 (s-1) in us-east at 10.000 s [calm]"
    ]


def test_pages_that_overlap(made):
    h = legal(made)
    h.read(1, ["p3", "p2"], at=10.0, more=True)
    h.read(1, ["p2", "p1", "p0"], at=10.1, page=1)
    assert "overlaps the page before it" in h.check("cursor_completeness").evidence[0]


def test_a_post_that_arrives_during_the_walk_may_be_missed(made):
    h = legal(made)
    h.read(1, ["p3", "p2"], at=10.0, more=True)
    h.post(7, "p5", at=10.05)
    h.read(1, ["p5", "p3", "p2", "p1", "p0"], at=10.08, session="elsewhere")
    h.read(1, ["p1", "p0"], at=10.1, page=1)
    assert h.check("cursor_completeness").verdict is Outcome.PASS


def test_a_late_arrival_in_mid_walk_may_be_in_it(made):
    h = legal(made)
    h.post(7, "late", at=1.5)
    h.read(1, ["p3", "p2"], at=10.0, more=True)
    h.read(1, ["p1", "late", "p0"], at=10.1, page=1)
    assert h.check("cursor_completeness").verdict is Outcome.PASS


def test_what_lies_below_an_unfinished_walk_is_not_judged(made):
    h = legal(made)
    h.read(1, ["p3"], at=10.0, more=True)
    h.read(1, ["p2"], at=10.1, page=1, more=True)
    assert h.check("cursor_completeness").verdict is Outcome.PASS


def test_posts_from_before_the_run_that_two_walks_show_must_be_in_all(made):
    h = legal(made)
    h.old(7, "old", ts=-10)
    h.old(7, "textless", ts=-20)
    h.posts["textless"] = (*h.posts["textless"][:2], 0)
    h.post(7, "again", at=5.0, text="old")
    h.post(8, "another's", at=5.0, text="old", outcome=OpOutcome.INFO)
    h.op(OpKind.LIKE, 7, at=5.0, outcome=OpOutcome.INFO)
    h.read(1, ["p3", "p2"], at=6.0, more=True)
    h.read(1, ["p1"], at=6.1, page=1)  # skipped what nobody had shown yet
    h.read(1, ["p3", "p2", "p1", "p0", "old", "textless"], at=11.0)
    h.read(1, ["p3", "p2", "p1", "p0", "old", "textless"], at=12.0)
    told = " ".join(h.check("cursor_completeness").evidence)
    assert "post old there before the run" in told
    assert "post textless there before the run" in told


def test_a_timed_out_post_is_not_from_before_the_run(made):
    h = made({1: [7]})
    h.old(7, "old", ts=-10)
    h.old(7, "older", ts=-20)
    h.read(1, ["old"], at=0.1, more=True)
    h.read(1, ["older"], at=0.2, page=1)
    h.post(7, "unsure", at=0.5, outcome=OpOutcome.INFO)
    h.post(7, "p1", at=1.0)
    untimed = h.post(7, "untimed", at=1.5, ts_us=0)
    h.posts["untimed"] = (0, 7, untimed.text_hash)
    for at in (2.0, 3.0):
        h.read(1, ["p1", "unsure", "old", "older", "untimed"], at=at)
    assert h.check("cursor_completeness").verdict is Outcome.PASS


def test_a_walk_begun_as_the_other_ended_must_show_what_that_showed(made):
    h = legal(made)
    h.post(7, "late", at=1.5)
    h.read(1, ["p3", "p2", "p1", "late", "p0"], at=9.5, took=0.5, session="elsewhere")
    first = h.read(1, ["p3", "p2"], at=10.0, more=True)
    h.read(1, ["p1", "p0"], at=10.1, page=1)
    assert h.check("cursor_completeness").verdict is Outcome.FAIL
    first.sent_ns -= 1
    assert h.check("cursor_completeness").verdict is Outcome.PASS


def test_an_old_post_that_a_single_walk_shows_may_be_missing(made):
    h = legal(made)
    h.old(7, "old", ts=-10)
    h.read(1, ["p3", "p2"], at=6.0, more=True)
    h.read(1, ["p1", "p0"], at=6.1, page=1)
    h.read(1, ["p3", "p2", "p1", "p0", "old"], at=11.0)
    h.read(1, ["p3", "p2", "p1", "p0", "old"], at=11.5, degraded="stale")
    h.read(2, ["old"], at=12.0)
    assert h.check("cursor_completeness").verdict is Outcome.PASS


def test_degraded_walks_are_left_out(made):
    h = legal(made)
    h.read(1, ["p3", "p2"], at=10.0, more=True, degraded="stale")
    h.read(1, ["p0"], at=10.1, page=1)
    assert h.check("cursor_completeness").verdict is Outcome.PASS


def test_each_reader_and_region_is_judged_by_what_it_was_shown(made):
    h = made({1: [7], 2: [8]})
    for author, number in ((7, 0), (8, 1), (7, 2), (8, 3)):
        h.post(author, f"p{number}", at=1.0 + number)
        h.old(author, f"old{number}", ts=-10 - number)
    for at in (8.0, 9.0):
        for user, shown in ((1, ["p2", "p0", "old0", "old2"]), (2, ["p3", "p1", "old1", "old3"])):
            h.read(user, shown[:2], at=at, more=True)
            h.read(user, shown[2:], at=at + 0.1, page=1)
    for at in (8.5, 9.5):
        h.read(1, ["p0"], at=at, more=True, region=AWAY)
        h.read(1, ["old2"], at=at + 0.1, page=1, region=AWAY)
    h.read(1, ["p2"], at=7.0, more=True, degraded="stale")
    h.read(1, ["old0"], at=7.1, page=1, degraded="stale")
    check = h.check("cursor_completeness")
    assert check.verdict is Outcome.PASS
    assert check.observations == 15  # at home 2 old ones, then all 4, of each; abroad 1, then 2
    h.read(2, ["p3", "p1"], at=10.0, more=True)
    h.read(2, ["old3"], at=10.1, page=1)
    assert "post old1" in h.check("cursor_completeness").evidence[0]


def test_walks_with_a_failed_page_are_left_out(made):
    h = legal(made)
    h.read(1, ["p3"], at=10.0, more=True)
    h.read(1, ["p0"], at=10.2, page=2)
    h.read(1, ["p1"], at=10.5, more=True)
    h.read(1, ["p2"], at=10.7, page=2)
    assert h.check("cursor_completeness").verdict is Outcome.PASS


def test_deleted_posts_may_be_missing(made):
    h = legal(made)
    h.op(OpKind.DELETE, 7, at=9.5, post="p1")
    h.read(1, ["p3", "p2"], at=10.0, more=True)
    h.read(1, ["p0"], at=10.1, page=1)
    assert h.check("cursor_completeness").verdict is Outcome.PASS


def test_no_walk_of_two_pages(made):
    h = made({1: [7]})
    h.post(7, "p1", at=1.0)
    h.read(1, ["p1"], at=2.0)
    h.read(1, ["p1"], at=3.0)
    assert h.check("cursor_completeness").verdict is Outcome.INCONCLUSIVE
