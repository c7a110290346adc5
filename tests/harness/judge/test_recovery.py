from __future__ import annotations

import pytest
from made_history import AWAY

from harness.core.op import OpOutcome
from harness.core.verdict import CheckKind, Outcome
from harness.judge.expressions import parse_expectations
from harness.judge.judge import judge_trial
from harness.judge.recovery import Window, judge_recovery, recovered_after

GOOD, BAD = Window(reads=5), Window(reads=5, failed=1)
ROWS = [
    # windows after the undo, number of windows before the first three good ones in a row
    ([GOOD, GOOD, GOOD], 0),
    ([BAD, GOOD, GOOD, GOOD], 1),
    ([GOOD, GOOD, BAD, GOOD, GOOD, GOOD], 3),
    ([GOOD, GOOD], None),
    ([BAD, GOOD, GOOD, BAD], None),
    ([Window(), GOOD, GOOD, GOOD], 1),  # a second in which nothing was measured proves nothing
    ([], None),
]


@pytest.mark.parametrize(("windows", "expected"), ROWS)
def test_three_in_a_row(windows, expected):
    assert recovered_after(windows) == expected


def test_what_is_normal():
    assert Window(reads=1).normal
    assert Window(events=1).normal
    assert not Window(reads=1, missed=("feed_read p(99) <= 500ms: 510 ms",)).normal
    assert not Window(reads=1, posts_failed=1).normal
    assert not Window(reads=1, silent=("events in us-east",)).normal


def readings(made, bad_until: float, end: float = 30.0):
    """A fault from 5 to 10 s; five reads a second, failing up to `bad_until`."""
    h = made({1: [7]}, length=end)
    h.fault(5.0, 10.0)
    for k in range(round(end * 5)):
        at = k / 5
        outcome = OpOutcome.FAIL if 5.0 <= at < bad_until else OpOutcome.OK
        h.read(1, [], at=at, outcome=outcome)
    return h


def judged(h, bound=10.0, **expect):
    slos = parse_expectations({**expect, "invariants": ()}).slos
    with h.trial() as trial:
        [check] = judge_recovery(trial, bound, slos)
    return check


def slow_reads(made, took_s, **options):
    """A fault from 5 to 10 s; the baseline up to 5 s; reads take `took_s` from 10 to 14 s."""
    h = made({1: [7]}, length=30.0, **options)
    h.baseline = 5.0
    h.fault(5.0, 10.0)
    for k in range(150):
        h.read(1, [], at=k / 5, took=took_s if 50 <= k < 70 else 0.01)
    return h


SLOWNESS = [
    # how slow reads are, what the scenario expects, seconds to recovery
    (0.4, {}, 0.0),
    (0.6, {}, 4.0),
    (0.4, {"feed_read": ("p(99) <= 300ms",)}, 4.0),
    (0.6, {"feed_read": ("p(99) <= 1s",)}, 0.0),
    (0.4, {"feed_read{phase:baseline}": ("p(99) <= 300ms",)}, 4.0),
    (0.4, {"feed_read{phase:calm}": ("p(99) <= 300ms",)}, 4.0),  # the baseline by its name
    (0.4, {"feed_read{phase:after}": ("p(99) <= 300ms",)}, 0.0),  # another phase's
    (0.4, {"feed_read": ("p(99) <= 500ms",), "feed_read{phase:baseline}": ("p(99) <= 300ms",)}, 0.0),
    (0.4, {"feed_read": ("failures == 0",), "feed_read{phase:baseline}": ("p(99) <= 300ms",)}, 4.0),
    (0.6, {"feed_read": ("failures == 0",)}, 4.0),
    (0.4, {"feed_read{region:us-east}": ("max <= 300ms",)}, 4.0),
    (0.4, {"feed_read{region:ap-tokyo}": ("max <= 300ms",)}, 0.0),
]


@pytest.mark.parametrize(("took_s", "expect", "recovery_s"), SLOWNESS)
def test_windows_are_held_against_what_the_scenario_expects(made, took_s, expect, recovery_s):
    assert judged(slow_reads(made, took_s), **expect).value == recovery_s


def test_the_judgement_of_a_run_takes_them_from_its_scenario(made):
    expect = {"feed_read": ("p(99) <= 300ms",), "invariants": (), "recovery": ("<= 10s",)}
    with slow_reads(made, 0.4, expect=expect).trial() as trial:
        checks = judge_trial(trial, parse_expectations(trial.case.scenario.expect))
    assert [c.value for c in checks if c.kind is CheckKind.RECOVERY] == [4.0]


def test_evidence_names_the_threshold(made):
    check = judged(slow_reads(made, 0.4), feed_read=("p(99) <= 300ms", "med <= 350ms"))
    assert check.evidence[0] == "10.000 s: feed_read p(99) <= 300ms: 400 ms, feed_read med <= 350ms: 400 ms"


def test_recovered_in_time(made):
    check = judged(readings(made, bad_until=12.5))
    assert check.verdict is Outcome.PASS
    assert check.value == 3.0
    assert check.name == "recovery from kill of us-east.memcached"
    assert check.evidence[0] == "10.000 s: 5 of 5 reads failed"


