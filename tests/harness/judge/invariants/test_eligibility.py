from __future__ import annotations

from dataclasses import replace

import msgspec
import pytest
from made_history import AWAY, ns

from harness.core.clock import NS_PER_S
from harness.core.load_rates import Load
from harness.core.op import OpKind, OpOutcome
from harness.core.verdict import Outcome
from harness.judge.delays import Delay
from harness.judge.invariants import CHECKERS
from harness.judge.trial import run_checker


def legal(made, **options):
    """p1 by user 7 is deleted at 5 s; user 1 reads his feed without it in both regions.

    Pages of others, and those that do not reach down to p1 or begin below it, tell nothing; nor does a probe.
    """
    h = made({1: [7, 8], 2: [7]}, **options)
    h.old(7, "old", ts=-10)
    h.post(8, "r", at=0.5)
    h.post(7, "p1", at=1.0)
    h.post(7, "p2", at=2.0)
    h.read(1, ["p2", "p1"], at=4.0)
    h.op(OpKind.DELETE, 7, at=5.0, post="p1")
    h.read(3, [], at=10.0)
    h.read(2, ["p2"], at=8.0)
    h.read(1, ["p2"], at=9.0, more=True)
    h.read(1, ["old"], at=9.1, page=2)
    h.probe(1, "expired", at=9.2, items=["p1"])
    h.read(1, ["p2"], at=10.0)
    h.read(1, ["p2"], at=10.0, region=AWAY)
    return h


def test_what_was_deleted_stays_gone(made):
    check = legal(made).check("eligibility")
    assert check.verdict is Outcome.PASS
    assert check.observations == 3
    assert "3 times after delete" in check.reason


def test_a_deleted_post_that_comes_back(made):
    h = legal(made)
    h.op(OpKind.MODERATE, 3, at=20.0, post="p1", region=AWAY)
    h.fault(30.0, 33.0)
    h.read(1, ["p2", "p1"], at=50.0)
    check = h.check("eligibility")
    assert check.verdict is Outcome.FAIL
    assert check.evidence == [
        "post p1 of user 7 acknowledged at 1.010 s; deleted by its author in us-east at 5.010 s; "
        "shown to user 1 in us-east (feed) at 50.000 s; kill of us-east.memcached 30.0-33.0 s [calm]"
    ]


def test_others_may_see_it_for_a_moment_its_author_may_not(made):
    h = legal(made)
    read = h.read(2, ["p2", "p1"], at=7.0)  # promised within 2 s of 5.01 s
    assert h.check("eligibility").verdict is Outcome.PASS
    read.sent_ns = ns(7.01)
    assert h.check("eligibility").value == 1
    h.read(7, ["p2", "p1"], at=5.01)
    assert h.check("eligibility").value == 2


def test_who_moderates_may_see_it_for_a_moment_and_so_may_who_got_a_degraded_answer(made):
    h = legal(made)
    h.op(OpKind.MODERATE, 3, at=11.0, post="p2")
    h.read(3, ["p2"], at=11.5)
    h.op(OpKind.DELETE, 8, at=11.0, post="r", degraded="stale")
    h.read(8, ["r"], at=11.5)
    assert h.check("eligibility").verdict is Outcome.PASS


def test_another_region_has_longer(made):
    h = legal(made)
    h.read(1, ["p2", "p1"], at=8.0, region=AWAY)  # 3 s
    h.read(7, ["p2", "p1"], at=8.0, region=AWAY)
    assert h.check("eligibility").verdict is Outcome.PASS
    h.read(1, ["p2", "p1"], at=8.1, region=AWAY)
    assert h.check("eligibility").verdict is Outcome.FAIL


def test_a_fault_delays_what_had_not_settled_before_it(made):
    h = legal(made)
    h.fault(6.0, 20.0)
    h.read(1, ["p2", "p1"], at=34.9)  # the window ends 15 s after the undo
    assert h.check("eligibility").verdict is Outcome.INCONCLUSIVE
    h.read(1, ["p2", "p1"], at=35.1)
    assert h.check("eligibility").value == 1


