"""Literal lines of the null probe: what excuses a time that is too long, and what does not."""

from __future__ import annotations

import pytest
from made_history import HOME, ns

from harness.core.clock import NS_PER_MS, NS_PER_S
from harness.core.op import OpOutcome
from harness.core.verdict import Outcome
from harness.judge.case import Scrape, Window
from harness.judge.delays import Delay
from harness.judge.expressions import parse_expectations, parse_threshold
from harness.judge.noise import Noise, aggregated, explained_ns, unexplained
from harness.judge.slos import judge_slos
from harness.record.noise_file import Echo, MainThread, NoiseRow

P95, MAX = (parse_threshold(f"{name} <= 200ms") for name in ("p(95)", "max"))
SPAN = Window(ns(0), ns(10))
STARVED = {"outside": 0.7, "steal": 0.05, "waited": 0.8, "in_line": 1.4, "processors": 2}
STARVED["processes"] = [MainThread(7, 150_000, 840_000, 300)]  # it never slept
BUSY = {**STARVED, "processes": [MainThread(7, 100_000, 200_000, 300)]}  # 46 ms for reads: 30 turns, 9 times 2


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


def explained(noise, start, end):
    """(from, to, ms) of what explains something of times between two seconds."""
    found = noise.explaining(Window(ns(start), ns(end)), "feed_read")
    t0 = ns(0)
    return [((d.start_ns - t0) / NS_PER_S, (d.end_ns - t0) / NS_PER_S, round(d.longest_ns / NS_PER_MS)) for d in found]


def test_what_explains_a_time_is_what_it_touches_and_the_second_before():
    noise = Noise([NoiseRow(start_ns=ns(k), end_ns=ns(k + 1), **(BUSY if k in (1, 2, 8) else {})) for k in range(10)])
    assert explained(noise, 0, 10) == [(1, 3, 46), (2, 4, 46), (8, 10, 46)]
    assert explained(noise, 3.5, 7) == [(2, 4, 46)]
    assert explained(noise, 4, 8) == []


def test_load_that_a_fault_of_the_run_makes_is_no_noise(made):
    h = made({})
    h.noise = lines([4], **STARVED)
    h.fault(3.5, 4.5, kind="kill")
    assert most_ms(Noise.of(h.case()), 4, 5) == 840
    h.fault(3.5, 4.5, kind="cpu-hog")
    assert most_ms(Noise.of(h.case()), 4, 5) == 0
    h.noise = lines([5], **STARVED)
    assert most_ms(Noise.of(h.case()), 5, 6) == 840


def test_nor_are_seconds_in_which_the_run_took_half_of_the_processors_and_others_little():
    assert most_ms(Noise(lines([4], 10, took_ms=150.0, own=0.6, outside=0.1)), 4, 5) == 0
    assert most_ms(Noise(lines([4], 10, took_ms=150.0, own=0.4, outside=0.1)), 4, 5) == 750  # it just stood still


def most_ms(noise, start, end):
    return max((ms for _, _, ms in explained(noise, start, end) if ms > 10), default=0)


EXCUSES = [
    # lines, ms measured, excused
    (lines(), 300.0, False),  # a slow server on a quiet machine
    ([], 201.0, False),  # not measured
    (lines(range(10), took_ms=12.0), 259.0, True),  # five times two hops took 12 ms
    (lines(range(10), took_ms=12.0), 261.0, False),
    (lines(range(10), took_ms=12.0, own=0.7), 211.0, False),  # the run's own load made them
    (lines([4], **STARVED), 1000.0, True),
    (lines([4], **STARVED), 1100.0, False),  # 840 ms of waiting are no excuse for 900 ms
    (lines([4, 5], **STARVED), 1100.0, True),
    (lines(range(10), **BUSY), 240.0, True),
    (lines(range(10), **BUSY), 250.0, False),  # a busy machine, a slow server
]


