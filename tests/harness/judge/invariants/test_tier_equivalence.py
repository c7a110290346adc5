from __future__ import annotations

import msgspec
import numpy as np
from made_history import AWAY, HOME

from harness.core.op import OpKind, OpOutcome
from harness.core.verdict import Outcome


def legal(made, **options):
    """User 1 follows user 7 over a hot edge and user 8 over a cold one; both posts are in his final walks."""
    h = made({1: [7, 8]}, **options)
    np.save(h.run.population / "hot.npy", np.array([1, 0], dtype=np.uint8))
    h.post(7, "hot", at=1.0)
    h.post(8, "cold", at=2.0)
    for region in (HOME, AWAY):
        h.read(1, ["cold", "hot"], at=50.0, final=True, region=region)
    return h


def test_both_tiers_give_the_same_feed(made):
    check = legal(made).check("tier_equivalence")
    assert check.verdict is Outcome.PASS
    assert check.observations == 4
    assert "2 walks at rest; posts owed by tier of the edge: 2 cold, 2 hot" in check.reason


def test_a_cold_post_that_was_never_merged(made):
    h = legal(made)
    h.read(1, ["hot"], at=51.0, final=True)
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
    assert "4 hot" in check.reason
    assert check.verdict is Outcome.PASS


def test_a_post_of_a_stranger(made):
    h = legal(made)
    h.post(9, "strange", at=3.0)
    h.read(1, ["strange", "cold", "hot"], at=51.0, final=True)
    assert "user 1, who never followed him," in h.check("tier_equivalence").evidence[0]
    h.profile = msgspec.structs.replace(h.profile, start=None)
    assert h.check("tier_equivalence").verdict is Outcome.PASS


def test_an_author_followed_in_the_run_is_none(made):
    h = legal(made)
    h.post(9, "new", at=13.0)
    h.op(OpKind.FOLLOW, 1, at=11.0, author=9)
    h.read(1, ["new", "cold", "hot"], at=51.0, final=True)
    assert h.check("tier_equivalence").verdict is Outcome.PASS


def test_an_edge_made_in_the_run_is_cold_until_there_is_a_like(made):
    h = legal(made)
    h.op(OpKind.FOLLOW, 1, at=11.0, author=9)
    h.post(9, "new", at=17.0)
    for region in (HOME, AWAY):
        h.read(1, ["new", "cold", "hot"], at=51.0, final=True, region=region)
    assert "4 cold, 2 hot" in legal_walks(h)
    h.op(OpKind.LIKE, 1, at=18.0, author=9, post="new")
    assert "2 cold, 4 hot" in legal_walks(h)


def legal_walks(h):
    """The note of a check of the last two walks only."""
    h.ops = [op for op in h.ops if not (op.final and "new" not in op.ids)]
    check = h.check("tier_equivalence")
    assert check.verdict is Outcome.PASS
    return check.reason


def test_nobody_need_read_his_own_posts(made):
    h = legal(made)
    h.read(7, ["hot"], at=5.0)
    assert h.check("tier_equivalence").verdict is Outcome.PASS


def test_posts_without_an_answer_may_be_there_or_not(made):
    h = legal(made)
    h.post(7, "unsure", at=3.0, outcome=OpOutcome.INFO)
    h.read(1, ["unsure", "cold", "hot"], at=51.0, final=True)
    assert h.check("tier_equivalence").verdict is Outcome.PASS


def test_a_walk_before_all_must_agree_is_not_judged(made):
    h = legal(made)
    h.post(7, "late", at=48.5)
    check = h.check("tier_equivalence")  # 3 s after 48.51 s
    assert check.verdict is Outcome.INCONCLUSIVE
    h.read(1, ["late", "cold", "hot"], at=52.0, final=True)
    assert h.check("tier_equivalence").verdict is Outcome.PASS


def test_degraded_walks_and_walks_with_a_hole_are_not_judged(made):
    h = legal(made)
    h.read(1, ["hot"], at=51.0, final=True, degraded="stale")
    h.read(1, ["cold"], at=51.0, page=2, final=True)
    assert h.check("tier_equivalence").verdict is Outcome.PASS


def test_a_complete_walk_reaches_the_newest_800(made):
    h = made({1: [7]}, regions=(HOME,))
    for k in range(500):
        h.post(7, f"p{k:04}", at=k / 20)
    shown = [f"p{k:04}" for k in range(499, 49, -1)]
    for page in range(9):
        h.read(1, shown[page * 50 : page * 50 + 50], at=58.0 + page / 100, page=page, more=page < 8, final=True)
    assert h.check("tier_equivalence").value == 50
    h.read(1, [f"p{k:04}" for k in range(49, -1, -1)], at=58.1, page=9, final=True)
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
