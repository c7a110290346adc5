from __future__ import annotations

import msgspec
import pytest
from made_history import AWAY, HOME, ns

from harness.contract.profile import Capabilities
from harness.core.load_rates import Load
from harness.core.op import OpKind, OpOutcome
from harness.core.verdict import Outcome
from harness.judge.invariants.cursor_integrity import differences

REFUSED = {"outcome": OpOutcome.FAIL, "status": 400}
OTHER = {"region": AWAY, "walk": 2, "page": 1}


def legal(made, **options):
    """User 1 walks two pages; behind the first's cursor the other region shows the same; a forged one is refused.

    Other pages with that number are no page behind that cursor: of another walk, user or region.
    """
    h = made({1: [7]}, **options)
    h.post(8, "untimed", at=0.5, ts_us=0)
    for k in range(1, 5):
        h.post(7, f"p{k}", at=k)
    h.read(1, ["p4"], at=19.0, more=True)
    h.read(1, ["p3"], at=19.1, page=1)
    h.read(1, ["p4", "p3"], at=20.0, more=True)
    h.read(1, ["p2", "p1"], at=20.1, page=1)
    h.read(2, ["p3"], at=20.1, page=1)
    h.read(1, ["p3"], at=20.15, page=1, region=AWAY)
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
    h.probe(1, variant, at=21.0, items=["p2", "p1"], status=200, **OTHER)
    assert h.check("cursor_integrity").evidence == [
        f"user 1 sends a {variant} cursor to ap-tokyo: answered 200 with 2 items at 21.000 s [calm]"
    ]


def test_neither_an_empty_page_nor_an_error_with_items_is_a_refusal(made):
    h = legal(made)
    h.probe(1, "foreign", at=21.0, status=200)
    h.probe(1, "foreign", at=21.0, items=["p2"], **REFUSED)
    assert h.check("cursor_integrity").value == 2


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
    h.post(7, "fresh", at=20.9)
    h.probe(1, "other_node", at=21.0, items=["p1"], **OTHER)
    assert h.check("cursor_integrity").evidence == [
        "us-east asked for its own page behind the cursor at 20.100 s; user 1 sends a cursor of another region to "
        "ap-tokyo: lacks post p2, which the page of us-east shows at 21.000 s [calm]"
    ]


def test_another_region_ends_too_early(made):
    h = legal(made)
    h.probe(1, "other_node", at=21.0, items=["p2"], **OTHER)
    assert "lacks post p1" in h.check("cursor_integrity").evidence[0]


def test_pages_of_the_upper_half_of_the_depth_are_compared(made):
    h = legal(made)
    h.read(1, ["p4"], at=21.0, more=True)
    h.read(1, ["p2", "p1"], at=21.1, page=7)
    probe = h.probe(1, "other_node", at=21.2, items=["p1"], region=AWAY, walk=3, page=7)
    assert "lacks post p2" in h.check("cursor_integrity").evidence[0]
    h.ops[-2].page = probe.page = 8
    assert h.check("cursor_integrity").verdict is Outcome.PASS


def test_old_posts_must_be_in_both_regions(made):
    h = legal(made)
    h.old(7, "old", ts=-5)
    h.old(7, "textless", ts=-6)
    h.posts["textless"] = (*h.posts["textless"][:2], 0)
    for at in (20.5, 20.6):
        h.read(1, ["p4", "p3"], at=at, more=True)
        h.read(1, ["p2", "p1", "old", "textless"], at=at + 0.01, page=1)
    h.post(7, "again", at=20.7, text="old")
    h.post(8, "another's", at=20.7, text="old", outcome=OpOutcome.INFO)
    h.post(7, "another", at=20.7, outcome=OpOutcome.INFO)
    h.op(OpKind.LIKE, 7, at=20.7, outcome=OpOutcome.INFO)
    h.read(2, ["another"], at=20.9)
    h.probe(1, "other_node", at=21.0, items=["p2", "p1"], region=AWAY, walk=4, page=1)
    check = h.check("cursor_integrity")
    assert check.value == 2
    assert "lacks post old" in check.evidence[0]
    assert "lacks post textless" in check.evidence[1]


def test_a_post_that_nobody_wrote_is_left_to_others(made):
    h = legal(made)
    for name, ts in (("of-the-first-moment", 1.0), ("made-up", 2.5)):
        h.old(7, name, ts=ts)
        h.read(2, [name], at=20.9)
    h.probe(1, "other_node", at=21.0, items=["made-up", "p2", "of-the-first-moment", "p1"], **OTHER)
    assert h.check("cursor_integrity").verdict is Outcome.PASS


def test_another_region_shows_a_post_too_many_and_one_again(made):
    h = legal(made)
    h.old(7, "old", ts=1.5)  # a place inside the page
    h.probe(1, "other_node", at=21.0, items=["p3", "p2", "p1"], **OTHER)
    assert "shows post p3, which stands above the cursor" in h.check("cursor_integrity").evidence[0]


def test_a_post_on_its_way_may_be_there_already_or_not_yet(made):
    h = legal(made)
    late = h.post(7, "late", at=17.1, ts=1.5)  # 3 s to the other region: until 20.11 s
    h.probe(1, "other_node", at=20.9, items=["p2", "late", "p1"], **OTHER)
    assert h.check("cursor_integrity").verdict is Outcome.PASS
    late.done_ns = ns(17.1)  # us-east asked at 20.1 s
    assert "shows post late" in h.check("cursor_integrity").evidence[0]


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
    h.read(1, ["p4", "p3"], at=20.6, more=True)
    h.read(1, ["p2"], at=20.7, page=1, degraded="stale")
    h.probe(1, "other_node", at=20.8, items=["p2", "p1"], region=AWAY, walk=3, page=1)
    assert h.check("cursor_integrity").verdict is Outcome.PASS
    h.faults[0].injected_ns, h.faults[0].undone_ns = ns(8.0), ns(8.1)  # until 23.1 s: the own page is in it
    h.probe(1, "other_node", at=23.5, items=[], **OTHER)
    assert h.check("cursor_integrity").verdict is not Outcome.FAIL


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
    h = legal(made, able=Capabilities(regions=False))
    del h.ops[-2]
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
    assert differences([9, 5], [5], lo=5, hi=9) == (set(), set(), set())
    assert differences([5], [9, 5], lo=5, hi=9) == (set(), set(), {9})


def test_a_post_written_while_unfollowed_may_be_in_one_region_only(made):
    h = legal(made)
    h.op(OpKind.UNFOLLOW, 1, at=0.5, author=8)
    h.post(8, "meanwhile", at=1.5)
    h.op(OpKind.FOLLOW, 1, at=12.0, author=8)
    h.probe(1, "other_node", at=21.0, items=["p2", "meanwhile", "p1"], **OTHER)
    assert h.check("cursor_integrity").verdict is Outcome.PASS


def test_a_post_without_an_answer_from_before_the_first_acknowledged_one(made):
    h = legal(made)
    h.post(7, "unsure", at=0.7, outcome=OpOutcome.INFO)
    h.read(2, ["unsure"], at=20.9)
    h.probe(1, "other_node", at=21.0, items=["p2", "p1", "unsure"], **OTHER)
    assert h.check("cursor_integrity").verdict is Outcome.PASS
