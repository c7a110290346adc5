"""The machine phase by phase, from literal lines of the null probe; and the promises of time that it excuses."""

from __future__ import annotations

import pytest
from made_history import AWAY, HOME, ns

from harness.core.op import OpKind, OpOutcome
from harness.core.verdict import Outcome
from harness.judge.expressions import parse_expectations
from harness.judge.machine import echoes_per_line, machine_phases
from harness.judge.recovery import judge_recovery
from harness.judge.timely import PROMISES, judge_invariant
from harness.record.noise_file import Echo, MainThread, NoiseRow

STARVED = {"outside": 0.6, "steal": 0.2, "waited": 0.9, "in_line": 2.0, "processors": 2}
STARVED["processes"] = [MainThread(7, 90_000, 900_000, 300)]  # it never slept
BUSY = {**STARVED, "processes": [MainThread(7, 100_000, 300_000, 300)]}  # 80 or 113 ms at most


def line(second, took_ms=0.5, *, length=1.0, **shares):
    echoes = [Echo(k * 100_000, 40, round(took_ms * 1000) + k) for k in range(10)]
    return NoiseRow(start_ns=ns(second), end_ns=ns(second + length), echoes=echoes, **shares)


def test_nothing_is_said_of_a_machine_that_was_not_measured(made):
    assert machine_phases(made({}).case()) == []


def test_each_phase_has_the_lines_whose_middle_lies_in_it(made):
    h = made({}, length=10.0)
    h.baseline = 4.0
    h.noise = [line(-1.4), line(-0.4, 8.0), *[line(0.6 + k) for k in range(3)], line(3.6, 2.0, **STARVED)]
    warmup, calm, after = machine_phases(h.case())
    assert (warmup.phase, warmup.echoes, warmup.max_ms) == ("warmup", 10, 0.509)
    assert (calm.phase, calm.kind, calm.echoes, calm.seconds) == ("calm", "baseline", 40, 4.0)
    assert (calm.p50_ms, calm.max_ms, calm.lag_p99_ms) == (0.506, 8.009, 0.04)
    assert (after.phase, after.starved_s, after.outside, after.steal, after.waited) == ("after", 1.0, 0.6, 0.2, 0.9)
    assert calm.starved_s == 0


def test_means_are_over_time_and_of_what_the_kernel_told(made):
    h = made({}, length=10.0)
    h.noise = [line(0, steal=0.3, length=3.0), line(3, steal=0.1, pressure_cpu=0.5)]
    [calm] = machine_phases(h.case())[1:]
    assert (calm.steal, calm.pressure_cpu, calm.pressure_io) == (0.25, 0.5, None)


def test_echoes_over_time():
    assert echoes_per_line([line(1), NoiseRow(start_ns=ns(2), end_ns=ns(3))], ns(0)) == [
        [1.0, 0.504, 0.509, 0.509, 10.0]
    ]


def invisible(made, until):
    """A post of user 7 that follower 1 looks for every 0.1 s and does not find until then."""
    h = made({1: [7]}, length=20.0)
    h.post(7, "old", at=1.0)
    h.post(7, "p", at=5.0)
    for k in range(150):
        at = 5.1 + k / 10
        h.read(1, ["p", "old"] if at >= until else ["old"], at=at, more=False)
    return h


def visibility(h):
    with h.trial() as trial:
        return judge_invariant(trial, "visibility")


def test_visibility_that_is_late_on_a_quiet_machine_fails(made):
    h = invisible(made, until=12.0)
    h.noise = [line(k) for k in range(20)]
    check = visibility(h)
    assert check.verdict is Outcome.FAIL
    assert check.machine == pytest.approx(0.509)


def test_visibility_that_noise_explains_is_inconclusive(made):
    h = invisible(made, until=12.0)
    h.noise = [line(k, **(STARVED if 4 <= k < 12 else {})) for k in range(20)]
    check = visibility(h)
    assert check.verdict is Outcome.INCONCLUSIVE
    assert "for 8 s others took 80 % of the processors" in check.reason


