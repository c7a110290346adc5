from __future__ import annotations

from dataclasses import replace

import msgspec
import pytest

from harness.contract.profile import Capabilities
from harness.core.clock import NS_PER_MS, NS_PER_S
from harness.core.verdict import Outcome
from harness.judge.case import LoadReport
from harness.judge.generator import clock_problems, judge_generator, problems_of
from harness.record.noise_file import NoiseRow

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
    ({"sent": 980, "skipped": 10}, "never came to 10 of 1,000 planned arrivals"),
    ({"sent": 950, "skipped": 50, "late": 20}, ""),
    ({"sent": 949, "skipped": 51}, "skipped 51 of 1,000 arrivals that nobody could do"),
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


def test_the_check_names_what_the_target_could_not_take(made):
    h = made({})
    lacking = ["load.likes: target ours lacks like", "load.deletes: target ours lacks delete"]
    h.load = [LoadReport(**GOOD, left_out=lacking), LoadReport(process="streams-0", kind="streams", completed=True)]
    [check] = judge_generator(h.case())
    assert check.verdict is Outcome.PASS
    assert check.reason.endswith(f"; left out: {lacking[0]}; left out: {lacking[1]}")


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


def test_a_process_that_left_a_history_and_never_reported(made):
    case = made({}).case()
    for name in ("locust-0", "streams-1", "final"):
        case.run.history.joinpath(f"{name}.jsonl").touch()
    [check] = judge_generator(case)
    assert check.verdict is Outcome.INCONCLUSIVE
    assert check.reason == "streams-1 wrote a history but never reported"


def seconds_of(wall=lambda s: s, raw=lambda s: s, count=11):
    """Lines of the null probe whose other clocks show what these functions say of the second, from 5,000 s on."""
    return [
        NoiseRow(
            start_ns=(1_000 + s) * NS_PER_S,
            end_ns=(1_001 + s) * NS_PER_S,
            wall_ns=round((5_001 + wall(s)) * NS_PER_S),
            raw_ns=round((3_001 + raw(s)) * NS_PER_S),
        )
        for s in range(count)
    ]


CLOCKS = [
    # lines of the null probe, problem ("" = none)
    ([], ""),
    (seconds_of(), ""),
    (seconds_of(wall=lambda s: s + 0.049 * (s > 4)), ""),
    (seconds_of(wall=lambda s: s + 0.05 * (s > 4)), "the wall clock was set forward by 0.050 s at about 6.000 s"),
    (seconds_of(wall=lambda s: s - 3600 * (s > 4)), "the wall clock was set back by 3600.000 s at about 6.000 s"),
    (seconds_of(raw=lambda s: s / 1.009), ""),
    (seconds_of(raw=lambda s: s / 1.02), "the clock that times are read from went 2 % too fast"),
    (seconds_of(raw=lambda s: s / 0.98), "the clock that times are read from went 2 % too slow"),
    (seconds_of(raw=lambda s: s / 1.02, count=5), ""),  # too short to tell
]


@pytest.mark.parametrize(("rows", "problem"), CLOCKS)
def test_clocks_that_cannot_be_trusted(made, rows, problem):
    h = made({})
    h.noise = rows
    [check] = judge_generator(h.case())
    assert check.verdict is (Outcome.INCONCLUSIVE if problem else Outcome.PASS)
    assert not problem or check.reason == problem


def test_a_second_whose_clocks_could_not_be_read_together_is_no_jump(made):
    h = made({})
    h.noise = seconds_of()
    h.noise[5] = NoiseRow(start_ns=h.noise[5].start_ns, end_ns=h.noise[5].end_ns)
    assert clock_problems(h.case()) == []


def test_clocks_of_several_machines(made):
    case = made({}).case()
    assert clock_problems(replace(case, clock_error_ns=49 * NS_PER_MS)) == []
    [problem] = clock_problems(replace(case, clock_error_ns=80 * NS_PER_MS))
    assert problem == "how far the clocks of two processes differ is known to 80 ms only"
