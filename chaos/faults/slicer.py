"""slicer: what flows through a link arrives in small pieces with pauses between them: half a frame, then the rest.

A trap of toxiproxy's slicer: interrupted, it hands on what is left of its data, and when the receiver has just gone it
waits for ever, with the whole server's list of toxics locked. So the undo ends the link's connections first, by
disabling the proxy for a moment.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from chaos.kind import FaultError, Parameter, Witness
from chaos.links import DIRECTION, undo_on
from chaos.toxics import ToxicKind, ToxicPlan, milliseconds, prove_slower
from chaos.toxiproxy import ProxyState, ToxiproxyServer
from harness.core.units import parse_size_bytes

LONGEST_MS = 500
SETTLE_S = 0.1
"""for connections to be forgotten, beside two pauses between pieces"""


def _size(value: Any) -> int:
    size = parse_size_bytes(value)
    if size < 1:
        raise ValueError(f"must be at least 1B, got {value!r}")
    return size


class Slicer(ToxicKind):
    """See the module."""

    name = "slicer"
    about = "Data arrives in pieces of about `size`, with `delay` after each."
    colour = "#7a9a01"
    toxic_type = "slicer"
    parameters: Mapping[str, Parameter] = {
        "size": Parameter(_size, "of a piece on average, such as 64B", required=True),
        "variation": Parameter(_size, "pieces are larger or smaller by up to this much; less than `size`", default=0),
        "delay": Parameter(milliseconds(1, LONGEST_MS), "after each piece, such as 5ms", default=10),
        "direction": DIRECTION,
    }

    def attributes(self, params: Mapping[str, Any]) -> dict[str, int]:
        """Bytes, and microseconds."""
        if params["variation"] >= params["size"]:  # toxiproxy would cut pieces of negative length
            raise FaultError(f"variation ({params['variation']} B) must be less than size ({params['size']} B)")
        return {
            "average_size": params["size"],
            "size_variation": params["variation"],
            "delay": params["delay"] * 1000,
        }

    def prove(self, plan: ToxicPlan, deadline: float) -> Witness:
        """Bulk takes as long as its pauses together."""
        largest = plan.attributes["average_size"] + plan.attributes["size_variation"]
        delay_s = plan.attributes["delay"] / 1e6
        return prove_slower(plan, deadline, lambda size: max(size / largest - 1, 0) * delay_s)

    def undo(self, plan: ToxicPlan) -> str:
        """None of our toxics on the proxy; its connections are broken."""

        def change(server: ToxiproxyServer, state: ProxyState) -> str:
            if any(state.toxic(toxic.name) for toxic in plan.toxics):
                server.set_enabled(state.name, is_enabled=False)
                time.sleep(SETTLE_S + 2 * plan.attributes["delay"] / 1e6)
            try:
                return self.remove(plan, server)
            finally:
                server.set_enabled(state.name, is_enabled=True)

        return undo_on(plan.link, change)
