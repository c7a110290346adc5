"""What a profile says of flags, and which settings are turned down before anything starts."""

from __future__ import annotations

import pytest

from harness.contract.flag_kind import FlagKind, flag_kind, flag_problem

KINDS = {
    "two_tier": flag_kind(["on", "off"]),
    "fanout": flag_kind(["push", "pull", "hybrid"]),
    "cache_mb": flag_kind("8..65536"),
    "follow_cap": flag_kind("1.."),
    "heartbeat_s": flag_kind("0.05..3600"),
}


@pytest.mark.parametrize(
    "setting",
    [
        *("two_tier=on", "two_tier=False", "fanout=hybrid", "cache_mb=8", "cache_mb=65536", "follow_cap=123456789012"),
        *("heartbeat_s=0.05", "heartbeat_s=3600", "heartbeat_s=15"),
    ],
)
def test_a_value_of_its_kind_is_taken(setting: str) -> None:
    assert flag_problem(setting, KINDS) == ""


@pytest.mark.parametrize(
    ("setting", "problem"),
    [
        ("two_teir=off", "unknown flag 'two_teir' (did you mean 'two_tier'?)"),
        ("two_tier=of", "must be on or off, got 'of' (did you mean 'off'?)"),
        ("two_tier=1", "must be on or off, got '1'"),
        ("two_tier=", "must be on or off, got ''"),
        ("fanout=pul", "must be one of push, pull, hybrid, got 'pul' (did you mean 'pull'?)"),
        ("cache_mb=7", "must be a whole number from 8 to 65,536, got '7'"),
        ("cache_mb=16.0", "must be a whole number from 8 to 65,536, got '16.0'"),
        ("cache_mb=16MB", "must be a whole number from 8 to 65,536, got '16MB'"),
        ("follow_cap=-1", "must be a whole number from 1, got '-1'"),
        ("heartbeat_s=0.04", "must be a number from 0.05 to 3,600, got '0.04'"),
        ("heartbeat_s=nan", "must be a number from 0.05 to 3,600, got 'nan'"),
        ("two_tier", "must look like NAME=VALUE"),
        ("=on", "must look like NAME=VALUE"),
    ],
)
def test_any_other_is_refused_with_what_it_may_be(setting: str, problem: str) -> None:
    assert flag_problem(setting, KINDS) == problem


def test_of_a_target_that_lists_no_flags_only_the_form_is_known() -> None:
    assert flag_problem("anything=goes", {}) == ""
    assert flag_problem("anything", {}) == "must look like NAME=VALUE"


@pytest.mark.parametrize("value", ["on", "1", "1-2", "..4", [], [1], 3, True, {"least": 1}])
def test_what_is_neither_words_nor_a_range_is_no_kind(value: object) -> None:
    with pytest.raises(ValueError, match="must be"):
        flag_kind(value)


def test_a_range_with_a_point_holds_any_number() -> None:
    assert flag_kind("0.5..2") == FlagKind(whole=False, least=0.5, most=2)
