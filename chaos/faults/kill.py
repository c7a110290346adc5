"""kill: SIGKILL to a process group, which then stays down until the undo.

The hold file is written first, so the target's supervisor does not restart what dies; the undo removes it and waits
until the restarted process answers.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from chaos.addresses import connect, wait_until
from chaos.handles import Handle
from chaos.kind import FaultError, Parameter, Witness
from chaos.processes import living
from chaos.supervised import Supervised, await_service, find_supervised, kill_group


class KillPlan(msgspec.Struct, frozen=True, kw_only=True):
    """The process to kill, and what keeps it down."""

    process: Supervised
    hold_file: str


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
        process = find_supervised(handle, "kill")
        if Path(handle.hold_file).exists():
            raise FaultError(f"{handle.name} is already held down by {handle.hold_file}")
        return KillPlan(process=process, hold_file=handle.hold_file)

    def inject(self, plan: KillPlan) -> None:
        """Hold, then kill."""
        Path(plan.hold_file).write_text("held down by a feedstorm fault\n", encoding="utf-8")
        kill_group(plan.process.target)

    def witness(self, plan: KillPlan, within_s: float) -> Witness:
        """The process is gone and its address refuses."""
        target, ready = plan.process.target, plan.process.ready
        reasons: list[str] = []

        def refused() -> bool:
            reasons[:] = [_refusal(ready)]
            return living(target) is None and bool(reasons[0])

        ok = wait_until(refused, within_s)
        gone = "is gone" if living(target) is None else "is still alive"
        return Witness(ok, f"process {target.pid} {gone}; {ready} {reasons[0] or 'still accepts connections'}")

    def undo(self, plan: KillPlan) -> str:
        """Release the hold, wait for the supervisor to bring the process back and for its readiness."""
        Path(plan.hold_file).unlink(missing_ok=True)
        return f"hold removed; {await_service(plan.process)}"


def _refusal(ready: str) -> str:
    """How the address refuses; empty when it accepts."""
    try:
        connect(ready, timeout_s=0.2).close()
    except TimeoutError:
        return "does not answer"
    except OSError as error:
        return f"refuses connections ({os.strerror(error.errno or 0)})"
    return ""
