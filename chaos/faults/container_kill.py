"""container-kill: SIGKILL to a container, which then stays down until the undo.

Its restart policy does not bring it back: to the engine, a kill is a wish of its operator. The undo starts it and waits
until it serves.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from chaos.containers import (
    Target,
    awake,
    both,
    bring_back,
    cut_off,
    is_down,
    normal_reaction,
    read_target,
    require_kept,
)
from chaos.handles import Handle
from chaos.kind import Parameter, Witness
from chaos.links import Reaction


class ContainerKillPlan(msgspec.Struct, frozen=True, kw_only=True):
    """The container, and how its address reacted."""

    target: Target
    normal: Reaction | None


class ContainerKill:
    """See the module."""

    name = "container-kill"
    about = "SIGKILL to the handle's container; it stays down for the hold, then it is started again."
    backends: tuple[str, ...] = ("container",)
    needs: tuple[str, ...] = ("container", "ready")
    colour = "#a3123a"
    parameters: Mapping[str, Parameter] = {}
    plan_type = ContainerKillPlan

    def plan(self, handle: Handle, params: Mapping[str, Any]) -> ContainerKillPlan:
        """Who dies."""
        target, state = read_target(handle, "kill")
        require_kept(state)
        return ContainerKillPlan(target=target, normal=normal_reaction(target))

    def inject(self, plan: ContainerKillPlan) -> None:
        """SIGKILL, and see it down."""
        awake(plan.target).kill(plan.target.id)

    def witness(self, plan: ContainerKillPlan, within_s: float) -> Witness:
        """The container is down and its address refuses."""
        target, normal = plan.target, plan.normal
        return both(within_s, lambda s: is_down(target, s), lambda s: cut_off(target, normal, s))

    def undo(self, plan: ContainerKillPlan) -> str:
        """Started again, and serving."""
        return bring_back(plan.target)