@pytest.mark.parametrize(
    ("until", "how", "noisy"),
    [
        (19.0, STARVED, range(5, 6)),
        (9.0, BUSY, range(20)),  # noisy all the time, but not by seconds
        (9.0, STARVED, range(5, 6)),
        (12.0, STARVED, range(13, 20)),
    ],
)
def test_visibility_that_is_later_than_noise_explains_fails(made, until, how, noisy):
    h = invisible(made, until=until)
    h.noise = [line(k, **(how if k in noisy else {})) for k in range(20)]
    assert visibility(h).verdict is Outcome.FAIL


def test_an_invariant_of_consistency_is_never_excused(made):
    assert set(PROMISES) == {"visibility", "cross_region", "eligibility", "honest_degradation"}
    h = invisible(made, until=99.0)
    h.read(1, ["old"], at=19.0, final=True)
    h.noise = [line(k, **STARVED) for k in range(20)]
    with h.trial() as trial:
        assert judge_invariant(trial, "durability").verdict is Outcome.FAIL


@pytest.mark.parametrize(
    ("noisy", "verdict"),
    [((), Outcome.FAIL), (range(10, 20), Outcome.FAIL), (range(4, 9), Outcome.INCONCLUSIVE)],
)
def test_cross_region_staleness_is_excused_only_by_noise_between_post_and_read(made, noisy, verdict):
    h = made({1: [7]}, length=30.0)
    h.post(7, "old", at=1.0)
    h.post(7, "p", at=5.0)
    h.read(1, ["old"], at=9.0, region=AWAY)
    h.noise = [line(k, **(STARVED if k in noisy else {})) for k in range(30)]
    with h.trial() as trial:
        assert judge_invariant(trial, "cross_region").verdict is verdict


@pytest.mark.parametrize(("name", "read"), [("eligibility", 8.0), ("honest_degradation", 11.0)])
@pytest.mark.parametrize(
    ("noisy", "verdict"),
    [((), Outcome.FAIL), (range(12, 20), Outcome.FAIL), (range(5, 12), Outcome.INCONCLUSIVE)],
)
def test_so_is_what_takes_long_to_get_around(made, name, read, noisy, verdict):
    h = made({1: [7]}, length=30.0)
    h.post(7, "p1", at=1.0)
    h.read(1, ["p1"], at=4.0)
    h.post(7, "p2", at=5.0)
    h.op(OpKind.DELETE, 7, at=5.0, post="p1")
    h.read(1, ["p1"], at=read)  # p1 is still there, p2 not yet
    h.noise = [line(k, **(STARVED if k in noisy else {})) for k in range(30)]
    with h.trial() as trial:
        assert judge_invariant(trial, name).verdict is verdict


@pytest.mark.parametrize(("name", "read"), [("eligibility", 8.0), ("honest_degradation", 11.0), ("cross_region", 9.0)])
def test_seconds_are_not_excused_by_a_machine_that_is_busy_all_the_time(made, name, read):
    h = made({1: [7]}, length=30.0)
    h.post(7, "p1", at=1.0)
    h.read(1, ["p1"], at=4.0)
    h.post(7, "p2", at=5.0)
    h.op(OpKind.DELETE, 7, at=5.0, post="p1")
    h.read(1, ["p1"], at=read, region=AWAY if name == "cross_region" else HOME)
    h.noise = [line(k, **BUSY) for k in range(30)]
    with h.trial() as trial:
        assert judge_invariant(trial, name).verdict is Outcome.FAIL


@pytest.mark.parametrize(("late", "verdict"), [((), Outcome.INCONCLUSIVE), ((11.0,), Outcome.FAIL)])
def test_one_that_is_later_than_noise_explains_is_enough(made, late, verdict):
    h = made({1: [7]}, length=30.0)
    h.post(7, "p1", at=1.0)
    h.op(OpKind.DELETE, 7, at=5.0, post="p1")
    for at in (7.05, 7.1, *late):  # it may take 2 s to get around
        h.read(1, ["p1"], at=at)
    h.noise = [line(k, **BUSY) for k in range(30)]
    with h.trial() as trial:
        assert judge_invariant(trial, "eligibility").verdict is verdict


def test_what_took_something_away_from_himself_is_no_matter_of_time(made):
    h = made({1: [7]}, length=30.0)
    h.post(7, "p1", at=1.0)
    h.op(OpKind.BLOCK, 1, at=5.0, author=7)
    h.read(1, ["p1"], at=5.1)
    h.noise = [line(k, **STARVED) for k in range(30)]
    with h.trial() as trial:
        assert judge_invariant(trial, "eligibility").verdict is Outcome.FAIL


