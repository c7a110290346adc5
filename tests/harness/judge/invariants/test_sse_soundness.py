from __future__ import annotations

import msgspec
import pytest
from made_history import AWAY

from harness.contract.profile import Capabilities
from harness.core.op import OpKind, OpOutcome
from harness.core.verdict import Outcome


def legal(made, **options):
    """Two events of an author whom user 1 follows; he unfollowed another, and another user unfollowed this one."""
    h = made({1: [7], 2: [8]}, **options)
    h.op(OpKind.UNFOLLOW, 1, at=-4.0, author=9)
    h.op(OpKind.UNFOLLOW, 2, at=-4.0, author=7)
    h.post(9, "q", at=0.5)
    h.open(1, at=0.0)
    h.post(7, "p1", at=1.0)
    h.event(1, "p1", at=1.2, token="r.1.5")
    h.post(7, "p2", at=2.0)
    h.event(1, "p2", at=2.2, token="r.1.6")
    h.read(1, ["p2", "p1"], at=4.5)
    return h


def test_real_followed_rising_and_readable(made):
    check = legal(made).check("sse_soundness")
    assert check.verdict is Outcome.PASS
    assert check.observations == 2
    assert "2 later reads" in check.reason


def only(h):
    """The sentence on the only violation."""
    check = h.check("sse_soundness")
    assert check.value == 1, check.evidence
    return check.evidence[0]


def test_an_event_for_a_post_nobody_wrote(made):
    h = legal(made)
    h.event(1, "made-up", at=3.0, token="r.1.7")
    assert only(h) == "listener 1 in us-east got an event for post made-up that nobody wrote, at 3.000 s [calm]"


def test_an_event_comes_at_the_earliest_as_its_post_is_sent(made):
    h = legal(made)
    h.post(7, "p3", at=3.0)
    h.event(1, "p3", at=3.0, token="r.1.7")
    assert h.check("sse_soundness").verdict is Outcome.PASS


def test_an_event_for_a_post_that_is_not_written_yet(made):
    h = legal(made)
    h.post(7, "p3", at=3.0)
    h.event(1, "p3", at=3.0, token="r.1.7").done_ns -= 1
    assert "post p3 that was not written yet" in only(h)


def test_an_event_may_tell_of_a_timed_out_post_of_a_followee(made):
    h = legal(made)
    h.post(7, "unsure", at=2.5, outcome=OpOutcome.INFO)
    h.event(1, "unsure", at=3.0, token="r.1.7")
    assert h.check("sse_soundness").verdict is Outcome.PASS


def test_a_timed_out_post_of_a_stranger_explains_nothing(made):
    h = legal(made)
    h.post(8, "unsure", at=2.5, outcome=OpOutcome.INFO)
    h.event(1, "unsure", at=3.0, token="r.1.7")
    assert h.check("sse_soundness").verdict is Outcome.FAIL


def test_an_event_of_an_author_never_followed(made):
    h = legal(made)
    h.post(8, "foreign", at=3.0)
    h.event(1, "foreign", at=3.2, token="r.1.7")
    h.event(1, "foreign", at=3.4, session="other")
    assert only(h) == (
        "listener 1 in us-east got an event for post foreign by user 8, whom he never followed, at 3.200 s [calm]"
    )


def test_a_target_that_was_there_before_may_have_more_follows(made):
    h = legal(made)
    h.post(8, "foreign", at=3.0)
    h.event(1, "foreign", at=3.2, token="r.1.7")
    h.profile = msgspec.structs.replace(h.profile, start=None)
    assert h.check("sse_soundness").verdict is Outcome.PASS


def test_own_posts_may_be_announced(made):
    h = legal(made)
    h.post(1, "mine", at=3.0)
    h.event(1, "mine", at=3.2, token="r.1.7")
    assert h.check("sse_soundness").verdict is Outcome.PASS


def test_a_token_that_falls(made):
    h = legal(made)
    h.post(7, "p3", at=3.0)
    h.event(1, "p3", at=3.2, token="r.1.6")
    assert "with token r.1.6 after r.1.6" in only(h)


