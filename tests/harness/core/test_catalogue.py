"""What a scenario says of itself is validated like everything else: every problem, with its path and nearest name."""

import pytest

from harness.core.catalogue import Failing
from harness.core.errors import UsageError
from harness.core.scenario import parse_scenario

MINIMAL = {"name": "x", "about": "y", "phase": [{"name": "baseline", "duration": "1s"}]}
NO_WAL = {"defect": "no-wal", "check": "durability"}
TOLD = {"story": "What\nhappens.\n", "real": "large", "ratios": "kept", "fails_with": [NO_WAL]}


def problems(**changes):
    with pytest.raises(UsageError) as error:
        parse_scenario(MINIMAL | changes)
    return error.value.problems


def test_what_people_are_told_is_read():
    told = parse_scenario(MINIMAL | {"catalogue": TOLD | {"number": 15, "takes": "95s"}}).catalogue
    assert (told.number, told.takes_s, told.real) == (15, 95, "large")
    assert told.story == "What happens."  # however its lines were broken in the file
    assert told.fails_with == (Failing(defect="no-wal", check="durability"),)
    assert parse_scenario(MINIMAL).catalogue is None


def test_what_makes_it_fail_is_typed_as_an_option():
    flag = {"flag": "read_filters=off", "check": "eligibility", "seen": True}
    told = parse_scenario(MINIMAL | {"catalogue": TOLD | {"fails_with": [NO_WAL, flag]}}).catalogue
    assert [one.option for one in told.fails_with] == ["--defect no-wal", "--flag read_filters=off"]
    assert [one.seen for one in told.fails_with] == [False, True]


@pytest.mark.parametrize(
    ("changes", "path", "hint"),
    [
        ({"stroy": "x"}, "catalogue.stroy", "did you mean 'story'"),
        ({"number": 0}, "catalogue.number", "whole number >= 1"),
        ({"takes": "soon"}, "catalogue.takes", "must be a duration"),
        ({"fails_with": []}, "catalogue.fails_with", "at least one"),
        ({"fails_with": "no-wal"}, "catalogue.fails_with", "must be a list"),
        ({"fails_with": ["no-wal"]}, "catalogue.fails_with", "must be a table"),
        ({"fails_with": [{"defect": "no-wal"}]}, "catalogue.fails_with", "must name the check"),
        ({"fails_with": [{"check": "durability"}]}, "catalogue.fails_with", "a defect or a flag"),
        ({"fails_with": [NO_WAL | {"flag": "wal=off"}]}, "catalogue.fails_with", "one of them"),
        ({"fails_with": [{"flag": "wal", "check": "durability"}]}, "catalogue.fails_with", "NAME=VALUE, got 'wal'"),
        ({"fails_with": [NO_WAL | {"defekt": "x"}]}, "catalogue.fails_with", "did you mean 'defect'"),
        ({"fails_with": [NO_WAL | {"seen": "yes"}]}, "catalogue.fails_with", "true or false"),
    ],
)
def test_each_problem_names_its_path(changes, path, hint):
    [found] = [problem for problem in problems(catalogue=TOLD | changes) if problem.startswith(f"{path}:")]
    assert hint in found


def test_what_must_be_told_is_named_all_at_once():
    assert problems(catalogue={}) == [
        f"catalogue.{key}: is required" for key in ("story", "real", "ratios", "fails_with")
    ]


@pytest.mark.parametrize("tag", ["ci", "nightly"])
def test_a_draft_is_not_run_unattended(tag):
    assert problems(tags=["draft", tag]) == [
        f"tags: {tag!r} and 'draft' exclude each other: a draft has not been seen to pass"
    ]


def test_flags_of_the_target_are_settings():
    assert parse_scenario(MINIMAL | {"flags": ["follower_cache_ttl_s=3"]}).flags == ("follower_cache_ttl_s=3",)
    assert problems(flags=["wal"]) == ["flags: must look like NAME=VALUE, got 'wal'"]
