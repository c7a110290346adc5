from __future__ import annotations

from made_history import AWAY

from harness.core.op import OpKind, OpOutcome
from harness.core.verdict import Outcome


def legal(made, **options):
    """p2 is sent the moment p1 is acknowledged; what ap-tokyo shows of them is no business of this checker."""
    h = made({1: [7, 8]}, **options)
    h.post(7, "p1", at=1.99)
    h.post(7, "p2", at=2.0)
    h.read(1, ["p1"], at=2.005)
    h.read(1, ["p2", "p1"], at=2.5)
    h.read(1, ["p2"], at=2.5, region=AWAY)
    return h


def test_in_turn(made):
    check = legal(made).check("author_order")
    assert check.verdict is Outcome.PASS
    assert check.observations == 3
    assert "1 posts after an earlier one of their author; 2 times a page covered one" in check.reason


def test_a_later_post_with_a_key_below(made):
    h = legal(made)
    h.post(7, "p3", at=3.0, ts=1.5)
    check = h.check("author_order")
    assert check.verdict is Outcome.FAIL
    assert check.evidence == [
        "post p2 acknowledged to user 7 in us-east at 2.010 s; post p3 of the same author, with a key below, "
        "sent at 3.000 s [calm]"
    ]


def test_posts_on_their_way_together_may_take_either_order(made):
    h = legal(made)
    h.post(7, "p3", at=3.0, took=0.5)
    h.post(7, "p4", at=3.2, ts=2.9)
    assert h.check("author_order").verdict is Outcome.PASS


def test_regions_and_authors_have_orders_of_their_own(made):
    h = legal(made)
    h.post(7, "p3", at=3.0, ts=1.5, region=AWAY)
    h.post(8, "q", at=3.0, ts=1.5)
    h.read(1, ["p3"], at=4.0, region=AWAY)
    h.read(1, ["p3"], at=4.1)
    assert h.check("author_order").verdict is Outcome.PASS


def test_a_retry_counts_from_its_first_attempt(made):
    h = legal(made)
    h.post(7, "p3", at=1.5, ts=1.6, outcome=OpOutcome.INFO, idempotency_key="k")
    h.post(7, "p3", at=3.0, ts=1.6, idempotency_key="k")  # it took effect before p2 was sent
    assert h.check("author_order").verdict is Outcome.PASS


def test_a_later_post_overtakes(made):
    h = legal(made)
    h.post(7, "p3", at=2.2)
    h.read(1, ["p3", "p2"], at=2.6)
    check = h.check("author_order")
    assert check.verdict is Outcome.FAIL
    assert check.evidence == [
        "post p1 acknowledged to user 7 in us-east at 2.000 s; post p2 acknowledged to the same author at 2.010 s; "
        "user 1 reads p2, but not p1, in us-east at 2.600 s [calm]"
    ]


def test_a_later_post_on_an_earlier_page_of_the_walk(made):
    h = legal(made)
    h.read(1, ["p2"], at=2.6, more=True)
    h.read(1, [], at=2.7, page=1)
    assert h.check("author_order").verdict is Outcome.FAIL


def test_neither_is_visible_yet(made):
    h = legal(made)
    h.old(8, "old", ts=-100)
    h.post(8, "q", at=2.05)
    h.read(1, ["q", "old"], at=2.1)
    h.read(1, ["old"], at=2.2, more=True)
    h.read(1, ["p2"], at=2.3, page=1)  # `order` accuses it; the page that lacks p1 showed nothing later
    assert h.check("author_order").verdict is Outcome.PASS


def test_a_page_that_ends_above_the_first(made):
    h = legal(made)
    h.read(1, ["p2"], at=2.6, more=True)
    assert h.check("author_order").verdict is Outcome.PASS


def test_degraded_pages_and_withdrawn_posts_are_left_out(made):
    h = legal(made)
    h.read(1, ["p2"], at=2.6, degraded="stale")
    assert h.check("author_order").verdict is Outcome.PASS
    h.op(OpKind.HIDE, 7, at=2.7, post="p1")
    h.read(1, ["p2"], at=2.8)
    assert h.check("author_order").verdict is Outcome.PASS


def test_one_post_each_is_inconclusive(made):
    h = made({1: [7]})
    h.post(7, "p1", at=1.0)
    h.read(1, ["p1"], at=2.5)
    assert h.check("author_order").verdict is Outcome.INCONCLUSIVE