@pytest.mark.parametrize(("rows", "measured_ms", "excused"), EXCUSES)
def test_an_excuse_is_as_long_as_the_noise(rows, measured_ms, excused):
    def shortened(delays):
        return measured_ms * NS_PER_MS - max(d.longest_ns for d in delays)

    assert bool(Noise(rows).excuse(SPAN, P95, "feed_read", shortened)) is excused


TOTALS = [
    # noisy seconds of 100 (each with 1 s after it), bound, excused
    ((), "p(95) <= 200ms", False),
    ((), "max <= 200ms", False),
    ((40,), "max <= 200ms", True),  # the one that was slowest may have been in it
    ((40,), "max <= 50ms", False),  # it was later than that explains
    ((40,), "p(99) <= 200ms", True),  # 2 of 100 s can hold the slowest 1 %
    ((40,), "p(95) <= 200ms", False),  # but not the slowest 5 %
    ((40, 60, 80), "p(95) <= 200ms", True),
    (range(0, 51, 2), "med <= 200ms", True),
    ((40, 60), "avg <= 200ms", False),
    (range(0, 51, 2), "avg <= 200ms", True),
]


@pytest.mark.parametrize(("noisy", "text", "excused"), TOTALS)
def test_a_total_is_unknown_when_noise_could_hold_what_is_above_it(noisy, text, excused):
    noise = Noise(lines(noisy, 100, **STARVED))
    assert bool(noise.excuse_total(Window(ns(0), ns(100)), parse_threshold(text), "target:x", 1000e6)) is excused


def test_the_targets_own_histograms_are_excused_as_totals(made):
    h = made({1: [7]}, length=10.0)
    empty = 'rebuild_seconds_bucket{le="1"} 0\nrebuild_seconds_bucket{le="+Inf"} 0\nrebuild_seconds_sum 0\n'
    full = empty.replace(" 0\n", " 200\n")
    times = {"start": empty, "end": full}
    h.scrapes = [Scrape(phase="calm", at=at, region=HOME, at_ns=0, text=text) for at, text in times.items()]
    h.noise = lines([4, 5], **STARVED)
    expected = parse_expectations({"target:rebuild_seconds": ("p(95) <= 50ms", "p(50) <= 50ms"), "invariants": ()})
    with h.trial() as trial:
        p95, p50 = judge_slos(trial, expected.slos)
    assert (p95.verdict, p50.verdict) == (Outcome.INCONCLUSIVE, Outcome.FAIL)
    assert p95.machine == pytest.approx(0.3)


def test_only_upper_bounds_on_times_are_excused():
    noise = Noise(lines(range(10), **STARVED))
    for text in ("p(95) >= 200ms", "failures == 0", "rate >= 10/s", "count >= 1"):
        assert noise.excuse(SPAN, parse_threshold(text), "feed_read", lambda delays: 0.0) == ""


def test_the_excuse_tells_what_happened():
    assert Noise(lines([2, 3], **STARVED)).excuse(SPAN, P95, "feed_read", lambda delays: 150e6) == (
        "the machine was noisy: it explains up to 1.7 s of a time; for 2 s others took 75 % of the processors (the "
        "hypervisor 5 %), and the run stood in line 80 % of the time in which it could have run; an echo on this "
        "machine alone took up to 300 µs; without that: 150.0 ms"
    )
    assert Noise(lines([2], took_ms=12.0)).excuse(SPAN, P95, "feed_read", lambda delays: 200e6) == (
        "the machine was noisy: it explains up to 60.0 ms of a time; an echo on this machine alone took up to 12.0 "
        "ms; without that: 200.0 ms"
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
    # begin, end, ns that the seconds 2 to 5 (100 ns) and 4 to 6 (700 ns) explain of it, all in s
    (0.5, 1.9, 0),
    (0.5, 2.0, 100),
    (4.9, 9.0, 700),
    (3.0, 3.5, 100),
    (5.0, 5.5, 700),
    (6.0, 9.0, 0),
    (1.0, 99.0, 700),
    (-9.0, 0.0, 0),
]


