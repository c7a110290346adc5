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
        ({"population": {"users": 10, "listeners": 11}}, "population.listeners", "<= 10, the number of those who may"),
        (
            {"population": {"users": 20, "listeners": 18, "celebrities": [5, 4, 3]}},
            "population.listeners",
            "<= 17, the number of those who may listen (20 users - 3 celebrities), got 18",
        ),
        (
            {"population": {"users": 50, "listeners": 46, "newcomers": 4, "panel": 5, "hyper_followers": [9, 8, 7]}},
            "population.listeners",
            "<= 45, the number of those who may listen (50 users - 4 who have not joined - 1 hyper-followers), got 46",
        ),
        ({"population": {"users": 10, "panel": 8, "newcomers": 3}}, "population.panel", "who have joined (7)"),
        ({"population": {"users": 10, "newcomers": 11}}, "population.users", ">= the number of celebrities, late"),
        ({"population": {"newcomers": -1}}, "population.newcomers", "whole number >= 0"),
        ({"population": {"newcomer": 1}}, "population.newcomer", "did you mean 'newcomers'"),
        ({"population": {"joined": "none", "newcomers": 1}}, "population.newcomers", 'needs population.joined = "all"'),
        (
            {"population": {"joined": "none", "late_celebrities": [5]}},
            "population.late_celebrities",
            'needs population.joined = "all"',
        ),
        ({"population": {"users": 9, "late_celebrities": [9]}}, "population.late_celebrities[0]", "< population.users"),
        ({"population": {"hyper_followers": 5}}, "population.hyper_followers", "must be a list"),
        ({"population": {"hyper_followers": [5]}}, "population.panel", "number of hyper_followers (1)"),
        (
            {"population": {"users": 10, "panel": 2, "celebrities": [3, 3], "hyper_followers": [7, 8]}},
            "population.hyper_followers[1]",
            "must be from 2 (who may be celebrities) to 7 (all other ordinary users), got 8",
        ),
        (
            {"population": {"users": 10, "panel": 2, "celebrities": [3, 3], "hyper_followers": [1]}},
            "population.hyper_followers[0]",
            "must be from 2",
        ),
        (
            {"population": {"graph": "edges:a.csv", "panel": 2, "hyper_followers": [5]}},
            "population.hyper_followers",
            "an edge list says by itself",
        ),
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


CHAOS = {"kinds": ["kill", {"kind": "latency", "latency": "400ms"}], "handles": ["us.*"], "rate": "2/min"}


def test_a_random_plan_has_defaults_and_units():
    chaos = parse_scenario(MINIMAL | {"chaos": CHAOS | {"hold": "5s..15s", "overlap": 2}}).chaos
    assert chaos.rate_per_s == pytest.approx(2 / 60)
    assert (chaos.hold.shortest_s, chaos.hold.longest_s, chaos.overlap, chaos.seed) == (5, 15, 2, None)
    assert [(k.kind, k.params) for k in chaos.kinds] == [("kill", {}), ("latency", {"latency": "400ms"})]
    assert parse_scenario(MINIMAL).chaos is None


@pytest.mark.parametrize(
    ("changes", "path", "hint"),
    [
        ({"kind": "kill"}, "chaos.kind", "did you mean 'kinds'"),
        ({"kinds": []}, "chaos.kinds", "at least one"),
        ({"kinds": [{"latency": "4ms"}]}, "chaos.kinds", "must name its kind"),
        ({"handles": "us.*"}, "chaos.handles", "must be a list"),
        ({"rate": "0/s"}, "chaos.rate", "more than 0"),
        ({"rate": 2}, "chaos.rate", "must be a rate"),
        ({"hold": "15s..5s"}, "chaos.hold", "from the shorter to the longer"),
        ({"hold": "5..15s"}, "chaos.hold", "a range such as 5s..15s"),
        ({"overlap": 0}, "chaos.overlap", "whole number >= 1"),
        ({"settle": "0s"}, "chaos.settle", "longer than 0"),
        ({"seed": -1}, "chaos.seed", "whole number >= 0"),
    ],
)
def test_each_problem_of_a_random_plan_is_named(changes, path, hint):
    [found] = [p for p in problems(chaos=CHAOS | changes) if p.startswith(path + ":")]
    assert hint in found


def test_what_a_random_plan_cannot_do_without():
    assert problems(chaos={}) == ["chaos.kinds: is required", "chaos.handles: is required", "chaos.rate: is required"]


def test_stop_conditions_are_expressions_and_a_delay():
    stop = parse_scenario(MINIMAL | {"stop": {"delay": "3s", "feed_read": "failures < 20%"}}).stop
    assert (stop.delay_s, stop.expressions) == (3, {"feed_read": ("failures < 20%",)})
    assert parse_scenario(MINIMAL).stop.expressions == {}
    assert "stop.delay: must be a duration" in problems(stop={"delay": 3})[0]


def test_listeners_have_habits_with_units():
    listeners = parse_scenario(
        MINIMAL
        | {
            "population": {"listeners": 100},
            "phase": [{"name": "baseline", "duration": "60s"}],
            "listeners": {
                "slow": 0.1, "slow_bytes": "50/s", "stalled": 0.2, "half_open": 0.05, "from": "10s", "until": "40s",
                "disconnect_at": ["20s", "30s"], "disconnect": 0.5, "http2": 20, "open": "500/s", "honour_retry": True,
                "backoff": "500ms", "backoff_cap": "30s", "resume": False,
            },
        }
    ).listeners  # fmt: skip
    assert (listeners.slow_ratio, listeners.slow_bytes_per_s, listeners.stalled_ratio) == (0.1, 50, 0.2)
    assert (listeners.half_open_ratio, listeners.from_s, listeners.until_s, listeners.http2) == (0.05, 10, 40, 20)
    assert (listeners.disconnect_at_s, listeners.disconnect_ratio, listeners.open_per_s) == ((20, 30), 0.5, 500)
    assert (listeners.backoff_s, listeners.backoff_cap_s) == (0.5, 30)
    assert (listeners.honour_retry, listeners.resume) == (True, False)


@pytest.mark.parametrize(
    ("changes", "path", "hint"),
    [
        ({"slwo": 0.1}, "listeners.slwo", "did you mean 'slow'"),
        ({"slow": 2}, "listeners.slow", "from 0 to 1"),
        ({"slow": 0.5, "stalled": 0.4, "half_open": 0.2}, "listeners.slow, stalled and half_open together", "<= 1"),
        ({"stalled": 0.5, "http2": 6}, "listeners.slow, stalled and half_open together", "<= 0.4, got 0.5"),
        ({"http2": 11}, "listeners.http2", "<= population.listeners (10)"),
        ({"from": "5s", "until": "5s"}, "listeners.until", "later than listeners.from (5s)"),
        ({"from": "11s"}, "listeners.from", "within the phases (10s)"),
        ({"until": "11s"}, "listeners.until", "within the phases (10s)"),
        ({"disconnect_at": ["1s", "11s"]}, "listeners.disconnect_at[1]", "within the phases (10s)"),
        ({"backoff": "3s"}, "listeners.backoff_cap", ">= listeners.backoff (3s)"),
        ({"open": "0/s"}, "listeners.open", "more than 0"),
    ],
)
def test_each_problem_of_listeners_is_named(changes, path, hint):
    phase = [{"name": "baseline", "duration": "10s"}]
    [found] = problems(listeners=changes, population={"listeners": 10}, phase=phase)
    assert found.startswith(path + ":")
    assert hint in found


def test_habits_need_somebody_who_has_them():
    assert problems(listeners={"slow": 0.1}) == ["listeners: needs population.listeners"]
