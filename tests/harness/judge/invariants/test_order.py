from __future__ import annotations

from harness.core.op import OpKind
from harness.core.verdict import Outcome


def legal(made):
    h = made({1: [7]})
    for k in range(4):
        h.post(7, f"p{k}", at=1.0 + k)
    h.read(1, ["p3", "p2"], at=8.0, more=True)
    h.read(1, ["p1", "p0"], at=8.1, page=1)
    h.read(2, [], at=8.2)
    return h


def test_newest_first_passes(made):
    check = legal(made).check("order")
    assert check.verdict is Outcome.PASS
    assert check.observations == 2
    assert "1 pages beyond a first one" in check.reason


def test_neighbours_swapped(made):
    h = legal(made)
    h.read(1, ["p3", "p1", "p2"], at=9.0)
    check = h.check("order")
    assert check.evidence == ["page 0 of user 1 in us-east shows p1 above p2, which is newer, at 9.010 s [calm]"]


def test_equal_timestamps_are_ordered_by_id(made):
    h = legal(made)
    h.post(7, "twin-a", at=6.0)
    h.post(8, "twin-b", at=6.0)
    h.read(1, ["twin-b", "twin-a"], at=9.0, more=True)
    assert h.check("order").verdict is Outcome.PASS
    h.read(1, ["twin-a", "twin-b"], at=9.0, more=True)
    assert h.check("order").verdict is Outcome.FAIL


def test_a_page_that_begins_above_the_end_of_the_page_before(made):
    h = legal(made)
    h.read(1, ["p1"], at=9.0, more=True)
    h.read(1, ["p2", "p0"], at=9.1, page=1)
    assert "begins with a post newer" in h.check("order").evidence[0]


def test_a_second_showing_is_not_an_order_problem(made):
    h = legal(made)
    h.read(1, ["p3", "p2", "p3", "p1"], at=9.0)
    assert h.check("order").verdict is Outcome.PASS


def test_a_new_walk_may_begin_higher(made):
    h = legal(made)
    h.read(1, ["p3"], at=9.0)
    assert h.check("order").verdict is Outcome.PASS


def test_a_skipped_page_number_joins_no_pages(made):
    h = legal(made)
    h.read(1, ["p1"], at=9.0, more=True)
    h.read(1, ["p2"], at=9.2, page=2)
    assert h.check("order").verdict is Outcome.PASS


def test_a_page_may_repeat_the_end_of_the_page_before(made):
    h = legal(made)
    h.read(1, ["p3", "p2"], at=9.0, more=True)
    h.read(1, ["p2", "p1"], at=9.1, page=1)
    assert h.check("order").verdict is Outcome.PASS


def test_two_timestamps_for_one_post(made):
    h = legal(made)
    for name, more_us, at in (("p3", 5, 9.0), ("p2", 5, 9.5), ("p3", 7, 10.0)):
        h.read(1, [name], at=at, more=True, item_ts_us=[h.posts[name][0] + more_us])
    check = h.check("order")
    assert check.value == 2
    assert check.evidence == [
        "post p3 carries two timestamps, 1700000004000000 and 1700000004000007 µs, first seen at 9.010 s [calm]",
        "post p2 carries two timestamps, 1700000003000000 and 1700000003000005 µs, first seen at 9.510 s [calm]",
    ]


def test_feed_new_follows_arrival(made):
    h = legal(made)
    h.read(1, ["p1", "p3"], at=9.0, kind=OpKind.FEED_NEW)
    assert h.check("order").verdict is Outcome.PASS


def test_single_items_are_inconclusive(made):
    h = made({1: [7]})
    h.post(7, "p0", at=1.0)
    h.read(1, ["p0"], at=2.0)
    assert h.check("order").verdict is Outcome.INCONCLUSIVE
