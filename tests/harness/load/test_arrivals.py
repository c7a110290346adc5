"""Schedules: pure, seeded, and of the rate they promise."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.core.clock import NS_PER_S
from harness.core.rate_shapes import EVEN, POISSON, Constant, Ramp, Rate, Sine, Spike
from harness.core.seeds import rng
from harness.load.arrivals import curve, due_times, even, expected, one_interval_on, poisson

MINUTE_NS = 60 * NS_PER_S


@pytest.mark.parametrize(
    ("rate", "start_s", "end_s", "wanted_s"),
    [
        (1, 0, 3, [0, 1, 2]),  # none at the end
        (0.2, -5, 10, [-5, 0, 5]),  # slower than one a second, from before t0
        (3, 0, 1, [0, 1 / 3, 2 / 3]),  # no drift from rounding
        (0, 0, 10, []),
        (5, 2, 2, []),
        (5, 2, 1, []),
    ],
)
def test_a_steady_rate_spaced_evenly(rate: float, start_s: int, end_s: int, wanted_s: list[float]) -> None:
    due = even(rate, start_s * NS_PER_S, end_s * NS_PER_S)
    assert due.tolist() == pytest.approx([s * NS_PER_S for s in wanted_s], abs=1)


def test_an_interval_is_kept_for_long() -> None:
    due = even(40, 0, 1000 * NS_PER_S)
    assert len(due) == 40_000
    assert set(np.diff(due)) == {NS_PER_S // 40}


def test_same_seed_same_schedule() -> None:
    first, again, other = (poisson(rng(seed, "x"), 100, 0, MINUTE_NS) for seed in (1, 1, 2))
    assert first.tolist() == again.tolist()
    assert first.tolist() != other.tolist()


def test_poisson_has_its_rate_and_exponential_gaps() -> None:
    due = poisson(rng(42, "x"), 200, -MINUTE_NS, MINUTE_NS)
    assert due[0] >= -MINUTE_NS
    assert due[-1] < MINUTE_NS
    assert len(due) == pytest.approx(24_000, rel=0.02)
    gaps_s = np.diff(due) / NS_PER_S
    assert (gaps_s >= 0).all()
    assert gaps_s.mean() == pytest.approx(1 / 200, rel=0.02)
    assert gaps_s.std() == pytest.approx(1 / 200, rel=0.05)


def test_a_steady_rate_is_drawn_as_uniform_times() -> None:
    """So it always was: the arrivals of a scenario stay what they are."""
    generator = rng(42, "x")
    drawn = np.sort(generator.integers(-NS_PER_S, MINUTE_NS, int(generator.poisson(61 * 12.5)), dtype=np.int64))
    after = generator.integers(1 << 30)
    again = rng(42, "x")
    assert poisson(again, 12.5, -NS_PER_S, MINUTE_NS).tolist() == drawn.tolist()
    assert again.integers(1 << 30) == after


@pytest.mark.parametrize(("first", "last"), [(0, 100), (100, 0), (20, 80), (50, 50)])
def test_a_ramp_spaced_evenly(first: float, last: float) -> None:
    due = even(Ramp(from_per_s=first, to_per_s=last, over_s=10.0), 0, 10 * NS_PER_S)
    assert len(due) == (first + last) * 5
    assert (np.diff(due) > 0).all()
    early = np.count_nonzero(due < 5 * NS_PER_S)
    assert early == pytest.approx((first + (first + last) / 2) / 2 * 5, abs=1)


def test_nothing_comes_before_a_spike_from_nothing() -> None:
    spike = Spike(base_per_s=0, peak_per_s=10, at_s=2.0, for_s=1.0)
    due = even(spike, -NS_PER_S, 5 * NS_PER_S)
    assert due.tolist() == pytest.approx([(2 + k / 10) * NS_PER_S for k in range(10)], abs=2)
    drawn = poisson(rng(1, "x"), spike, -NS_PER_S, 5 * NS_PER_S)
    assert len(drawn)
    assert drawn.min() >= 2 * NS_PER_S - 1
    assert drawn.max() <= 3 * NS_PER_S


@pytest.mark.parametrize(
    ("rate", "wanted_s"),
    [
        (0.2, 0.0),
        (Constant(rate_per_s=0.2), 0.0),
        (Ramp(from_per_s=0.2, to_per_s=0.4, over_s=10.0), 0.0),
        (Spike(base_per_s=0.1, peak_per_s=1, at_s=0.0, for_s=2.0), 0.5),
        (0.05, 10.0),
        (0.0, 10.0),
    ],
)
def test_one_interval_on(rate: Rate, wanted_s: float) -> None:
    """From 5 s before the first phase to 10 s in it."""
    at_ns = one_interval_on(rate, -5 * NS_PER_S, 10 * NS_PER_S)
    assert at_ns == pytest.approx(wanted_s * NS_PER_S, abs=2)


per_s = st.floats(0.0, 300.0).map(lambda rate: round(rate, 2))
seconds = st.floats(0.05, 40.0).map(lambda time: round(time, 3))


@st.composite
def rates(draw: st.DrawFn) -> Rate:
    """Rates of all sorts."""
    mean = draw(per_s)
    return draw(
        st.sampled_from(
            [
                mean,
                Constant(rate_per_s=mean),
                Ramp(from_per_s=mean, to_per_s=draw(per_s), at_s=draw(seconds), over_s=draw(seconds)),
                Spike(base_per_s=mean, peak_per_s=draw(per_s), at_s=draw(seconds), for_s=draw(seconds)),
                Sine(mean_per_s=mean, amplitude_per_s=mean * draw(st.floats(0, 1)), period_s=draw(seconds)),
            ]
        )
    )


starts_ns = st.integers(-10 * NS_PER_S, 5 * NS_PER_S)
lengths_ns = st.integers(0, 60 * NS_PER_S)


@given(rates(), starts_ns, lengths_ns)
def test_even_arrivals_come_where_the_integral_says(rate: Rate, start_ns: int, length_ns: int) -> None:
    end_ns = start_ns + length_ns
    due = even(rate, start_ns, end_ns)
    assert abs(len(due) - expected(rate, start_ns, end_ns)) < 1 + 1e-6
    assert_rises_within(due, start_ns, end_ns)
    for place in (0, len(due) // 2, len(due) - 1) if len(due) else ():
        assert expected(rate, start_ns, int(due[place])) == pytest.approx(place, abs=1e-4)


@given(rates(), starts_ns, lengths_ns, st.integers(0, 1 << 30))
def test_drawn_arrivals_are_as_many_as_the_integral_says(rate: Rate, start_ns: int, length_ns: int, seed: int) -> None:
    """Nine standard deviations, and some for small numbers: one draw in more than 10^10 is further off."""
    end_ns = start_ns + length_ns
    due = poisson(rng(seed, "x"), rate, start_ns, end_ns)
    mean = expected(rate, start_ns, end_ns)
    assert abs(len(due) - mean) <= 9 * np.sqrt(mean) + 30
    assert_rises_within(due, start_ns, end_ns)
    half_ns = start_ns + length_ns // 2
    first = expected(rate, start_ns, half_ns)
    assert abs(np.count_nonzero(due < half_ns) - first) <= 9 * np.sqrt(first) + 30


@given(rates(), st.integers(0, 1 << 30), st.sampled_from([POISSON, EVEN]))
def test_the_same_seed_gives_the_same_arrivals(rate: Rate, seed: int, spacing: str) -> None:
    first, again = (due_times(rng(seed, "x"), rate, -NS_PER_S, MINUTE_NS, spacing) for _ in range(2))
    assert first.tolist() == again.tolist()


SHAPES: list[Rate] = [
    200.0,
    Constant(rate_per_s=200),
    Ramp(from_per_s=20, to_per_s=380, at_s=10.0, over_s=40.0),
    Spike(base_per_s=50, peak_per_s=800, at_s=20.0, for_s=5.0),
    Sine(mean_per_s=200, amplitude_per_s=200, period_s=20.0),
]


@pytest.mark.parametrize("rate", SHAPES, ids=str)
def test_in_each_second_drawn_arrivals_follow_the_rate(rate: Rate) -> None:
    """Over twenty seeds together: five standard deviations of each second, and 1 for those in which hardly any come."""
    seconds = np.arange(-5, 61)
    drawn = np.concatenate([poisson(rng(s, "x"), rate, -5 * NS_PER_S, MINUTE_NS) for s in range(20)])
    counts, _ = np.histogram(drawn, seconds * NS_PER_S)
    wanted = np.array([20 * expected(rate, s * NS_PER_S, (s + 1) * NS_PER_S) for s in seconds[:-1].tolist()])
    assert (np.abs(counts - wanted) <= 5 * np.sqrt(wanted) + 1).all()


@pytest.mark.parametrize("rate", SHAPES, ids=str)
def test_gaps_on_the_axis_of_the_integral_are_exponential(rate: Rate) -> None:
    due = poisson(rng(7, "x"), rate, 0, MINUTE_NS)
    gaps = np.diff([expected(rate, 0, at) for at in due.tolist()])
    assert gaps.mean() == pytest.approx(1, rel=0.05)
    assert gaps.std() == pytest.approx(1, rel=0.1)
    assert np.count_nonzero(gaps > 1) / len(gaps) == pytest.approx(np.exp(-1), rel=0.1)


def assert_rises_within(due: np.ndarray[tuple[int], np.dtype[np.int64]], start_ns: int, end_ns: int) -> None:
    assert due.dtype == np.int64
    assert (np.diff(due) >= 0).all()
    assert not len(due) or start_ns <= due[0] <= due[-1] < end_ns


def test_curve_follows_the_inverse() -> None:
    due = curve(lambda share: np.sqrt(share), 100, 0, 10 * NS_PER_S)
    assert len(due) == 100
    assert np.count_nonzero(due < 5 * NS_PER_S) == 25
    assert due.max() < 10 * NS_PER_S
