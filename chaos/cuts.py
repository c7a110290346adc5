"""Cut links: a black hole on one link, or on several at once with one plan, one witness and one undo for all.

A toxiproxy `timeout` toxic with timeout 0 does that to connections old and new; a disabled proxy would refuse, which a
cut cable does not. When the toxic goes, toxiproxy closes the connections that lost bytes, so no stream goes on with a
hole in it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import msgspec

from chaos.handles import Handle, RegionLink
from chaos.kind import FaultError, Witness
from chaos.links import CONTROL_S, STREAMS, probe, probe_payload
from chaos.toxics import MARGIN_S, ToxicKind, ToxicPlan
from harness.core.units import format_duration

MOST_AT_ONCE = 16
ResultT = TypeVar("ResultT")


class BlackHole(ToxicKind):
    """One link drops every byte."""

    name = "partition"
    toxic_type = "timeout"

    def attributes(self, params: Mapping[str, Any]) -> dict[str, int]:
        """Never closes by itself."""
        return {"timeout": 0}

    def prove(self, plan: ToxicPlan, deadline: float) -> Witness:
        """No byte of a reply comes through, while the upstream itself answers."""
        upstream, payload = plan.link.upstream, probe_payload(plan.link)
        direct = probe(upstream, payload, CONTROL_S, half_close=False)
        if direct is None:
            return Witness(False, f"the upstream {upstream} does not react to a probe: silence proves nothing")
        if not direct.data and plan.streams != STREAMS:
            return Witness(False, f"the upstream {upstream} answers a probe without data: silence proves nothing")
        enough_s = plan.normal_s + direct.seconds + MARGIN_S
        if deadline - time.monotonic() < enough_s:
            return Witness(False, "the hold is too short to prove silence")
        through = probe(plan.link.listen, payload, enough_s, half_close=False)
        control = f"the upstream itself reacts in {format_duration(direct.seconds)}"
        if through is None or (direct.data and not through.data):
            silence = f"no byte came through {plan.link.proxy} in {format_duration(enough_s)}"
            return Witness(True, f"{silence}; {control}")
        passed = f"a reply came through {plan.link.proxy} after {format_duration(through.seconds)}"
        return Witness(False, f"{passed}; {control}")


_BLACK_HOLE = BlackHole()


class CutPlan(msgspec.Struct, frozen=True):
    """The links to cut."""

    cuts: tuple[ToxicPlan, ...]


class NetworkCut:
    """Several links between regions are cut, both ways; a kind says which."""

    backends: tuple[str, ...] = ("network",)
    needs: tuple[str, ...] = ("api", "links")
    plan_type = CutPlan

    def cut(self, links: Sequence[RegionLink], params: Mapping[str, Any]) -> list[RegionLink]:
        """Those that carry nothing while the fault is active. Raises FaultError when that makes no sense here."""
        raise NotImplementedError

    def plan(self, handle: Handle, params: Mapping[str, Any]) -> CutPlan:
        """Those links as they are."""
        chosen = self.cut(handle.links, params)
        return CutPlan(tuple(_BLACK_HOLE.plan(handle.of_link(link), {"direction": "both"}) for link in chosen))

    def inject(self, plan: CutPlan) -> None:
        """Cut them, all at the same time."""
        _each(_BLACK_HOLE.inject, plan)

    def witness(self, plan: CutPlan, within_s: float) -> Witness:
        """None of them carries anything."""
        seen = _each(lambda cut: _BLACK_HOLE.witness(cut, within_s), plan)
        if failed := [witness.evidence for witness in seen if not witness.ok]:
            return Witness(False, "; ".join(failed))
        return Witness(True, f"{len(seen)} links are cut: " + "; ".join(witness.evidence for witness in seen))

    def undo(self, plan: CutPlan) -> str:
        """Heal each of them, also when others cannot be."""
        left: list[str] = []

        def heal(cut: ToxicPlan) -> str:
            try:
                return _BLACK_HOLE.undo(cut)
            except (FaultError, OSError) as error:
                left.append(f"{cut.link.proxy}: {error}")
                return ""

        told = _each(heal, plan)
        if left:
            raise FaultError("; ".join(left))
        return "; ".join(told)


def regions_of(links: Sequence[RegionLink]) -> list[str]:
    """All regions that the links join, in the order of their first mention."""
    return list(dict.fromkeys(region for link in links for region in link.regions))


def _each(work: Callable[[ToxicPlan], ResultT], plan: CutPlan) -> list[ResultT]:
    with ThreadPoolExecutor(MOST_AT_ONCE, thread_name_prefix="cut") as pool:
        return list(pool.map(work, plan.cuts))
