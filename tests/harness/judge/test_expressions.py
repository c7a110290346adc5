from __future__ import annotations

import pytest

from harness.core.errors import UsageError
from harness.judge.expressions import METRICS, parse_expectations, parse_threshold
from harness.judge.invariants import CHECKERS

MS = 1e6

THRESHOLDS = [
    # text, aggregation, quantile, comparison, bound, unit
    ("p(95) <= 200ms", "p", 0.95, "<=", 200 * MS, "ns"),
    ("p(99.9)<1.5s", "p", 0.999, "<", 1500 * MS, "ns"),
    ("p(50) <= 250us", "p", 0.5, "<=", 0.25 * MS, "ns"),
    ("med < 150", "med", 0.5, "<", 150 * MS, "ns"),  # k6: a time without unit is in milliseconds
    ("avg<=1s", "avg", 0.0, "<=", 1000 * MS, "ns"),
    ("min >= 1ms", "min", 0.0, ">=", MS, "ns"),
    ("max <= 2m", "max", 0.0, "<=", 120_000 * MS, "ns"),
    ("count >= 4_500", "count", 0.0, ">=", 4500, ""),
    ("count > 0", "count", 0.0, ">", 0, ""),
    ("rate >= 100/s", "rate", 0.0, ">=", 100, "/s"),
    ("rate > 60/min", "rate", 0.0, ">", 1, "/s"),
    ("rate > 12", "rate", 0.0, ">", 12, "/s"),
    ("failures == 0", "failures", 0.0, "==", 0, ""),
    ("failures < 0.1%", "failures", 0.0, "<", 0.001, "%"),
    ("failures != 3", "failures", 0.0, "!=", 3, ""),
]


@pytest.mark.parametrize(("text", "aggregation", "quantile", "comparison", "bound", "unit"), THRESHOLDS)
def test_thresholds(text, aggregation, quantile, comparison, bound, unit):
    parsed = parse_threshold(text)
    assert (parsed.aggregation, parsed.comparison, parsed.unit) == (aggregation, comparison, unit)
    assert parsed.quantile == pytest.approx(quantile)
    assert parsed.bound == pytest.approx(bound)


BAD_THRESHOLDS = [
    ("p95 <= 200ms", "must be an aggregation"),
    ("p(101) <= 200ms", "from 0 to 100"),
    ("mean <= 200ms", "unknown aggregation 'mean'"),
    ("maxx <= 1s", "did you mean 'max'"),
    ("max <= 200 parsecs", "the bound must be a duration"),
    ("p(95) 200ms", "must be an aggregation"),
    ("failures == 0ms", "failures cannot be compared with 0ms"),
    ("count > 10%", "count cannot be compared with 10%"),
    ("rate < 1%", "a share of failed ops is failures < 1%"),
    ("", "must be an aggregation"),
]


@pytest.mark.parametrize(("text", "problem"), BAD_THRESHOLDS)
def test_bad_thresholds_say_what_is_wrong(text, problem):
    with pytest.raises(ValueError, match=r".") as caught:
        parse_threshold(text)
    assert problem in str(caught.value)


@pytest.mark.parametrize(("value", "holds"), [(199 * MS, True), (200 * MS, True), (201 * MS, False)])
def test_a_threshold_holds(value, holds):
    assert parse_threshold("max <= 200ms").holds(value) is holds


def test_a_whole_table():
    parsed = parse_expectations(
        {
            "post_to_event{scope:local,author:ordinary,phase:baseline}": ("p(50) <= 150ms", "max <= 500ms"),
            "target:rebuild_seconds{region:us-east,tier:hot}": ("p(99) <= 50ms",),
            "invariants": ("order", "durability"),
            "recovery": ("<= 10s",),
        }
    )
    assert [s.metric for s in parsed.slos] == ["post_to_event", "target:rebuild_seconds"]
    assert parsed.slos[0].tags == {"scope": "local", "author": "ordinary", "phase": "baseline"}
    assert parsed.slos[0].selector == "post_to_event{scope:local,author:ordinary}"
    assert parsed.invariants == ("durability", "order")
    assert parsed.recovery_s == 10.0


def test_all_invariants_are_the_default():
    assert parse_expectations({}).invariants == tuple(CHECKERS)
    assert parse_expectations({"invariants": ("all",)}).invariants == tuple(CHECKERS)
    assert parse_expectations({"invariants": ()}).invariants == ()
    assert parse_expectations({}).recovery_s is None


def test_all_problems_at_once_each_with_its_path_and_the_nearest_name():
    with pytest.raises(UsageError) as caught:
        parse_expectations(
            {
                "post_to_evnt": ("p(95) <= 1s",),
                "feed_read{scope:local}": ("p(95) <= 1s",),
                "post_to_event{scope:lokal}": ("p(95) <= 1s",),
                "post_to_event{scope}": ("p(95) <= 1s",),
                "feed_read{phase:a,phase:b}": ("p(95) <= 1s",),
                "post_to_event{region:us-east": ("p(95) <= 1s",),
                "post_to_event": ("failures == 0",),
                "feed_read": ("p(95) <= fast", "mox <= 1s"),
                "signup": (),
                "invariants": ("durabilty", "order"),
                "recovery": ("quickly",),
            }
        )
    text = "\n".join(caught.value.problems)
    assert len(caught.value.problems) == 12
    for part in (
        "expect.post_to_evnt: unknown metric (did you mean 'post_to_event'?)",
        "feed_read has no tag 'scope'",
        "scope cannot be 'lokal' (did you mean 'local'?)",
        "tag 'scope' must be name:value",
        "tag 'phase' stands twice",
        "expect.post_to_event{region:us-east: must be metric or metric{tag:value,...}",
        "post_to_event counts no failures",
        "unknown aggregation 'mox' (did you mean 'max'?)",
        "expect.signup: needs at least one threshold",
        "unknown invariant 'durabilty' (did you mean 'durability'?)",
        "expect.recovery: must be one bound such as <= 10s",
    ):
        assert part in text


def test_phases_and_regions_are_checked_when_they_are_known():
    names = {"phases": ["calm", "cache-down"], "regions": ["us-east"]}
    parse_expectations({"feed_read{phase:cache-down,region:us-east}": ("max <= 1s",)}, **names)
    parse_expectations({"feed_read{phase:baseline}": ("max <= 1s",)}, **names)
    with pytest.raises(UsageError) as caught:
        parse_expectations({"feed_read{phase:cache-dwn,region:eu}": ("max <= 1s",)}, **names)
    assert "did you mean 'cache-down'?" in caught.value.problems[0]
    assert "region cannot be 'eu'" in caught.value.problems[1]


def test_each_metric_can_be_judged_by_phase_and_region():
    for metric in METRICS:
        parse_expectations({f"{metric}{{phase:x,region:y}}": ("max <= 1s",)})
