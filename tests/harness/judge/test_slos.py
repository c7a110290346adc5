from __future__ import annotations

import msgspec
import pytest
from made_history import AWAY, HOME

from harness.contract.profile import Capabilities
from harness.core.op import OpKind, OpOutcome
from harness.core.verdict import Outcome
from harness.judge.case import Scrape
from harness.judge.expressions import parse_expectations
from harness.judge.slos import judge_slos


def judged(h, selector, *expressions):
    expected = parse_expectations({selector: expressions, "invariants": ()})
    with h.trial() as trial:
        return list(judge_slos(trial, expected.slos))


def delivered(made, **options):
    """Listener 1 at home and 2 away get each of 20 posts of user 7 after 0.1 s and 0.3 s."""
    h = made({1: [7], 2: [7]}, **options)
    h.open(1, at=-1.0)
    h.open(2, at=-1.0, region=AWAY)
    for k in range(20):
        h.post(7, f"p{k:02}", at=1.0 + k)
        h.event(1, f"p{k:02}", at=1.1 + k)
        h.event(2, f"p{k:02}", at=1.3 + k, region=AWAY)
    h.end(1, at=40.0)
    h.op(OpKind.STREAM_END, 2, at=40.0, region=AWAY)
    return h


def test_post_to_event_by_scope(made):
    h = delivered(made)
    [local] = judged(h, "post_to_event{scope:local}", "p(95) <= 200ms")
    assert (local.verdict, local.observations) == (Outcome.PASS, 20)
    assert local.value == pytest.approx(100.0, abs=0.01)
    assert (local.phase, local.bound, local.unit) == ("calm", 200.0, "ms")
    [remote] = judged(h, "post_to_event{scope:remote}", "max <= 200ms")
    assert remote.verdict is Outcome.FAIL
    assert "measured 300.0 ms" in remote.reason
    assert remote.evidence[0].startswith("event of user 2 in ap-tokyo, due at 1.000 s: 300.0 ms (post p00)")


@pytest.mark.parametrize(("variant", "observations"), [("", 20), ("half-open", 20), ("slow", 0), ("stalled", 0)])
def test_times_of_late_readers_are_no_times_of_the_target(made, variant, observations):
    h = delivered(made)
    h.ops[0].variant = variant
    [local] = judged(h, "post_to_event{scope:local}", "p(95) <= 200ms")
    assert local.observations == observations


def test_what_had_just_begun_when_a_fault_struck_is_a_matter_of_the_faults_phase(made):
    h = made({1: [7]})
    h.baseline = 30.0
    h.fault(30.1, 35.0)
    h.open(1, at=-1.0)
    for name, at, took in (("calm", 5.0, 0.1), ("struck", 29.9, 3.0), ("slow", 29.5, 3.0), ("quick", 29.95, 0.1)):
        h.post(7, name, at=at)
        h.event(1, name, at=at + took)
    h.end(1, at=40.0)
    calm, after = judged(h, "post_to_event", "max <= 1s")
    assert (calm.phase, calm.observations, calm.verdict) == ("calm", 3, Outcome.FAIL)  # "slow" was late before
    assert "post slow" in calm.evidence[0]
    assert (after.phase, after.observations, after.value) == ("after", 1, pytest.approx(3000.0, abs=0.01))


def test_all_regions_and_cross_region(made):
    h = delivered(made)
    [everything] = judged(h, "post_to_event", "count >= 40")
    assert everything.verdict is Outcome.PASS
    [cross] = judged(h, "cross_region", "max <= 300ms")  # from the acknowledgement
    assert cross.value == pytest.approx(290.0, abs=0.01)


def test_a_delivery_after_a_reconnect_is_no_sample_but_a_late_one_is(made):
    h = delivered(made)
    h.post(7, "late", at=25.0)
    h.event(1, "late", at=33.0)
    h.open(3, at=20.0)
    h.end(3, at=24.0)
    h.open(3, at=30.0, since="r.1.1")
    h.event(3, "late", at=30.1)
    [check] = judged(h, "post_to_event{scope:local}", "max <= 1s")
    assert check.observations == 21
    assert check.value == pytest.approx(8000.0, abs=0.01)


def test_authors_are_ordinary_or_celebrities(made):
    h = made({1: [0, 7]}, celebrities=1)
    h.open(1, at=-1.0)
    for author, post, at in ((0, "star", 1.0), (7, "plain", 2.0)):
        h.post(author, post, at=at)
        h.event(1, post, at=at + 0.2)
    h.end(1, at=40.0)
    [star] = judged(h, "post_to_event{author:celebrity}", "max <= 5s")
    assert star.observations == 1
    [plain] = judged(h, "post_accept{author:ordinary}", "failures == 0")
    assert plain.observations == 1


