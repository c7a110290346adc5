from __future__ import annotations

from made_history import AWAY

from harness.core.verdict import Outcome


def legal(made, **options):
    """A post that its follower reads a moment too early, and then finds."""
    h = made({1: [7]}, **options)
    h.post(7, "p1", at=1.0)
    h.read(1, [], at=1.1)
    h.read(1, ["p1"], at=1.5)
    return h


def test_seen_within_the_promise(made):
    check = legal(made).check("visibility")
    assert check.verdict is Outcome.PASS
    assert check.observations == 1
    assert check.value == 90.0
    assert check.bound == 2000.0
    assert "p99 90 ms" in check.reason


def test_still_absent_after_the_promise(made):
    h = legal(made)
    h.read(1, [], at=4.0)
    check = h.check("visibility")
    assert check.verdict is Outcome.FAIL
    assert check.evidence == [
        "post p1 acknowledged at 1.010 s; 2.990 s old, still absent from the read of follower 1 at 4.000 s [calm]"
    ]


def test_reads_that_do_not_cover_it_say_nothing(made):
    h = legal(made)
    h.post(7, "p2", at=2.0)
    h.read(1, ["p2"], at=5.0, more=True)
    assert h.check("visibility").verdict is Outcome.PASS


def test_fault_windows_are_left_out(made):
    h = legal(made)
    h.fault(10.0, 12.0)
    h.post(7, "p2", at=11.0)
    h.read(1, ["p1"], at=20.0)
    assert h.check("visibility").verdict is Outcome.PASS
    h.post(7, "p3", at=30.0)
    h.read(1, ["p2", "p1"], at=35.0)
    assert h.check("visibility").verdict is Outcome.FAIL


def test_other_regions_and_degraded_reads_are_left_out(made):
    h = legal(made)
    h.read(1, [], at=9.0, region=AWAY)
    h.read(1, [], at=9.0, degraded="stale")
    assert h.check("visibility").verdict is Outcome.PASS


def test_celebrities_have_their_own_bound(made):
    h = made({1: [0, 7]}, celebrities=1)
    h.post(7, "p1", at=1.0)
    h.post(0, "star", at=2.0)
    h.read(1, ["p1"], at=6.0)
    assert h.check("visibility").verdict is Outcome.PASS
    h.read(1, ["p1"], at=7.5)
    assert h.check("visibility").verdict is Outcome.FAIL


def test_absent_up_to_the_promise(made):
    h = legal(made)
    read = h.read(1, [], at=3.01)  # 2 s after the acknowledgement
    assert h.check("visibility").verdict is Outcome.PASS
    read.sent_ns += 1
    assert h.check("visibility").verdict is Outcome.FAIL


def test_one_pair_in_a_hundred_may_be_late(made):
    h = made({1: [7]})
    for k in range(100):
        h.post(7, f"p{k:03}", at=1.0 + k / 100)
    shown = [f"p{k:03}" for k in range(99, -1, -1)]
    h.read(1, shown[1:], at=9.0)
    assert h.check("visibility").verdict is Outcome.PASS
    h.read(1, shown[2:], at=9.1)
    assert h.check("visibility").verdict is Outcome.FAIL


def test_a_window_excuses_from_its_first_moment_to_the_end_of_convergence(made):
    h = legal(made)
    h.fault(20.0, 22.0)  # until 37 s
    read = h.read(1, [], at=20.0)
    assert h.check("visibility").verdict is Outcome.PASS
    read.sent_ns -= 1
    assert h.check("visibility").verdict is Outcome.FAIL
    read.sent_ns += 1
    post = h.post(7, "p2", at=36.0)
    h.read(1, ["p1"], at=50.0)
    post.done_ns = read.sent_ns + 17_000_000_000 - 1
    assert h.check("visibility").verdict is Outcome.PASS
    post.done_ns += 1
    assert h.check("visibility").verdict is Outcome.FAIL


def test_the_author_himself_is_no_follower_here(made):
    h = legal(made)
    h.read(7, [], at=9.0)
    assert h.check("visibility").verdict is Outcome.PASS


def test_nobody_reads(made):
    h = made({1: [7]})
    h.post(7, "p1", at=1.0)
    h.read(2, [], at=2.0)
    assert h.check("visibility").verdict is Outcome.INCONCLUSIVE
