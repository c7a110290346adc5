"""What the kinds that put one toxic on each direction of a link share; a kind adds attributes and a proof.

The toxics of a fault have names of their own, so faults on one link, also of one kind, never undo each other, and what
others put on the proxy is not touched. The traps of toxiproxy 2.12 that all of them share:

- whether a connection is spared (toxicity) is drawn for each direction of it, and again whenever toxics of its proxy
  change;
- a toxic that waits for its receiver cannot be taken away meanwhile: the API call hangs, and the undo tries again.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from chaos.handles import Handle
from chaos.kind import Parameter, Witness
from chaos.links import (
    CONTROL_S,
    DIRECTIONS,
    STREAMS,
    Exchange,
    Link,
    exchange,
    nominal_latency_s,
    probe_payload,
    put_back,
    read_link,
    undo_on,
)
from chaos.toxiproxy import Toxic, ToxiproxyServer
from harness.core.units import format_duration, parse_duration_s

MARGIN_S = 0.8
NOTICEABLE_S = 0.2
CLOSE_ENOUGH = 0.9
"""share of a delay that must be measured: toxiproxy's timers fire on whole milliseconds"""
MOST_COPIES = 512
"""of a probe at once: behind a latency toxic, which holds 1024 pieces, more would wait and pass for a slow link"""
MOST_TRIES = 200


class ToxicPlan(msgspec.Struct, frozen=True, kw_only=True):
    """The link, the toxics to add, and how long the link's own delay made a probe take before."""

    link: Link
    toxics: tuple[Toxic, ...]
    normal_s: float

    @property
    def streams(self) -> tuple[str, ...]:
        """The directions that are hit."""
        return tuple(toxic.stream for toxic in self.toxics)

    @property
    def attributes(self) -> dict[str, int]:
        """Of each of the toxics."""
        return self.toxics[0].attributes

    @property
    def toxicity(self) -> float:
        """Ratio of connections that are hit."""
        return self.toxics[0].toxicity


def _ratio(value: Any) -> float:
    try:
        ratio = float(value)
    except (TypeError, ValueError):
        ratio = 0.0
    if not 0 < ratio <= 1:
        raise ValueError(f"must be a ratio above 0, up to 1, got {value!r}")
    return ratio


TOXICITY = Parameter(_ratio, "ratio of connections that are hit, drawn for each direction of each", default=1.0)


def milliseconds(least: int, most: int) -> Callable[[Any], int]:
    """Parser of a duration, into whole milliseconds within bounds."""

    def parse(value: Any) -> int:
        number = round(parse_duration_s(value) * 1000)
        if not least <= number <= most:
            raise ValueError(f"must be from {least}ms to {most / 1000:g}s, got {value!r}")
        return number

    return parse


class ToxicKind:
    """One toxic on each direction that the fault hits."""

    name: str
    toxic_type: str
    backends: tuple[str, ...] = ("toxiproxy",)
    needs: tuple[str, ...] = ("api", "proxy")
    plan_type = ToxicPlan

    def attributes(self, params: Mapping[str, Any]) -> dict[str, int]:
        """Of the toxic, from the kind's parameters. Raises FaultError."""
        raise NotImplementedError

    def prove(self, plan: ToxicPlan, deadline: float) -> Witness:
        """Look for proof until a monotonic time. Raises OSError when the link, or its upstream, refuses."""
        raise NotImplementedError

    def plan(self, handle: Handle, params: Mapping[str, Any]) -> ToxicPlan:
        """The link as it is, and names for our toxics."""
        link, state = read_link(handle)
        attributes, mark = self.attributes(params), secrets.token_hex(4)
        toxics = tuple(
            Toxic(
                name=f"feedstorm_{self.name}_{stream}_{mark}",
                type=self.toxic_type,
                stream=stream,
                attributes=attributes,
                toxicity=params.get("toxicity", 1.0),
            )
            for stream in DIRECTIONS[params["direction"]]
        )
        normal_s = sum(nominal_latency_s(state.toxics, stream) for stream in STREAMS)
        return ToxicPlan(link=link, toxics=toxics, normal_s=normal_s)

    def inject(self, plan: ToxicPlan) -> None:
        """Add them."""
        for toxic in plan.toxics:
            plan.link.server.set_toxic(plan.link.proxy, toxic)

    def witness(self, plan: ToxicPlan, within_s: float) -> Witness:
        """What the kind takes as proof."""
        try:
            return self.prove(plan, time.monotonic() + within_s)
        except OSError as error:
            return Witness(False, f"probe of {plan.link.proxy} failed: {error}")

    def undo(self, plan: ToxicPlan) -> str:
        """None of our toxics on the proxy."""
        return undo_on(plan.link, lambda server, _: self.remove(plan, server))

    def remove(self, plan: ToxicPlan, server: ToxiproxyServer) -> str:
        """Remove our toxics, and read back. Raises FaultError."""
        ours = {toxic.name for toxic in plan.toxics}
        put_back(server, plan.link.proxy, (), lambda toxic: toxic.name in ours)
        return f"{plan.link.proxy} reads back without {self.name}"


