"""Literal lines of the null probe: what excuses a time that is too long, and what does not."""

from __future__ import annotations

import pytest
from made_history import HOME, ns

from harness.core.clock import NS_PER_MS, NS_PER_S
from harness.core.op import OpOutcome
from harness.core.verdict import Outcome
from harness.judge.case import Scrape, Window
from harness.judge.expressions import parse_expectations, parse_threshold
from harness.judge.noise import Noise, aggregated, unexplained
from harness.judge.slos import judge_slos
from harness.record.noise_file import Echo, NoiseRow

P95, P50, MAX = (parse_threshold(f"{name} <= 200ms") for name in ("p(95)", "p(50)", "max"))
SPAN = Window(ns(0), ns(10))
STARVED = {"outside": 0.7, "steal": 0.05, "waited": 0.8, "in_line": 1.4}


def line(second, took_ms=0.3, *, echoes=20, **shares):
    """One second of the machine: echoes evenly spread, all of them that long or as `took_ms` lists them."""
    times = took_ms if isinstance(took_ms, list) else [took_ms] * echoes
    return NoiseRow(
        start_ns=ns(second),
        end_ns=ns(second + 1),
        echoes=[Echo(k * 1_000_000 // len(times), 40, round(t * 1000)) for k, t in enumerate(times)],
        **shares,
    )


def lines(noisy=(), seconds=10, **how):
    """Quiet seconds, except for the noisy ones."""
    return [line(s, **how) if s in noisy else line(s) for s in range(seconds)]


def seconds_of(windows):
    return [((w.start_ns - ns(0)) / NS_PER_S, (w.end_ns - ns(0)) / NS_PER_S) for w in windows]


NOISY = [
    # what the noisy second 4 was like, threshold, noisy stretches (with 2 s after each)
    ({}, P95, []),
    ({"took_ms": 99.0}, P95, []),
    ({"took_ms": 100.0}, P95, [(4, 7)]),  # half of the bound
    ({"took_ms": [100.0] * 2 + [0.3] * 18}, P95, [(4, 7)]),
    ({"took_ms": [100.0] + [0.3] * 19}, P95, []),  # its p95 is small
    ({"took_ms": [100.0] + [0.3] * 19}, MAX, [(4, 7)]),
    ({"took_ms": [100.0] * 9 + [0.3] * 11}, P50, []),
    (STARVED, P95, [(4, 7)]),
    ({**STARVED, "own": 0.9}, P95, [(4, 7)]),  # others took a fifth all the same
    ({**STARVED, "outside": 0.14}, P95, []),  # less than a fifth is missing
    ({**STARVED, "waited": 0.49}, P95, []),  # the run got what it wanted
    ({**STARVED, "in_line": 0.49}, P95, []),  # it hardly wanted to run
    ({"steal": 0.2, "waited": 0.5, "in_line": 0.5}, P95, [(4, 7)]),
    ({"took_ms": 150.0, "own": 0.6, "outside": 0.1}, P95, []),  # of the run's own making
    ({"took_ms": 150.0, "own": 0.4, "outside": 0.1}, P95, [(4, 7)]),  # the machine just stood still
]


@pytest.mark.parametrize(("how", "threshold", "stretches"), NOISY)
def test_what_makes_a_second_noisy(how, threshold, stretches):
    assert seconds_of(Noise(lines([4], **how)).noisy(SPAN, threshold)) == stretches


def test_noisy_stretches_are_joined_and_reach_into_the_phase():
    noise = Noise(lines([1, 3, 8], **STARVED))
    assert seconds_of(noise.noisy(SPAN, P95)) == [(1, 6), (8, 11)]
    assert seconds_of(noise.noisy(Window(ns(5.5), ns(8)), P95)) == [(3, 6)]
    assert seconds_of(noise.noisy(Window(ns(6), ns(8)), P95)) == []


def test_load_that_a_fault_of_the_run_makes_is_no_noise():
    provoked = [Window(ns(3.5), ns(4.5))]
    assert Noise(lines([4], **STARVED), provoked).noisy(SPAN, P95) == []
    assert Noise(lines([5], **STARVED), provoked).noisy(SPAN, P95) != []


def test_the_machines_faults_of_a_case(made):
    h = made({})
    h.noise = lines([4], **STARVED)
    h.fault(3.5, 4.5, kind="kill")
    assert Noise.of(h.case()).noisy(SPAN, P95) != []
    h.fault(3.5, None, kind="cpu-hog")
    assert Noise.of(h.case()).noisy(SPAN, P95) == []


EXCUSES = [
    # lines, value in the quiet seconds (None: too few samples), excused
    (lines(), 300.0, False),  # a slow server on a quiet machine
    ([], 201.0, False),  # not measured
    (lines(range(10), took_ms=12.0), 211.0, True),  # the machine's 12 ms are what is missing
    (lines(range(10), took_ms=12.0), 213.0, False),
    (lines(range(10), took_ms=12.0, own=0.7), 211.0, False),  # the run's own load made them
    (lines(range(10), **STARVED), None, True),
    (lines([4], **STARVED), 150.0, True),
    (lines([4], **STARVED), 300.0, False),  # slow in the quiet seconds too
    (lines([4], **STARVED), None, True),
]


@pytest.mark.parametrize(("rows", "quiet_ms", "excused"), EXCUSES)
def test_what_is_excused(rows, quiet_ms, excused):
    quiet = None if quiet_ms is None else quiet_ms * NS_PER_MS
    assert bool(Noise(rows).excuse(SPAN, P95, lambda noisy: quiet)) is excused


TOTALS = [
    # noisy seconds of 100 (each with 2 s after it), bound, excused
    ((), "p(95) <= 200ms", False),
    ((), "max <= 200ms", False),
    ((40,), "max <= 200ms", True),  # the one that was slowest may have been in it
    ((40,), "p(99) <= 200ms", True),  # 3 of 100 s can hold the slowest 1 %
    ((40,), "p(95) <= 200ms", False),  # but not the slowest 5 %
    ((40, 60), "p(95) <= 200ms", True),
    (range(0, 51, 3), "med <= 200ms", True),
    ((40, 60), "avg <= 200ms", False),
    (range(0, 51, 3), "avg <= 200ms", True),
]


@pytest.mark.parametrize(("noisy", "text", "excused"), TOTALS)
def test_a_total_is_unknown_when_noise_could_hold_what_is_above_it(noisy, text, excused):
    noise = Noise(lines(noisy, 100, **STARVED))
    assert bool(noise.excuse_total(Window(ns(0), ns(100)), parse_threshold(text), 300e6)) is excused


def test_the_targets_own_histograms_are_excused_as_totals(made):
    h = made({1: [7]}, length=10.0)
    empty = 'rebuild_seconds_bucket{le="1"} 0\nrebuild_seconds_bucket{le="+Inf"} 0\nrebuild_seconds_sum 0\n'
    full = empty.replace(" 0\n", " 200\n")
    times = {"start": empty, "end": full}
    h.scrapes = [Scrape(phase="calm", at=at, region=HOME, at_ns=0, text=text) for at, text in times.items()]
    h.noise = lines([4], **STARVED)
    expected = parse_expectations({"target:rebuild_seconds": ("p(95) <= 50ms", "p(50) <= 50ms"), "invariants": ()})
    with h.trial() as trial:
        p95, p50 = judge_slos(trial, expected.slos)
    assert (p95.verdict, p50.verdict) == (Outcome.INCONCLUSIVE, Outcome.FAIL)
    assert p95.machine == pytest.approx(0.3)


def test_only_upper_bounds_on_times_are_excused():
    noise = Noise(lines(range(10), **STARVED))
    for text in ("p(95) >= 200ms", "failures == 0", "rate >= 10/s", "count >= 1"):
        assert noise.excuse(SPAN, parse_threshold(text), lambda noisy: None) == ""


def test_the_excuse_tells_what_happened():
    assert Noise(lines([2, 3], **STARVED)).excuse(SPAN, P95, lambda noisy: 150e6) == (
        "the machine was noisy: for 2 s others took 75 % of the processors (the hypervisor 5 %), and the run stood in "
        "line 80 % of the time in which it could have run; without that: 150.0 ms"
    )
    assert Noise(lines([2], took_ms=120.0)).excuse(SPAN, P95, lambda noisy: None) == (
        "the machine was noisy: for 1 s an echo on this machine alone took up to 120.0 ms; without that: too little is "
        "left"
    )
    assert Noise(lines(range(10), took_ms=12.0)).excuse(SPAN, P95, lambda noisy: 211e6) == (
        "the machine alone took 12.0 ms of it, without which it would hold"
    )


def test_what_the_machine_alone_took():
    noise = Noise([line(0, [1.0] * 19 + [50.0]), line(1, 2.0)])
    assert noise.machine_ns(Window(ns(0), ns(1)), MAX) == 50 * NS_PER_MS
    assert noise.machine_ns(Window(ns(0), ns(1)), P95) == 1 * NS_PER_MS
    assert noise.machine_ns(Window(ns(1), ns(2)), MAX) == 2 * NS_PER_MS
    assert noise.machine_ns(Window(ns(2), ns(3)), MAX) is None


AGGREGATIONS = [("p(50) <= 1", 2), ("med <= 1", 2), ("p(75) <= 1", 3), ("p(99) <= 1", 4), ("p(0) <= 1", 1)]
AGGREGATIONS += [("avg <= 1", 2.5), ("min <= 1", 1), ("max <= 1", 4)]


@pytest.mark.parametrize(("text", "value"), AGGREGATIONS)
def test_aggregations_are_those_of_the_samples(made, text, value):
    h = reads(made, [1, 2, 3, 4])
    assert aggregated([3, 1, 4, 2], parse_threshold(text)) == value
    assert judged(h, text)[0].value == pytest.approx(value)


TIMES = [
    # begin, end, counts among what the stretches 2-4 s and 6-7 s do not explain of a bound of 0.2 s
    (1.0, 1.5, True),
    (1.9, 2.05, False),
    (1.0, 2.05, True),  # it had been over the bound before
    (3.0, 3.9, False),
    (2.5, 7.5, True),  # 2 s between the stretches
    (4.0, 6.0, True),
    (3.9, 4.1, False),
]


@pytest.mark.parametrize(("begin", "end", "counts"), TIMES)
def test_which_times_noise_does_not_explain(made, begin, end, counts):
    condition = unexplained([Window(2, 4), Window(6, 7)], "a", "b", 0.2)
    with made({}).trial() as trial:
        assert trial.rows(f"SELECT {condition} FROM (SELECT {begin} AS a, {end} AS b)") == [(counts,)]


def reads(made, times_ms, each=1):
    """A read every 50 ms of a phase of 10 s, as many as there are times, each time `each` times in a row."""
    h = made({1: [7]}, length=10.0)
    for k, ms in enumerate(t for t in times_ms for _ in range(each)):
        h.read(1, [], at=k / 20, took=ms / 1000, outcome=OpOutcome.OK)
    return h


def judged(h, *expressions):
    expected = parse_expectations({"feed_read": expressions, "invariants": ()})
    with h.trial() as trial:
        return list(judge_slos(trial, expected.slos))


def test_a_slow_server_on_a_quiet_machine_fails_and_the_machine_stands_beside(made):
    h = reads(made, [300] * 200)
    h.noise = lines()
    [check] = judged(h, "p(95) <= 200ms")
    assert check.verdict is Outcome.FAIL
    assert (check.value, check.machine) == (pytest.approx(300), pytest.approx(0.3))


def test_a_starved_run_is_inconclusive_and_never_passes(made):
    h = reads(made, [300] * 200)
    h.noise = lines(range(10), **STARVED)
    [check] = judged(h, "p(95) <= 200ms")
    assert check.verdict is Outcome.INCONCLUSIVE
    assert check.reason.startswith(
        "measured 300.0 ms over 200 samples; the machine was noisy: for 10 s others took 75 %"
    )
    assert check.evidence  # the slowest reads are still told


def test_slow_reads_in_noisy_seconds_alone_are_excused_and_others_are_not(made):
    noisy = reads(made, [300 if 4 <= k / 20 < 5 else 20 for k in range(200)])
    noisy.noise = lines([4], **STARVED)
    [check] = judged(noisy, "p(95) <= 200ms")
    assert check.verdict is Outcome.INCONCLUSIVE
    assert check.reason.endswith("without that: 20.0 ms")
    noisy.noise = lines([1], **STARVED)
    [check] = judged(noisy, "p(95) <= 200ms")
    assert check.verdict is Outcome.FAIL


def test_a_percentile_of_what_is_left_needs_samples(made):
    h = reads(made, [300] * 200)
    h.noise = lines(range(9), **STARVED)  # and its aftermath: nothing is quiet
    [p95] = judged(h, "p(95) <= 200ms")
    assert p95.verdict is Outcome.INCONCLUSIVE
    h.noise = lines(range(2), **STARVED)
    p95, p99 = judged(h, "p(95) <= 200ms", "p(99.5) <= 200ms")
    assert p95.verdict is Outcome.FAIL
    assert p99.verdict is Outcome.INCONCLUSIVE  # 120 samples are left of the 200 that it needs
    assert p99.reason.endswith("without that: too little is left")


def test_failures_are_never_excused_and_what_holds_still_passes(made):
    h = reads(made, [20] * 200)
    h.ops[0].outcome = OpOutcome.FAIL
    h.noise = lines(range(10), **STARVED)
    failures, times = judged(h, "failures == 0", "p(95) <= 200ms")
    assert (failures.verdict, failures.machine) == (Outcome.FAIL, None)
    assert times.verdict is Outcome.PASS


def test_a_run_that_was_not_measured_is_judged_without(made):
    [check] = judged(reads(made, [300] * 200), "p(95) <= 200ms")
    assert (check.verdict, check.machine) == (Outcome.FAIL, None)