def test_a_new_epoch_starts_its_own_count(made):
    h = legal(made)
    h.post(7, "p3", at=3.0)
    h.event(1, "p3", at=3.2, token="r.2.1")
    assert h.check("sse_soundness").verdict is Outcome.PASS


def test_opaque_tokens_are_not_compared(made):
    h = legal(made)
    h.post(7, "p3", at=3.0)
    h.event(1, "p3", at=3.2, token="opaque")
    assert h.check("sse_soundness").verdict is Outcome.PASS


def test_an_event_whose_post_cannot_be_read(made):
    h = legal(made)
    h.event(1, "p1", at=1.3, session="other")
    h.event(1, "p1", at=6.9, token="r.1.7")
    h.read(1, ["p2"], at=7.0)
    h.read(1, ["p2"], at=8.0)
    check = h.check("sse_soundness")
    assert check.evidence == [
        "listener 1 in us-east got an event for post p1 that his read 5.7 s later lacks, at 1.200 s [calm]"
    ]


def test_a_read_right_after_the_event_may_still_lack_it(made):
    h = legal(made)
    h.read(1, ["p1"], at=3.5)
    assert h.check("sse_soundness").verdict is Outcome.PASS


def test_readable_from_the_visibility_promise_on(made):
    h = legal(made)
    read = h.read(1, ["p1"], at=4.2)  # the event for p2 came at 2.2 s
    assert h.check("sse_soundness").verdict is Outcome.FAIL
    read.sent_ns -= 1
    assert h.check("sse_soundness").verdict is Outcome.PASS


def test_a_token_must_be_greater_than_any_before_not_only_the_last(made):
    h = legal(made)
    h.post(7, "p3", at=3.0)
    h.event(1, "p3", at=3.2, token="r.1.9")
    h.post(7, "p4", at=4.0)
    h.event(1, "p4", at=4.2, token="r.1.10")
    assert h.check("sse_soundness").verdict is Outcome.PASS
    h.post(7, "p5", at=5.0)
    h.event(1, "p5", at=5.2, token="r.1.8")
    assert h.check("sse_soundness").value == 1


def test_events_of_one_moment_are_in_no_order(made):
    h = legal(made)
    h.post(7, "p3", at=3.0)
    h.post(7, "p4", at=3.0)
    h.event(1, "p3", at=3.2, token="r.1.8")
    event = h.event(1, "p4", at=3.2, token="r.1.7")
    assert h.check("sse_soundness").verdict is Outcome.PASS
    event.done_ns += 1
    assert h.check("sse_soundness").verdict is Outcome.FAIL


def test_another_session_counts_for_itself(made):
    h = legal(made)
    h.op(OpKind.STREAM_OPEN, 1, at=0.0, session="other")
    h.event(1, "p1", at=3.2, token="r.1.5", session="other")
    assert h.check("sse_soundness").verdict is Outcome.PASS


def test_a_follow_made_during_the_run_is_one(made):
    h = legal(made)
    h.op(OpKind.FOLLOW, 1, at=2.5, author=8)
    h.post(8, "new", at=3.0)
    h.event(1, "new", at=3.2, token="r.1.7")
    assert h.check("sse_soundness").verdict is Outcome.PASS


def test_a_timed_out_post_of_somebody_followed_meanwhile_may_be_told(made):
    h = legal(made)
    h.op(OpKind.FOLLOW, 1, at=2.3, author=8)
    h.post(8, "unsure", at=2.5, outcome=OpOutcome.INFO)
    h.event(1, "unsure", at=3.0, token="r.1.7")
    assert h.check("sse_soundness").verdict is Outcome.PASS


def test_where_nothing_is_known_of_follows_any_timed_out_post_may_be_told(made):
    h = made({1: [], 8: []})
    h.open(1, at=0.0)
    h.post(8, "unsure", at=2.5, outcome=OpOutcome.INFO)
    h.event(1, "unsure", at=3.0, token="r.1.7")
    assert h.check("sse_soundness").verdict is not Outcome.FAIL


