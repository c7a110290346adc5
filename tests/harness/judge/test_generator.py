from __future__ import annotations

import msgspec
import pytest

from harness.contract.profile import Capabilities
from harness.core.verdict import Outcome
from harness.judge.case import LoadReport
from harness.judge.generator import judge_generator, problems_of

GOOD = {"process": "locust-0", "kind": "locust", "planned": 1000, "sent": 1000, "completed": True}
ROWS = [
    # what the process reports, what is wrong with it ("" = nothing)
    ({}, ""),
    ({"late": 20, "max_late_ms": 150.0}, ""),
    ({"late": 21, "max_late_ms": 150.0}, "started 21 of 1,000 arrivals more than 100 ms late"),
    ({"dropped": 1}, "dropped 1 of 1,000 arrivals"),
    ({"loop_lag_p99_ms": 99.0}, ""),
    ({"loop_lag_p99_ms": 120.0}, "p99 of its loop lag is 120 ms"),
    ({"completed": False}, "did not finish: no reason recorded"),
    ({"completed": False, "errors": ["killed"]}, "locust-0 did not finish: killed"),
    ({"errors": ["ReaderUser: KeyError: 'token'", "and another"]}, "had errors: ReaderUser: KeyError: 'token'; and"),
    ({"sent": 990}, "never came to 10 of 1,000 planned arrivals"),
    ({"sent": 990, "skipped": 10}, ""),
    ({"kind": "streams", "sent": 990}, ""),  # has no fixed schedule to fall short of
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


def test_a_run_without_its_locust_process(made):
    h = made({})
    h.load = [LoadReport(process="streams-0", kind="streams", completed=True)]
    [check] = judge_generator(h.case())
    assert check.verdict is Outcome.INCONCLUSIVE
    assert check.reason == "no load process of kind locust reported"


LISTENING = [
    # listeners planned, streams the target has, processes that reported, problem ("" = none)
    (5, "sse", [], "no load process of kind streams reported"),
    (5, "sse", [LoadReport(process="streams-0", kind="streams", completed=True)], ""),
    (5, "sse", [LoadReport(process="streams-0", errors=["the process was lost"])], "streams-0 did not finish"),
    (5, "none", [], ""),
    (0, "sse", [], ""),
]


@pytest.mark.parametrize(("listeners", "streams", "reported", "problem"), LISTENING)
def test_listeners_need_a_stream_process(made, listeners, streams, reported, problem):
    h = made({}, able=Capabilities(stream=streams))
    population = msgspec.structs.replace(h.scenario.population, listeners=listeners)
    h.scenario = msgspec.structs.replace(h.scenario, population=population)
    h.load = [LoadReport(**GOOD), *reported]
    [check] = judge_generator(h.case())
    assert check.verdict is (Outcome.INCONCLUSIVE if problem else Outcome.PASS)
    assert check.reason.startswith(problem)


def test_nobody_reported(made):
    h = made({})
    h.load = []
    [check] = judge_generator(h.case())
    assert check.verdict is Outcome.INCONCLUSIVE
    assert check.reason == "no load process reported"
