"""The tables of a scenario that gate a run: [expect], [stop], [tolerance]; and [expect] in a file of its own."""

from __future__ import annotations

import pytest

from harness.core.errors import UsageError
from harness.core.scenario import parse_expect, parse_scenario

MINIMAL = {"name": "x", "about": "y", "phase": [{"name": "baseline", "duration": "1s"}]}
K6_OBJECT = {"threshold": "p(99) < 10", "abortOnFail": True, "delayAbortEval": "10s"}


def test_a_tolerance_is_a_text_or_several():
    made = parse_scenario(MINIMAL | {"tolerance": {"times": "10%", "feed_read": ["p(95) <= +5%", "rate >= -1%"]}})
    assert made.tolerance == {"times": ("10%",), "feed_read": ("p(95) <= +5%", "rate >= -1%")}
    assert parse_scenario(MINIMAL).tolerance == {}


@pytest.mark.parametrize("table", ["expect", "stop"])
@pytest.mark.parametrize("value", [K6_OBJECT, [K6_OBJECT], ["med < 5", K6_OBJECT]])
def test_an_object_of_k6_is_told_where_it_belongs(table, value):
    with pytest.raises(UsageError) as raised:
        parse_scenario(MINIMAL | {table: {"feed_read": value}})
    [problem] = raised.value.problems
    assert problem.startswith(f"{table}.feed_read: must be a text such as p(95) <= 200ms")
    assert "(k6's abortOnFail) stands in [stop], with stop.delay" in problem


def test_expectations_in_a_file_of_their_own_or_a_scenario():
    table = {"expect": {"feed_read": "max <= 1s", "invariants": ["order"]}}
    wanted = {"feed_read": ("max <= 1s",), "invariants": ("order",)}
    assert parse_expect(table) == wanted
    assert parse_expect(MINIMAL | table) == wanted


@pytest.mark.parametrize(
    ("document", "problem"),
    [
        ({}, "expect: is required"),
        ({"expcet": {}}, "expcet: unknown key (did you mean 'expect'?)"),
        ({"expect": {"feed_read": 3}}, "expect.feed_read: must be a non-empty text, got 3"),
    ],
)
def test_each_problem_of_such_a_file_is_named(document, problem):
    with pytest.raises(UsageError) as raised:
        parse_expect(document)
    assert problem in raised.value.problems
