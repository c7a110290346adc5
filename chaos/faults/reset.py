"""reset: the first data on a connection breaks it: both ends get a TCP reset, and the data is lost.

Traps of toxiproxy's `reset_peer`: only connections opened while the fault is active are reset; older ones lose their
next data too, but end in order. Those that a `toxicity` below 1 spares also end by a reset when their time has come,
which is seen by whoever reads on after the last byte. And while a connection waits for its reset, the toxic cannot be
taken away: so `after` is shorter than an API call may take.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from chaos.kind import Parameter, Witness
from chaos.links import DIRECTION, probe_payload
from chaos.toxics import TOXICITY, ToxicKind, ToxicPlan, milliseconds, prove_ended

LONGEST_MS = 2000


class Reset(ToxicKind):
    """See the module."""

    name = "reset"
    about = "Connections opened through the link are reset `after` their first data, which is lost."
    colour = "#b3123f"
    toxic_type = "reset_peer"
    parameters: Mapping[str, Parameter] = {
        "after": Parameter(milliseconds(0, LONGEST_MS), "from the first data to the reset, such as 100ms", default=0),
        "direction": DIRECTION,
        "toxicity": TOXICITY,
    }

    def attributes(self, params: Mapping[str, Any]) -> dict[str, int]:
        """Milliseconds."""
        return {"timeout": params["after"]}

    def prove(self, plan: ToxicPlan, deadline: float) -> Witness:
        """A probe is answered by a reset, and by no byte."""
        payload = probe_payload(plan.link)
        return prove_ended(plan, deadline, payload, lambda seen: seen.end == "reset" and not seen.received)
