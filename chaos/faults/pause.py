"""pause: SIGSTOP to a process group and its descendants: connections stay open, nobody answers. Undo: SIGCONT."""

from __future__ import annotations

import signal
from collections.abc import Mapping
from typing import Any

import msgspec

from chaos.addresses import wait_until
from chaos.handles import Handle
from chaos.kind import FaultError, Parameter, Witness
from chaos.processes import STOPPED, Identity, ProcessState, includes_us, living, members, read_pid_file, send

SETTLE_TIMEOUT_S = 5.0


class PausePlan(msgspec.Struct, frozen=True):
    """The group's leader, and all that belonged to it before the fault."""

    target: Identity
    members: tuple[Identity, ...]


class Pause:
    """See the module."""

    name = "pause"
    about = "SIGSTOP to the handle's processes; they hang with their connections open until the hold ends."
    backends: tuple[str, ...] = ("process",)
    needs: tuple[str, ...] = ("pid_file",)
    colour = "#8659b5"
    parameters: Mapping[str, Parameter] = {}
    plan_type = PausePlan

    def plan(self, handle: Handle, params: Mapping[str, Any]) -> PausePlan:
        """Who will be stopped."""
        target = read_pid_file(handle.pid_file)
        if target is None:
            raise FaultError(f"{handle.name} is not running: nothing to pause")
        states = members(target.identity)
        if includes_us(states):
            raise FaultError(f"{handle.name} contains the harness itself")
        if any(s.state in STOPPED for s in states):
            raise FaultError(f"{handle.name} is already paused")
        return PausePlan(target.identity, tuple(s.identity for s in states))

    def inject(self, plan: PausePlan) -> None:
        """Stop until a look finds nobody running: a process may fork while its group is being stopped."""

        def all_stopped() -> bool:
            states = members(plan.target)
            for state in states:
                if state.state not in STOPPED:
                    send(state.identity, signal.SIGSTOP)
            return bool(states) and all(s.state in STOPPED for s in states)

        if not wait_until(all_stopped, SETTLE_TIMEOUT_S):
            raise FaultError(f"process group {plan.target.pid} did not stop within {SETTLE_TIMEOUT_S:g} s")

    def witness(self, plan: PausePlan, within_s: float) -> Witness:
        """Every member is in state T."""
        wait_until(lambda: _all_stopped(_present(plan)), within_s)
        states = _present(plan)
        seen = ", ".join(f"{s.identity.pid} in state {s.state}" for s in states) or "no process left"
        return Witness(_all_stopped(states), f"/proc shows {seen}")

    def undo(self, plan: PausePlan) -> str:
        """Continue everyone who is stopped; a process that is gone needs nothing."""

        def none_stopped() -> bool:
            stopped = [s for s in _present(plan) if s.state in STOPPED]
            for state in stopped:
                send(state.identity, signal.SIGCONT)
            return not stopped

        if not wait_until(none_stopped, SETTLE_TIMEOUT_S):
            raise FaultError(f"process group {plan.target.pid} is still stopped {SETTLE_TIMEOUT_S:g} s after SIGCONT")
        left = len(_present(plan))
        return f"{left} process(es) run again" if left else f"process {plan.target.pid} is gone: nothing to continue"


def _present(plan: PausePlan) -> list[ProcessState]:
    """Members known before the fault and those found now, as far as they live."""
    known = {s.identity: s for s in map(living, plan.members) if s is not None}
    known.update({s.identity: s for s in members(plan.target)})
    return list(known.values())


def _all_stopped(states: list[ProcessState]) -> bool:
    return bool(states) and all(s.state in STOPPED for s in states)
