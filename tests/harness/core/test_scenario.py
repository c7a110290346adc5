"""A scenario file is validated as a whole: every problem is reported, with its path and the nearest valid name."""

import pytest

from harness.core.errors import UsageError
from harness.core.scenario import parse_scenario

MINIMAL = {"name": "x", "about": "y", "phase": [{"name": "baseline", "duration": "1s"}]}


def problems(**changes) -> list[str]:
    with pytest.raises(UsageError) as error:
        parse_scenario(MINIMAL | changes)
    return error.value.problems


def test_a_minimal_scenario_has_defaults():
    scenario = parse_scenario(MINIMAL)
    assert scenario.seed == 42
    assert scenario.target == "reference"
    assert scenario.duration_s == 1


def test_quantities_are_parsed_with_their_units():
    scenario = parse_scenario(
        MINIMAL
        | {
            "population": {"users": 20_000, "celebrities": [10_000], "reconnect_jitter": "1500ms"},
            "load": {"posts": "40/s", "celebrity_posts": "12/min"},
            "expect": {"feed_read": "p(99) <= 200ms"},
        }
    )
    assert scenario.population.celebrities == (10_000,)
    assert scenario.population.reconnect_jitter_s == 1.5
    assert scenario.load.posts_per_s == 40
    assert scenario.load.celebrity_posts_per_s == pytest.approx(0.2)
    assert scenario.expect == {"feed_read": ("p(99) <= 200ms",)}


def test_a_fault_keeps_the_parameters_of_its_kind():
    fault = {"kind": "latency", "handle": "link.a.b", "hold": "1s", "latency": "400ms"}
    scenario = parse_scenario(MINIMAL | {"phase": [{"name": "lag", "duration": "2s", "faults": [fault]}]})
    assert scenario.phases[0].faults[0].params == {"latency": "400ms"}
    assert scenario.phases[0].faults[0].hold_s == 1


@pytest.mark.parametrize(
    ("changes", "path", "hint"),
    [
        ({"populaton": {}}, "populaton", "did you mean 'population'"),
        ({"population": {"user": 5}}, "population.user", "did you mean 'users'"),
        ({"population": {"users": -5}}, "population.users", "whole number >= 2, got -5"),
        ({"population": {"hot_ratio": 2}}, "population.hot_ratio", "from 0 to 1"),
        ({"load": {"posts": "-5/s"}}, "load.posts", "must be a rate"),
        ({"load": {"posts": "5/day"}}, "load.posts", "must be a rate"),
        ({"phase": []}, "phase", "at least one"),
        ({"phase": [{"name": "a", "duration": "0s"}]}, "phase[0].duration", "longer than 0"),
        ({"phase": [{"name": "a"}]}, "phase[0].duration", "is required"),
        ({"load": {"celebrity_posts": "1/s"}}, "load.celebrity_posts", "needs population.celebrities"),
        ({"population": {"users": 10, "listeners": 11}}, "population.listeners", "<= population.users"),
        ({"seed": True}, "seed", "whole number"),
    ],
)
def test_each_problem_names_its_path_and_what_was_expected(changes, path, hint):
    found = [p for p in problems(**changes) if p.startswith(path + ":")]
    assert found
    assert hint in found[0]


def test_all_problems_are_reported_at_once():
    found = problems(load={"posts": "x", "raeds": "1/s"}, population={"users": 0})
    assert len(found) == 3


def test_a_fault_must_end_within_its_phase():
    fault = {"kind": "kill", "handle": "a", "hold": "5s", "at": "6s"}
    assert "must end within the phase" in problems(phase=[{"name": "p", "duration": "10s", "faults": [fault]}])[0]