@pytest.mark.parametrize(("read", "verdict"), [(19.9, Outcome.INCONCLUSIVE), (20.1, Outcome.FAIL)])
def test_nor_is_what_a_final_read_still_shows(made, read, verdict):
    h = made({1: [7]}, length=30.0)
    h.post(7, "p1", at=1.0)
    h.op(OpKind.DELETE, 7, at=5.0, post="p1")
    h.read(1, ["p1"], at=read, final=True)  # the target promises to converge within 15 s
    h.noise = [line(k, **STARVED) for k in range(30)]
    with h.trial() as trial:
        assert judge_invariant(trial, "eligibility").verdict is verdict


def recovery(made, slow_until, noisy, failed_until=0.0, length=40.0, how=STARVED):
    """A fault undone at 10 s; reads are slow, or fail, until then."""
    h = made({1: [7]}, length=length)
    h.baseline = 5.0
    h.fault(6.0, 10.0)
    for k in range(400):
        at = k / 10
        slow = 10 <= at < slow_until
        outcome = OpOutcome.FAIL if 10 <= at < failed_until else OpOutcome.OK
        h.read(1, [], at=at, took=0.8 if slow else 0.01, outcome=outcome)
    h.noise = [line(k, **(how if k in noisy else {})) for k in range(40)]
    expected = parse_expectations({"feed_read": ("p(99) <= 200ms",), "recovery": ("<= 5s",), "invariants": ()})
    with h.trial() as trial:
        [check] = judge_recovery(trial, 5.0, expected.slos)
    return check


@pytest.mark.parametrize(
    ("slow_until", "noisy", "verdict"),
    [(14.0, (), Outcome.PASS), (25.0, (), Outcome.FAIL), (25.0, range(26, 30), Outcome.FAIL)],
)
def test_a_recovery_on_a_quiet_machine(made, slow_until, noisy, verdict):
    assert recovery(made, slow_until, noisy).verdict is verdict


def test_without_noise_the_least_that_is_late_is_late(made):
    assert recovery(made, 40.0, (), length=18.0).verdict is Outcome.FAIL


def test_a_recovery_that_is_late_by_noise_alone_is_inconclusive(made):
    late = recovery(made, 25.0, range(13, 25))
    assert late.verdict is Outcome.INCONCLUSIVE
    assert late.reason.startswith("normal from 15 s after the undo")
    assert late.reason.endswith("without that: normal after 3 s, 0.0 s of them in line")


def test_a_recovery_that_is_later_than_a_busy_machine_explains_fails(made):
    assert recovery(made, 25.0, range(40), how=BUSY).verdict is Outcome.FAIL


def test_a_busy_machine_with_stalls_does_not_explain_times_that_are_longer(made):
    stalls = {**BUSY, "processes": [MainThread(7, 100_000, 600_000, 900)]}  # 107 ms at most: 0.8 s are 0.5 s too much
    assert recovery(made, 25.0, range(40), how=stalls).verdict is Outcome.FAIL
    assert recovery(made, 10.0, range(40), how=stalls, failed_until=25.0).verdict is Outcome.INCONCLUSIVE


def test_work_in_one_thread_is_late_by_what_it_stood_in_line(made):
    late = recovery(made, 10.0, range(40), how=BUSY, failed_until=16.0)
    assert late.verdict is Outcome.INCONCLUSIVE
    assert late.reason.endswith("without that: normal after 6 s, 1.8 s of them in line")
    assert recovery(made, 10.0, range(40), how=BUSY, failed_until=18.0).verdict is Outcome.FAIL


def test_a_window_in_noise_is_unknown_whatever_failed_in_it(made):
    assert recovery(made, 10.0, range(10, 25), failed_until=25.0).verdict is Outcome.INCONCLUSIVE


def test_too_few_quiet_seconds_tell_nothing_of_a_recovery(made):
    assert recovery(made, 40.0, range(13, 40)).verdict is Outcome.INCONCLUSIVE


def test_one_noisy_second_does_not_excuse_a_recovery(made):
    assert recovery(made, 10.0, range(10, 12), failed_until=25.0).verdict is Outcome.FAIL
