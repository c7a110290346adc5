"""Draws a random plan: from a seed, what strikes when, as faults of a scenario's phases. Pure.

Time is cut into equal slots, as many as the rate asks for, and each slot gets one fault at an even random time: so the
number of faults is known, and no two seeds differ in how much is broken. What is drawn respects

    overlap     no more faults at once, those of the scenario's own timeline included
    one a time  never two faults on one handle at once
    fatal       never two handles at once whose loss together the target's profile calls fatal
    phases      a fault ends, `settle` included, within its phase

A slot in which nothing fits stays empty.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

import msgspec
import numpy as np

from chaos.faults import KINDS
from chaos.guard import misfits
from chaos.handles import matching, unmatched
from chaos.kind import parse_parameters
from harness.core.errors import nearest
from harness.core.random_plan import DrawnKind, RandomPlan
from harness.core.scenario import FaultSpec, Phase
from harness.core.seeds import rng

TRIES = 25
"""draws for one slot before it stays empty"""
GRAINS_PER_S = 1000
"""times are drawn to the millisecond"""
Groups = Sequence[Sequence[str]]
"""groups of handle patterns: two handles of one group must not be lost together"""


class Struck(msgspec.Struct, frozen=True):
    """A stretch of time, seconds from the first phase, in which a handle is under a fault."""

    handle: str
    start_s: float
    end_s: float

    def meets(self, other: Struck) -> bool:
        """Whether both are under their faults at some time."""
        return self.start_s < other.end_s and other.start_s < self.end_s


def plan_problems(plan: RandomPlan, phases: Sequence[Phase], handles: Collection[str]) -> list[str]:
    """What is wrong with a plan as far as names and numbers tell. `handles` empty: not known yet."""
    problems: list[str] = []
    for i, drawn in enumerate(plan.kinds):
        if drawn.kind not in KINDS:
            problems.append(f"chaos.kinds[{i}]: unknown fault kind {drawn.kind!r}{nearest(drawn.kind, KINDS)}")
        else:
            problems += [f"chaos.kinds[{i}].{p}" for p in parse_parameters(KINDS[drawn.kind], drawn.params)[1]]
    problems += [
        f"chaos.handles[{i}]: {unmatched(pattern, handles)}"
        for i, pattern in enumerate(plan.handles)
        if handles and not matching(pattern, handles)
    ]
    names = [phase.name for phase in phases]
    unknown = [name for name in plan.phases if name not in names]
    problems += [f"chaos.phases: no phase {name!r}{nearest(name, names)}" for name in unknown]
    needed_s = plan.hold.shortest_s + plan.settle_s
    problems += [
        f"chaos.hold: {plan.hold.shortest_s:g}s and {plan.settle_s:g}s to settle do not fit into phase "
        f"{phase.name} ({phase.duration_s:g}s)"
        for _, phase in _chosen(plan, phases)
        if phase.duration_s < needed_s
    ]
    return problems


def fit_problems(
    plan: RandomPlan, handles: Mapping[str, Mapping[str, Any]], allow_hosts: Collection[str] = ()
) -> list[str]:
    """Kinds and handles of a sound plan that come to nothing: no handle takes the kind, no kind the handle."""
    problems: list[str] = []
    for i, drawn in enumerate(plan.kinds):
        if not _takers(plan, drawn, handles, allow_hosts):
            problems.append(f"chaos.kinds[{i}]: {drawn.kind} fits none of the plan's handles")
    for i, pattern in enumerate(plan.handles):
        names = matching(pattern, handles)
        reasons = {
            name: [misfits(name, handles[name], KINDS[d.kind], allow_hosts) for d in plan.kinds] for name in names
        }
        if names and all(all(each) for each in reasons.values()):
            problems.append(f"chaos.handles[{i}]: {reasons[names[0]][0][0]}")
    return problems


def with_random_faults(
    plan: RandomPlan,
    phases: Sequence[Phase],
    handles: Mapping[str, Mapping[str, Any]],
    fatal: Groups = (),
    seed: int = 0,
    allow_hosts: Collection[str] = (),
) -> tuple[Phase, ...]:
    """The phases with the drawn faults beside their own. `seed` counts where the plan has none of its own.

    The same arguments give the same faults. The plan must be sound (`plan_problems`, `fit_problems`).
    """
    takers = [(d, found) for d in plan.kinds if (found := _takers(plan, d, handles, allow_hosts))]
    added: dict[int, list[FaultSpec]] = {}
    if takers:
        draw = _Draw(plan, phases, takers, _struck(plan, phases, handles), _fatal_pairs(fatal, handles))
        for phase, spec in draw.faults(rng(seed if plan.seed is None else plan.seed, "chaos")):
            added.setdefault(phase, []).append(spec)
    return tuple(
        msgspec.structs.replace(phase, faults=(*phase.faults, *added.get(i, ()))) for i, phase in enumerate(phases)
    )


class _Draw:
    """One drawing."""

    def __init__(
        self,
        plan: RandomPlan,
        phases: Sequence[Phase],
        takers: list[tuple[DrawnKind, list[str]]],
        struck: list[Struck],
        fatal: set[frozenset[str]],
    ) -> None:
        self.plan, self.takers, self.struck, self.fatal = plan, takers, struck, fatal
        self.starts_s = np.concatenate([[0.0], np.cumsum([p.duration_s for p in phases])]).tolist()
        self.chosen = _chosen(plan, phases)

    def faults(self, generator: np.random.Generator) -> Iterator[tuple[int, FaultSpec]]:
        """(number of the phase, fault) in order of slots."""
        span_s = sum(phase.duration_s for _, phase in self.chosen)
        slots = max(1, round(self.plan.rate_per_s * span_s))
        for slot in range(slots):
            for _ in range(TRIES):
                number, spec = self._one(generator, (slot + generator.random()) * span_s / slots)
                struck = self._window(number, spec)
                if self._allowed(struck):
                    self.struck.append(struck)
                    yield number, spec
                    break

    def _one(self, generator: np.random.Generator, at_s: float) -> tuple[int, FaultSpec]:
        """A fault at about `at_s` of the chosen phases' time, moved to end within its phase."""
        number, phase, at_s = self._place(at_s)
        room_s = phase.duration_s - self.plan.settle_s
        shortest_s, longest_s = self.plan.hold.shortest_s, min(self.plan.hold.longest_s, room_s)
        hold_s = max(shortest_s, _grain(shortest_s + generator.random() * (longest_s - shortest_s)))
        drawn, names = self.takers[generator.integers(len(self.takers))]
        handle = names[generator.integers(len(names))]
        at_s = max(0.0, _grain(min(at_s, room_s - hold_s)))
        return number, FaultSpec(kind=drawn.kind, handle=handle, hold_s=hold_s, at_s=at_s, params=drawn.params)

    def _place(self, at_s: float) -> tuple[int, Phase, float]:
        """The phase at a time of the chosen phases' time, and the time within it."""
        for number, phase in self.chosen[:-1]:
            if at_s < phase.duration_s:
                return number, phase, at_s
            at_s -= phase.duration_s
        return *self.chosen[-1], at_s

    def _window(self, number: int, spec: FaultSpec) -> Struck:
        start_s = self.starts_s[number] + spec.at_s
        return Struck(spec.handle, start_s, start_s + spec.hold_s + self.plan.settle_s)

    def _allowed(self, new: Struck) -> bool:
        beside = [other for other in self.struck if other.meets(new)]
        if any(o.handle == new.handle or frozenset((o.handle, new.handle)) in self.fatal for o in beside):
            return False
        moments = [new.start_s, *(o.start_s for o in beside if o.start_s > new.start_s)]
        most = max(sum(o.start_s <= at < o.end_s for o in beside) for at in moments)
        return most < self.plan.overlap