def test_another_op_that_timed_out_explains_no_event(made):
    h = legal(made)
    h.op(OpKind.LIKE, 7, at=2.5, outcome=OpOutcome.INFO)
    h.event(1, "made-up", at=3.0, token="r.1.7")
    assert h.check("sse_soundness").verdict is Outcome.FAIL


def test_other_follows_explain_no_event(made):
    h = legal(made)
    h.op(OpKind.FOLLOW, 2, at=2.5, author=8)
    h.op(OpKind.FOLLOW, 1, at=2.5, author=9)
    h.op(OpKind.UNFOLLOW, 1, at=2.5, author=8)
    h.post(8, "foreign", at=3.0)
    h.event(1, "foreign", at=3.2, token="r.1.7")
    assert h.check("sse_soundness").verdict is Outcome.FAIL


def test_posts_without_event_and_reads_of_others_and_elsewhere_say_nothing(made):
    h = legal(made)
    h.post(8, "foreign", at=3.0)
    h.read(2, ["foreign"], at=6.0)
    h.read(7, [], at=7.0)
    h.read(1, [], at=8.0, region=AWAY)
    h.post(7, "unannounced", at=5.0)
    h.read(1, ["p2", "p1"], at=9.0)
    assert h.check("sse_soundness").verdict is Outcome.PASS


def test_no_read_after_an_event_is_inconclusive(made):
    h = made({1: [7]})
    h.open(1, at=0.0)
    h.post(7, "p1", at=1.0)
    h.event(1, "p1", at=1.2)
    check = h.check("sse_soundness")
    assert check.verdict is Outcome.INCONCLUSIVE
    assert "no listener read" in check.reason


def test_no_events_is_inconclusive(made):
    h = made({1: [7]})
    h.post(7, "p1", at=1.0)
    check = h.check("sse_soundness")
    assert check.verdict is Outcome.INCONCLUSIVE
    assert check.reason.startswith("nothing was observed; 0 later reads")


def test_a_target_without_streams_is_skipped(made):
    check = made({1: [7]}, able=Capabilities(stream="none")).check("sse_soundness")
    assert check.reason == "skipped: target made has no streams"


def fetched(made, *items, since="p1", at=6.0, **fields):
    """The session of the listener asks what arrived after a post."""
    h = legal(made)
    h.read(1, items, at=at, kind=OpKind.FEED_NEW, since=since, **fields)
    return h


def test_feed_new_shows_what_was_announced_after_its_anchor(made):
    check = fetched(made, "p2").check("sse_soundness")
    assert check.verdict is Outcome.PASS
    assert "1 of feed/new had to show one" in check.reason


def test_feed_new_that_lacks_an_arrival(made):
    h = fetched(made, "p1", at=4.2)  # promised within 2 s
    h.read(1, [], at=6.0, kind=OpKind.FEED_NEW, since="p1")
    for name, at, token in (("p1", 1.3, "r.1.5"), ("p2", 2.3, "r.1.6")):
        h.event(1, name, at=at, token=token, session="other")
    h.read(1, [], at=6.0, kind=OpKind.FEED_NEW, since="p1", session="other")
    assert only(h) == (
        "listener 1 in us-east got an event for post p2 that his feed/new 2.0 s later lacks, at 2.200 s [calm]"
    )


@pytest.mark.parametrize(
    "fields",
    [
        {"since": "p2"},
        {"at": 4.1},
        {"degraded": "stale"},
        {"session": "another"},
        {"since": "unknown"},
        {"outcome": OpOutcome.FAIL, "status": 503},
    ],
)
def test_feed_new_that_owes_nothing(made, fields):
    check = fetched(made, **fields).check("sse_soundness")
    assert check.verdict is Outcome.PASS
    assert "0 of feed/new" in check.reason


def test_another_epoch_has_another_order(made):
    h = legal(made)
    h.post(7, "p3", at=3.0)
    h.event(1, "p3", at=3.2, token="r.2.9")
    h.read(1, ["p2"], at=6.0, kind=OpKind.FEED_NEW, since="p1")
    assert h.check("sse_soundness").verdict is Outcome.PASS


