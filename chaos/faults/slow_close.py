"""slow-close: the end of a connection is passed on late, so each side holds on to what the other has long let go."""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Mapping
from typing import Any

from chaos.kind import Parameter, Witness
from chaos.links import CONTROL_S, DIRECTION, READ_BYTES, probe_payload
from chaos.toxics import CLOSE_ENOUGH, MARGIN_S, TOXICITY, ToxicKind, ToxicPlan, milliseconds, until_hit
from harness.core.units import format_duration

LONGEST_MS = 60_000


class SlowClose(ToxicKind):
    """See the module."""

    name = "slow-close"
    about = "The end of a connection crosses the link `delay` later, in each direction."
    colour = "#5b6f8f"
    toxic_type = "slow_close"
    parameters: Mapping[str, Parameter] = {
        "delay": Parameter(milliseconds(1, LONGEST_MS), "until an end is passed on, such as 2s", required=True),
        "direction": DIRECTION,
        "toxicity": TOXICITY,
    }

    def attributes(self, params: Mapping[str, Any]) -> dict[str, int]:
        """Milliseconds."""
        return {"delay": params["delay"]}

    def prove(self, plan: ToxicPlan, deadline: float) -> Witness:
        """After our end of input, the other side's end comes that much later than without the proxy."""
        payload, delay_s = probe_payload(plan.link), plan.attributes["delay"] / 1000
        direct_s = _closing_s(plan.link.upstream, payload, CONTROL_S)
        if direct_s is None:
            return Witness(False, f"the upstream {plan.link.upstream} does not close when its client does")
        longest_s = plan.normal_s + len(plan.streams) * delay_s + direct_s + MARGIN_S
        if deadline - time.monotonic() < plan.normal_s + direct_s + delay_s:
            return Witness(False, "the hold is too short to see a close arrive late")

        def attempt() -> Witness:
            took_s = _closing_s(plan.link.listen, payload, min(longest_s, max(deadline - time.monotonic(), 0.05)))
            if took_s is None:
                return Witness(False, f"no end came through {plan.link.proxy}")
            seen = f"the end came through {plan.link.proxy} after {format_duration(took_s)}"
            late = took_s - direct_s >= delay_s * CLOSE_ENOUGH
            return Witness(late, f"{seen}, without it after {format_duration(direct_s)}")

        return until_hit(plan, deadline, attempt)


def _closing_s(address: str, payload: bytes, timeout_s: float) -> float | None:
    """Seconds from the end of our input, sent after the reply has begun, to the end of theirs; None: not in time."""
    host, _, port = address.rpartition(":")
    with socket.create_connection((host, int(port)), timeout=timeout_s) as sock:
        sock.sendall(payload)
        with contextlib.suppress(ConnectionError):
            try:
                sock.recv(READ_BYTES)
                sock.shutdown(socket.SHUT_WR)
                began = time.monotonic()
                while sock.recv(READ_BYTES):
                    pass
            except TimeoutError:
                return None
        return time.monotonic() - began