@pytest.mark.parametrize(("begin", "end", "expected"), TIMES)
def test_the_worst_second_that_a_time_touches_explains_it(made, begin, end, expected):
    delays = [Delay(ns(2), ns(5), 100), Delay(ns(4), ns(6), 700)]
    with made({}).trial() as trial:
        sql = f"SELECT {explained_ns(delays, 'a', 'b')} FROM (SELECT {ns(begin)} AS a, {ns(end)} AS b)"
        assert trial.rows(sql) == [(expected,)]


COUNTS = [
    # begin, end, counts against a bound of 0.2 s beside a second (4 to 5) that explains 0.3 s
    (1.0, 1.5, True),
    (4.0, 4.5, False),
    (3.0, 4.1, True),
    (4.0, 4.1, False),
    (5.5, 5.6, True),  # nothing explains it
]


@pytest.mark.parametrize(("begin", "end", "counts"), COUNTS)
def test_what_counts_is_later_than_the_machine_explains(made, begin, end, counts):
    condition = unexplained([Delay(ns(4), ns(5), 300 * NS_PER_MS)], "a", "b", 200 * NS_PER_MS)
    with made({}).trial() as trial:
        assert trial.rows(f"SELECT {condition} FROM (SELECT {ns(begin)} AS a, {ns(end)} AS b)") == [(counts,)]


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
    assert check.reason.startswith("measured 300.0 ms over 200 samples; the machine was noisy: it explains up to 8.4 s")
    assert check.reason.endswith("without that: 0 µs")
    assert check.evidence  # the slowest reads are still told


def test_slow_reads_in_noisy_seconds_alone_are_excused_and_others_are_not(made):
    noisy = reads(made, [300 if 4 <= k / 20 < 5 else 20 for k in range(200)])
    noisy.noise = lines([4], **STARVED)
    [check] = judged(noisy, "p(95) <= 200ms")
    assert check.verdict is Outcome.INCONCLUSIVE
    assert check.reason.endswith("without that: 18.5 ms")  # what an echo takes in all hops comes off the others
    noisy.noise = lines([1], **STARVED)
    [check] = judged(noisy, "p(95) <= 200ms")
    assert check.verdict is Outcome.FAIL


SLOW = [
    # ms of each tenth read; what the machine did all the time; verdict
    (300, STARVED, Outcome.INCONCLUSIVE),
    (1500, BUSY, Outcome.FAIL),  # that much no busy machine explains
    (240, BUSY, Outcome.INCONCLUSIVE),
    (550, {"took_ms": 80.0}, Outcome.INCONCLUSIVE),  # so may each two of 10 hops
    (1500, {"took_ms": 80.0}, Outcome.FAIL),
    (1500, {"took_ms": [80.0] + [1.0] * 19, "outside": 0.9, "waited": 0.9, "in_line": 4.0}, Outcome.FAIL),
]


@pytest.mark.parametrize(("slow_ms", "how", "verdict"), SLOW)
def test_slowness_beyond_what_the_machine_explains_fails(made, slow_ms, how, verdict):
    h = reads(made, [slow_ms if k % 10 == 0 else 20 for k in range(200)])
    h.noise = lines(range(13), 13, **how)
    [check] = judged(h, "p(95) <= 200ms")
    assert check.verdict is verdict


def test_some_times_that_are_too_slow_for_noise_are_no_percentile(made):
    h = reads(made, [1500 if k % 100 == 0 else 240 for k in range(200)])
    h.noise = lines(range(13), 13, **BUSY)
    p95, most = judged(h, "p(95) <= 200ms", "max <= 200ms")
    assert (p95.verdict, most.verdict) == (Outcome.INCONCLUSIVE, Outcome.FAIL)


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
