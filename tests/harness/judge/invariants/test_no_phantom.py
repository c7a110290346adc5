from __future__ import annotations

import msgspec
import pytest

from harness.core.op import OpKind, OpOutcome, text_hash
from harness.core.verdict import Outcome

FOLLOWS = {1: [7], 2: [7], 3: [7], 4: [8]}


def legal(made, **options):
    h = made(FOLLOWS, **options)
    h.old(7, "ancient", ts=-3600)
    h.post(9, "untimed", at=0.5, ts_us=0)
    h.post(7, "p1", at=1.0)
    for user in (1, 2, 3):
        h.read(user, ["p1", "ancient"], at=5.0)
    return h


def test_written_and_old_posts_are_no_phantoms(made):
    check = legal(made).check("no_phantom")
    assert check.verdict is Outcome.PASS
    assert check.observations == 2
    assert "1 of the posts are older than the run" in check.reason


def test_a_post_nobody_wrote_is_a_phantom(made):
    h = legal(made)
    h.old(7, "made-up", ts=3.0)
    h.post(7, "p2", at=5.5)
    h.read(1, ["made-up", "p1", "ancient"], at=6.0)
    check = h.check("no_phantom")
    assert check.verdict is Outcome.FAIL
    assert check.evidence == [
        "post made-up that nobody wrote in the read (feed) of user 1 in us-east at 6.010 s [calm]"
    ]


def test_a_phantom_in_feed_new_counts(made):
    h = legal(made)
    h.old(7, "made-up", ts=3.0)
    h.read(1, ["made-up"], at=6.0, kind=OpKind.FEED_NEW)
    assert h.check("no_phantom").verdict is Outcome.FAIL


def test_a_timed_out_post_may_be_seen(made):
    h = legal(made)
    h.post(7, "unsure", at=3.0, outcome=OpOutcome.INFO)
    h.read(1, ["unsure", "p1", "ancient"], at=6.0)
    h.post(8, "without-a-text", at=3.0, outcome=OpOutcome.INFO, text_hash=0)
    h.read(3, ["without-a-text", "p1", "ancient"], at=6.0)  # a stranger's: not the business of this checker
    assert h.check("no_phantom").verdict is Outcome.PASS


def test_a_timed_out_post_from_before_the_first_acknowledgement_is_not_old(made):
    h = made(FOLLOWS)
    for user in (1, 2, 3):
        h.read(user, [], at=0.1)
    h.post(7, "unsure", at=0.5, outcome=OpOutcome.INFO)
    h.post(7, "p1", at=1.0)
    h.read(1, ["p1", "unsure"], at=2.0)
    assert h.check("no_phantom").verdict is Outcome.PASS
    assert "older" not in h.check("no_phantom").reason


def test_a_post_is_shown_at_the_earliest_in_the_answer_that_comes_as_it_is_sent(made):
    h = legal(made)
    h.post(7, "p2", at=6.0)
    h.read(1, ["p2", "p1", "ancient"], at=5.99, took=0.01)
    h.read(1, ["p2"], at=5.99, took=0.01, kind=OpKind.FEED_NEW)
    assert h.check("no_phantom").verdict is Outcome.PASS


def test_a_post_that_is_not_written_yet_is_a_phantom(made):
    h = legal(made)
    h.post(7, "p2", at=6.0)
    h.read(1, ["p2", "p1", "ancient"], at=5.99, took=0.01).done_ns -= 1
    assert "post p2 that was not written yet in the read (feed) of user 1" in h.check("no_phantom").evidence[0]


def test_it_is_one_in_feed_new_too(made):
    h = legal(made)
    h.post(7, "p2", at=6.0)
    h.read(1, ["p2"], at=5.0, kind=OpKind.FEED_NEW)
    assert h.check("no_phantom").value == 1


def test_a_post_counts_as_written_from_its_first_attempt(made):
    h = legal(made)
    h.post(7, "p2", at=3.0, outcome=OpOutcome.INFO, idempotency_key="k")
    h.post(7, "p2", at=6.0, idempotency_key="k")
    h.read(1, ["p2", "p1", "ancient"], at=5.0)
    assert h.check("no_phantom").verdict is Outcome.PASS


