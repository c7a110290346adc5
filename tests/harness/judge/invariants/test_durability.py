from __future__ import annotations

from made_history import AWAY, HOME

from harness.core.op import OpKind, OpOutcome
from harness.core.verdict import Outcome

FOLLOWS = {1: [7], 2: [7]}


def legal(made, **options):
    """p1 and p2 by user 7, found in the final reads of users 1 and 2 in both regions."""
    h = made(FOLLOWS, **options)
    h.post(7, "p1", at=1.0)
    h.post(7, "p2", at=2.0)
    for user in (1, 2):
        for region in (HOME, AWAY):
            h.read(user, ["p2", "p1"], at=50.0, final=True, region=region)
    return h


def test_a_found_post_passes(made):
    check = legal(made).check("durability")
    assert check.verdict is Outcome.PASS
    assert check.observations == 8
    assert "2 of 2 acknowledged posts" in check.reason


def test_a_post_that_one_final_read_lacks_is_lost(made):
    h = legal(made)
    h.read(1, ["p2"], at=51.0, final=True)
    check = h.check("durability")
    assert check.verdict is Outcome.FAIL
    assert check.value == 1
    assert check.evidence == [
        "user 1 follows user 7 since before the run; post p1 acknowledged to user 7 in us-east at 1.010 s; "
        "absent from the final read of user 1 in us-east at 51.000 s [calm]"
    ]


def test_the_author_is_a_follower(made):
    h = legal(made)
    h.read(7, ["p2"], at=51.0, final=True)
    assert "its author" in h.check("durability").evidence[0]


def test_a_page_that_ends_above_the_post_does_not_cover_it(made):
    h = legal(made)
    h.read(1, ["p2"], at=51.0, final=True, more=True)
    assert h.check("durability").verdict is Outcome.PASS


def test_a_second_page_that_skips_the_post_lacks_it(made):
    h = legal(made)
    h.old(7, "older", ts=-100)
    h.read(1, ["p2"], at=51.0, final=True, more=True)
    h.read(1, ["older"], at=51.1, final=True, page=1)
    assert h.check("durability").verdict is Outcome.FAIL


def test_timed_out_and_failed_posts_need_not_be_there(made):
    h = legal(made)
    h.post(7, "p3", at=3.0, outcome=OpOutcome.INFO)
    h.post(7, "p4", at=3.5, outcome=OpOutcome.FAIL)
    assert h.check("durability").verdict is Outcome.PASS


def test_deleted_posts_need_not_be_there(made):
    h = legal(made)
    h.post(7, "gone", at=3.0)
    h.op(OpKind.DELETE, 7, at=4.0, post="gone", outcome=OpOutcome.INFO)
    assert h.check("durability").verdict is Outcome.PASS


def test_an_edge_that_changed_is_not_judged(made):
    h = legal(made)
    h.op(OpKind.UNFOLLOW, 1, at=40.0, author=7)
    h.read(1, [], at=51.0, final=True)
    assert h.check("durability").verdict is Outcome.PASS


def test_a_block_by_the_author_counts_as_a_change(made):
    h = legal(made)
    h.op(OpKind.BLOCK, 7, at=40.0, author=1)
    h.read(1, [], at=51.0, final=True)
    assert h.check("durability").verdict is Outcome.PASS


def test_a_follow_counts_for_posts_5_s_after_it(made):
    h = made({1: [], 7: []})
    h.op(OpKind.FOLLOW, 1, at=1.0, author=7)
    h.post(7, "early", at=3.0)
    h.post(7, "later", at=7.0)
    h.read(1, ["later"], at=50.0, final=True)
    h.read(1, ["later"], at=50.0, final=True, region=AWAY)
    assert h.check("durability").verdict is Outcome.PASS
    h.read(1, [], at=52.0, final=True)
    assert h.check("durability").value == 1


def test_an_inherited_edge_counts_once_both_have_joined(made):
    h = made({1: [7]}, joined="none")
    for user, at in ((1, 1.0), (7, 10.0)):
        h.op(OpKind.SIGNUP, user, at=at)
        h.op(OpKind.IMPORT, user, at=at + 0.5)
    h.post(7, "early", at=12.0)
    h.post(7, "later", at=17.0)
    h.read(1, ["later"], at=50.0, final=True)
    h.read(1, ["later"], at=50.0, final=True, region=AWAY)
    assert h.check("durability").verdict is Outcome.PASS


def test_degraded_final_reads_prove_nothing(made):
    h = legal(made)
    h.read(1, [], at=51.0, final=True, degraded="stale")
    assert h.check("durability").verdict is Outcome.PASS


def test_another_region_is_judged_after_heal_and_convergence_only(made):
    h = legal(made)
    h.fault(20.0, 40.0)
    h.read(1, ["p2"], at=54.9, final=True, region=AWAY)
    assert h.check("durability").verdict is Outcome.INCONCLUSIVE  # T = 15 s: nothing was judged in ap-tokyo
    h.read(1, ["p2", "p1"], at=55.1, final=True, region=AWAY)
    assert h.check("durability").verdict is Outcome.PASS


def test_its_region_shows_a_post_within_the_visibility_promise(made):
    h = made(FOLLOWS, regions=(HOME,))
    h.post(7, "p1", at=1.0)
    h.read(1, ["p1"], at=50.0, final=True)
    read = h.read(2, [], at=3.01, final=True)  # acknowledged at 1.01 s
    assert h.check("durability").verdict is Outcome.FAIL
    read.sent_ns -= 1
    assert h.check("durability").verdict is Outcome.PASS


