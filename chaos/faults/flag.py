"""flag: a feature flag of the target has another value, set as its operator would. Undo: its value of before."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import msgspec

from chaos.addresses import wait_until
from chaos.flags import Flags, FlagValue, flag_word
from chaos.handles import Handle
from chaos.kind import FaultError, Parameter, Witness
from chaos.supervised import READY_TIMEOUT_S, Supervised, find_supervised
from harness.core.errors import nearest


class FlagPlan(msgspec.Struct, frozen=True, kw_only=True):
    """Whose flag, by the process that is asked, and its value before and meanwhile."""

    process: Supervised
    flags: Flags
    name: str
    value: FlagValue
    before: FlagValue


class Setting(msgspec.Struct, frozen=True):
    """NAME=VALUE."""

    name: str
    value: FlagValue


def _setting(value: Any) -> Setting:
    name, _, word = str(value).partition("=")
    if not name or not word:
        raise ValueError(f"must look like NAME=VALUE, got {value!r}")
    if word.lower() in ("on", "off", "true", "false"):
        return Setting(name, word.lower() in ("on", "true"))
    if re.fullmatch(r"-?\d+(\.\d+)?", word):
        return Setting(name, float(word) if "." in word else int(word))
    return Setting(name, word)


class Flag:
    """See the module."""

    name = "flag"
    about = "A feature flag of the target is set at run time, in all regions, and set back."
    backends: tuple[str, ...] = ("process",)
    needs: tuple[str, ...] = ("pid_file", "flags", "operator_token_file")
    colour = "#7a4fb0"
    parameters: Mapping[str, Parameter] = {
        "set": Parameter(_setting, 'which, and to what, such as "kill_switch=on"', required=True)
    }
    plan_type = FlagPlan

    def plan(self, handle: Handle, params: Mapping[str, Any]) -> FlagPlan:
        """What the flag is now. One that is so already, or is read at start only, is refused."""
        wanted: Setting = params["set"]
        process = find_supervised(handle, "set a flag of")
        flags = Flags(handle.flags, handle.operator_token_file)
        told = flags.read()
        if wanted.name not in told:
            raise FaultError(f"{handle.name} has no flag {wanted.name!r}{nearest(wanted.name, told)}")
        now = told[wanted.name]
        if not now.at_run_time:
            raise FaultError(f"{wanted.name} is read at start only")
        if now.value == wanted.value:
            raise FaultError(f"{wanted.name} is {flag_word(now.value)} already")
        return FlagPlan(process=process, flags=flags, name=wanted.name, value=wanted.value, before=now.value)

    def inject(self, plan: FlagPlan) -> None:
        """Set it."""
        plan.flags.set(plan.name, plan.value)

    def witness(self, plan: FlagPlan, within_s: float) -> Witness:
        """The process that was asked goes by the value."""
        seen = ""

        def in_force() -> bool:
            nonlocal seen
            try:
                value = _value(plan)
            except (OSError, FaultError) as error:
                seen = f"the flags cannot be read: {error}"
                return False
            seen = f"{plan.name} is {flag_word(value)} at {plan.flags.url}, was {flag_word(plan.before)}"
            return value == plan.value

        return Witness(wait_until(in_force, within_s), seen)

    def undo(self, plan: FlagPlan) -> str:
        """Set it as it was and read that back. A process that is away is waited for: what it was told outlives it."""
        why = "it is set by others"

        def is_settled() -> bool:
            nonlocal why
            try:
                if _value(plan) == plan.before:
                    return True
                plan.flags.set(plan.name, plan.before)
                return _value(plan) == plan.before
            except (OSError, FaultError) as error:
                why = str(error)
                return plan.process.is_orphaned

        if not wait_until(is_settled, READY_TIMEOUT_S):
            raise FaultError(f"{plan.name} is not {flag_word(plan.before)} again within {READY_TIMEOUT_S:g} s: {why}")
        if plan.process.is_orphaned:
            return "the target is gone, and its flags with it"
        return f"{plan.name} reads back as {flag_word(plan.before)}"


def _value(plan: FlagPlan) -> FlagValue | None:
    """What the flag is now. Raises FaultError, OSError."""
    told = plan.flags.read().get(plan.name)
    return told.value if told is not None else None