def test_a_refused_post_may_not_be_seen(made):
    h = legal(made)
    h.post(7, "refused", at=3.0, outcome=OpOutcome.FAIL)
    h.read(1, ["refused", "p1", "ancient"], at=6.0)
    assert h.check("no_phantom").verdict is Outcome.FAIL


def test_other_text_than_was_written_is_a_phantom(made):
    h = legal(made)
    h.post(7, "p2", at=5.5)
    h.read(1, ["p2"], at=6.0, more=True, item_hashes=[text_hash("something else")])
    assert "text is not what was written" in h.check("no_phantom").evidence[0]


def test_other_author_than_wrote_it_is_a_phantom(made):
    h = legal(made)
    h.post(7, "p2", at=5.5)
    h.read(1, ["p2"], at=6.0, more=True, item_authors=[8])
    assert "author differs" in h.check("no_phantom").evidence[0]


def test_an_old_post_whose_text_changes_is_a_phantom(made):
    h = legal(made)
    h.read(1, ["p1", "ancient"], at=6.0, item_hashes=[text_hash("p1"), text_hash("something else")])
    assert h.check("no_phantom").verdict is Outcome.FAIL


def test_an_old_post_whose_author_changes_is_a_phantom(made):
    h = legal(made)
    h.read(1, ["p1", "ancient"], at=6.0, item_authors=[7, 8])
    assert "author differs" in h.check("no_phantom").evidence[0]


def test_an_old_post_of_an_author_never_followed_is_a_phantom(made):
    h = legal(made)
    h.old(0, "foreign", ts=-3000)
    h.read(1, ["p1", "foreign", "ancient"], at=6.0)
    assert "whose author user 1 never followed" in h.check("no_phantom").evidence[0]


def test_an_old_post_that_one_read_shows_and_three_others_lack_is_a_phantom(made):
    h = legal(made)
    h.old(7, "lone", ts=-3000)
    h.read(1, ["p1", "lone", "ancient"], at=6.0)
    h.op(OpKind.LIKE, 1, at=6.1, post="lone")
    h.op(OpKind.DELETE, 7, at=6.1, post="p1")
    h.op(OpKind.UNFOLLOW, 9, at=6.1, author=7)
    h.op(OpKind.FOLLOW, 2, at=6.1, author=8)
    check = h.check("no_phantom")
    assert check.verdict is Outcome.FAIL
    assert "that one read shows and 3 others" in check.evidence[0]


def test_two_contradicting_reads_are_not_enough(made):
    h = made(FOLLOWS)
    h.post(7, "p1", at=1.0)
    h.old(7, "lone", ts=-3000)
    h.old(7, "deep", ts=-3600)
    h.read(1, ["p1"], at=5.0)
    h.read(2, ["p1"], at=5.0)
    h.read(3, ["deep"], at=5.0, page=1)  # begins below
    h.read(4, [], at=5.0)  # does not follow the author
    h.read(1, ["p1", "lone"], at=6.0, more=True)
    h.read(1, ["deep"], at=6.1, page=1)  # the same walk, which has shown it
    assert h.check("no_phantom").verdict is Outcome.PASS


def test_reads_that_end_above_an_old_post_do_not_contradict_it(made):
    h = made(FOLLOWS)
    h.post(7, "p1", at=1.0)
    h.old(7, "deep", ts=-3000)
    for user in (1, 2, 3):
        h.read(user, ["p1"], at=5.0, more=True)
    h.read(1, ["p1", "deep"], at=6.0)
    assert h.check("no_phantom").verdict is Outcome.PASS


def test_a_deleted_old_post_may_be_missing_elsewhere(made):
    h = legal(made)
    h.old(7, "lone", ts=-3000)
    h.read(1, ["p1", "lone", "ancient"], at=1.5)
    h.op(OpKind.DELETE, 7, at=2.0, post="lone")
    assert h.check("no_phantom").verdict is Outcome.PASS


def test_a_timed_out_post_explains_only_its_own_text_and_author(made):
    h = legal(made)
    h.post(7, "unsure", at=3.0, outcome=OpOutcome.INFO)
    h.posts["unsure"] = (h.posts["unsure"][0], 7, text_hash("another text"))
    h.read(1, ["unsure", "p1", "ancient"], at=6.0)
    assert h.check("no_phantom").verdict is Outcome.FAIL
    h.ops[-1].item_hashes[0], h.ops[-1].item_authors[0] = text_hash("unsure"), 8
    assert h.check("no_phantom").verdict is Outcome.FAIL


