"""Thresholds that a run can hardly decide, told before it starts: too few ops are due for what they need.

Known from the schedule is only what arrives at a rate. How many posts arrive at listeners, and what a recorded trace or
the sign-up curve brings, is not: nothing is said of those. Pure.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise

from harness.core.clock import NS_PER_S
from harness.core.load_rates import LOAD, TRACED, Load
from harness.core.scenario import Phase as Planned
from harness.core.scenario import Scenario
from harness.judge.case import Phase, with_kinds
from harness.judge.expressions import PHASE_KINDS, Slo, parse_expectations
from harness.judge.slos import chosen_phases
from harness.load.arrivals import expected

ARRIVING: dict[str, Mapping[str, int]] = {
    "feed_read": {"reads": 1, "probes": 2},
    "post_accept": {"posts": 1, "celebrity_posts": 1, "replies": 1, "repeats": 1},
    "signup": {"signups": 1, "celebrity_signups": 1},
    "edge_change": {"edges": 1},
    "delete": {"deletes": 1},
    "hide": {"hides": 2},
    "moderate": {"moderations": 2},
    "like": {"likes": 1},
}
"""metric -> the rates that bring samples of it, and how many each arrival brings at most"""


def undecidable(scenario: Scenario, phases: Sequence[Planned], regions: int) -> list[str]:
    """A sentence a threshold that needs more samples than are due in a phase. `regions`: how many the target has."""
    spans = _spans(phases)
    found: list[str] = []
    for slo in parse_expectations(scenario.expect).slos:
        due = {p.name: _due(slo, p, scenario.load, regions) for p in _judged_in(slo, spans, scenario)}
        for threshold in slo.thresholds if any(due.values()) else ():
            if threshold.needed_samples > 1 and (few := _below(due, threshold.needed_samples)):
                found.append(
                    f"{slo.selector} {threshold.text} needs {threshold.needed_samples:,} samples, about {few}: too few "
                    "for it to pass there; longer phases or more load give more"
                )
    return found


def _below(due: Mapping[str, float], needed: int) -> str:
    """The phases with fewer, in words: "59 are due in baseline, 40 in cut"; empty: there are none."""
    few = [(f"{math.floor(count):,}", name) for name, count in due.items() if count < needed]
    return ", ".join(f"{count} {'in' if i else 'are due in'} {name}" for i, (count, name) in enumerate(few))


def _spans(phases: Sequence[Planned]) -> list[Phase]:
    """The phases as the judge knows them, from 0 on."""
    ends = [0]
    for phase in phases:
        ends.append(ends[-1] + round(phase.duration_s * NS_PER_S))
    return with_kinds(
        [
            Phase(name=phase.name, start_ns=start, end_ns=end, faults=[fault.kind for fault in phase.faults])
            for phase, (start, end) in zip(phases, pairwise(ends), strict=True)
        ]
    )


def _judged_in(slo: Slo, spans: list[Phase], scenario: Scenario) -> list[Phase]:
    """The phases that this is judged in, as far as is known: which ones random faults will strike is not."""
    wanted = slo.tags.get("phase")
    if scenario.chaos is not None and wanted in PHASE_KINDS:
        return [phase for phase in spans if phase.name == wanted]
    return chosen_phases(spans, wanted)


def _due(slo: Slo, phase: Phase, load: Load, regions: int) -> float:
    """How many samples are due at most; without end where that is not known."""
    rates = {rate: each for rate, each in ARRIVING.get(slo.metric, {}).items() if _is_by(rate, slo.tags.get("author"))}
    traced = load.trace is not None and any(TRACED.get(rate) in load.trace.kinds for rate in rates)
    if not rates or traced or (load.signup_curve and slo.metric == "signup"):
        return math.inf
    due = sum(
        each * expected(getattr(load, LOAD[rate][0]), phase.start_ns, phase.end_ns) for rate, each in rates.items()
    )
    return due / (regions if "region" in slo.tags else 1)


def _is_by(rate: str, author: str | None) -> bool:
    return author is None or (author == "celebrity") == (rate == "celebrity_posts")
