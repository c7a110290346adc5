from __future__ import annotations

from made_history import AWAY

from harness.core.op import OpKind, OpOutcome
from harness.core.verdict import Outcome


def legal(made):
    h = made({1: [7]})
    for k in range(4):
        h.post(7, f"p{k}", at=1.0 + k, idempotency_key=f"key{k}")
    h.read(1, ["p3", "p2"], at=8.0, more=True)
    h.read(1, ["p1", "p0"], at=8.1, page=1)
    h.read(1, ["p3", "p2", "p1", "p0"], at=9.0)  # another walk shows them again
    return h


def test_each_walk_shows_a_post_once(made):
    check = legal(made).check("no_duplicates")
    assert check.verdict is Outcome.PASS
    assert check.observations == 8


def test_twice_on_a_page(made):
    h = legal(made)
    h.read(1, ["p3", "p2", "p2", "p1"], at=10.0)
    check = h.check("no_duplicates")
    assert check.evidence == ["post p2 stands 2 times in the page (feed) of user 1 in us-east at 10.010 s [calm]"]


def test_twice_on_a_page_not_next_to_each_other(made):
    h = legal(made)
    h.read(1, ["p3", "p2", "p1", "p3"], at=10.0)
    assert h.check("no_duplicates").value == 1


def test_again_on_the_next_page_of_the_walk(made):
    h = legal(made)
    h.read(1, ["p3", "p2"], at=10.0, more=True)
    h.read(1, ["p2", "p1"], at=10.1, page=1)
    assert "in the walk" in h.check("no_duplicates").evidence[0]


def test_a_page_asked_for_again_counts_once(made):
    h = legal(made)
    h.read(1, ["p3", "p2"], at=10.0, more=True)
    h.read(1, ["p1", "p0"], at=10.1, page=1)
    h.read(1, ["p1", "p0"], at=10.2, page=1)
    assert h.check("no_duplicates").verdict is Outcome.PASS


def test_twice_in_feed_new(made):
    h = legal(made)
    h.read(1, ["p3", "p3"], at=10.0, kind=OpKind.FEED_NEW)
    assert h.check("no_duplicates").verdict is Outcome.FAIL


def test_feed_new_in_any_order_is_fine(made):
    h = legal(made)
    h.read(1, ["p1", "p3"], at=10.0, kind=OpKind.FEED_NEW)
    assert h.check("no_duplicates").verdict is Outcome.PASS


def test_degraded_pages_must_not_repeat_either(made):
    h = legal(made)
    h.read(1, ["p3", "p3"], at=10.0, degraded="stale")
    assert h.check("no_duplicates").verdict is Outcome.FAIL


def test_one_key_two_posts(made):
    h = legal(made)
    h.post(7, "p9", at=5.0, idempotency_key="key0")
    check = h.check("no_duplicates")
    assert check.evidence == [
        "idempotency key key0 of user 7 in us-east has made 2 posts, p0 and p9, at 5.010 s [calm]"
    ]


def test_a_key_binds_per_region_and_author(made):
    h = legal(made)
    h.post(7, "p9", at=5.0, idempotency_key="key0", region=AWAY)
    h.post(8, "q9", at=5.0, idempotency_key="key0")
    assert h.check("no_duplicates").verdict is Outcome.PASS


def test_a_repeated_post_with_the_same_id_is_legal(made):
    h = legal(made)
    h.post(7, "p0", at=5.0, ts=1.0, idempotency_key="key0")
    assert h.check("no_duplicates").verdict is Outcome.PASS


def test_another_walk_may_begin_with_what_one_ended_with(made):
    h = legal(made)
    h.read(1, ["p3", "p2"], at=10.0, more=True)
    h.read(1, ["p2", "p1"], at=10.1, session="another")
    assert h.check("no_duplicates").verdict is Outcome.PASS


def test_refused_and_unanswered_repeats_make_no_second_post(made):
    h = legal(made)
    h.post(7, "p0", at=5.0, idempotency_key="key0", outcome=OpOutcome.INFO)
    h.post(7, "p9", at=5.5, idempotency_key="key0", outcome=OpOutcome.FAIL)
    h.post(7, "q1", at=6.0)
    h.post(7, "q2", at=7.0)  # no key: each call writes
    assert h.check("no_duplicates").verdict is Outcome.PASS


def test_no_items_is_inconclusive(made):
    h = made({1: [7]})
    h.read(1, [], at=5.0)
    assert h.check("no_duplicates").verdict is Outcome.INCONCLUSIVE