def _grain(seconds: float) -> float:
    return math.floor(seconds * GRAINS_PER_S) / GRAINS_PER_S


def _chosen(plan: RandomPlan, phases: Sequence[Phase]) -> list[tuple[int, Phase]]:
    """The phases that may be struck, with their numbers."""
    numbered = list(enumerate(phases))
    if plan.phases:
        return [(i, phase) for i, phase in numbered if phase.name in plan.phases]
    return numbered[1:] or numbered


def _takers(
    plan: RandomPlan, drawn: DrawnKind, handles: Mapping[str, Mapping[str, Any]], allow_hosts: Collection[str]
) -> list[str]:
    """Handles of the plan that fit the kind."""
    kind = KINDS.get(drawn.kind)
    names = sorted({name for pattern in plan.handles for name in matching(pattern, handles)})
    return [n for n in names if kind is not None and not misfits(n, handles[n], kind, allow_hosts)]


def _struck(plan: RandomPlan, phases: Sequence[Phase], handles: Collection[str]) -> list[Struck]:
    """What the scenario's own timeline strikes."""
    found: list[Struck] = []
    start_s = 0.0
    for phase in phases:
        for spec in phase.faults:
            times = (start_s + spec.at_s, start_s + spec.at_s + spec.hold_s + plan.settle_s)
            found += [Struck(name, *times) for name in matching(spec.handle, handles)]
        start_s += phase.duration_s
    return found


def _fatal_pairs(groups: Groups, handles: Collection[str]) -> set[frozenset[str]]:
    """Each two handles of one group."""
    pairs: set[frozenset[str]] = set()
    for group in groups:
        members = sorted({name for pattern in group for name in matching(pattern, handles)})
        pairs |= {frozenset((a, b)) for a in members for b in members if a != b}
    return pairs
