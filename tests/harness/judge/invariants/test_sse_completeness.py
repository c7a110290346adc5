from __future__ import annotations

import msgspec
import pytest
from made_history import AWAY

from harness.core.listening import Listening
from harness.core.op import OpKind, OpOutcome
from harness.core.verdict import Outcome


def legal(made, end=40.0, **options):
    """Listener 1 follows 7; his stream is open from 0.01 s on; one post, one event."""
    h = made({1: [7, 8]}, **options)
    h.open(1, at=0.0)
    h.post(7, "p1", at=1.0)
    h.event(1, "p1", at=1.2)
    if end:
        h.end(1, at=end)
    return h


def test_an_event_for_each_post(made):
    check = legal(made).check("sse_completeness")
    assert check.verdict is Outcome.PASS
    assert check.observations == 1


def test_a_post_without_event(made):
    h = legal(made)
    h.post(7, "p2", at=3.0)
    check = h.check("sse_completeness")
    assert check.evidence == [
        "post p2 acknowledged in us-east at 3.010 s; listener 1 in us-east still without an event or resync "
        "at 8.010 s [calm]"
    ]


def test_an_event_after_the_deadline(made):
    h = legal(made)
    h.post(7, "p2", at=3.0)
    h.event(1, "p2", at=9.0)
    assert "the event came at 9.000 s" in h.check("sse_completeness").evidence[0]


def test_a_resync_stands_for_what_was_missed(made):
    h = legal(made)
    h.post(7, "p2", at=3.0)
    h.op(OpKind.RESYNC, 1, at=5.0)
    assert h.check("sse_completeness").verdict is Outcome.PASS


def test_an_earlier_resync_does_not(made):
    h = legal(made)
    h.op(OpKind.RESYNC, 1, at=2.0)
    h.post(7, "p2", at=3.0)
    assert h.check("sse_completeness").verdict is Outcome.FAIL


def test_a_post_sent_before_the_stream_was_open_is_not_due(made):
    h = made({1: [7]})
    h.post(7, "p1", at=0.995, took=0.1)
    h.open(1, at=1.0)  # open at 1.01 s: in the middle of the post's fan-out
    h.end(1, at=40.0)
    assert h.check("sse_completeness").verdict is Outcome.INCONCLUSIVE


def test_a_retried_post_counts_from_its_first_attempt(made):
    h = made({1: [7]})
    h.post(7, "p1", at=0.5, took=0.2, outcome=OpOutcome.INFO, idempotency_key="k")
    h.open(1, at=1.0)
    h.post(7, "p1", at=2.0, idempotency_key="k")  # repeats the answer of the first
    h.end(1, at=40.0)
    assert h.check("sse_completeness").verdict is Outcome.INCONCLUSIVE


def test_a_stream_that_ends_before_the_deadline_owes_nothing(made):
    h = legal(made, end=7.0)
    h.post(7, "p2", at=3.0)
    assert h.check("sse_completeness").verdict is Outcome.PASS


def test_a_stream_without_recorded_end_counts_up_to_its_last_event(made):
    h = legal(made, end=0)
    h.post(7, "p2", at=3.0)
    assert h.check("sse_completeness").verdict is not Outcome.FAIL
    h.post(7, "p3", at=20.0)
    h.event(1, "p3", at=20.2)
    assert h.check("sse_completeness").verdict is Outcome.FAIL


def resumed(made, since="r.1.3"):
    """The stream breaks at 5 s and is open again at 7.01 s; a post is acknowledged in between."""
    h = legal(made, end=5.0)
    h.post(7, "gap", at=6.0)
    h.open(1, at=7.0, since=since)
    h.end(1, at=40.0)
    return h


def test_a_post_in_the_gap_comes_after_the_resume(made):
    h = resumed(made)
    h.event(1, "gap", at=7.1)
    check = h.check("sse_completeness")
    assert check.verdict is Outcome.PASS
    assert "1 of them acknowledged between two connections" in check.reason


def test_a_post_in_the_gap_that_never_comes(made):
    assert "post gap" in resumed(made).check("sse_completeness").evidence[0]


def test_a_resync_after_the_resume_is_honest(made):
    h = resumed(made)
    h.op(OpKind.RESYNC, 1, at=7.02)
    assert h.check("sse_completeness").verdict is Outcome.PASS


def test_a_reconnect_that_did_not_ask_to_resume_is_owed_nothing_of_the_gap(made):
    h = resumed(made, since="")
    assert h.check("sse_completeness").verdict is not Outcome.FAIL


def test_the_deadline_starts_again_with_the_connection(made):
    h = resumed(made)
    h.event(1, "gap", at=11.9)  # open at 7.01 + 5 s
    assert h.check("sse_completeness").verdict is Outcome.PASS


def test_twice_on_one_session(made):
    h = legal(made)
    h.event(1, "p1", at=3.0)
    check = h.check("sse_completeness")
    assert check.evidence == [
        "listener 1 in us-east got an event for post p1 at 1.200 s; and again, with no resync in between, "
        "at 3.000 s [calm]"
    ]