def test_post_to_rendered_leaves_the_jitter_out(made):
    h = delivered(made)
    h.read(1, ["p00"], at=1.9, took=0.05, kind=OpKind.FEED_NEW)
    [check] = judged(h, "post_to_rendered", "max <= 200ms")
    assert check.observations == 1
    assert check.value == pytest.approx(150.0, abs=0.01)


def reads(made, failures=0, count=300):
    h = made({1: [7]})
    for k in range(count):
        h.read(
            1,
            [],
            at=k / 10,
            outcome=OpOutcome.FAIL if k < failures else OpOutcome.OK,
            status=503 if k < failures else 200,
        )
    return h


def test_no_failures_prints_the_bound_reached(made):
    [check] = judged(reads(made), "feed_read", "failures == 0")
    assert check.verdict is Outcome.PASS
    assert check.reason == "0 of 300 failed: availability of at least 99.0000 % at 95 % confidence"


def test_failures_as_number_and_share(made):
    number, share, strict = judged(reads(made, 3), "feed_read", "failures == 0", "failures <= 1%", "failures < 1%")
    assert number.verdict is Outcome.FAIL
    assert number.evidence[0] == "feed of user 1 in us-east, due at 0.000 s: fail, status 503"
    assert share.verdict is Outcome.PASS
    assert strict.verdict is Outcome.FAIL
    assert (number.unit, share.unit) == ("failures", "share")


@pytest.mark.parametrize(
    ("status", "error", "told"),
    [
        (503, "status 503", "fail, status 503"),
        (503, '503 {"type":"x","detail":"no worker answers","status":503,"mo', "fail, status 503: no worker answers"),
        (502, "502 <h1>Bad Gateway</h1>", "fail, status 502: <h1>Bad Gateway</h1>"),
        (0, "ConnectionRefusedError: [Errno 111]", "fail, ConnectionRefusedError: [Errno 111]"),
        (0, "", "fail, no answer"),
    ],
)
def test_a_failure_tells_once_what_was_answered(made, status, error, told):
    h = reads(made)
    h.read(1, [], at=1.0, outcome=OpOutcome.FAIL, status=status, error=error)
    [check] = judged(h, "feed_read", "failures == 0")
    assert check.evidence == [f"feed of user 1 in us-east, due at 1.000 s: {told}"]


def test_a_share_takes_samples_and_tells_the_bound_reached(made):
    one, rare, half = judged(reads(made), "feed_read", "failures <= 1%", "failures < 0.001%", "failures <= 0.5%")
    assert one.verdict is Outcome.PASS
    assert (rare.verdict, half.verdict) == (Outcome.INCONCLUSIVE, Outcome.INCONCLUSIVE)
    assert rare.reason == (
        "0 of 300 failed: availability of at least 99.0000 % at 95 % confidence; "
        "failures < 0.001% needs 300,000 samples"
    )
    [broken] = judged(reads(made, 3), "feed_read", "failures < 0.001%")
    assert broken.verdict is Outcome.FAIL


def test_failed_ops_have_no_latency(made):
    [check] = judged(reads(made, 3), "feed_read", "p(99) <= 200ms")
    assert check.observations == 297


def test_too_few_samples_for_a_percentile(made):
    h = reads(made, count=50)
    p99, p95 = judged(h, "feed_read", "p(99) <= 200ms", "p(95) <= 200ms")
    assert p99.verdict is Outcome.INCONCLUSIVE
    assert "needs 100" in p99.reason
    assert p95.verdict is Outcome.PASS
    [bad] = judged(h, "feed_read", "p(99) <= 1ms")
    assert bad.verdict is Outcome.FAIL


def test_no_samples_is_inconclusive(made):
    for check in judged(made({1: [7]}), "feed_read", "p(95) <= 1s", "failures == 0", "max <= 1s"):
        assert check.verdict is Outcome.INCONCLUSIVE
        assert check.reason == "no samples"


def test_count_of_nothing_can_fail(made):
    [check] = judged(made({1: [7]}), "stream_open", "count >= 10")
    assert check.verdict is Outcome.FAIL


def test_the_warm_up_and_the_final_reads_are_left_out(made):
    h = reads(made)
    h.read(1, [], at=-2.0, took=3.0)
    h.read(1, [], at=30.0, took=3.0, final=True)
    [check] = judged(h, "feed_read", "max <= 1s")
    assert check.verdict is Outcome.PASS


