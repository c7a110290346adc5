"""Bounds of a difference: a known shift is found, none is found as seldom as is said, whatever the run."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.core.seeds import rng
from harness.judge.bootstrap import (
    CONFIDENCE,
    FEWEST_WINDOWS,
    MOST_WINDOWS,
    RESAMPLES,
    FailedShare,
    Quantile,
    Rate,
    Recording,
    bounds,
    draw_windows,
    pooled,
    student,
    wilson,
    window_count,
)

MEDIAN, P95 = Quantile(0.5), Quantile(0.95)


def recording(seed, *, slower=1.0, length_s=20, per_s=40, failing=0.0, drift=0.3, run=0.0):
    """A phase whose level wanders from second to second (AR(1)), as that of a busy machine does."""
    random = rng(seed, "recording")
    count = length_s * per_s
    level = np.zeros(length_s)
    for k in range(1, length_s):
        level[k] = 0.5 * level[k - 1] + drift * random.normal()
    at_s = np.sort(random.uniform(0, length_s, count))
    values = slower * 20 * np.exp(level[at_s.astype(int)] + 0.5 * random.normal(size=count) + run * random.normal())
    fails = random.random(count) < failing
    return Recording(length_s=float(length_s), values=values[~fails], at_s=at_s[~fails], failed_at_s=at_s[fails])


def found(before, after, statistic, seed=1):
    made = bounds([before], [after], statistic, rng(seed, "test"))
    assert made is not None
    return made


@pytest.mark.slow
@pytest.mark.parametrize(("drift", "most"), [(0.0, 4), (0.3, 9)], ids=["independent seconds", "a wandering level"])
def test_without_a_shift_few_seeds_show_one(drift, most):
    """Of 200 bounds: 1 % (4 %) is said, and as many as come by chance once in a hundred times are let pass."""
    shown = 0
    for seed in range(100):
        sides = recording(2 * seed, drift=drift), recording(2 * seed + 1, drift=drift)
        for statistic in (MEDIAN, P95):
            made = found(*sides, statistic, seed)
            shown += made.low > 0 or made.high < 0
    assert shown <= most


@pytest.mark.slow
def test_without_a_shift_of_failures_few_seeds_show_one():
    pairs = [(recording(2 * s, failing=0.02), recording(2 * s + 1, failing=0.02)) for s in range(300)]
    shown = [found(a, b, FailedShare(), s) for s, (a, b) in enumerate(pairs)]
    assert sum(made.low > 0 or made.high < 0 for made in shown) <= 12


@pytest.mark.slow
@pytest.mark.parametrize("statistic", [MEDIAN, P95], ids=["med", "p95"])
def test_a_known_shift_is_found_and_lies_within_the_bounds(statistic):
    shown, covered = 0, 0
    for seed in range(50):
        made = found(recording(2 * seed, drift=0.05), recording(2 * seed + 1, drift=0.05, slower=1.5), statistic, seed)
        shown += made.low > 0
        covered += made.low <= 0.5 <= made.high
    assert shown >= 47
    assert covered >= 47


@pytest.mark.slow
def test_runs_that_differ_among_each_other_widen_the_bounds():
    shown = {1: 0, 4: 0}
    for seed in range(40):
        runs = [
            recording(100 * seed + k, drift=0.05, run=0.0, slower=math.exp(rng(seed, k).normal() * 0.2))
            for k in range(8)
        ]
        for number in shown:
            made = bounds(runs[:number], runs[4 : 4 + number], MEDIAN, rng(seed, "test"))
            shown[number] += made is not None and (made.low > 0 or made.high < 0)
    assert shown[1] > 10  # single runs: their own difference is real, and found
    assert shown[4] <= 3


def test_the_same_seed_gives_the_same_bounds_and_another_nearly_the_same():
    before, after = recording(1), recording(2)
    assert found(before, after, P95, 7) == found(before, after, P95, 7)
    other = found(before, after, P95, 8)
    assert other != found(before, after, P95, 7)
    assert other.change == found(before, after, P95, 7).change


def test_a_run_compared_with_itself_has_no_difference():
    one = recording(1, failing=0.1)
    for statistic in (MEDIAN, P95, Rate()):
        made = found(one, one, statistic)
        assert (made.change, made.low, made.high) == (0, 0, 0)


def test_what_the_timeline_does_to_both_is_no_difference():
    """A fault makes the middle third ten times slower, on both sides or at another time on one."""

    def struck(seed):
        made = recording(seed, drift=0.0)
        slow = np.where((made.at_s > 7) & (made.at_s < 14), 10.0, 1.0)
        return Recording(made.length_s, made.values * slow, made.at_s, made.failed_at_s)

    both = found(struck(1), struck(2), P95)
    moved = struck(2)
    moved = Recording(moved.length_s, moved.values, (moved.at_s + 9) % 20, moved.failed_at_s)
    apart = found(struck(1), moved, P95)
    assert both.change == apart.change
    assert both.high - both.low < 0.5 * (apart.high - apart.low)


def test_nothing_failed_is_bounded_by_how_much_was_tried():
    few, many = recording(1, per_s=5), recording(1, per_s=500)
    assert found(few, few, FailedShare()).high == pytest.approx(wilson(0, 100)[2], abs=1e-9)
    assert found(many, many, FailedShare()).high < 0.002


def test_nothing_came_any_more():
    empty = Recording(20.0, np.array([]), np.array([]), np.array([]))
    gone = found(recording(1), empty, Rate())
    assert (gone.change, gone.high) == (-1.0, pytest.approx(-1.0, abs=0.3))
    assert gone.high < -0.5
    assert bounds([recording(1)], [empty], MEDIAN, rng(1)) is None
    assert bounds([empty], [recording(1)], Rate(), rng(1)) is None


def test_phases_of_different_length_are_compared_as_far_as_the_shorter_goes():
    long, short = recording(1, length_s=30), recording(1, length_s=20)
    cut = pooled([long], 20.0)
    assert len(cut.values) == (long.at_s < 20).sum()
    made = found(long, short, Rate())
    assert made.change == pytest.approx(len(short.values) / len(cut.values) - 1)


@pytest.mark.parametrize(("length_s", "windows"), [(0.2, 1), (4.4, 4), (20.0, 20), (3600.0, MOST_WINDOWS)])
def test_windows_are_of_about_a_second(length_s, windows):
    assert window_count(length_s) == windows


@given(st.integers(1, 3600), st.integers(0, 2**32))
def test_draws_are_as_long_as_the_phase_and_of_neighbours(length_s, seed):
    windows = draw_windows(float(length_s), rng(seed))
    assert windows.drawn.shape == (RESAMPLES, window_count(length_s))
    assert (windows.drawn.sum(axis=1) == windows.count).all()
    assert windows.number(np.array([0.0, length_s])).tolist() == [0, windows.count - 1]
    assert windows.freedom >= 1


TIMES = st.lists(st.floats(0.01, 60_000), min_size=1, max_size=60)


@settings(deadline=None, max_examples=60)
@given(TIMES, TIMES, st.floats(0.01, 0.99), st.integers(0, 2**32))
def test_bounds_hold_the_change_whatever_was_measured(first, second, share, seed):
    random = rng(seed)
    sides = []
    for times in (first, second):
        at_s = random.uniform(0, 10, len(times))
        sides.append(Recording(10.0, np.array(times), at_s, random.uniform(0, 10, int(random.integers(3)))))
    for statistic in (Quantile(share), FailedShare(), Rate()):
        made = bounds(sides[:1], sides[1:], statistic, rng(seed, "draws"))
        if made is not None:
            assert made.low <= made.change + 1e-9
            assert made.change <= made.high + 1e-9
            assert all(math.isfinite(value) for value in (made.change, made.low, made.high))


@settings(deadline=None, max_examples=60)
@given(TIMES, st.floats(0.01, 0.99))
def test_a_quantile_is_one_of_the_times_and_redrawing_everything_once_gives_it_again(times, share):
    values = np.array(times)
    made = Recording(10.0, values, np.linspace(0, 9.9, len(values)), np.array([]))
    exact = Quantile(share).of(made)
    assert exact in times
    assert (values <= exact).sum() >= share * len(values) - 1e-6
    assert (values < exact).sum() < share * len(values) + 1e-6
    windows = draw_windows(10.0, rng(1))
    windows.drawn[:] = 1.0
    assert Quantile(share).redrawn(made, windows)[0] == pytest.approx(exact, rel=0.002)


@settings(deadline=None, max_examples=20)
@given(st.floats(1.05, 20), st.integers(0, 2**32))
def test_a_side_that_is_slower_throughout_is_found_with_its_factor(factor, seed):
    one = recording(seed % 1000)
    made = found(one, Recording(one.length_s, factor * one.values, one.at_s, one.failed_at_s), P95)
    assert made.change == pytest.approx(factor - 1)
    assert made.low > 0
    back = found(Recording(one.length_s, factor * one.values, one.at_s, one.failed_at_s), one, P95)
    assert back.high < 0


@pytest.mark.parametrize(
    ("freedom", "exact", "within"),
    [(2, 9.925, 0.05), (3, 5.841, 0.01), (4, 4.604, 0.005), (10, 3.169, 0.001), (1000, 2.581, 0.001)],
)
def test_student_is_as_near_to_the_tables_as_it_says(freedom, exact, within):
    assert student(CONFIDENCE, freedom) == pytest.approx(exact, rel=within)


def test_samples_that_a_percentile_needs():
    assert [Quantile(share).needs() for share in (0.5, 0.95, 0.99, 0.999)] == [20, 200, 1000, 10_000]
    assert FEWEST_WINDOWS >= 8
