"""partition: a link becomes a black hole. Bytes vanish, connections stay open, new ones open and stay silent.

A toxiproxy `timeout` toxic with timeout 0 does that to connections old and new; a disabled proxy would refuse, which a
cut cable does not. When the toxic goes, toxiproxy closes the connections that lost bytes, so no stream goes on with a
hole in it.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import msgspec

from chaos.handles import Handle
from chaos.kind import Parameter, Witness
from chaos.links import STREAMS, Link, nominal_latency_s, probe, probe_payload, put_back, read_link, undo_on
from chaos.toxiproxy import ProxyState, Toxic, ToxiproxyServer
from harness.core.units import format_duration

OWN = "feedstorm_partition"
CONTROL_S = 0.5
MARGIN_S = 0.8
LONGEST_SILENCE_S = 3.0
DIRECTIONS = {"both": STREAMS, "one-way": ("downstream",)}


class PartitionPlan(msgspec.Struct, frozen=True, kw_only=True):
    """The link, the streams to cut, and how long a probe took before by the link's own delay."""

    link: Link
    streams: tuple[str, ...]
    normal_s: float


def _direction(value: Any) -> str:
    if value not in DIRECTIONS:
        raise ValueError(f"must be one of {', '.join(DIRECTIONS)}, got {value!r}")
    return str(value)


class Partition:
    """See the module."""

    name = "partition"
    about = "The link drops every byte; connections stay open until it heals."
    backends: tuple[str, ...] = ("toxiproxy",)
    needs: tuple[str, ...] = ("api", "proxy")
    colour = "#d2601a"
    parameters: Mapping[str, Parameter] = {
        "direction": Parameter(
            _direction,
            '"both", or "one-way": only what flows from the link\'s first region to its second',
            default="both",
        ),
    }
    plan_type = PartitionPlan

    def plan(self, handle: Handle, params: Mapping[str, Any]) -> PartitionPlan:
        """The link as it is."""
        link, state = read_link(handle)
        normal_s = sum(nominal_latency_s(state.toxics, stream) for stream in STREAMS)
        return PartitionPlan(link=link, streams=DIRECTIONS[params["direction"]], normal_s=normal_s)

    def inject(self, plan: PartitionPlan) -> None:
        """A black hole on each stream."""
        for stream in plan.streams:
            hole = Toxic(name=f"{OWN}_{stream}", type="timeout", stream=stream, attributes={"timeout": 0})
            plan.link.server.set_toxic(plan.link.proxy, hole)

    def witness(self, plan: PartitionPlan, within_s: float) -> Witness:
        """No byte of a reply comes through, while the upstream itself answers."""
        try:
            return _silence(plan, within_s)
        except OSError as error:
            return Witness(False, f"probe of {plan.link.proxy} failed: {error}")

    def undo(self, plan: PartitionPlan) -> str:
        """None of our toxics on the proxy."""

        def change(server: ToxiproxyServer, state: ProxyState) -> str:
            put_back(server, state.name, (), lambda t: t.name.startswith(OWN))
            return f"{state.name} reads back without the black hole"

        return undo_on(plan.link, change)


def _silence(plan: PartitionPlan, within_s: float) -> Witness:
    payload = probe_payload(plan.link)
    began = time.monotonic()
    direct = probe(plan.link.upstream, payload, CONTROL_S, half_close=False)
    if direct is None:
        return Witness(False, f"the upstream {plan.link.upstream} does not react to a probe: silence proves nothing")
    if not direct.data and plan.streams != STREAMS:
        return Witness(False, f"the upstream {plan.link.upstream} answers a probe without data: silence proves nothing")
    enough_s = plan.normal_s + direct.seconds + MARGIN_S
    left_s = min(within_s, LONGEST_SILENCE_S) - (time.monotonic() - began)
    if left_s < enough_s:
        return Witness(False, f"a hold of {format_duration(within_s)} is too short to prove silence")
    through = probe(plan.link.listen, payload, enough_s, half_close=False)
    control = f"the upstream itself reacts in {format_duration(direct.seconds)}"
    silent = through is None or (direct.data and not through.data)
    if silent:
        return Witness(True, f"no byte came through {plan.link.proxy} in {format_duration(enough_s)}; {control}")
    assert through is not None
    return Witness(False, f"a reply came through {plan.link.proxy} after {format_duration(through.seconds)}; {control}")