def test_another_region_shows_it_within_the_cross_region_promise(made):
    h = made(FOLLOWS)
    h.post(7, "p1", at=1.0)
    for region in (HOME, AWAY):
        h.read(1, ["p1"], at=50.0, final=True, region=region)
    read = h.read(2, [], at=4.01, final=True, region=AWAY)
    assert h.check("durability").verdict is Outcome.FAIL
    read.sent_ns -= 1
    assert h.check("durability").verdict is Outcome.PASS


def test_a_celebrity_has_longer(made):
    for region, bound in ((HOME, 6.01), (AWAY, 9.01)):
        h = made({1: [0]}, celebrities=1, regions=(region,) if region == HOME else (HOME, AWAY))
        h.post(0, "star", at=1.0)
        read = h.read(1, [], at=bound, final=True, region=region)
        assert h.check("durability").verdict is Outcome.FAIL
        read.sent_ns -= 1
        assert h.check("durability").verdict is Outcome.INCONCLUSIVE


def test_another_region_is_judged_from_heal_and_convergence_on(made):
    h = legal(made)
    h.fault(20.0, 36.0)
    read = h.read(1, ["p2"], at=51.0, final=True, region=AWAY)  # 36 + 15 s
    assert h.check("durability").verdict is Outcome.FAIL
    read.sent_ns -= 1
    assert h.check("durability").verdict is not Outcome.FAIL


def test_four_of_five_posts_are_enough(made):
    h = made({1: [7], 2: [8]}, regions=(HOME,))
    h.read(2, [], at=0.5)
    for k in range(4):
        h.post(7, f"p{k}", at=1.0 + k)
    h.post(8, "unsought", at=6.0)
    h.read(1, ["p3", "p2", "p1", "p0"], at=50.0, final=True)
    assert h.check("durability").verdict is Outcome.PASS


def test_evidence_names_the_post_that_is_lost_and_nothing_else(made):
    h = legal(made)
    h.post(8, "foreign", at=4.0)
    h.post(7, "gone", at=5.0)
    h.op(OpKind.DELETE, 7, at=6.0, post="gone")
    h.read(1, ["p2"], at=51.0, final=True)
    check = h.check("durability")
    assert len(check.evidence) == 1
    assert "post p1 " in check.evidence[0]
    assert "2 of 3 acknowledged posts" in check.reason


def test_no_final_read_is_inconclusive(made):
    h = made(FOLLOWS)
    h.post(7, "p1", at=1.0)
    h.read(1, [], at=40.0)
    check = h.check("durability")
    assert check.verdict is Outcome.INCONCLUSIVE
    assert "nothing was observed" in check.reason


def test_a_region_without_final_reads_is_inconclusive(made):
    h = made(FOLLOWS)
    h.post(7, "p1", at=1.0)
    h.read(1, ["p1"], at=50.0, final=True)
    check = h.check("durability")
    assert check.verdict is Outcome.INCONCLUSIVE
    assert "ap-tokyo" in check.reason


def test_final_reads_that_failed_leave_it_open(made):
    h = legal(made)
    h.read(2, [], at=51.0, final=True, outcome=OpOutcome.INFO, error="timeout")
    h.read(2, [], at=52.0, final=True, outcome=OpOutcome.FAIL, status=500, error="internal")
    check = h.check("durability")
    assert check.verdict is Outcome.INCONCLUSIVE
    assert "2 of 6 final reads failed, the first with timeout" in check.reason


def test_one_final_read_in_a_hundred_may_fail(made):
    h = legal(made)
    for k in range(95):
        h.read(1, ["p2", "p1"], at=51.0 + k / 100, final=True)
    h.read(2, [], at=53.0, final=True, outcome=OpOutcome.FAIL, status=500)
    assert h.check("durability").verdict is Outcome.PASS


def test_a_lost_post_outweighs_failed_final_reads(made):
    h = legal(made)
    h.read(1, ["p2"], at=51.0, final=True)
    h.read(2, [], at=52.0, final=True, outcome=OpOutcome.FAIL, status=500)
    assert h.check("durability").verdict is Outcome.FAIL


def test_too_few_posts_looked_for(made):
    h = made({1: [7], 2: [8]})
    for region in (HOME, AWAY):
        h.read(2, [], at=0.5, region=region)
    h.post(7, "p1", at=1.0)
    h.post(8, "unsought", at=2.0)
    for region in (HOME, AWAY):
        h.read(1, ["p1"], at=50.0, final=True, region=region)
    check = h.check("durability")
    assert check.verdict is Outcome.INCONCLUSIVE
    assert "only 1 of the 2 posts that somebody follows were looked for" in check.reason


def test_posts_that_nobody_follows_need_not_be_looked_for(made):
    h = legal(made)
    for k in range(10):
        h.post(8, f"unread-{k}", at=3.0 + k)
    check = h.check("durability")
    assert check.verdict is Outcome.PASS
    assert "2 of 12 acknowledged posts" in check.reason


def test_posts_pushed_out_by_800_newer_ones_are_not_judged(made):
    h = made({1: [7]}, regions=(HOME,))
    for k in range(810):
        h.post(7, f"p{k:04}", at=k / 20)
    shown = [f"p{k:04}" for k in range(809, 9, -1)]
    for page in range(16):
        h.read(1, shown[page * 50 : page * 50 + 50], at=58.0 + page / 100, page=page, more=page < 15, final=True)
    check = h.check("durability")
    assert check.verdict is Outcome.PASS
    assert check.observations < 800
