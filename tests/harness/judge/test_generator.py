from __future__ import annotations

import pytest

from harness.core.verdict import Outcome
from harness.judge.case import LoadReport
from harness.judge.generator import judge_generator, problems_of

GOOD = {"process": "locust-0", "planned": 1000, "sent": 1000, "completed": True}
ROWS = [
    # what the process reports, what is wrong with it ("" = nothing)
    ({}, ""),
    ({"late": 20, "max_late_ms": 150.0}, ""),
    ({"late": 21, "max_late_ms": 150.0}, "started 21 of 1,000 arrivals more than 100 ms late"),
    ({"dropped": 1}, "dropped 1 of 1,000 arrivals"),
    ({"loop_lag_p99_ms": 99.0}, ""),
    ({"loop_lag_p99_ms": 120.0}, "p99 of its loop lag is 120 ms"),
    ({"completed": False}, "did not finish: no reason recorded"),
]


@pytest.mark.parametrize(("report", "problem"), ROWS)
def test_what_makes_a_load_unfit(report, problem):
    problems = problems_of(LoadReport(**{**GOOD, **report}))
    assert (problem in problems[0]) if problem else not problems


def test_the_check_names_the_process(made):
    h = made({})
    h.load = [LoadReport(**GOOD), LoadReport(process="streams-0", planned=5, sent=4, dropped=1, completed=True)]
    [check] = judge_generator(h.case())
    assert check.verdict is Outcome.INCONCLUSIVE
    assert "streams-0 dropped 1 of 5" in check.reason


def test_nobody_reported(made):
    h = made({})
    h.load = []
    [check] = judge_generator(h.case())
    assert check.verdict is Outcome.INCONCLUSIVE
    assert check.reason == "no load process reported"
