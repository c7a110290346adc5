"""container-disconnect: a container is taken out of one of its networks, as if its cable were pulled.

Connections over that network hang or break, and published ports that lead through it refuse. The undo connects it
again with all that was asked for when it joined: aliases, fixed addresses, links, driver options. An address that the
engine chose is chosen again, and may be another.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from chaos.containers import Target, both, cut_off, normal_reaction, observed, read_target, undo_on
from chaos.docker_engine import ContainerState, DockerEngine, Endpoint
from chaos.handles import Handle
from chaos.kind import FaultError, Parameter, Witness
from chaos.links import Reaction

NO_NETWORKS = ("host", "none")


class ContainerDisconnectPlan(msgspec.Struct, frozen=True, kw_only=True):
    """The container, its place in the network, and how its address reacted."""

    target: Target
    endpoint: Endpoint
    normal: Reaction | None


class ContainerDisconnect:
    """See the module."""

    name = "container-disconnect"
    about = "The handle's container leaves a network; it joins again with its aliases and fixed addresses."
    backends: tuple[str, ...] = ("container",)
    needs: tuple[str, ...] = ("container", "ready")
    colour = "#b8541c"
    parameters: Mapping[str, Parameter] = {
        "network": Parameter(str, "name of the network to leave; needed only if it is in several", default=""),
    }
    plan_type = ContainerDisconnectPlan

    def plan(self, handle: Handle, params: Mapping[str, Any]) -> ContainerDisconnectPlan:
        """Which network, and what the container asked of it."""
        target, state = read_target(handle, "disconnect")
        endpoint = _chosen(handle, state, params["network"])
        return ContainerDisconnectPlan(target=target, endpoint=endpoint, normal=normal_reaction(target))

    def inject(self, plan: ContainerDisconnectPlan) -> None:
        """Out of the network, read back."""
        plan.target.engine.disconnect(plan.target.id, plan.endpoint)

    def witness(self, plan: ContainerDisconnectPlan, within_s: float) -> Witness:
        """The container is in the network no more, and its address refuses or stays silent."""
        name = plan.endpoint.network

        def effect(state: ContainerState) -> str:
            return f"is out of network {name}" if state.endpoint(plan.endpoint) is None else ""

        def out(look_s: float) -> Witness:
            return observed(plan.target, look_s, effect, f"out of network {name}")

        return both(within_s, out, lambda s: cut_off(plan.target, plan.normal, s))

    def undo(self, plan: ContainerDisconnectPlan) -> str:
        """In the network with the same settings; a network that is gone needs nothing."""

        def change(engine: DockerEngine, state: ContainerState) -> str:
            network = plan.endpoint.network
            if not engine.has_network(plan.endpoint.network_id):
                return f"network {network} is gone: nothing to join"
            engine.connect(plan.target.id, plan.endpoint)
            back = engine.container(plan.target.id).endpoint(plan.endpoint)
            address = back.address if back and back.address else "no address while it is down"
            return f"container {plan.target.name} is in network {network} with its settings as before ({address})"

        return undo_on(plan.target, change)


def _chosen(handle: Handle, state: ContainerState, network: str) -> Endpoint:
    endpoints = {e.network: e for e in state.endpoints if e.network not in NO_NETWORKS}
    if not endpoints:
        raise FaultError(f"{handle.name} is in no network that it could leave (host and none cannot be left)")
    if network in endpoints:
        return endpoints[network]
    if network or len(endpoints) > 1:
        wanted = f"not in network {network!r}" if network else "in several networks: name one as `network`"
        raise FaultError(f"{handle.name} is {wanted} (its networks: {', '.join(sorted(endpoints))})")
    return next(iter(endpoints.values()))
