"""latency: the one-way delay of a link is set to a value, both ways, and put back as it was.

A link that already carries a delay (a simulated WAN) has it raised in place; another one gets a toxic of ours.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import msgspec

from chaos.handles import Handle
from chaos.kind import FaultError, Parameter, Witness
from chaos.links import STREAMS, Link, Reaction, nominal_latency_s, probe, probe_payload, put_back, read_link, undo_on
from chaos.toxiproxy import ProxyState, Toxic, ToxiproxyServer
from harness.core.units import format_duration, parse_duration_s

OWN = "feedstorm_latency"
LONGEST_S = 30.0
CLOSE_ENOUGH = 0.9
"""share of the delay that must be measured: toxiproxy's timers fire on whole milliseconds"""
JITTER_SAMPLES = 5
CONTROL_S = 0.5


class LatencyPlan(msgspec.Struct, frozen=True, kw_only=True):
    """The link, its latency toxics before, and the new delay."""

    link: Link
    before: tuple[Toxic, ...]
    latency_ms: int
    jitter_ms: int


def _delay_ms(value: Any) -> int:
    milliseconds = round(parse_duration_s(value) * 1000)
    if not 1 <= milliseconds <= LONGEST_S * 1000:
        raise ValueError(f"must be from 1ms to {LONGEST_S:g}s, got {value!r}")
    return milliseconds


class Latency:
    """See the module."""

    name = "latency"
    about = "The link's one-way delay is set to `latency`, in both directions."
    backends: tuple[str, ...] = ("toxiproxy",)
    needs: tuple[str, ...] = ("api", "proxy")
    colour = "#2d7fb8"
    parameters: Mapping[str, Parameter] = {
        "latency": Parameter(_delay_ms, "one-way delay, such as 400ms", required=True),
        "jitter": Parameter(_delay_ms, "the delay varies evenly by up to this much either way", default=0),
    }
    plan_type = LatencyPlan

    def plan(self, handle: Handle, params: Mapping[str, Any]) -> LatencyPlan:
        """What the link's delay is now."""
        link, state = read_link(handle)
        if params["jitter"] > params["latency"]:
            raise FaultError(f"jitter ({params['jitter']} ms) must not exceed latency ({params['latency']} ms)")
        before = tuple(t for t in state.toxics if t.type == "latency")
        present_ms = max(nominal_latency_s(before, stream) for stream in STREAMS) * 1000
        if params["latency"] < present_ms:
            raise FaultError(f"{handle.name} already has {present_ms:g} ms: latency would lower it")
        return LatencyPlan(link=link, before=before, latency_ms=params["latency"], jitter_ms=params["jitter"])

    def inject(self, plan: LatencyPlan) -> None:
        """Raise the first latency toxic of each stream, silence others."""
        wanted = {"latency": plan.latency_ms, "jitter": plan.jitter_ms}
        for stream in STREAMS:
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
    crossings = 2 if through[0].data else 1
    added_s = min(r.seconds for r in through) - direct.seconds
    before_s = sum(nominal_latency_s(plan.before, stream) for stream in ("upstream", "downstream")[:crossings])
    least_s = crossings * (plan.latency_ms - plan.jitter_ms) / 1000 * CLOSE_ENOUGH
    spread_s = max(r.seconds for r in through) - min(r.seconds for r in through)
    evidence = (
        f"the link adds {format_duration(added_s)} {'there and back' if crossings == 2 else 'one way'} "
        f"(was set to {format_duration(before_s)}): {format_duration(through[0].seconds)} through the proxy, "
        f"{format_duration(direct.seconds)} without"
    )
    if plan.jitter_ms:
        evidence += f"; {len(through)} probes spread over {format_duration(spread_s)}"
        return Witness(added_s >= least_s and spread_s >= 0.2 * plan.jitter_ms / 1000, evidence)
    return Witness(added_s >= least_s and added_s > before_s * 1.05, evidence)