def test_feed_new_owes_what_was_announced_after_the_last_event_of_its_anchor(made):
    h = made({1: [7]})
    h.open(1, at=0.0)
    for name, at in (("p0", 0.6), ("p1", 1.0), ("p2", 2.0)):
        h.post(7, name, at=at)
    for name, at, token in (("p0", 1.1, 4), ("p1", 1.2, 5), ("p2", 2.2, 6), ("p0", 2.5, 7)):
        h.event(1, name, at=at, token=f"r.1.{token}")  # p0 is announced again
    h.read(1, ["p2", "p1", "p0"], at=4.5)
    h.read(1, ["p2"], at=6.0, kind=OpKind.FEED_NEW, since="p1")
    h.read(1, [], at=6.1, kind=OpKind.FEED_NEW, since="p0")
    assert h.check("sse_soundness").verdict is Outcome.PASS
    h.event(1, "p2", at=5.5, token="r.1.8")
    h.read(1, [], at=6.0, kind=OpKind.FEED_NEW, since="p1")
    assert h.check("sse_soundness").verdict is Outcome.PASS


def test_feed_new_owes_what_its_own_session_was_told(made):
    h = legal(made)
    h.post(7, "p3", at=3.0)
    h.event(1, "p3", at=3.2, token="r.1.7", session="other")
    h.read(1, ["p3", "p2", "p1"], at=5.5)
    h.read(1, [], at=6.0, kind=OpKind.FEED_NEW, since="p2")
    h.read(1, [], at=6.0, kind=OpKind.FEED_NEW, since="p1", session="other")
    assert h.check("sse_soundness").verdict is Outcome.PASS


def test_feed_new_owes_neither_own_posts_nor_those_of_an_edge_that_changed(made):
    h = made({1: [7], 3: [9]})
    h.open(1, at=0.0)
    h.op(OpKind.FOLLOW, 1, at=0.1, author=9)
    for author, name, at, token in ((7, "p1", 1.0, 5), (7, "p2", 2.0, 6), (9, "new", 2.3, 7), (1, "mine", 2.4, 8)):
        h.post(author, name, at=at)
        h.event(1, name, at=at + 0.2, token=f"r.1.{token}")
    h.read(1, ["mine", "new", "p2", "p1"], at=5.0)
    h.read(3, ["new"], at=5.0)
    h.read(1, ["p2"], at=6.0, kind=OpKind.FEED_NEW, since="p1")
    assert h.check("sse_soundness").verdict is Outcome.PASS


@pytest.mark.parametrize(("items", "outcome"), [(49, Outcome.FAIL), (50, Outcome.PASS)])
def test_feed_new_of_50_items_may_be_cut_off(made, items, outcome):
    h = legal(made)
    for k in range(items):
        h.old(7, f"old{k}", ts=-100 - k)
    h.read(1, [f"old{k}" for k in range(items)], at=6.0, kind=OpKind.FEED_NEW, since="p1")
    assert h.check("sse_soundness").verdict is outcome


def test_an_event_of_an_author_who_was_unfollowed(made):
    h = legal(made)
    h.op(OpKind.UNFOLLOW, 1, at=5.0, author=7)
    h.post(7, "at-once", at=7.0)
    h.event(1, "at-once", at=7.1, token="r.1.7")
    assert h.check("sse_soundness").verdict is not Outcome.FAIL
    h.post(7, "elsewhere", at=7.5, region=AWAY)  # 3 s between regions
    h.event(1, "elsewhere", at=7.6, token="r.1.18")
    h.post(7, "to-another", at=7.5)
    h.event(1, "to-another", at=7.6, token="r.1.19", region=AWAY)
    assert h.check("sse_soundness").verdict is not Outcome.FAIL
    h.post(7, "later", at=7.01)
    h.event(1, "later", at=7.1, token="r.1.7", session="other")
    h.event(1, "later", at=7.2, token="r.1.8")
    assert only(h) == (
        "listener 1 in us-east got an event for post later by user 7 after a settled unfollow, at 7.100 s [calm]"
    )
    follow = h.op(OpKind.FOLLOW, 1, at=7.1, author=7)
    assert "post later" in only(h)
    follow.sent_ns -= 1
    assert h.check("sse_soundness").verdict is not Outcome.FAIL
