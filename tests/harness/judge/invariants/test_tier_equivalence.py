from __future__ import annotations

import msgspec
import numpy as np
from made_history import AWAY, HOME

from harness.core.op import OpKind, OpOutcome
from harness.core.verdict import Outcome

ALL = ["cold", "star", "hot", "own"]


def legal(made):
    """User 1 follows celebrity 0, user 7 over a hot edge and user 8 over a cold one; for user 2 it is the other way.

    Final walks show what each is owed, one of them only down to its end.
    """
    h = made({1: [0, 7, 8], 2: [7, 8], 3: [9]}, celebrities=1)
    np.save(h.run.population / "hot.npy", np.array([0, 1, 0, 0, 1, 0], dtype=np.uint8))
    h.post(1, "own", at=0.5)
    h.post(7, "hot", at=1.0)
    h.post(0, "star", at=1.5)
    h.post(8, "cold", at=2.0)
    h.open(9, at=2.5)
    h.op(OpKind.LIKE, 1, at=3.0, author=8, post="cold", outcome=OpOutcome.FAIL)
    h.op(OpKind.LIKE, 2, at=3.0, author=8, post="cold")
    h.read(1, ["hot"], at=45.0)
    for region in (HOME, AWAY):
        h.read(1, ALL, at=50.0, final=True, region=region)
    h.read(2, ["cold", "hot"], at=50.0, final=True)
    h.read(1, ["cold"], at=50.5, final=True, more=True)
    return h


def test_all_tiers_give_the_same_feed(made):
    check = legal(made).check("tier_equivalence")
    assert check.verdict is Outcome.PASS
    assert check.observations == 11
    assert "4 walks at rest; posts owed by tier of the edge: 2 celebrity, 4 cold, 3 hot, 2 own" in check.reason


def test_a_cold_post_that_was_never_merged(made):
    h = legal(made)
    h.read(1, ["star", "hot", "own"], at=51.0, final=True)
    check = h.check("tier_equivalence")
    assert check.verdict is Outcome.FAIL
    assert check.evidence == [
        "user 1 follows user 8 since before the run; post cold acknowledged to user 8 in us-east at 2.010 s; "
        "absent from the final walk of user 1 in us-east (cold) at 51.000 s [calm]"
    ]


def test_a_liked_author_is_hot(made):
    h = legal(made)
    h.op(OpKind.LIKE, 1, at=3.0, author=8, post="cold")
    check = h.check("tier_equivalence")
    assert "2 celebrity, 1 cold, 6 hot, 2 own" in check.reason
    assert check.verdict is Outcome.PASS


def test_all_edges_of_a_listener_are_hot(made):
    h = legal(made)
    h.open(1, at=3.0)
    assert "2 celebrity, 1 cold, 6 hot, 2 own" in h.check("tier_equivalence").reason


def test_a_post_of_a_stranger(made):
    h = legal(made)
    h.post(9, "strange", at=3.0)
    h.op(OpKind.FOLLOW, 4, at=3.1, author=9)
    h.op(OpKind.FOLLOW, 1, at=3.1, author=6)
    h.read(1, ["strange", "star", "hot", "own"], at=51.0, final=True, degraded="stale")
    assert h.check("tier_equivalence").verdict is Outcome.PASS
    h.read(1, ["strange", *ALL], at=51.0, final=True)
    check = h.check("tier_equivalence")
    assert check.value == 1
    assert "user 1, who never followed him," in check.evidence[0]
    h.profile = msgspec.structs.replace(h.profile, start=None)
    assert h.check("tier_equivalence").verdict is Outcome.PASS


def test_an_author_followed_in_the_run_is_none(made):
    h = legal(made)
    h.post(9, "new", at=13.0)
    h.op(OpKind.FOLLOW, 1, at=11.0, author=9)
    h.read(1, ["new", *ALL], at=51.0, final=True)
    assert h.check("tier_equivalence").verdict is Outcome.PASS


def test_an_edge_made_in_the_run_is_cold_until_there_is_a_like(made):
    h = legal(made)
    h.op(OpKind.FOLLOW, 1, at=11.0, author=9)
    h.post(9, "new", at=17.0)
    h.ops = [op for op in h.ops if not op.final]
    for region in (HOME, AWAY):
        h.read(1, ["new", *ALL], at=51.0, final=True, region=region)
    assert "2 celebrity, 4 cold, 2 hot, 2 own" in h.check("tier_equivalence").reason
    h.op(OpKind.LIKE, 1, at=18.0, author=9, post="new")
    assert "2 celebrity, 2 cold, 4 hot, 2 own" in h.check("tier_equivalence").reason