def test_at_once(made):
    assert judged(readings(made, bad_until=10.0)).value == 0.0


def test_too_late(made):
    check = judged(readings(made, bad_until=22.0))
    assert check.verdict is Outcome.FAIL
    assert check.value == 12.0


def test_never(made):
    check = judged(readings(made, bad_until=30.0))
    assert check.verdict is Outcome.FAIL
    assert check.value is None


def test_too_early_to_tell(made):
    check = judged(readings(made, bad_until=14.0, end=14.0))
    assert check.verdict is Outcome.INCONCLUSIVE
    assert "too early to tell" in check.reason


def test_a_fault_that_strikes_before_recovery_takes_its_place(made):
    h = readings(made, bad_until=22.0)
    h.fault(12.0, 20.0, kind="partition", handle="link")
    with h.trial() as trial:
        first, second = judge_recovery(trial, 10.0)
    assert first.skipped
    assert first.reason == "skipped: measured after partition of link, which came before service was normal"
    assert (second.verdict, second.value) == (Outcome.PASS, 2.0)


def test_a_refused_fault_does_not_take_its_place(made):
    h = readings(made, bad_until=12.0)
    h.refused(11.0, kind="partition", handle="link")
    with h.trial() as trial:
        first, *_ = judge_recovery(trial, 10.0)
    assert (first.verdict, first.value) == (Outcome.PASS, 2.0)


def test_a_fault_long_after_recovery_changes_nothing(made):
    h = readings(made, bad_until=11.0)
    h.fault(20.0, 21.0, kind="partition", handle="link")
    with h.trial() as trial:
        first, _ = judge_recovery(trial, 10.0)
    assert (first.verdict, first.value) == (Outcome.PASS, 1.0)


def test_not_undone(made):
    h = readings(made, bad_until=12.0)
    h.faults[0].undone_ns = None
    assert judged(h).verdict is Outcome.INCONCLUSIVE


def away(h, until: float, again: float, per_s: float = 5.0, end: float = 30.0):
    """Reads in the other region up to `until`, and from `again` on; the baseline ends when the fault strikes."""
    h.baseline = 5.0
    for k in range(round(end * per_s)):
        if not until <= k / per_s < again:
            h.read(2, [], at=k / per_s, region=AWAY)
    return h


def test_a_region_that_fell_silent_is_not_normal(made):
    check = judged(away(readings(made, bad_until=10.0), until=6.0, again=14.0))
    assert (check.verdict, check.value) == (Outcome.PASS, 4.0)
    assert check.evidence[0] == "10.000 s: no reads in ap-tokyo"


def test_listeners_that_get_nothing_more_are_not_normal(made):
    h = readings(made, bad_until=10.0)
    h.baseline = 5.0
    h.open(1, at=-1.0)
    for k in range(30):
        h.post(7, f"p{k}", at=k + 0.5)
        if k < 5:
            h.event(1, f"p{k}", at=k + 0.6)
    check = judged(h)
    assert check.verdict is Outcome.FAIL
    assert check.evidence[0] == "10.000 s: no events in us-east"


def test_sparse_traffic_may_pause(made):
    check = judged(away(readings(made, bad_until=10.0), until=6.0, again=30.0, per_s=0.5))
    assert (check.verdict, check.value) == (Outcome.PASS, 0.0)


def test_failed_posts_are_trouble(made):
    h = readings(made, bad_until=10.0)
    h.post(7, "refused", at=11.5, outcome=OpOutcome.FAIL)
    h.post(7, "unsure", at=12.5, outcome=OpOutcome.INFO)
    check = judged(h)
    assert (check.verdict, check.value) == (Outcome.PASS, 3.0)
    assert check.evidence == ["11.000 s: 1 posts failed", "12.000 s: 1 posts failed"]


def test_without_witness_recovery_is_not_proven(made):
    h = readings(made, bad_until=12.5)
    h.faults[0].witness = {"ok": False, "evidence": "still answers"}
    check = judged(h)
    assert (check.verdict, check.value) == (Outcome.INCONCLUSIVE, 3.0)
    assert check.reason.startswith("kill of us-east.memcached (f0) has no witness: still answers; normal from 3 s")


def test_without_witness_it_can_still_fail(made):
    h = readings(made, bad_until=22.0)
    h.faults[0].witness = {"ok": False}
    assert judged(h).verdict is Outcome.FAIL


def test_there_is_nothing_to_recover_from_after_a_refused_fault(made):
    h = made({1: [7]})
    h.refused(5.0, why="not running")
    check = judged(h)
    assert (check.verdict, check.skipped) == (Outcome.INCONCLUSIVE, False)
    assert check.reason == "kill of us-east.memcached (f0) was not injected: not running"


def test_no_fault_is_skipped(made):
    h = made({1: [7]})
    with h.trial() as trial:
        [check] = judge_recovery(trial, 10.0)
    assert check.skipped
