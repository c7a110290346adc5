"""The fault that sets a flag: what it refuses, whom its undo waits for, and what the audit of residue sees."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from chaos_targets import Target, end, wait_for
from store_targets import flag_values, flags_target

from chaos.faults import KINDS
from chaos.flags import Flags
from chaos.handles import parse_handle
from chaos.kind import FaultError, parse_parameters
from chaos.processes import send
from chaos.residue import observe, residue

pytestmark = pytest.mark.slow


@pytest.fixture
def target(request: pytest.FixtureRequest, tmp_path: Path) -> Target:
    return flags_target(request, tmp_path)


def planned(target: Target, setting: str) -> tuple[Any, Any]:
    params, problems = parse_parameters(KINDS["flag"], {"set": setting})
    assert not problems
    return KINDS["flag"], KINDS["flag"].plan(parse_handle(target.name, target.handle), params)


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("kill_swich=on", r"has no flag 'kill_swich' \(did you mean 'kill_switch'\?\)"),
        ("cache_mb=8", "cache_mb is read at start only"),
        ("kill_switch=off", "kill_switch is off already"),
        ("fanout=push", "fanout is push already"),
    ],
)
def test_what_is_refused_before_anything_is_touched(target: Target, setting: str, said: str) -> None:
    with pytest.raises(FaultError, match=said):
        planned(target, setting)


@pytest.mark.parametrize("value", ["kill_switch", "=on", "kill_switch=", 3])
def test_a_setting_that_is_none(value: object) -> None:
    [problem] = parse_parameters(KINDS["flag"], {"set": value})[1]
    assert problem.startswith("set: must look like NAME=VALUE")


@pytest.mark.parametrize(
    ("setting", "value"), [("kill_switch=on", True), ("follower_cache_ttl_s=3", 3), ("fanout=pull", "pull")]
)
def test_values_are_of_their_kind(target: Target, setting: str, value: object) -> None:
    kind, plan = planned(target, setting)
    kind.inject(plan)
    assert flag_values(target)[plan.name] == value
    kind.undo(plan)


def test_without_the_operators_token_nothing_is_set(target: Target) -> None:
    Path(target.handle["operator_token_file"]).write_text("another\n")
    with pytest.raises(FaultError, match="401 the operator's token is required"):
        planned(target, "kill_switch=on")


def test_no_token_is_in_the_plan(target: Target) -> None:
    _, plan = planned(target, "kill_switch=on")
    assert "token-of-a-test-operator" not in repr(plan)


def test_what_was_told_outlives_the_process_that_was_told(target: Target) -> None:
    kind, plan = planned(target, "kill_switch=on")
    kind.inject(plan)
    send(target.leader.identity, 9)
    assert kind.undo(plan) == "kill_switch reads back as off"
    assert flag_values(target)["kill_switch"] is False


def test_a_target_that_is_gone_has_no_flags(target: Target) -> None:
    kind, plan = planned(target, "kill_switch=on")
    kind.inject(plan)
    end(target.supervisor)
    assert kind.undo(plan) == "the target is gone, and its flags with it"


def test_a_flag_that_was_not_set_back_is_residue(target: Target) -> None:
    before = observe(target.handles)
    flags = Flags(target.handle["flags"], target.handle["operator_token_file"])
    flags.set("kill_switch", True)
    [left] = residue(before, target.handles, settle_s=0)
    assert "kill_switch=on" in left
    flags.set("kill_switch", False)
    wait_for(lambda: residue(before, target.handles, settle_s=0) == [], what="as before")