def until_hit(plan: ToxicPlan, deadline: float, attempt: Callable[[], Witness]) -> Witness:
    """The first proof; where only a ratio of connections is hit, several are looked at."""
    tries = 1 if plan.toxicity == 1 else MOST_TRIES
    for number in range(1, tries + 1):
        seen = attempt()
        if seen.ok or number == tries or time.monotonic() >= deadline:
            break
    return seen if seen.ok or number == 1 else Witness(False, f"{seen.evidence} (the last of {number} connections)")


def prove_slower(plan: ToxicPlan, deadline: float, least_s: Callable[[int], float]) -> Witness:
    """Whether bulk takes as much longer through the link than a single probe, which shows the link's own delay.

    `least_s`: what so many bytes take one way at least, by the kind's attributes.
    """
    one, upstream, listen = probe_payload(plan.link), plan.link.upstream, plan.link.listen
    single = exchange(upstream, one, CONTROL_S)
    if not single.received:
        return Witness(False, f"the upstream {upstream} does not answer a probe: no rate can be measured")

    def expected_s(sent: int, received: int) -> float:
        bulk_s = max(least_s(sent if stream == "upstream" else received) for stream in plan.streams)
        return bulk_s - sum(least_s(len(one) if s == "upstream" else single.received) for s in plan.streams)

    copies = 1
    while expected_s(copies * len(one), copies * single.received) < NOTICEABLE_S and copies < MOST_COPIES:
        copies *= 2
    bulk = one * copies
    direct = exchange(upstream, bulk, CONTROL_S * 2)
    wanted_s = expected_s(len(bulk), direct.received) * CLOSE_ENOUGH
    if direct.end or wanted_s < NOTICEABLE_S * CLOSE_ENOUGH:
        return Witness(False, f"the upstream {upstream} answers {direct.received} bytes at most: too few to measure")
    alone = exchange(listen, one, max(deadline - time.monotonic(), 0.05), enough=single.received)
    control_s = direct.seconds + alone.seconds
    patience_s = min(deadline - time.monotonic(), 3 * (control_s + wanted_s))
    if patience_s < control_s + wanted_s:
        return Witness(False, "the hold is too short to measure a rate")
    through = exchange(listen, bulk, patience_s, enough=direct.received)
    evidence = (
        f"{len(bulk)} bytes and their reply of {direct.received} take {format_duration(through.seconds)} "
        f"through {plan.link.proxy} ({through.received} came), {format_duration(direct.seconds)} without it; "
        f"a single probe takes {format_duration(alone.seconds)}"
    )
    return Witness(not through.end and through.seconds - control_s >= wanted_s, evidence)


def prove_ended(plan: ToxicPlan, deadline: float, payload: bytes, is_hit: Callable[[Exchange], bool]) -> Witness:
    """Whether a connection through the link ends as the kind says, while the upstream itself keeps it."""
    direct = exchange(plan.link.upstream, payload, CONTROL_S)
    control = f"the upstream itself answers {direct.received} bytes and {direct.end or 'keeps the connection'}"
    if is_hit(direct) or not direct.received:
        return Witness(False, f"{control}: nothing can be told from the link")

    def attempt() -> Witness:
        left_s = max(deadline - time.monotonic(), 0.05)
        through = exchange(plan.link.listen, payload, left_s, enough=direct.received)
        got = f"a connection through {plan.link.proxy} got {through.received} bytes and "
        got += f"was {through.end} after {format_duration(through.seconds)}" if through.end else "stayed open"
        return Witness(is_hit(through), f"{got}; {control}")

    return until_hit(plan, deadline, attempt)
