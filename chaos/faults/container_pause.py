"""container-pause: all processes of a container are frozen (cgroup freezer): connections stay open, nobody answers.

No process notices, unlike with SIGSTOP: no parent is told, no signal is pending. Undo: unpause.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from chaos.containers import (
    Target,
    both,
    cut_off,
    normal_reaction,
    observed,
    process_is_gone,
    read_target,
    undo_on,
)
from chaos.docker_engine import ContainerState, DockerEngine
from chaos.handles import Handle
from chaos.kind import FaultError, Parameter, Witness
from chaos.links import Reaction


class ContainerPausePlan(msgspec.Struct, frozen=True, kw_only=True):
    """The container, and how its address reacted."""

    target: Target
    normal: Reaction | None


class ContainerPause:
    """See the module."""

    name = "container-pause"
    about = "The handle's container is frozen; it hangs with its connections open until the hold ends."
    backends: tuple[str, ...] = ("container",)
    needs: tuple[str, ...] = ("container", "ready")
    colour = "#5b3f9e"
    parameters: Mapping[str, Parameter] = {}
    plan_type = ContainerPausePlan

    def plan(self, handle: Handle, params: Mapping[str, Any]) -> ContainerPausePlan:
        """Who is frozen."""
        target, state = read_target(handle, "pause")
        if state.paused:
            raise FaultError(f"{handle.name} is already paused")
        return ContainerPausePlan(target=target, normal=normal_reaction(target))

    def inject(self, plan: ContainerPausePlan) -> None:
        """Freeze, and see it frozen."""
        plan.target.engine.pause(plan.target.id)

    def witness(self, plan: ContainerPausePlan, within_s: float) -> Witness:
        """The container is paused and its address stays silent."""

        def paused(look_s: float) -> Witness:
            return observed(plan.target, look_s, lambda state: "is paused" if state.paused else "", "paused")

        return both(within_s, paused, lambda s: cut_off(plan.target, plan.normal, s))

    def undo(self, plan: ContainerPausePlan) -> str:
        """Not paused; one that was started anew since, or that ended with its engine, needs nothing."""

        def change(engine: DockerEngine, state: ContainerState) -> str:
            if not plan.target.is_same_life(state):
                return f"container {plan.target.name} was started anew since: this pause is over"
            engine.unpause(plan.target.id)
            return f"container {plan.target.name} reads back as not paused"

        try:
            return undo_on(plan.target, change)
        except FaultError:
            if process_is_gone(plan.target):
                return f"container {plan.target.name} ended with its engine: nobody is paused"
            raise