def test_twice_around_a_resync_is_legal(made):
    h = legal(made)
    h.op(OpKind.RESYNC, 1, at=2.0)
    h.event(1, "p1", at=3.0)
    assert h.check("sse_completeness").verdict is Outcome.PASS


def test_faults_move_the_deadline_to_heal_and_convergence(made):
    h = legal(made)
    h.fault(4.0, 10.0)
    h.post(7, "p2", at=3.0)
    h.event(1, "p2", at=24.9)
    assert h.check("sse_completeness").verdict is Outcome.PASS
    h.post(7, "p3", at=11.0)
    h.event(1, "p3", at=25.1)
    assert h.check("sse_completeness").verdict is Outcome.FAIL


def test_other_regions_and_celebrities_have_longer(made):
    h = legal(made, celebrities=1)
    h.post(8, "far", at=3.0, region=AWAY)
    h.event(1, "far", at=10.9)  # 2 + 3 + 3 s
    assert h.check("sse_completeness").verdict is Outcome.PASS


def test_own_deleted_and_foreign_posts_are_not_due(made):
    h = legal(made)
    h.post(1, "mine", at=3.0)
    h.post(9, "foreign", at=3.0)
    h.post(7, "gone", at=3.0)
    h.op(OpKind.DELETE, 7, at=3.5, post="gone")
    assert h.check("sse_completeness").verdict is Outcome.PASS


def test_a_fresh_follow_is_not_due_yet(made):
    h = legal(made)
    h.op(OpKind.FOLLOW, 1, at=2.0, author=9)
    h.post(9, "p2", at=3.0)
    assert h.check("sse_completeness").verdict is Outcome.PASS


def test_an_event_at_the_deadline_is_in_time(made):
    h = legal(made)
    h.post(7, "p2", at=3.0)
    event = h.event(1, "p2", at=8.01)  # 3.01 + 2 + 3 s
    assert h.check("sse_completeness").verdict is Outcome.PASS
    event.done_ns += 1
    assert h.check("sse_completeness").verdict is Outcome.FAIL


def test_a_post_is_due_when_it_was_sent_as_the_stream_opened(made):
    h = made({1: [7]})
    opened = h.open(1, at=0.0)
    h.post(7, "p1", at=0.01)
    h.end(1, at=40.0)
    assert h.check("sse_completeness").verdict is Outcome.FAIL
    opened.done_ns += 1
    assert h.check("sse_completeness").verdict is Outcome.INCONCLUSIVE


def test_a_post_is_due_when_the_stream_lasts_to_the_deadline(made):
    h = made({1: [7]})
    h.open(1, at=0.0)
    h.post(7, "p1", at=1.0)
    end = h.end(1, at=6.01)
    assert h.check("sse_completeness").verdict is Outcome.FAIL
    end.done_ns -= 1
    assert h.check("sse_completeness").verdict is Outcome.INCONCLUSIVE


def test_a_resync_counts_from_the_sending_of_the_post_to_the_deadline(made):
    h = legal(made)
    h.post(7, "p2", at=3.0)
    resync = h.op(OpKind.RESYNC, 1, at=3.0, took=0)
    assert h.check("sse_completeness").verdict is Outcome.PASS
    resync.done_ns -= 1
    assert h.check("sse_completeness").verdict is Outcome.FAIL
    resync.done_ns = resync.sent_ns + 5_010_000_000
    assert h.check("sse_completeness").verdict is Outcome.PASS
    resync.done_ns += 1
    assert h.check("sse_completeness").verdict is Outcome.FAIL


def test_a_resync_between_two_events_of_a_post_counts_at_both_ends(made):
    h = legal(made)
    first = next(op for op in h.ops if op.kind is OpKind.EVENT)
    second = h.event(1, "p1", at=3.0)
    resync = h.op(OpKind.RESYNC, 1, at=2.0, took=0)
    for at, verdict in (
        (first.done_ns, Outcome.PASS),
        (second.done_ns, Outcome.PASS),
        (first.done_ns - 1, Outcome.FAIL),
        (second.done_ns + 1, Outcome.FAIL),
    ):
        resync.done_ns = at
        assert h.check("sse_completeness").verdict is verdict


def test_a_resync_of_another_session_explains_nothing(made):
    h = legal(made)
    h.event(1, "p1", at=3.0)
    h.post(7, "p2", at=3.0)
    h.op(OpKind.RESYNC, 1, at=2.0, session="other")
    h.op(OpKind.RESYNC, 1, at=4.0, session="other")
    assert h.check("sse_completeness").value == 2


def test_what_another_listener_is_owed_is_not_due_here(made):
    h = made({1: [7], 2: [8]})
    h.open(1, at=0.0)
    h.post(7, "p1", at=1.0)
    h.event(1, "p1", at=1.2)
    h.read(2, [], at=0.5)
    h.post(8, "other", at=2.0)
    h.end(1, at=40.0)
    assert h.check("sse_completeness").verdict is Outcome.PASS