def test_tiers_in_which_nobody_is_owed_a_post_need_no_walk(made):
    h = made({1: [7]})
    np.save(h.run.population / "hot.npy", np.array([1], dtype=np.uint8))
    h.post(7, "hot", at=1.0)
    h.post(9, "early", at=1.0)
    h.op(OpKind.FOLLOW, 1, at=11.0, author=9)
    h.op(OpKind.FOLLOW, 2, at=11.0, author=7)
    h.read(2, [], at=12.0)
    h.read(1, ["hot"], at=50.0, final=True)
    assert h.check("tier_equivalence").verdict is Outcome.PASS


def test_nobody_need_read_his_own_posts(made):
    h = legal(made)
    h.read(7, ["hot"], at=5.0)
    assert h.check("tier_equivalence").verdict is Outcome.PASS


def test_posts_without_an_answer_may_be_there_or_not(made):
    h = legal(made)
    h.post(7, "unsure", at=3.0, outcome=OpOutcome.INFO)
    h.read(1, ["unsure", *ALL], at=51.0, final=True)
    assert h.check("tier_equivalence").verdict is Outcome.PASS


def test_walks_are_judged_from_when_all_must_agree(made):
    h = legal(made)
    h.post(7, "late", at=46.99)  # acknowledged at 47 s; the celebrity's and the cross-region promise are 8 s
    assert h.check("tier_equivalence").verdict is Outcome.INCONCLUSIVE
    for user, posts in ((1, ["late", *ALL]), (2, ["late", "cold", "hot"])):
        h.read(user, posts, at=55.0, final=True)
    assert h.check("tier_equivalence").verdict is Outcome.PASS


def test_degraded_walks_are_not_judged(made):
    h = legal(made)
    h.read(1, ["hot"], at=51.0, final=True, degraded="stale")
    assert h.check("tier_equivalence").verdict is Outcome.PASS


def test_of_a_page_alone_what_lies_between_its_items_is_judged(made):
    h = legal(made)
    h.read(1, ["star", "hot", "own"], at=51.0, page=2, final=True)
    assert h.check("tier_equivalence").verdict is Outcome.PASS
    h.read(1, ["cold", "hot", "own"], at=52.0, page=2, final=True, session="another")
    assert "post star" in h.check("tier_equivalence").evidence[0]


def test_a_complete_walk_reaches_the_newest_800(made):
    h = made({1: [7, 9], 2: [8]}, regions=(HOME,))
    np.save(h.run.population / "hot.npy", np.array([1, 0, 1], dtype=np.uint8))
    h.post(8, "others", at=0.001)
    h.read(2, ["others"], at=0.5)
    h.post(9, "deep", at=0.0)
    for k in range(800):
        h.post(7, f"p{k:04}", at=k / 15)
    shown = [f"p{k:04}" for k in range(799, 389, -1)]
    for page in range(9):
        h.read(1, shown[page * 50 : page * 50 + 50], at=58.0 + page / 100, page=page, more=page < 8, final=True)
    assert h.check("tier_equivalence").value == 50
    h.read(1, [f"p{k:04}" for k in range(389, 339, -1)], at=58.1, page=9, final=True)
    h.ops[-2] = msgspec.structs.replace(h.ops[-2], next_cursor="more")
    assert h.check("tier_equivalence").verdict is Outcome.PASS


def test_a_tier_that_no_walk_shows(made):
    h = made({1: [7], 2: [8]})
    np.save(h.run.population / "hot.npy", np.array([1, 0], dtype=np.uint8))
    h.post(7, "hot", at=1.0)
    h.post(8, "cold", at=2.0)
    h.read(2, ["cold"], at=5.0)
    h.read(1, ["hot"], at=50.0, final=True)
    check = h.check("tier_equivalence")
    assert check.verdict is Outcome.INCONCLUSIVE
    assert "no final walk shows the tier: cold" in check.reason


def test_no_final_walk_is_inconclusive(made):
    h = made({1: [7]})
    h.post(7, "p1", at=1.0)
    h.read(1, ["p1"], at=50.0)
    assert h.check("tier_equivalence").verdict is Outcome.INCONCLUSIVE
