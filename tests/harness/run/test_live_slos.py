"""SLOs over the last seconds of what load processes report."""

from collections.abc import Sequence
from typing import Any

import pytest

from harness.core.clock import NS_PER_S
from harness.core.errors import UsageError
from harness.core.scenario import Stop
from harness.judge.expressions import parse_slos
from harness.load.plan import PlanPhase
from harness.run.live_slos import LiveValue, in_force, is_live, live_value, parse_stop, read

REPORTS = [
    {
        "seconds": 5.0,
        "ops": {"feed": {"us": {"ok": 8, "failed": 2, "us": [1000 * n for n in range(1, 9)]},
                         "ap": {"ok": 10, "failed": 0, "us": [50_000] * 10}}},
    },
    {"seconds": 4.0, "ops": {"feed": {"us": {"ok": 2, "failed": 0, "us": [500, 9000]}}, "post": {}}},
    {},
]  # fmt: skip


def live(selector: str, text: str, reports: Sequence[dict[str, Any]] = REPORTS) -> LiveValue:
    [slo], problems = parse_slos("stop", {selector: [text]}, {})
    assert problems == []
    return live_value(slo, slo.thresholds[0], read(slo, reports))


def report(failed: int, *latencies_ms: int) -> dict[str, Any]:
    """Posts of one process and region over five seconds."""
    ended = {"ok": len(latencies_ms), "failed": failed, "us": sorted(1000 * ms for ms in latencies_ms)}
    return {"seconds": 5.0, "ops": {"post": {"us": ended}}}


@pytest.mark.parametrize(
    ("selector", "text", "value", "broken"),
    [
        ("feed_read", "failures < 20%", 2 / 22, False),
        ("feed_read", "failures < 5%", 2 / 22, True),
        ("feed_read{region:us}", "failures < 15%", 2 / 12, True),
        ("feed_read{region:ap}", "failures == 0", 0.0, False),
        ("feed_read", "failures == 0", 2.0, True),
        ("feed_read{region:us}", "med <= 3ms", 4e6, True),
        ("feed_read{region:us}", "p(90) <= 8ms", 8e6, False),
        ("feed_read{region:us}", "max <= 8ms", 9e6, True),
        ("feed_read{region:us}", "min >= 1ms", 5e5, True),
        ("feed_read", "count >= 21", 20.0, True),
        ("feed_read", "rate >= 4/s", 18 / 5 + 2 / 4, False),  # each process over its own stretch
        ("post_accept", "failures < 20%", None, False),
        ("post_accept", "p(95) <= 1ms", None, False),
        ("post_accept", "rate >= 1/s", 0.0, True),
    ],
)
def test_values_over_all_processes(selector: str, text: str, value: float | None, broken: bool) -> None:
    now = live(selector, text)
    assert now.value == (pytest.approx(value) if value is not None else None)
    assert now.is_broken is broken


@pytest.mark.parametrize(
    ("text", "failed", "latencies_ms", "broken"),
    [
        ("failures < 1%", 50, [], True),
        ("failures < 20%", 4, [], True),
        ("failures < 20%", 2, [5, 5], True),
        ("failures < 20%", 1, [5, 5, 5], False),
        ("failures < 20%", 1, [5, 5, 5, 5], False),  # one of five is 20 % already, and one op all the same
        ("failures < 20%", 1, [], False),
        ("failures == 0", 1, [5, 5], True),
        ("p(99) <= 500ms", 0, [9_000] * 50, True),
        ("p(99) <= 500ms", 0, [9_000, 9_000, *[5] * 48], True),
        ("p(99) <= 500ms", 0, [9_000, *[5] * 49], False),
        ("p(100) <= 500ms", 0, [9_000, *[5] * 49], True),
        ("med <= 500ms", 0, [9_000], False),
        ("med <= 500ms", 0, [9_000, 9_000], True),
        ("max <= 500ms", 0, [9_000, *[5] * 49], True),
    ],
)
def test_of_few_ops_a_second_one_that_is_slow_or_fails_breaks_it(
    text: str, failed: int, latencies_ms: list[int], broken: bool
) -> None:
    assert live("post_accept", text, [report(failed, *latencies_ms)]).is_broken is broken


def test_the_first_moments_of_load_have_no_rate_yet() -> None:
    early = {"seconds": 0.9, "ops": {"feed": {"us": {"ok": 50, "failed": 0, "us": [1000] * 50}}}}
    assert live("feed_read", "rate >= 80/s", [early]).value is None
    assert live("feed_read", "rate >= 80/s", [{**early, "seconds": 1.0}]).is_broken
    assert not live("feed_read", "max <= 80ms", [early]).is_broken


@pytest.mark.parametrize(
    ("expressions", "problem"),
    [
        ({"feed_red": ("max <= 1s",)}, "stop.feed_red: unknown metric (did you mean 'feed_read'?)"),
        ({"post_to_event": ("max <= 1s",)}, "stop.post_to_event: has no value while a run is under way"),
        ({"post_accept{author:celebrity}": ("max <= 1s",)}, "tag 'author' is not known while a run is under way"),
        ({"feed_read{region:eu}": ("max <= 1s",)}, "region cannot be 'eu' (valid: ap, us)"),
        ({"feed_read{phase:clam}": ("max <= 1s",)}, "phase cannot be 'clam' (did you mean 'calm'?)"),
        ({"feed_read": ("max < fast",)}, "must be an aggregation, a comparison and a bound"),
        ({"feed_read": ()}, "needs at least one threshold"),
    ],
)
def test_each_problem_of_a_stop_condition_is_named(expressions: dict[str, tuple[str, ...]], problem: str) -> None:
    with pytest.raises(UsageError, match="stop") as raised:
        parse_stop(Stop(expressions=expressions), ["us", "ap"], ["calm", "storm"])
    assert any(problem in one for one in raised.value.problems), raised.value.problems


@pytest.mark.parametrize(
    ("selector", "at_s", "is_looked_at"),
    [
        ("feed_read", 0.0, True),
        ("feed_read{phase:storm}", 14.9, False),  # some recent ops are of the phase before
        ("feed_read{phase:storm}", 15.0, True),
        ("feed_read{phase:storm}", 19.9, True),
        ("feed_read{phase:storm}", 20.0, False),
        ("feed_read{phase:calm,region:us}", 5.0, True),
    ],
)
def test_a_condition_of_a_phase_is_looked_at_when_all_recent_ops_are_of_it(
    selector: str, at_s: float, is_looked_at: bool
) -> None:
    phases = [PlanPhase("calm", 0, 10 * NS_PER_S), PlanPhase("storm", 10 * NS_PER_S, 20 * NS_PER_S)]
    [slo] = parse_stop(Stop(expressions={selector: ("max <= 1s",)}), ["us"], ["calm", "storm"])
    assert in_force(slo, phases, round(at_s * NS_PER_S)) is is_looked_at


def test_deliveries_and_authors_are_judged_at_the_end_only() -> None:
    slos, _ = parse_slos("expect", {"post_to_event": ["max <= 1s"], "feed_read{phase:fault}": ["max <= 1s"]}, {})
    assert [is_live(slo) for slo in slos] == [False, True]
