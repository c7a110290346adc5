"""The table [tolerance]: what it says, and every problem by its path."""

from __future__ import annotations

import pytest

from harness.core.errors import UsageError
from harness.judge.tolerance import Allowance, Tolerance, parse_allowance, parse_tolerance, with_assignments


@pytest.mark.parametrize(
    ("text", "what", "share", "ms"),
    [
        ("10%", "times", 0.1, 0.0),
        ("+10%", "times", 0.1, 0.0),
        ("5ms", "times", 0.0, 5.0),
        ("12.5% or 2s", "times", 0.125, 2000.0),
        ("0%", "rate", 0.0, 0.0),
        ("0.1 %", "failures", 0.001, 0.0),
    ],
)
def test_amounts(text, what, share, ms):
    assert parse_allowance(text, what) == Allowance(pytest.approx(share), pytest.approx(ms))


def test_of_a_share_and_a_time_whichever_is_more_holds():
    allowance = parse_allowance("10% or 5ms", "times")
    assert allowance.of(10.0) == pytest.approx(0.5)
    assert allowance.of(1000.0) == pytest.approx(0.1)
    assert allowance.of(0.0) == pytest.approx(0.1)


def test_a_whole_table():
    made = parse_tolerance(
        {
            "times": ("10%",),
            "rate": ("3%",),
            "feed_read{phase:recovered,region:us-east}": ("p(95) <= +20% or +1ms", "failures <= +0.1%", "rate >= -2%"),
            "post_to_event{scope:local}": ("med<=+5%",),
        },
        phases=["calm"],
        regions=["us-east"],
    )
    assert (made.times.share, made.rate.share, made.failures) == (0.1, 0.03, Tolerance().failures)
    assert [(line.selection.selector, line.aggregation) for line in made.lines] == [
        ("feed_read{region:us-east}", "p(95)"),
        ("feed_read{region:us-east}", "failures"),
        ("feed_read{region:us-east}", "rate"),
        ("post_to_event{scope:local}", "med"),
    ]
    first, last = made.lines[0], made.lines[-1]
    assert first.allowance.of(2.0) == pytest.approx(0.5)
    assert first.is_for("after", "recovered")
    assert not first.is_for("calm", "baseline")
    assert last.is_for("anything", "fault")
    assert [made.general(a).share for a in ("med", "p(99)", "rate", "failures")] == [0.1, 0.1, 0.03, 0.005]


@pytest.mark.parametrize(
    ("table", "problem"),
    [
        ({"time": ("10%",)}, "tolerance.time: unknown metric (did you mean 'times'?)"),
        ({"feed_red": ("p(95) <= +1%",)}, "unknown metric (did you mean 'feed_read'?)"),
        ({"feed_read{phase:clam}": ("p(95) <= +1%",)}, "phase cannot be 'clam' (did you mean 'calm'?)"),
        ({"feed_read{scope:local}": ("p(95) <= +1%",)}, "feed_read has no tag 'scope'"),
        ({"target:x": ("p(95) <= +1%",)}, "the target's own metrics are not compared"),
        ({"feed_read": ()}, "needs at least one line such as p(95) <= +10%"),
        ({"feed_read": ("p(95) <= 200ms",)}, "must be an aggregation and a bound on its change"),
        ({"feed_read": ("p(95) >= -10%",)}, "p(95) gets worse the other way: p(95) <= +10%"),
        ({"feed_read": ("rate <= +5%",)}, "rate gets worse the other way: rate >= -5%"),
        ({"feed_read": ("p(100) <= +5%",)}, "must lie between 0 and 100"),
        ({"feed_read": ("max <= +5%",)}, "max is not compared (valid: failures, med, p(95), rate)"),
        ({"feed_read": ("failures <= +5ms",)}, "must be an amount such as 0.5%"),
        ({"post_to_event": ("failures <= +5%",)}, "post_to_event counts no failures"),
        ({"times": ("ten",)}, "tolerance.times: 'ten': must be a duration"),
        ({"times": ("10%", "5ms")}, "must be one amount"),
        ({"failures": ("5ms",)}, "must be an amount such as 0.5%"),
    ],
)
def test_each_problem_is_named_with_its_path(table, problem):
    with pytest.raises(UsageError) as raised:
        parse_tolerance(table, phases=["calm"])
    assert problem in str(raised.value)
    assert all(line.startswith("tolerance.") for line in raised.value.problems)


def test_assignments_take_the_place_of_lines_and_add_up_among_themselves():
    table = {"times": ("20%",), "feed_read": ("p(95) <= +50%",)}
    words = ["times=5%", "feed_read=p(99) <= +10%", "feed_read=med <= +1%"]
    assert with_assignments(table, words) == {"times": ("5%",), "feed_read": ("p(99) <= +10%", "med <= +1%")}
    assert table["times"] == ("20%",)
    with pytest.raises(UsageError, match="must look like times=10%"):
        with_assignments({}, ["10%"])
