"""A scenario of the reference stack, run against a target that calls its regions and handles otherwise."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.core.errors import UsageError
from harness.run.names import in_words_of
from harness.run.request import read_request
from harness.run.scenario_file import load_scenario

OURS = """
name = "ours"
[regions.eu]
api = "http://127.0.0.1:9"
[regions.us]
api = "http://127.0.0.1:9"
[handles."eu.cache"]
backend = "process"
pid_file = "/run/ours/eu.pid"
hold_file = "/run/ours/eu.hold"
ready = "tcp://127.0.0.1:9"
[handles."us.memcached"]
backend = "process"
pid_file = "/run/ours/us.pid"
hold_file = "/run/ours/us.hold"
ready = "tcp://127.0.0.1:9"
"""
NAMES = """
[names]
"us-east" = "eu"
"ap-tokyo" = "us"
"us-east.memcached" = "eu.cache"
"""


@pytest.mark.parametrize("scenario", ["cache-kill", "celebrity-cache-kill", "consistency", "visibility"])
def test_names_make_a_scenario_of_the_reference_stack_fit(scenario: str, tmp_path: Path) -> None:
    target = tmp_path / "ours.toml"
    target.write_text(OURS)
    with pytest.raises(UsageError, match="us-east"):
        read_request(scenario, str(target), (), None, tmp_path)
    target.write_text(OURS + NAMES)
    request = read_request(scenario, str(target), (), None, tmp_path)
    assert request.scenario.phases
    assert request.scenario == in_words_of(load_scenario(scenario), request.profile.names)


def test_faults_and_thresholds_are_renamed_and_nothing_else() -> None:
    before = load_scenario("cache-kill")
    after = in_words_of(before, {"us-east": "eu", "ap-tokyo.memcached": "us.cache"})
    faults = [fault.handle for phase in after.phases for fault in phase.faults]
    assert faults == ["eu.memcached", "us.cache"]
    regions = [key for key in after.expect if "region:" in key]
    assert any("region:eu" in key for key in regions)
    assert any("region:ap-tokyo" in key for key in regions), "its own name was not given"
    assert list(after.expect.values()) == list(before.expect.values())
    assert [phase.name for phase in after.phases] == [phase.name for phase in before.phases]


def test_drawn_faults_are_renamed() -> None:
    after = in_words_of(load_scenario("random-faults"), {"us-east": "eu", "ap-tokyo": "us", "link.*": "wan"})
    assert after.chaos is not None
    assert after.chaos.handles == ("eu.*", "us.*", "wan")


def test_thresholds_of_two_regions_that_are_one_here_all_hold() -> None:
    only_times = ["p(95) <= 1s", "max <= 2s"]
    expect = f'expect={{"feed_read{{region:a}}"={only_times}, "feed_read{{region:b}}"=["max <= 2s"]}}'
    after = in_words_of(load_scenario("steady-peak", [expect]), {"a": "one", "b": "one"})
    assert after.expect == {"feed_read{region:one}": tuple(only_times)}


def test_without_names_it_is_the_same() -> None:
    scenario = load_scenario("consistency")
    assert in_words_of(scenario, {}) is scenario


def test_a_name_that_is_none_is_told_with_its_place(tmp_path: Path) -> None:
    target = tmp_path / "ours.toml"
    target.write_text(OURS + '[names]\n"us-east" = 3\n')
    with pytest.raises(UsageError, match=r"target ours: names\.us-east: must be a name of this target, got 3"):
        read_request("steady-peak", str(target), (), None, tmp_path)
