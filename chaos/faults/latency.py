"""latency: the one-way delay of a link is set to a value, both ways or one way, and put back as it was.

A link that already carries a delay (a simulated WAN) has it raised in place; another one gets a toxic of ours.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import msgspec

from chaos.handles import Handle
from chaos.kind import FaultError, Parameter, Witness
from chaos.links import (
    CONTROL_S,
    DIRECTION,
    DIRECTIONS,
    Link,
    Reaction,
    nominal_latency_s,
    probe,
    probe_payload,
    put_back,
    read_link,
    undo_on,
)
from chaos.toxics import CLOSE_ENOUGH, milliseconds
from chaos.toxiproxy import ProxyState, Toxic, ToxiproxyServer
from harness.core.units import format_duration

OWN = "feedstorm_latency"
LONGEST_MS = 30_000
JITTER_SAMPLES = 5


class LatencyPlan(msgspec.Struct, frozen=True, kw_only=True):
    """The link, its latency toxics before, and the new delay of some directions."""

    link: Link
    before: tuple[Toxic, ...]
    streams: tuple[str, ...]
    latency_ms: int
    jitter_ms: int


class Latency:
    """See the module."""

    name = "latency"
    about = "The link's one-way delay is set to `latency`, in both directions or one."
    backends: tuple[str, ...] = ("toxiproxy",)
    needs: tuple[str, ...] = ("api", "proxy")
    colour = "#2d7fb8"
    parameters: Mapping[str, Parameter] = {
        "latency": Parameter(milliseconds(1, LONGEST_MS), "one-way delay, such as 400ms", required=True),
        "jitter": Parameter(milliseconds(1, LONGEST_MS), "varies the delay by up to this much either way", default=0),
        "direction": DIRECTION,
    }
    plan_type = LatencyPlan

    def plan(self, handle: Handle, params: Mapping[str, Any]) -> LatencyPlan:
        """What the link's delay is now."""
        link, state = read_link(handle)
        if params["jitter"] > params["latency"]:
            raise FaultError(f"jitter ({params['jitter']} ms) must not exceed latency ({params['latency']} ms)")
        before = tuple(t for t in state.toxics if t.type == "latency")
        streams = DIRECTIONS[params["direction"]]
        present_ms = max(nominal_latency_s(before, stream) for stream in streams) * 1000
        if params["latency"] < present_ms:
            raise FaultError(f"{handle.name} already has {present_ms:g} ms: latency would lower it")
        delay = {"latency_ms": params["latency"], "jitter_ms": params["jitter"]}
        return LatencyPlan(link=link, before=before, streams=streams, **delay)

    def inject(self, plan: LatencyPlan) -> None:
        """Raise the first latency toxic of each direction, silence others."""
        wanted = {"latency": plan.latency_ms, "jitter": plan.jitter_ms}
        for stream in plan.streams:
            own = Toxic(name=f"{OWN}_{stream}", type="latency", stream=stream)
            first, *others = [t for t in plan.before if t.stream == stream] or [own]
            plan.link.server.set_toxic(plan.link.proxy, msgspec.structs.replace(first, attributes=wanted, toxicity=1.0))
            for toxic in others:
                silent = msgspec.structs.replace(toxic, attributes={"latency": 0, "jitter": 0})
                plan.link.server.set_toxic(plan.link.proxy, silent)

    def witness(self, plan: LatencyPlan, within_s: float) -> Witness:
        """A probe takes as much longer through the link as the new delay says."""
        try:
            return _measure(plan, within_s)
        except OSError as error:
            return Witness(False, f"probe of {plan.link.proxy} failed: {error}")

    def undo(self, plan: LatencyPlan) -> str:
        """The recorded toxics again, and none of ours."""

        def change(server: ToxiproxyServer, state: ProxyState) -> str:
            put_back(server, state.name, plan.before, lambda t: t.name.startswith(OWN))
            values = ", ".join(f"{t.name} {t.attributes.get('latency', 0)} ms" for t in plan.before) or "no delay"
            return f"{state.name} reads back as before: {values}"

        return undo_on(plan.link, change)


def _measure(plan: LatencyPlan, within_s: float) -> Witness:
    payload = probe_payload(plan.link)
    deadline = time.monotonic() + within_s
    direct = probe(plan.link.upstream, payload, min(within_s, CONTROL_S), half_close=False)
    half_close = direct is None  # an upstream that does not answer the probe may still answer the end of input
    if half_close:
        direct = probe(plan.link.upstream, payload, min(within_s, CONTROL_S), half_close=True)
    if direct is None:
        return Witness(False, f"the upstream {plan.link.upstream} does not react to a probe: no delay can be measured")
    through: list[Reaction] = []
    while len(through) < (JITTER_SAMPLES if plan.jitter_ms else 1):
        reaction = probe(plan.link.listen, payload, max(deadline - time.monotonic(), 0.05), half_close=half_close)
        if reaction is None:
            break
        through.append(reaction)
    if not through:
        return Witness(False, f"a probe got no reaction through {plan.link.proxy} within {format_duration(within_s)}")
    return _weigh(plan, direct, through)


def _weigh(plan: LatencyPlan, direct: Reaction, through: list[Reaction]) -> Witness:
    """Whether the measured delays are those of the fault: a reply with data crosses the link twice, a close once."""
    crossed = ("upstream", "downstream") if through[0].data else ("upstream",)
    if not set(crossed) & set(plan.streams):
        return Witness(False, f"the upstream {plan.link.upstream} answers without data: that way nothing can be timed")
    added_s = min(r.seconds for r in through) - direct.seconds
    before_s = sum(nominal_latency_s(plan.before, stream) for stream in crossed)
    set_s = (plan.latency_ms - plan.jitter_ms) / 1000
    least_s = sum(set_s if s in plan.streams else nominal_latency_s(plan.before, s) for s in crossed) * CLOSE_ENOUGH
    spread_s = max(r.seconds for r in through) - min(r.seconds for r in through)
    evidence = (
        f"the link adds {format_duration(added_s)} {'there and back' if through[0].data else 'one way'} "
        f"(was set to {format_duration(before_s)}): {format_duration(through[0].seconds)} through the proxy, "
        f"{format_duration(direct.seconds)} without"
    )
    if plan.jitter_ms:
        evidence += f"; {len(through)} probes spread over {format_duration(spread_s)}"
        return Witness(added_s >= least_s and spread_s >= 0.2 * plan.jitter_ms / 1000, evidence)
    return Witness(added_s >= least_s and added_s > before_s * 1.05, evidence)
