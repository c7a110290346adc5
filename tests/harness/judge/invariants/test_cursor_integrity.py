from __future__ import annotations

import msgspec
import pytest
from made_history import AWAY, HOME

from harness.core.load_rates import Load
from harness.core.op import OpKind, OpOutcome
from harness.core.verdict import Outcome
from harness.judge.invariants.cursor_integrity import differences

REFUSED = {"outcome": OpOutcome.FAIL, "status": 400}
OTHER = {"region": AWAY, "walk": 1, "page": 1}


def legal(made, **options):
    """User 1 walks two pages; behind the first's cursor the other region shows the same; a forged one is refused."""
    h = made({1: [7]}, **options)
    for k in range(1, 5):
        h.post(7, f"p{k}", at=k)
    h.read(1, ["p4", "p3"], at=20.0, more=True)
    h.read(1, ["p2", "p1"], at=20.1, page=1)
    h.probe(1, "other_node", at=20.2, items=["p2", "p1"], **OTHER)
    h.probe(1, "tampered", at=20.3, **REFUSED)
    return h


def test_forged_refused_and_valid_elsewhere(made):
    check = legal(made).check("cursor_integrity")
    assert check.verdict is Outcome.PASS
    assert check.observations == 2
    assert "1 other_node, 1 tampered; 0 probes say nothing" in check.reason


@pytest.mark.parametrize("variant", ["tampered", "foreign", "expired"])
def test_a_forged_cursor_that_is_served(made, variant):
    h = legal(made)
    h.probe(1, variant, at=21.0, items=["p2", "p1"], status=200)
    assert h.check("cursor_integrity").evidence == [
        f"user 1 sends a {variant} cursor to us-east: answered 200 with 2 items at 21.000 s [calm]"
    ]


def test_an_empty_page_is_no_refusal(made):
    h = legal(made)
    h.probe(1, "foreign", at=21.0, status=200)
    assert h.check("cursor_integrity").verdict is Outcome.FAIL


@pytest.mark.parametrize(
    "fields",
    [
        {"outcome": OpOutcome.FAIL, "status": 429},
        {"outcome": OpOutcome.FAIL, "status": 401},
        {"outcome": OpOutcome.FAIL, "status": 503},
        {"outcome": OpOutcome.INFO, "status": 500},
        {"outcome": OpOutcome.FAIL, "status": 0},
    ],
)
def test_an_answer_that_says_nothing_of_the_cursor(made, fields):
    h = legal(made)
    h.probe(1, "foreign", at=21.0, **fields)
    h.probe(1, "other_node", at=21.0, **OTHER, **fields)
    check = h.check("cursor_integrity")
    assert (check.verdict, check.observations) == (Outcome.PASS, 2)
    assert "2 probes say nothing" in check.reason


def test_another_region_refuses_a_valid_cursor(made):
    h = legal(made)
    h.probe(1, "other_node", at=21.0, **OTHER, **REFUSED)
    assert "sends a cursor of another region to ap-tokyo: answered 400" in h.check("cursor_integrity").evidence[0]


def test_another_region_skips_a_post(made):
    h = legal(made)
    h.probe(1, "other_node", at=21.0, items=["p1"], **OTHER)
    assert h.check("cursor_integrity").evidence == [
        "us-east asked for its own page behind the cursor at 20.100 s; user 1 sends a cursor of another region to "
        "ap-tokyo: lacks post p2, which the page of us-east shows at 21.000 s [calm]"
    ]


def test_another_region_shows_a_post_too_many_and_one_again(made):
    h = legal(made)
    h.old(7, "old", ts=1.5)  # a place inside the page
    h.probe(1, "other_node", at=21.0, items=["p3", "p2", "p1"], **OTHER)
    assert "shows post p3, which stands above the cursor" in h.check("cursor_integrity").evidence[0]


def test_a_post_on_its_way_may_be_there_already_or_not_yet(made):
    h = legal(made)
    h.post(7, "late", at=18.0, ts=1.5)  # 3 s to the other region
    h.probe(1, "other_node", at=20.9, items=["p2", "late", "p1"], **OTHER)
    assert h.check("cursor_integrity").verdict is Outcome.PASS


def test_withdrawn_posts_and_changed_edges_may_differ(made):
    h = legal(made)
    h.op(OpKind.DELETE, 7, at=19.9, post="p2")
    h.probe(1, "other_node", at=20.5, items=["p1"], **OTHER)
    assert h.check("cursor_integrity").verdict is Outcome.PASS


def test_only_what_both_pages_reach_is_compared(made):
    h = legal(made)
    h.probe(1, "other_node", at=21.0, items=["p2"], next_cursor="more", **OTHER)
    assert h.check("cursor_integrity").verdict is Outcome.PASS


def test_fault_windows_and_degraded_pages_are_left_out(made):
    h = legal(made)
    h.fault(21.0, 22.0)
    h.probe(1, "other_node", at=21.5, items=[], **OTHER)
    h.probe(1, "other_node", at=20.5, items=[], degraded="stale", **OTHER)
    assert h.check("cursor_integrity").verdict is Outcome.PASS


def test_half_a_check_is_inconclusive(made):
    h = legal(made)
    h.ops.pop()
    assert "no answer to a forged cursor was seen" in h.check("cursor_integrity").reason
    h = legal(made)
    del h.ops[-2]
    check = h.check("cursor_integrity")
    assert check.verdict is Outcome.INCONCLUSIVE
    assert "no cursor was tried in another region" in check.reason


def test_one_region_has_no_other_node(made):
    h = made({1: [7]}, regions=(HOME,))
    h.post(7, "p1", at=1.0)
    h.probe(1, "tampered", at=20.3, **REFUSED)
    assert h.check("cursor_integrity").verdict is Outcome.PASS


def test_no_probe_is_inconclusive_and_a_load_without_any_skipped(made):
    h = made({1: [7]})
    h.post(7, "p1", at=1.0)
    assert h.check("cursor_integrity").verdict is Outcome.INCONCLUSIVE
    h.scenario = msgspec.structs.replace(h.scenario, load=Load())
    assert h.check("cursor_integrity").skipped


def test_differences():
    assert differences([9, 7, 5], [9, 5], lo=5, hi=10) == ({7}, set(), set())
    assert differences([9, 5], [9, 7, 5], lo=5, hi=10) == (set(), {7}, set())
    assert differences([9, 5], [12, 9, 5], lo=5, hi=10) == (set(), set(), {12})
    assert differences([9, 5], [9, 4], lo=6, hi=10) == (set(), set(), set())


def test_a_post_written_while_unfollowed_may_be_in_one_region_only(made):
    h = legal(made)
    h.op(OpKind.UNFOLLOW, 1, at=0.5, author=8)
    h.post(8, "meanwhile", at=1.5)
    h.op(OpKind.FOLLOW, 1, at=12.0, author=8)
    h.probe(1, "other_node", at=21.0, items=["p2", "meanwhile", "p1"], **OTHER)
    assert h.check("cursor_integrity").verdict is Outcome.PASS


def test_a_post_without_an_answer_from_before_the_first_acknowledged_one(made):
    h = legal(made)
    h.post(7, "unsure", at=0.5, outcome=OpOutcome.INFO)
    h.probe(1, "other_node", at=21.0, items=["p2", "p1", "unsure"], **OTHER)
    assert h.check("cursor_integrity").verdict is Outcome.PASS
