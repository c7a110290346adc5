"""limit-data: a connection through a link ends after so many bytes, in the middle of whatever it carries then.

Counts from the beginning of the fault, or of the connection when that is later.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from chaos.kind import Parameter, Witness
from chaos.links import CONTROL_S, DIRECTION, exchange, probe_payload
from chaos.toxics import MOST_COPIES, TOXICITY, ToxicKind, ToxicPlan, prove_ended
from harness.core.units import parse_size_bytes


class LimitData(ToxicKind):
    """See the module."""

    name = "limit-data"
    about = "Each connection through the link is closed after `bytes` in one direction."
    colour = "#8c564b"
    toxic_type = "limit_data"
    parameters: Mapping[str, Parameter] = {
        "bytes": Parameter(parse_size_bytes, "that pass before the end, such as 4kB", required=True),
        "direction": DIRECTION,
        "toxicity": TOXICITY,
    }

    def attributes(self, params: Mapping[str, Any]) -> dict[str, int]:
        """Bytes."""
        return {"bytes": params["bytes"]}

    def prove(self, plan: ToxicPlan, deadline: float) -> Witness:
        """A reply longer than the limit is cut off."""
        limit, one, upstream = plan.attributes["bytes"], probe_payload(plan.link), plan.link.upstream
        single = exchange(upstream, one, CONTROL_S)
        flow = max(single.received, len(one) if "upstream" in plan.streams else 0)
        if not single.received or limit // flow >= MOST_COPIES:
            return Witness(False, f"the upstream {upstream} gives no reply longer than {limit} bytes: none can be cut")
        payload = one * (limit // flow + 1)
        return prove_ended(plan, deadline, payload, lambda seen: bool(seen.end) and seen.received <= limit)
