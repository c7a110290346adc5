"""down: nobody listens on a link: connections through it break, and new ones are refused."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from chaos.addresses import connect, wait_until
from chaos.handles import Handle
from chaos.kind import FaultError, Parameter, Witness
from chaos.links import Link, read_link, undo_on
from chaos.toxiproxy import ProxyState, ToxiproxyServer


class DownPlan(msgspec.Struct, frozen=True):
    """The link, which was up."""

    link: Link


class Down:
    """See the module."""

    name = "down"
    about = "The link's proxy stops listening: connections through it break, new ones are refused."
    backends: tuple[str, ...] = ("toxiproxy",)
    needs: tuple[str, ...] = ("api", "proxy")
    colour = "#333f50"
    parameters: Mapping[str, Parameter] = {}
    plan_type = DownPlan

    def plan(self, handle: Handle, params: Mapping[str, Any]) -> DownPlan:
        """A link that is up."""
        return DownPlan(read_link(handle)[0])

    def inject(self, plan: DownPlan) -> None:
        """Disable the proxy."""
        plan.link.server.set_enabled(plan.link.proxy, is_enabled=False)

    def witness(self, plan: DownPlan, within_s: float) -> Witness:
        """The link refuses, while the upstream accepts, and toxiproxy lives: with it all links would be down."""
        if why := _refusal(plan.link.upstream):
            return Witness(False, f"the upstream {plan.link.upstream} itself {why}")
        refused = wait_until(lambda: bool(_refusal(plan.link.listen)), within_s)
        how = _refusal(plan.link.listen) or "accepts connections"
        try:
            plan.link.server.proxy(plan.link.proxy)
        except FaultError as error:
            return Witness(False, f"{plan.link.proxy} {how}, but so do others: {error}")
        return Witness(refused, f"{plan.link.proxy} {how}; the upstream itself accepts")

    def undo(self, plan: DownPlan) -> str:
        """Enabled again, with the toxics it has."""

        def change(server: ToxiproxyServer, state: ProxyState) -> str:
            server.set_enabled(state.name, is_enabled=True)
            return f"{state.name} reads back as enabled"

        return undo_on(plan.link, change)


def _refusal(address: str) -> str:
    """How the address refuses; empty when it accepts."""
    try:
        connect(f"tcp://{address}").close()
    except TimeoutError:
        return "does not answer"
    except OSError as error:
        return f"refuses connections ({error.strerror})"
    return ""