def test_a_post_of_the_first_moment_of_the_run_is_not_old(made):
    h = legal(made)
    h.old(7, "made-up", ts=1.0)
    h.read(1, ["p1", "made-up", "ancient"], at=6.0)
    assert "that nobody wrote" in h.check("no_phantom").evidence[0]


def test_degraded_reads_and_changed_edges_contradict_nothing(made):
    h = made({1: [7], 2: [7], 3: [7], 9: [7]})
    h.post(7, "p1", at=1.0)
    h.old(7, "lone", ts=-3000)
    h.read(1, ["p1"], at=5.0, degraded="stale")
    h.read(2, ["p1"], at=5.0)
    h.read(3, ["p1"], at=5.0)
    h.op(OpKind.UNFOLLOW, 9, at=2.0, author=7)
    h.read(9, [], at=5.0)
    h.read(1, ["p1", "lone"], at=6.0)
    assert h.check("no_phantom").verdict is Outcome.PASS


def test_an_author_reads_his_own_old_posts(made):
    h = legal(made)
    h.old(8, "his", ts=-3000)
    h.read(8, ["his"], at=6.0)
    h.read(4, ["his"], at=6.0)
    assert h.check("no_phantom").verdict is Outcome.PASS


def test_a_target_that_was_there_before_may_have_more_follows(made):
    h = legal(made)
    h.old(8, "foreign", ts=-3000)
    h.read(1, ["p1", "foreign", "ancient"], at=6.0)
    h.profile = msgspec.structs.replace(h.profile, start=None)
    assert h.check("no_phantom").verdict is Outcome.PASS


def test_users_who_join_in_the_run_may_read_before_their_follows_are_there(made):
    h = legal(made, joined="none")
    h.old(8, "foreign", ts=-3000)
    h.read(1, ["p1", "foreign", "ancient"], at=6.0)
    assert h.check("no_phantom").verdict is Outcome.PASS


def test_a_read_from_before_a_post_does_not_make_later_ones_phantoms(made):
    h = legal(made)
    h.read(1, ["p1"], at=5.5, kind=OpKind.FEED_NEW)
    h.post(7, "p2", at=6.0)
    h.read(1, ["p2", "p1", "ancient"], at=7.0)
    assert h.check("no_phantom").verdict is Outcome.PASS


def test_a_like_that_timed_out_explains_no_post(made):
    h = legal(made)
    h.op(OpKind.LIKE, 7, at=3.0, outcome=OpOutcome.INFO)
    h.old(7, "made-up", ts=3.0)
    h.read(1, ["made-up", "p1", "ancient"], at=6.0)
    assert h.check("no_phantom").verdict is Outcome.FAIL


def test_other_changes_of_edges_explain_no_stranger(made):
    h = legal(made)
    h.op(OpKind.FOLLOW, 2, at=3.0, author=8)
    h.op(OpKind.UNFOLLOW, 1, at=3.0, author=7)
    h.old(8, "foreign", ts=-3000)
    h.read(1, ["p1", "foreign", "ancient"], at=6.0)
    assert "never followed" in h.check("no_phantom").evidence[0]


def test_no_items_is_inconclusive(made):
    h = made(FOLLOWS)
    h.read(1, [], at=5.0)
    assert h.check("no_phantom").verdict is Outcome.INCONCLUSIVE


@pytest.mark.parametrize(("newcomers", "verdict"), [(0, Outcome.FAIL), (3, Outcome.PASS)])
def test_who_joined_during_the_run_contradicts_nobody(made, newcomers, verdict):
    """Whether his follows bring him older posts is the target's choice."""
    h = made({1: [7], 8: [7], 9: [7], 10: [7]}, newcomers=newcomers)
    h.post(7, "p1", at=0.5)
    h.old(7, "lone", ts=-3000)
    h.old(7, "deep", ts=-3600)
    h.read(1, ["p1", "lone", "deep"], at=2.0)
    for reader in (8, 9, 10):
        h.read(reader, ["p1", "deep"], at=3.0)
    assert h.check("no_phantom").verdict is verdict