def test_phases_can_be_chosen_by_name_and_kind(made):
    h = reads(made)
    assert [c.phase for c in judged(h, "feed_read{phase:baseline}", "max <= 1s")] == ["calm"]
    assert [c.phase for c in judged(h, "feed_read{phase:calm}", "max <= 1s")] == ["calm"]
    [skipped] = judged(h, "feed_read{phase:fault}", "max <= 1s")
    assert skipped.skipped
    [missing] = judged(h, "feed_read{phase:never}", "max <= 1s")
    assert (missing.verdict, missing.skipped) == (Outcome.INCONCLUSIVE, False)


def test_what_the_target_lacks_is_skipped_by_name(made):
    h = made({1: [7]}, regions=(HOME,), able=Capabilities(stream="none", since=False, imports=False))
    for metric in ("post_to_event", "stream_open", "cross_region", "feed_new", "import"):
        [check] = judged(h, metric, "max <= 1s")
        assert check.skipped
        assert check.reason.startswith("skipped: target made")


def test_the_targets_own_metrics(made):
    h = made({1: [7]})
    text = 'rebuild_seconds_bucket{le="0.05"} 0\nrebuild_seconds_bucket{le="+Inf"} 0\nrebuild_seconds_sum 0\n'
    ends = 'rebuild_seconds_bucket{le="0.05"} 200\nrebuild_seconds_bucket{le="+Inf"} 200\nrebuild_seconds_sum 4\n'
    h.scrapes = [
        Scrape(phase="calm", at="start", region=HOME, at_ns=0, text=text),
        Scrape(phase="calm", at="end", region=HOME, at_ns=9, text=ends),
    ]
    p99, mean, foreign = (
        judged(h, "target:rebuild_seconds", "p(99) <= 50ms")
        + judged(h, "target:rebuild_seconds{region:us-east}", "avg <= 20ms")
        + judged(h, "target:nothing", "max <= 1s")
    )
    assert (p99.verdict, p99.observations) == (Outcome.PASS, 200)
    assert mean.value == pytest.approx(20.0)
    assert foreign.skipped
    assert foreign.reason == "skipped: target made has no metric nothing; it is one of target reference"
    h.scenario = msgspec.structs.replace(h.scenario, target="made")
    [missing] = judged(h, "target:nothing", "max <= 1s")
    assert (missing.verdict, missing.skipped) == (Outcome.INCONCLUSIVE, False)
    assert "no nothing" in missing.reason


def test_of_a_target_that_answers_no_scrape_nothing_is_known(made):
    h = made({1: [7]})
    h.scrapes = [Scrape(phase="calm", at=at, region=HOME, at_ns=0, text="") for at in ("start", "end")]
    [unknown] = judged(h, "target:nothing", "max <= 1s")
    assert (unknown.verdict, unknown.skipped) == (Outcome.INCONCLUSIVE, False)


def due_in_calm(made, failures=0, **witness):
    """300 reads; a fault in phase calm; another phase "after" from 20 s on."""
    h = reads(made, failures)
    h.fault(1.0, 5.0).witness = witness
    h.baseline = 20.0
    return h


def test_a_fault_without_witness_leaves_the_slos_of_its_phase_unproven(made):
    calm, after = judged(due_in_calm(made, ok=False, evidence="still answers"), "feed_read", "failures == 0")
    assert (calm.phase, calm.verdict) == ("calm", Outcome.INCONCLUSIVE)
    assert calm.reason.startswith("kill of us-east.memcached (f0) has no witness: still answers; 0 of 200 failed")
    assert (after.phase, after.verdict) == ("after", Outcome.PASS)


def test_a_fault_with_a_witness_takes_nothing_away(made):
    calm, after = judged(due_in_calm(made, ok=True), "feed_read", "failures == 0")
    assert (calm.verdict, after.verdict) == (Outcome.PASS, Outcome.PASS)


def test_an_slo_that_is_missed_fails_also_without_witness(made):
    calm, _ = judged(due_in_calm(made, failures=3, ok=False), "feed_read", "failures == 0")
    assert calm.verdict is Outcome.FAIL
    assert calm.reason == "3 of 200 failed (1.5 %)"


def test_faults_that_were_refused_or_left_no_record_are_without_witness_too(made):
    h = reads(made)
    h.refused(1.0)
    h.fault(6.0, 7.0)
    h.faults.pop()
    [check] = judged(h, "feed_read", "failures == 0")
    assert check.verdict is Outcome.INCONCLUSIVE
    assert check.reason.startswith(
        "kill of us-east.memcached (f0) was not injected: faults are forbidden: customers complain; and 1 more"
    )


def test_a_target_without_handles_is_judged_as_undisturbed(made):
    h = reads(made)
    h.fault(1.0, 5.0)
    h.faults.clear()
    h.planned.clear()
    h.profile = msgspec.structs.replace(h.profile, handles={})
    [check] = judged(h, "feed_read", "failures == 0")
    assert check.verdict is Outcome.PASS