def test_a_fault_does_not_excuse_what_had_settled(made):
    h = legal(made)
    h.fault(20.0, 30.0)
    h.read(1, ["p2", "p1"], at=25.0)
    assert h.check("eligibility").verdict is Outcome.FAIL


def test_a_degraded_read_is_judged_once_all_must_have_settled(made):
    h = legal(made)
    h.read(1, ["p2", "p1"], at=20.0, degraded="stale")
    h.read(7, ["p2", "p1"], at=21.0, degraded="stale")
    assert h.check("eligibility").verdict is Outcome.PASS
    h.read(1, ["p2", "p1"], at=23.0, degraded="stale")
    assert h.check("eligibility").verdict is Outcome.FAIL


@pytest.mark.parametrize("outcome", [OpOutcome.INFO, OpOutcome.FAIL])
def test_a_delete_that_may_not_have_happened_takes_nothing_away(made, outcome):
    h = legal(made)
    h.op(OpKind.DELETE, 7, at=11.0, post="p2", outcome=outcome)
    h.read(1, ["p2"], at=50.0)
    assert h.check("eligibility").verdict is Outcome.PASS


@pytest.mark.parametrize(("away", "back"), [(OpKind.HIDE, OpKind.SHOW), (OpKind.MODERATE, OpKind.LIFT)])
def test_hidden_until_it_is_shown_again(made, away, back):
    h = legal(made)
    h.op(away, 7, at=11.0, post="p2")
    h.read(1, [], at=15.0)
    h.op(back, 7, at=20.0, post="p2")
    h.read(1, ["p2"], at=20.005)
    check = h.check("eligibility")
    assert (check.verdict, check.observations) == (Outcome.PASS, 6)  # p1 five times
    h.read(1, ["p2"], at=19.99)
    assert h.check("eligibility").verdict is Outcome.FAIL


def test_a_show_without_an_answer_may_work_at_any_time(made):
    h = legal(made)
    h.op(OpKind.SHOW, 7, at=10.5, post="p2", outcome=OpOutcome.INFO)
    h.op(OpKind.HIDE, 7, at=11.0, post="p2")
    h.read(1, ["p2"], at=50.0)
    assert h.check("eligibility").verdict is Outcome.PASS


def test_a_show_of_another_region_may_still_be_on_its_way(made):
    h = legal(made)
    h.op(OpKind.SHOW, 7, at=10.0, post="p2", region=AWAY)
    h.op(OpKind.HIDE, 7, at=11.0, post="p2")
    h.read(1, ["p2"], at=50.0)
    assert h.check("eligibility").verdict is Outcome.PASS
    h.op(OpKind.HIDE, 7, at=20.0, post="p2")
    assert h.check("eligibility").verdict is Outcome.FAIL


def test_a_moderated_post_stays_away_when_its_author_shows_it(made):
    h = legal(made)
    h.op(OpKind.MODERATE, 7, at=11.0, post="p2")
    h.op(OpKind.SHOW, 7, at=12.0, post="p2")
    h.read(1, ["p2"], at=20.0)
    assert "moderated" in h.check("eligibility").evidence[0]


def test_a_look_up_shows_no_deleted_post(made):
    h = legal(made)
    h.look_up(1, "p1", at=6.0)
    h.look_up(1, "p1", at=10.0, found=False)
    assert h.check("eligibility").verdict is Outcome.PASS
    h.look_up(1, "p1", at=10.0)
    assert "(fetch)" in h.check("eligibility").evidence[0]


def test_an_unfollowed_author_is_gone_until_followed_again(made):
    h = legal(made)
    h.post(8, "q", at=11.0)
    h.op(OpKind.UNFOLLOW, 2, at=9.0, author=7)
    h.op(OpKind.UNFOLLOW, 1, at=12.0, author=8)
    h.read(1, ["p2"], at=12.1)
    h.read(2, ["q"], at=14.0)
    h.op(OpKind.FOLLOW, 1, at=20.0, author=8)
    h.read(1, ["q", "p2"], at=20.005)
    check = h.check("eligibility")
    assert check.verdict is Outcome.PASS
    assert "4 times after unfollow" in check.reason  # r and q by user 1, p1 and p2 by user 2
    h.read(1, ["q", "p2"], at=13.0)
    assert h.check("eligibility").evidence == [
        "post q of user 8 acknowledged at 11.010 s; user 1 unfollowed user 8 in us-east at 12.010 s; "
        "shown to user 1 in us-east (feed) at 13.000 s [calm]"
    ]


