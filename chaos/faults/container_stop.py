"""container-stop: a container is stopped as an operator would: its stop signal, SIGKILL after a grace. Undo: start."""

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
    parse_grace_s,
    read_target,
    require_kept,
)
from chaos.handles import Handle
from chaos.kind import Parameter, Witness
from chaos.links import Reaction

DEFAULT_GRACE_S = 10


class ContainerStopPlan(msgspec.Struct, frozen=True, kw_only=True):
    """The container, how its address reacted, and how long it may take to end."""

    target: Target
    normal: Reaction | None
    grace_s: int


class ContainerStop:
    """See the module."""

    name = "container-stop"
    about = "The handle's container gets its stop signal, SIGKILL after `grace`, and stays down for the hold."
    backends: tuple[str, ...] = ("container",)
    needs: tuple[str, ...] = ("container", "ready")
    colour = "#d77a8c"
    parameters: Mapping[str, Parameter] = {
        "grace": Parameter(parse_grace_s, "whole seconds it has to end by itself, such as 3s", default=DEFAULT_GRACE_S),
    }
    plan_type = ContainerStopPlan

    def plan(self, handle: Handle, params: Mapping[str, Any]) -> ContainerStopPlan:
        """Who is stopped."""
        target, state = read_target(handle, "stop")
        require_kept(state)
        return ContainerStopPlan(target=target, normal=normal_reaction(target), grace_s=params["grace"])

    def inject(self, plan: ContainerStopPlan) -> None:
        """Stop it, and see it down; takes up to the grace."""
        awake(plan.target).stop(plan.target.id, plan.grace_s)

    def witness(self, plan: ContainerStopPlan, within_s: float) -> Witness:
        """The container is down and its address refuses."""
        target, normal = plan.target, plan.normal
        return both(within_s, lambda s: is_down(target, s), lambda s: cut_off(target, normal, s))

    def undo(self, plan: ContainerStopPlan) -> str:
        """Started again, and serving."""
        return bring_back(plan.target)
