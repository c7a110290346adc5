"""Rates of a scenario's load: what each takes of the population and of the other rates."""

from typing import Any

import pytest

from harness.core.errors import UsageError
from harness.core.load_rates import LOAD
from harness.core.scenario import Scenario, parse_scenario

PHASE = [{"name": "baseline", "duration": "1s"}]


def scenario(load: dict[str, Any], **population: Any) -> Scenario:
    return parse_scenario({"name": "x", "about": "y", "phase": PHASE, "population": population, "load": load})


def problems(load: dict[str, Any], **population: Any) -> list[str]:
    with pytest.raises(UsageError) as error:
        scenario(load, **population)
    return error.value.problems


def test_every_rate_is_read():
    rates = {key: f"{place}/s" for place, key in enumerate(LOAD, start=1) if key != "signup_curve"}
    load = scenario(rates | {"posts": "100/s"}, panel=5, celebrities=[3], late_celebrities=[3]).load
    assert (load.celebrity_signups_per_s, load.edges_per_s, load.deletes_per_s, load.repeats_per_s) == (5, 6, 7, 13)


@pytest.mark.parametrize(
    ("load", "population", "problem"),
    [
        ({"edges": "1/s"}, {"joined": "none"}, 'load.edges: needs population.joined = "all"'),
        ({"replies": "1/s", "reads": "1/s"}, {}, "load.replies: needs population.panel"),
        ({"likes": "1/s"}, {"panel": 5}, "load.likes: needs load.reads"),
        ({"probes": "1/s"}, {}, "load.probes: needs population.panel"),
        ({"deletes": "1/s"}, {}, "load.deletes: needs load.posts"),
        ({"repeats": "1/s"}, {}, "load.repeats: needs load.posts"),
        ({"signup_curve": True}, {}, 'load.signup_curve: needs population.joined = "none", or population.newcomers'),
        ({}, {"newcomers": 5}, "population.newcomers: needs load.signups, or load.signup_curve"),
        ({}, {"late_celebrities": [9]}, "population.late_celebrities: needs load.celebrity_signups"),
        ({"celebrity_signups": "2/s"}, {}, "load.celebrity_signups: needs population.late_celebrities"),
        (
            {"celebrity_signups": "1/s"},
            {"late_celebrities": [9]},
            "load.celebrity_signups: the first comes one interval after the warm-up, not within the phases",
        ),
        ({"delets": "1/s"}, {}, "load.delets: unknown key (did you mean 'deletes'?)"),
        ({"hides": "much"}, {}, "load.hides: must be a rate such as 40/s or 12/min, got 'much'"),
    ],
)
def test_each_problem_is_named(load, population, problem):
    assert problem in problems(load, **population)


def test_what_is_there_but_wrong_is_not_said_to_be_missing():
    assert problems({"posts": "-5/s", "deletes": "1/s"}) == [
        "load.posts: must be a rate such as 40/s or 12/min, got '-5/s'"
    ]


def test_most_posts_must_be_left_alone():
    load = {"posts": "10/s", "deletes": "3/s", "hides": "2/s", "moderations": "1/s"}
    [problem] = problems(load)
    assert problem.startswith("load.deletes, hides and moderations together: must be <= 50% of load.posts (10/s)")
    assert scenario(load | {"moderations": "0/s"}).load.deletes_per_s == 3
