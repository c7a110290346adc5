"""Axes hold their values and label round numbers."""

from __future__ import annotations

import pytest

from harness.core.verdict import Check, CheckKind, Outcome
from harness.report.scales import (
    Linear,
    Log,
    linear_axis,
    log_axis,
    milliseconds,
    percentile_position,
    percentile_ticks,
    time_ticks,
)
from harness.report.wording import number, sentences, with_unit


@pytest.mark.parametrize(
    ("values", "low", "high"),
    [([12, 340], 10, 500), ([3], 2, 20), ([], 1, 20), ([0, -1, 7], 5, 50), ([0.02, 90_000], 0.02, 100_000)],
)
def test_log_axis_holds_all_values(values: list[float], low: float, high: float) -> None:
    found_low, found_high, ticks = log_axis(values)
    assert (found_low, found_high) == pytest.approx((low, high))
    assert 2 <= len(ticks) <= 9
    assert all(found_low <= t <= found_high * 1.001 for t in ticks)


@pytest.mark.parametrize(("highest", "top"), [(0.0, 1), (1, 1), (7, 8), (85, 100), (2_100, 3_000)])
def test_linear_axis_ends_on_a_round_number(highest: float, top: float) -> None:
    high, ticks = linear_axis(highest)
    assert high == pytest.approx(top)
    assert ticks[0] == 0


def test_scales_keep_within_the_axis() -> None:
    assert Linear(0, 10, 100, 200)(25) == 200
    assert Linear(0, 0, 100, 200)(0) == 100
    assert Log(1, 100, 0, 50)(10) == 25
    assert Log(1, 100, 0, 50)(0) == 0


@pytest.mark.parametrize(("length", "step"), [(7, 1), (10, 2), (60, 10), (120, 15), (3_600, 600), (90_000, 14_400)])
def test_time_ticks_are_few_and_round(length: int, step: int) -> None:
    ticks = time_ticks(-5, length)
    assert ticks[1] - ticks[0] == step
    assert len(ticks) <= 13


def test_each_nine_takes_the_same_space() -> None:
    at = [percentile_position(p, 99.99) for p in (0, 90, 99, 99.9, 99.99)]
    assert at == pytest.approx([0, 0.25, 0.5, 0.75, 1], abs=1e-6)
    assert percentile_ticks(99.5) == [0, 50, 75, 90, 95, 99]


@pytest.mark.parametrize(
    ("value", "text"), [(0.5, "0.5 ms"), (12.34, "12.3 ms"), (340.4, "340 ms"), (1_500, "1.5 s"), (0, "0 ms")]
)
def test_milliseconds(value: float, text: str) -> None:
    assert milliseconds(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(3, "3"), (12_345, "12,345"), (0.0421, "0.0421"), (3.567, "3.57"), (142.4, "142")],
)
def test_number(value: float, text: str) -> None:
    assert number(value) == text


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (0.0042, "share", "0.42 %"),
        (12, "ms", "12 ms"),
        (98.5, "/s", "98.5/s"),
        (3, "", "3"),
        (None, "ms", ""),
        (1, "faults", "1 fault"),
        (1, "ms", "1 ms"),
    ],
)
def test_units(value: float | None, unit: str, text: str) -> None:
    assert with_unit(value, unit) == text


@pytest.mark.parametrize(
    ("reason", "evidence", "said"),
    [("", [], []), ("why", [], ["why"]), ("why", ["a"], ["why", "a"]), ("a; b", ["a", "b", "c"], ["a", "b", "c"])],
)
def test_a_reason_that_repeats_the_evidence_is_not_said_twice(
    reason: str, evidence: list[str], said: list[str]
) -> None:
    check = Check(name="n", kind=CheckKind.SLO, verdict=Outcome.FAIL, reason=reason, evidence=evidence)
    assert sentences(check) == said