def test_an_event_on_another_session_does_not_count(made):
    h = legal(made)
    h.op(OpKind.STREAM_OPEN, 1, at=0.0, session="other")
    h.event(1, "p1", at=1.2, session="other")
    h.post(7, "p2", at=3.0)
    h.event(1, "p2", at=3.2, session="other")
    h.op(OpKind.STREAM_END, 1, at=40.0, took=0, session="other")
    check = h.check("sse_completeness")
    assert (check.value, check.observations) == (1, 4)


def test_told_in_time_and_told_again_after_a_resync(made):
    h = legal(made)
    h.op(OpKind.RESYNC, 1, at=8.0)
    h.event(1, "p1", at=9.0)
    assert h.check("sse_completeness").verdict is Outcome.PASS


def test_the_earliest_connection_that_lasts_sets_the_deadline(made):
    h = made({1: [7]})
    h.open(1, at=0.0)
    h.post(7, "p1", at=1.0)
    h.end(1, at=8.0)  # the deadline was at 6.01 s
    h.open(1, at=9.0, since="r.1.0")
    h.event(1, "p1", at=10.0)
    h.end(1, at=40.0)
    assert h.check("sse_completeness").verdict is Outcome.FAIL


def test_a_connection_that_broke_too_soon_leaves_it_to_the_next(made):
    h = made({1: [7]})
    h.open(1, at=0.0)
    h.post(7, "p1", at=4.0)
    h.end(1, at=5.0)
    h.open(1, at=9.0, since="r.1.0")
    end = h.end(1, at=40.0)
    assert h.check("sse_completeness").verdict is Outcome.FAIL
    h.ops.remove(end)
    h.event(1, "p1", at=10.0)
    h.end(1, at=40.0)
    assert h.check("sse_completeness").verdict is Outcome.PASS


def test_no_listener_is_inconclusive(made):
    h = made({1: [7]})
    h.post(7, "p1", at=1.0)
    assert h.check("sse_completeness").verdict is Outcome.INCONCLUSIVE


def late(made, variant, until_s=20.0):
    """Listener 1 reads late until 20 s; p2 is due by then as well as by its own time."""
    h = made({1: [7, 8]})
    h.scenario = msgspec.structs.replace(h.scenario, listeners=Listening(until_s=until_s))
    h.open(1, at=0.0, variant=variant)
    h.post(7, "p2", at=3.0)
    h.end(1, at=40.0)
    return h


@pytest.mark.parametrize("variant", ["slow", "stalled"])
def test_a_listener_that_reads_late_is_judged_from_when_it_reads_like_others(made, variant):
    h = late(made, variant)
    event = h.event(1, "p2", at=25.0)  # 20 + 2 + 3 s
    check = h.check("sse_completeness")
    assert check.verdict is Outcome.PASS
    assert check.reason.endswith("; 1 listeners read late on purpose: judged for losses, not for times")
    event.done_ns += 1
    assert h.check("sse_completeness").verdict is Outcome.FAIL


@pytest.mark.parametrize("variant", ["", "half-open", "http2"])
def test_all_others_are_judged_by_their_time(made, variant):
    h = late(made, variant)
    h.event(1, "p2", at=9.0)
    check = h.check("sse_completeness")
    assert check.verdict is Outcome.FAIL
    assert "read late" not in check.reason


def test_what_a_late_reader_lost_is_lost(made):
    assert late(made, "stalled").check("sse_completeness").verdict is Outcome.FAIL


def test_without_a_time_late_readers_are_late_until_the_phases_end(made):
    h = late(made, "stalled", until_s=None)
    h.event(1, "p2", at=39.0)
    h.post(7, "p3", at=10.0)
    assert h.check("sse_completeness").verdict is Outcome.INCONCLUSIVE  # its stream ends before the phases do


def test_a_late_reader_that_was_dropped_is_owed_what_it_missed_when_it_is_back(made):
    h = made({1: [7]})
    h.scenario = msgspec.structs.replace(h.scenario, listeners=Listening(until_s=20.0))
    h.open(1, at=0.0, variant="stalled")
    h.post(7, "p2", at=3.0)
    h.end(1, at=20.1)  # noticed as soon as it reads
    h.open(1, at=21.0, since="r.1.3", variant="stalled")
    h.end(1, at=40.0)
    assert h.check("sse_completeness").verdict is Outcome.FAIL
    h.event(1, "p2", at=26.0)
    assert h.check("sse_completeness").verdict is Outcome.PASS


def test_a_late_reader_that_never_comes_back_owes_and_is_owed_nothing(made):
    h = legal(made)
    h.scenario = msgspec.structs.replace(h.scenario, listeners=Listening(until_s=20.0))
    h.open(2, at=0.0, variant="stalled")
    h.end(2, at=20.1)
    assert h.check("sse_completeness").verdict is Outcome.PASS
