"""Rates that change: how they stand in a scenario, and that their count is the integral of their rate."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.core.errors import UsageError
from harness.core.load_rates import Load
from harness.core.rate_shapes import (
    EVEN,
    Constant,
    Ramp,
    Shape,
    Sine,
    Spike,
    highest_per_s,
    is_even,
    mean_per_s,
    peak_per_s,
)
from harness.core.scenario import parse_scenario

MINUTE = [{"name": "first", "duration": "20s"}, {"name": "second", "duration": "40s"}]


def load(reads: Any, **more: Any) -> Load:
    return parse_scenario({"name": "x", "about": "y", "phase": MINUTE, "load": {"reads": reads, **more}}).load


def problems(reads: Any, **more: Any) -> list[str]:
    with pytest.raises(UsageError) as error:
        load(reads, **more)
    return error.value.problems


@pytest.mark.parametrize(
    ("said", "meant"),
    [
        ("40/s", 40.0),
        ({"shape": "constant", "rate": "40/s", "spacing": "even"}, Constant(rate_per_s=40, spacing=EVEN)),
        ({"shape": "ramp", "from": "60/min", "to": "80/s"}, Ramp(from_per_s=1, to_per_s=80, over_s=60)),
        (
            {"shape": "ramp", "from": "9/s", "to": "0/s", "at": "50s"},
            Ramp(from_per_s=9, to_per_s=0, at_s=50, over_s=10),
        ),
        (
            {"shape": "spike", "base": "0/s", "peak": "200/s", "at": "10s", "for": "500ms"},
            Spike(base_per_s=0, peak_per_s=200, at_s=10, for_s=0.5),
        ),
        (
            {"shape": "sine", "mean": "40/s", "amplitude": "20/s", "period": "30s"},
            Sine(mean_per_s=40, amplitude_per_s=20, period_s=30),
        ),
    ],
)
def test_a_rate_is_a_text_or_a_shape(said, meant):
    assert load(said).reads_per_s == meant


@pytest.mark.parametrize(
    ("said", "problem"),
    [
        ({"shape": "rampe"}, "load.reads.shape: unknown (did you mean 'ramp'?)"),
        ({"shape": 3}, "load.reads.shape: unknown (valid: constant, ramp, sine, spike)"),
        ({"rate": "40/s"}, "load.reads.shape: is required (valid: constant, ramp, sine, spike)"),
        ({"shape": "ramp", "from": "1/s"}, "load.reads.to: is required"),
        (
            {"shape": "ramp", "from": "1/s", "to": "2/s", "ovr": "2s"},
            "load.reads.ovr: unknown key (did you mean 'over'?)",
        ),
        ({"shape": "ramp", "from": 1, "to": "2/s"}, "load.reads.from: must be a rate such as 40/s or 12/min, got 1"),
        (
            {"shape": "ramp", "from": "1/s", "to": "2/s", "over": "0s"},
            "load.reads.over: must be longer than 0, got '0s'",
        ),
        ({"shape": "ramp", "from": "0/s", "to": "0/s"}, "load.reads.to: a ramp from 0/s to 0/s has no arrivals"),
        (
            {"shape": "ramp", "from": "1/s", "to": "2/s", "at": "60s"},
            "load.reads.at: must be before the end of the phases (60s)",
        ),
        (
            {"shape": "ramp", "from": "1/s", "to": "2/s", "at": "30s", "over": "31s"},
            "load.reads.over: at + over must end within the phases (60s)",
        ),
        (
            {"shape": "spike", "base": "1/s", "peak": "2/s", "at": "59s", "for": "2s"},
            "load.reads.for: at + for must end within the phases (60s)",
        ),
        (
            {"shape": "spike", "base": "2/s", "peak": "2/s", "at": "1s", "for": "2s"},
            "load.reads.peak: must be more than base (2/s), got 2/s",
        ),
        (
            {"shape": "sine", "mean": "2/s", "amplitude": "3/s", "period": "2s"},
            "load.reads.amplitude: must be <= mean (2/s), got 3/s",
        ),
        (
            {"shape": "sine", "mean": "0/s", "amplitude": "0/s", "period": "2s"},
            "load.reads.mean: must be more than 0/s",
        ),
        ({"shape": "constant", "rate": "0/s"}, "load.reads.rate: must be more than 0/s"),
        (
            {"shape": "constant", "rate": "1/s", "spacing": "evn"},
            "load.reads.spacing: must be one of poisson, even, got 'evn' (did you mean 'even'?)",
        ),
    ],
)
def test_each_problem_of_a_shape_has_its_path(said, problem):
    [told] = problems(said)
    assert told.startswith(problem)


def test_all_problems_of_all_rates_are_told_at_once():
    found = problems({"shape": "spike", "base": "x", "peek": "2/s", "at": "1s"}, post="1/s", likes=[])
    assert {problem.partition(":")[0] for problem in found} == {
        "load.reads.base", "load.reads.peek", "load.reads.peak", "load.reads.for", "load.post", "load.likes",
    }  # fmt: skip


def test_only_rates_have_shapes():
    assert "load.signup_curve: must be true or false" in problems("1/s", signup_curve={"shape": "ramp"})[0]


def test_phases_without_a_length_are_the_only_problem():
    raw = {"name": "x", "about": "y", "phase": [{"name": "a"}]}
    with pytest.raises(UsageError) as error:
        parse_scenario(raw | {"load": {"reads": {"shape": "ramp", "from": "1/s", "to": "2/s", "at": "9s"}}})
    assert error.value.problems == ["phase[0].duration: is required"]


def test_how_many_posts_are_taken_away_counts_over_the_whole_run():
    ramp = {"shape": "ramp", "from": "0/s", "to": "9/s"}
    assert peak_per_s(load("1/s", posts="10/s", deletes=ramp).deletes_per_s) == 9
    steep = {**ramp, "to": "12/s"}
    [problem] = problems("1/s", posts="10/s", deletes=steep)
    assert problem.endswith("of load.posts (10/s), got 6/s")


@pytest.mark.parametrize(
    ("rate", "usual", "even"),
    [
        (40.0, "poisson", False),
        (40.0, "even", True),
        (Constant(rate_per_s=1), "even", True),
        (Constant(rate_per_s=1, spacing="poisson"), "even", False),
        (Constant(rate_per_s=1, spacing="even"), "poisson", True),
    ],
)
def test_a_rate_says_its_spacing_or_has_the_usual_one(rate, usual, even):
    assert is_even(rate, usual) is even


rates = st.floats(0, 500).map(lambda rate: round(rate, 3))
times = st.floats(0.1, 60).map(lambda time: round(time, 3))


def shapes() -> st.SearchStrategy[Shape]:
    """Shapes of all sorts."""
    return st.one_of(
        st.builds(Constant, rate_per_s=rates),
        st.builds(Ramp, from_per_s=rates, to_per_s=rates, at_s=times, over_s=times),
        st.builds(
            lambda base, more, at, long: Spike(base_per_s=base, peak_per_s=base + more, at_s=at, for_s=long),
            rates,
            rates,
            times,
            times,
        ),
        st.builds(
            lambda mean, share, period: Sine(mean_per_s=mean, amplitude_per_s=mean * share, period_s=period),
            rates,
            st.floats(0, 1),
            times,
        ),
    )


def per_s(shape: Shape, at_s: float) -> float:
    """The rate at a time, as the page of shapes says it."""
    match shape:
        case Constant(rate_per_s=rate):
            return rate
        case Ramp(from_per_s=first, to_per_s=last, at_s=begin, over_s=over):
            return first + (last - first) * min(max((at_s - begin) / over, 0.0), 1.0)
        case Spike(base_per_s=base, peak_per_s=peak, at_s=begin, for_s=long):
            return peak if begin <= at_s < begin + long else base
        case Sine(mean_per_s=mean, amplitude_per_s=amplitude, period_s=period):
            return mean + amplitude * np.sin(2 * np.pi * max(at_s, 0.0) / period)


@settings(deadline=None)
@given(shapes())
def test_the_count_is_the_integral_of_the_rate(shape):
    at_s = np.linspace(-10, 90, 10_001)
    rate = np.array([per_s(shape, middle) for middle in ((at_s[1:] + at_s[:-1]) / 2).tolist()])
    summed = np.concatenate([[0.0], np.cumsum(rate * np.diff(at_s))])
    told = shape.count(at_s) - shape.count(at_s[:1])
    wrong = np.abs(told - summed).max()
    assert wrong <= peak_per_s(shape) * 0.011 + 1e-6  # a jump of the rate lies somewhere within a step of 10 ms
    assert (np.diff(told) >= -1e-9 * max(1.0, told[-1])).all()
    assert rate.max() <= peak_per_s(shape) * (1 + 1e-12)
    assert mean_per_s(shape, 90.0) == pytest.approx((told[-1] - told[1000]) / 90, rel=1e-6, abs=1e-6)


@settings(deadline=None)
@given(shapes(), times)
def test_the_highest_rate_until_then_is_reached_and_never_exceeded(shape, until_s):
    tried = [*np.linspace(0, until_s, 500, endpoint=False).tolist(), np.nextafter(until_s, 0)]
    tried += [at_s for at_s in (getattr(shape, "at_s", 0.0), getattr(shape, "period_s", 0.0) / 4) if at_s < until_s]
    assert highest_per_s(shape, until_s) == pytest.approx(max(per_s(shape, at_s) for at_s in tried), abs=1e-6)
    assert highest_per_s(7, until_s) == 7
