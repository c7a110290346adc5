"""kill: SIGKILL to a process group, which then stays down until the undo.

The hold file is written first, so the target's supervisor does not restart what dies; the undo removes it and waits
until the restarted process answers.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from chaos.addresses import connect, unready, wait_until
from chaos.handles import Handle
from chaos.kind import FaultError, Parameter, Witness
from chaos.processes import Identity, includes_us, living, members, read_pid_file, read_state, send

READY_TIMEOUT_S = 20.0
DEATH_TIMEOUT_S = 5.0


class KillPlan(msgspec.Struct, frozen=True, kw_only=True):
    """The process to kill, and what brings it back."""

    target: Identity
    supervisor: Identity | None
    """parent of the target, which restarts it; None when that is init"""
    pid_file: str
    hold_file: str
    ready: str


class Kill:
    """See the module."""

    name = "kill"
    about = "SIGKILL to the handle's process group; it stays down for the hold, then its supervisor restarts it."
    backends: tuple[str, ...] = ("process",)
    needs: tuple[str, ...] = ("pid_file", "hold_file", "ready")
    colour = "#c8385a"
    parameters: Mapping[str, Parameter] = {}
    plan_type = KillPlan

    def plan(self, handle: Handle, params: Mapping[str, Any]) -> KillPlan:
        """Who dies, and who restarts it."""
        target = read_pid_file(handle.pid_file)
        if target is None:
            raise FaultError(f"{handle.name} is not running: nothing to kill")
        if Path(handle.hold_file).exists():
            raise FaultError(f"{handle.name} is already held down by {handle.hold_file}")
        if includes_us(members(target.identity)):
            raise FaultError(f"{handle.name} contains the harness itself")
        parent = read_state(target.parent) if target.parent > 1 else None
        return KillPlan(
            target=target.identity,
            supervisor=parent.identity if parent else None,
            pid_file=handle.pid_file,
            hold_file=handle.hold_file,
            ready=handle.ready,
        )

    def inject(self, plan: KillPlan) -> None:
        """Hold, then kill until no member of the group is left."""
        Path(plan.hold_file).write_text("held down by a feedstorm fault\n", encoding="utf-8")

        def none_left() -> bool:
            left = members(plan.target)
            for state in left:
                send(state.identity, signal.SIGKILL)
            return not left

        if not wait_until(none_left, DEATH_TIMEOUT_S):
            raise FaultError(f"process group {plan.target.pid} did not die within {DEATH_TIMEOUT_S:g} s of SIGKILL")

    def witness(self, plan: KillPlan, within_s: float) -> Witness:
        """The process is gone and its address refuses."""
        reasons: list[str] = []

        def refused() -> bool:
            reasons[:] = [_refusal(plan.ready)]
            return living(plan.target) is None and bool(reasons[0])

        ok = wait_until(refused, within_s)
        gone = "is gone" if living(plan.target) is None else "is still alive"
        return Witness(
            ok, f"process {plan.target.pid} {gone}; {plan.ready} {reasons[0] or 'still accepts connections'}"
        )

    def undo(self, plan: KillPlan) -> str:
        """Release the hold, wait for the supervisor to bring the process back and for its readiness."""
        Path(plan.hold_file).unlink(missing_ok=True)

        def settled() -> bool:
            return _orphaned(plan) or (read_pid_file(plan.pid_file) is not None and not unready(plan.ready))

        if not wait_until(settled, READY_TIMEOUT_S):
            reason = unready(plan.ready) or "no living process in its pid file"
            raise FaultError(f"hold removed, but not ready again within {READY_TIMEOUT_S:g} s: {reason}")
        if _orphaned(plan):
            return "hold removed; its supervisor is gone, so nothing is left to restart"
        back = read_pid_file(plan.pid_file)
        return f"hold removed; serves again as process {back.identity.pid if back else '?'}"


def _orphaned(plan: KillPlan) -> bool:
    return plan.supervisor is not None and living(plan.supervisor) is None


def _refusal(ready: str) -> str:
    """How the address refuses; empty when it accepts."""
    try:
        connect(ready, timeout_s=0.2).close()
    except TimeoutError:
        return "does not answer"
    except OSError as error:
        return f"refuses connections ({os.strerror(error.errno or 0)})"
    return ""
