"""A scenario grows with its ratios kept: amounts grow, times and shares stay."""

import copy

import pytest

from harness.core.errors import UsageError
from harness.core.scaling import scaled
from harness.core.scenario import parse_scenario

DOCUMENT = {
    "name": "x",
    "about": "y",
    "population": {
        "users": 2000,
        "mean_follows": 30,
        "celebrities": [900, 15],
        "listeners": 100,
        "panel": 3,
        "history": 50,
        "hot_ratio": 0.3,
        "reconnect_jitter": "2s",
    },
    "load": {"posts": "40/s", "reads": "12/min", "celebrity_posts": "0.2/s", "likes": "1.5 / s"},
    "phase": [
        {
            "name": "a",
            "duration": "9s",
            "faults": [{"kind": "slow-readers", "handle": "h", "hold": "5s", "streams": 20}],
        }
    ],
    "expect": {
        "feed_read": ["failures <= 1%", "p(95) <= 200ms", "count >= 4_500"],
        "post_accept": "rate >= 10/s",
        "invariants": "all",
    },
    "stop": {"delay": "3s", "feed_read": ["rate >= 8"]},
}


def made(factor, **changes):
    return scaled(DOCUMENT | changes, factor)


def test_amounts_grow():
    twice = parse_scenario(made(2))
    people = twice.population
    assert (people.users, people.celebrities, people.listeners, people.panel) == (4000, (1800, 30), 200, 6)
    assert (twice.load.posts_per_s, twice.load.likes_per_s) == (80, 3)
    assert twice.load.reads_per_s == pytest.approx(24 / 60)
    assert twice.phases[0].faults[0].params == {"streams": 40}
    assert twice.expect["feed_read"][2] == "count >= 9000"
    assert twice.expect["post_accept"] == ("rate >= 20/s",)
    assert twice.stop.expressions == {"feed_read": ("rate >= 16",)}


def test_what_is_one_users_and_every_time_stays():
    before, twice = parse_scenario(DOCUMENT), parse_scenario(made(2))
    for key in ("mean_follows", "history", "hot_ratio", "reconnect_jitter_s"):
        assert getattr(twice.population, key) == getattr(before.population, key)
    assert twice.load.celebrity_posts_per_s == before.load.celebrity_posts_per_s
    assert twice.expect["feed_read"][:2] == before.expect["feed_read"][:2]
    assert (twice.duration_s, twice.stop.delay_s) == (before.duration_s, before.stop.delay_s)


def test_a_smaller_one_still_has_somebody():
    tenth = parse_scenario(made(0.01))
    assert (tenth.population.users, tenth.population.celebrities, tenth.population.panel) == (20, (9, 1), 1)
    assert tenth.expect["feed_read"][2] == "count >= 45"


def test_once_is_as_it_was_and_the_document_is_never_changed():
    before = copy.deepcopy(DOCUMENT)
    assert made(1) == DOCUMENT
    made(3)
    assert before == DOCUMENT


def test_a_rate_that_changes_grows_as_a_whole():
    shape = {"shape": "spike", "base": "10/s", "peak": "40/s", "at": "2s", "for": "3s"}
    assert made(2, load={"posts": shape})["load"]["posts"] == shape | {"base": "20/s", "peak": "80/s"}


def test_a_scenario_says_what_else_stays():
    document = made(2, scale={"fixed": ["population.panel", "load.reads"]})
    assert (document["population"]["panel"], document["load"]["reads"]) == (3, "12/min")
    assert document["load"]["posts"] == "80/s"


def test_users_who_are_not_named_grow_too():
    assert made(2, population={})["population"] == {"users": 2000}
    without = {key: value for key, value in DOCUMENT.items() if key != "population"}
    assert scaled(without, 3)["population"] == {"users": 3000}


@pytest.mark.parametrize("factor", [0, -1, float("nan"), float("inf")])
def test_a_factor_that_is_none_is_refused(factor):
    with pytest.raises(UsageError, match=r"--scale: must be a number above 0"):
        made(factor)


def test_sizes_that_are_not_the_scenarios_to_say():
    with pytest.raises(UsageError, match=r"population\.graph is an edge list"):
        made(2, population={"graph": "edges:soc.txt"})
    with pytest.raises(UsageError, match=r"load\.trace is a recording"):
        made(2, load={"trace": "recorded.csv"})


@pytest.mark.parametrize(
    "changes",
    [
        {"population": 3},
        {"population": {"users": "many", "celebrities": [True, "x"]}},
        {"load": {"posts": "1.2.3/s", "reads": 7.5}},
        {"phase": {"faults": 1}},
        {"phase": [1, {"faults": 2}, {"faults": [3, {"streams": "x"}]}]},
        {"expect": {"feed_read": {"threshold": "count >= 1"}}},
        {"scale": 2},
        {"scale": {"fixed": 2}},
    ],
)
def test_what_is_malformed_is_told_by_the_parser(changes):
    with pytest.raises(UsageError):
        parse_scenario(made(2, **changes))


def test_the_table_is_validated():
    with pytest.raises(UsageError) as error:
        parse_scenario(DOCUMENT | {"scale": {"fixed": ["population.pannel"], "fix": 1}})
    assert "(did you mean 'population.panel'?)" in error.value.problems[0]
    assert error.value.problems[1] == "scale.fix: unknown key (did you mean 'fixed'?)"


def test_those_who_join_late_and_those_who_follow_many_grow_and_when_they_join_stays():
    people = {"users": 2000, "panel": 3, "late_celebrities": [900], "newcomers": 40, "hyper_followers": [600, 500]}
    load = {"signups": "4/s", "celebrity_signups": "3/min"}
    phase = [{"name": "only", "duration": "60s"}]
    twice = parse_scenario(scaled(DOCUMENT | {"population": people, "load": load, "phase": phase, "expect": {}}, 2))
    who = twice.population
    assert (who.late_celebrities, who.newcomers, who.hyper_followers) == ((1800,), 80, (1200, 1000))
    assert (twice.load.signups_per_s, twice.load.celebrity_signups_per_s) == (8, pytest.approx(0.05))
