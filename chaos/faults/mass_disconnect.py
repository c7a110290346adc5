"""mass-disconnect: all streams of an edge node are cut at once; the node stays up. There is nothing to undo.

The kernel aborts the accepted connections of the handle's own processes, so no proxy has to be in the path, and both
ends see what a failing machine in between would let them see: a reset. Needs root.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

import msgspec

from chaos.addresses import wait_until
from chaos.connections import Connection, destroy, established, sockets_of
from chaos.handles import Handle
from chaos.kind import FaultError, Parameter, Witness
from chaos.processes import Identity, members, read_pid_file

SAMPLE = 200
"""connections that are looked for afterwards"""


class DisconnectPlan(msgspec.Struct, frozen=True, kw_only=True):
    """The node, the port of its streams, and who was connected before."""

    target: Identity
    port: int
    count: int
    sample: tuple[str, ...]
    """peers, HOST:PORT"""


class MassDisconnect:
    """See the module."""

    name = "mass-disconnect"
    about = "Every connection to the handle's stream port is reset at once; clients come back by themselves."
    backends: tuple[str, ...] = ("process",)
    needs: tuple[str, ...] = ("pid_file", "stream")
    colour = "#4d4d99"
    parameters: Mapping[str, Parameter] = {}
    plan_type = DisconnectPlan

    def plan(self, handle: Handle, params: Mapping[str, Any]) -> DisconnectPlan:
        """Who is connected."""
        target = read_pid_file(handle.pid_file)
        if target is None:
            raise FaultError(f"{handle.name} is not running")
        port = urlsplit(handle.stream).port or 80
        found = _accepted(target.identity, port)
        if not found:
            raise FaultError(f"{handle.name} has no connection on port {port}: nothing to cut")
        sample = tuple(connection.peer for connection in found[:SAMPLE])
        return DisconnectPlan(target=target.identity, port=port, count=len(found), sample=sample)

    def inject(self, plan: DisconnectPlan) -> None:
        """Abort all there are now."""
        destroy(_accepted(plan.target, plan.port))

    def witness(self, plan: DisconnectPlan, within_s: float) -> Witness:
        """The connections of before are gone; others may be there by now."""
        wait_until(lambda: not _left(plan), within_s)
        left = len(_left(plan))
        seen = f"{left} of {len(plan.sample)} connections seen before ({plan.count} in all) are left"
        return Witness(not left, f"port {plan.port}: {seen}; {len(_accepted(plan.target, plan.port))} connections now")

    def undo(self, plan: DisconnectPlan) -> str:
        """Nothing."""
        return "nothing to undo: clients connect again by themselves"


def _accepted(target: Identity, port: int) -> list[Connection]:
    """Connections that the node's processes have accepted on the port."""
    sockets = sockets_of(state.identity for state in members(target))
    return [found for found in established(sockets) if found.port == port]


def _left(plan: DisconnectPlan) -> set[str]:
    return set(plan.sample) & {connection.peer for connection in _accepted(plan.target, plan.port)}
