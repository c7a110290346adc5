"""container-restart: a container is stopped and started at once, as a careless deployment does. Undo: it serves."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from chaos.containers import Target, awake, bring_back, observed, parse_grace_s, read_target, require_kept
from chaos.docker_engine import ContainerState
from chaos.handles import Handle
from chaos.kind import Parameter, Witness

DEFAULT_GRACE_S = 10


class ContainerRestartPlan(msgspec.Struct, frozen=True, kw_only=True):
    """The container, and how long it may take to end."""

    target: Target
    grace_s: int


class ContainerRestart:
    """See the module."""

    name = "container-restart"
    about = "The handle's container is stopped (SIGKILL after `grace`) and started at once; a hold adds nothing."
    backends: tuple[str, ...] = ("container",)
    needs: tuple[str, ...] = ("container", "ready")
    colour = "#6b8f23"
    parameters: Mapping[str, Parameter] = {
        "grace": Parameter(parse_grace_s, "whole seconds it has to end by itself, such as 3s", default=DEFAULT_GRACE_S),
    }
    plan_type = ContainerRestartPlan

    def plan(self, handle: Handle, params: Mapping[str, Any]) -> ContainerRestartPlan:
        """Who is restarted."""
        target, state = read_target(handle, "restart")
        require_kept(state)
        return ContainerRestartPlan(target=target, grace_s=params["grace"])

    def inject(self, plan: ContainerRestartPlan) -> None:
        """Restart it, and see that it was; takes up to the grace."""
        awake(plan.target).restart(plan.target.id, plan.grace_s)

    def witness(self, plan: ContainerRestartPlan, within_s: float) -> Witness:
        """It was started later than before the fault."""

        def effect(state: ContainerState) -> str:
            if plan.target.is_same_life(state) or not state.running:
                return ""
            return f"was started at {state.started_at}, before the fault at {plan.target.started_at}"

        return observed(plan.target, within_s, effect, "started anew")

    def undo(self, plan: ContainerRestartPlan) -> str:
        """It runs and serves, also when the restart broke off half way."""
        return bring_back(plan.target)
