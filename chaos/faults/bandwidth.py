"""bandwidth: each connection through a link carries so many bytes a second and no more; what is sent too fast waits."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from chaos.kind import Parameter, Witness
from chaos.links import DIRECTION
from chaos.toxics import ToxicKind, ToxicPlan, prove_slower
from harness.core.units import parse_size_bytes


def _kilobytes_per_s(value: Any) -> int:
    amount, _, unit = value.rpartition("/") if isinstance(value, str) else ("", "", "")
    try:
        size = parse_size_bytes(amount) if unit.strip() == "s" else 0
    except ValueError:
        size = 0
    if size < 1000 or size % 1000:  # toxiproxy counts whole kilobytes, and 0 means no limit
        raise ValueError(f"must be whole kilobytes a second such as 100kB/s, at least 1kB/s, got {value!r}")
    return size // 1000


class Bandwidth(ToxicKind):
    """See the module."""

    name = "bandwidth"
    about = "Each connection through the link carries at most `rate`, such as 100kB/s (kilobytes of 1000 bytes)."
    colour = "#1b9e9b"
    toxic_type = "bandwidth"
    parameters: Mapping[str, Parameter] = {
        "rate": Parameter(_kilobytes_per_s, "of each connection and direction, such as 100kB/s", required=True),
        "direction": DIRECTION,
    }

    def attributes(self, params: Mapping[str, Any]) -> dict[str, int]:
        """kB/s."""
        return {"rate": params["rate"]}

    def prove(self, plan: ToxicPlan, deadline: float) -> Witness:
        """Bulk takes as long as the rate says."""
        bytes_per_s = plan.attributes["rate"] * 1000
        return prove_slower(plan, deadline, lambda size: size / bytes_per_s)
