"""restart: the process dies once, and its supervisor brings it back at once. Undo: awaits that it serves again."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from chaos.addresses import wait_until
from chaos.handles import Handle
from chaos.kind import FaultError, Parameter, Witness
from chaos.processes import living, read_pid_file
from chaos.supervised import Supervised, ask_to_end, await_service, find_supervised, kill_group
from harness.core.values import one_of

GRACE_S = 15.0
"""for a process that was asked to end; a server may finish its requests first"""


class RestartPlan(msgspec.Struct, frozen=True, kw_only=True):
    """The process, and the signal that ends it."""

    process: Supervised
    signal: str


class Restart:
    """See the module."""

    name = "restart"
    about = "The handle's process is killed, or asked to end, once; its supervisor restarts it at once."
    backends: tuple[str, ...] = ("process",)
    needs: tuple[str, ...] = ("pid_file", "ready")
    colour = "#d9732e"
    parameters: Mapping[str, Parameter] = {
        "signal": Parameter(one_of("KILL", "TERM"), '"KILL", or "TERM": it may finish what it does', default="KILL")
    }
    plan_type = RestartPlan

    def plan(self, handle: Handle, params: Mapping[str, Any]) -> RestartPlan:
        """Who dies, and who restarts it."""
        process = find_supervised(handle, "restart")
        if handle.hold_file and Path(handle.hold_file).exists():
            raise FaultError(f"{handle.name} is held down by {handle.hold_file}: it would not come back")
        return RestartPlan(process=process, signal=params["signal"])

    def inject(self, plan: RestartPlan) -> None:
        """End it."""
        if plan.signal == "KILL":
            kill_group(plan.process.target)
        elif not ask_to_end(plan.process.target, GRACE_S):
            raise FaultError(f"process {plan.process.target.pid} did not end within {GRACE_S:g} s of SIGTERM")

    def witness(self, plan: RestartPlan, within_s: float) -> Witness:
        """The process is gone, and another stands in its pid file."""
        wait_until(lambda: read_pid_file(plan.process.pid_file) is not None, within_s)
        target, successor = plan.process.target, read_pid_file(plan.process.pid_file)
        if living(target) is not None:
            return Witness(False, f"process {target.pid} still lives")
        if successor is None:
            return Witness(True, f"process {target.pid} is gone, and not back yet")
        return Witness(True, f"process {target.pid} is gone, process {successor.identity.pid} has taken its place")

    def undo(self, plan: RestartPlan) -> str:
        """Wait for the supervisor to bring it back and for its readiness."""
        return await_service(plan.process)