def test_an_unfollowed_author_whom_nobody_else_cuts(made):
    h = made({1: [8]})
    h.post(8, "q", at=1.0)
    h.op(OpKind.UNFOLLOW, 1, at=2.0, author=8)
    h.read(1, ["q"], at=5.0)
    assert h.check("eligibility").value == 1


def test_a_noisy_machine_excuses_neither_the_one_who_took_it_away_nor_final_reads(made):
    h = legal(made)
    h.op(OpKind.MODERATE, 3, at=5.0, post="p1")
    for user, at, fields in (
        (7, 5.1, {}),
        (7, 8.0, {}),
        (1, 8.0, {}),
        (1, 12.5, {}),  # 5.49 s late at home, 4.49 s in the other region
        (1, 12.5, {"region": AWAY}),
        (1, 12.6, {"region": AWAY}),
        (1, 20.0, {"final": True}),
        (2, 20.01, {"final": True}),  # T = 15 s after it was gone
    ):
        h.read(user, ["p2", "p1"], at=at, **fields)
    with h.trial() as trial:
        for longest_s, violations in ((30, 3), (5, 5)):
            noisy = replace(trial, doubtful=(Delay(ns(0), ns(60), longest_s * NS_PER_S),))
            assert run_checker("eligibility", CHECKERS["eligibility"], noisy).value == violations


def test_a_block_hides_both_from_each_other(made):
    h = made({1: [7], 7: [1]})
    h.post(1, "mine", at=1.0)
    h.post(7, "his", at=1.5)
    h.op(OpKind.BLOCK, 7, at=5.0, author=1)
    h.op(OpKind.BLOCK, 1, at=6.0, author=7)
    h.read(1, ["mine"], at=10.0)
    h.read(7, ["his"], at=5.1)
    assert h.check("eligibility").verdict is Outcome.PASS
    h.read(1, ["his", "mine"], at=10.0)
    assert "user 7 blocked user 1" in h.check("eligibility").evidence[0]
    h.read(7, ["his", "mine"], at=5.1)
    assert h.check("eligibility").value == 2


def test_a_follow_does_not_undo_a_block_but_an_unblock_may(made):
    h = made({1: [7]})
    h.post(7, "p1", at=1.0)
    h.op(OpKind.BLOCK, 1, at=5.0, author=7)
    h.read(1, [], at=6.0)
    h.op(OpKind.UNBLOCK, 1, at=10.0, author=7)
    h.read(1, ["p1"], at=11.0)
    assert h.check("eligibility").verdict is Outcome.PASS
    h.op(OpKind.FOLLOW, 1, at=7.0, author=7)
    h.read(1, ["p1"], at=8.0)
    assert h.check("eligibility").verdict is Outcome.FAIL


def test_old_posts_of_a_blocked_author_too(made):
    h = made({1: [7]})
    h.old(7, "old", ts=-100)
    h.post(7, "p1", at=1.0)
    h.op(OpKind.BLOCK, 1, at=5.0, author=7)
    h.read(1, ["old"], at=6.0)
    assert "post old of user 7 acknowledged before the run" in h.check("eligibility").evidence[0]


def test_blocked_users_posts_can_be_looked_up(made):
    h = made({1: [7]})
    h.post(7, "p1", at=1.0)
    h.op(OpKind.BLOCK, 1, at=5.0, author=7)
    h.read(1, [], at=6.0)
    h.look_up(1, "p1", at=7.0)
    assert h.check("eligibility").verdict is Outcome.PASS


def test_nothing_taken_away_is_inconclusive(made):
    h = made({1: [7]})
    h.post(7, "p1", at=1.0)
    h.read(1, ["p1"], at=6.0)
    assert h.check("eligibility").verdict is Outcome.INCONCLUSIVE


def test_a_load_that_takes_nothing_away_is_skipped(made):
    h = legal(made)
    h.scenario = msgspec.structs.replace(h.scenario, load=Load())
    assert h.check("eligibility").skipped
