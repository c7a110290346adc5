"""The staleness curve: how likely a follower who looks finds a post, t after it was acknowledged.

Of all undegraded pages that cover a post of that age (posts of ordinary authors that belong into the reader's feed, his
own left out), the share that shows it: by the author's region and the reader's, before, during and after each fault.
A page belongs to the stretch in which it was asked for; "before" reaches back to the end of the fault before, "after"
on to the next injection. A run without faults has one stretch, "whole run".
"""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import msgspec

from harness.core.clock import NS_PER_MS, NS_PER_S
from harness.judge.case import FOREVER_NS, Case, Fault
from harness.judge.trial import Trial

AGES_MS = (0, 50, 100, 150, 200, 300, 500, 750, 1_000, 1_500, 2_000, 3_000, 5_000, 10_000, 30_000)
"""a post counts for the last of these that it is not younger than"""


class StalenessPoint(msgspec.Struct, frozen=True, array_like=True):
    """Posts of an age: how often one had to be on a page, and how often it was."""

    age_ms: int
    looks: int
    shown: int

    @property
    def share(self) -> float:
        """Estimated probability that a post of this age is visible."""
        return self.shown / self.looks


class StalenessCurve(msgspec.Struct, frozen=True, kw_only=True):
    """The curve of one pair of regions in one stretch of the run."""

    home: str
    """region that acknowledged the posts"""
    region: str
    """region that was read"""
    fault: str
    """kind and handle, with its time where the run had several such; empty: the run had none"""
    period: str
    """ "before", "during", "after" or "whole run" """
    start_s: float
    end_s: float
    points: list[StalenessPoint]


class Stretch(NamedTuple):
    """A period about a fault."""

    fault: str
    period: str
    start_ns: int
    end_ns: int


_COUNTED = """
SELECT p.region, c.region, {stretch} AS stretch, {age} AS age, count(*), count(*) FILTER (c.present)
FROM covered c JOIN post p ON p.pid = c.pid WHERE NOT c.own AND NOT c.celebrity GROUP BY ALL
"""


def stretches(case: Case) -> list[Stretch]:
    """Before, during and after each fault that was injected, in time order."""
    acted = sorted((f for f in case.faults if f.injected_ns is not None), key=lambda f: f.injected_ns or 0)
    if not acted:
        return [Stretch("", "whole run", case.t0_ns, FOREVER_NS)]
    found: list[Stretch] = []
    times = Counter(_name(fault) for fault in acted)
    for fault in acted:
        start, end = fault.injected_ns or 0, fault.undone_ns or FOREVER_NS
        others = [other for other in acted if other is not fault]
        before = max([case.t0_ns, *(_end(o) for o in others if _end(o) <= start)])
        after = min([FOREVER_NS, *(o.injected_ns or 0 for o in others if (o.injected_ns or 0) >= end)])
        name = _name(fault) + (f" at {case.at(start)}" if times[_name(fault)] > 1 else "")
        found += [Stretch(name, "before", before, start), Stretch(name, "during", start, end)]
        found += [Stretch(name, "after", end, after)] if end < after else []
    return found


def _name(fault: Fault) -> str:
    return f"{fault.kind} {fault.handle}"


def _end(fault: Fault) -> int:
    return fault.undone_ns or FOREVER_NS


def staleness(trial: Trial) -> list[StalenessCurve]:
    """All curves with at least one look, in time order."""
    wanted = stretches(trial.case)
    bounds = sorted({b for s in wanted for b in (s.start_ns, s.end_ns)})
    sql = _COUNTED.format(stretch=_step("c.sent_ns", bounds), age=_step("c.age_ns", [a * NS_PER_MS for a in AGES_MS]))
    counted: dict[tuple[str, str, int], list[tuple[int, int, int]]] = {}
    for home, region, stretch, age, looks, shown in trial.rows(sql):
        if stretch and age:
            counted.setdefault((home, region, stretch), []).append((age, looks, shown))
    pairs = sorted({(home, region) for home, region, _ in counted}, key=lambda pair: (pair[0] != pair[1], pair))
    return [curve for s in wanted for pair in pairs for curve in _curve(trial.case, s, *pair, bounds, counted)]


def _curve(
    case: Case,
    stretch: Stretch,
    home: str,
    region: str,
    bounds: Sequence[int],
    counted: dict[tuple[str, str, int], list[tuple[int, int, int]]],
) -> Iterator[StalenessCurve]:
    """The curve of a stretch, which consists of the pieces between its bounds; none without a look."""
    ages: dict[int, tuple[int, int]] = {}
    for piece in range(bisect_right(bounds, stretch.start_ns), bisect_right(bounds, stretch.end_ns - 1) + 1):
        for age, looks, shown in counted.get((home, region, piece), ()):
            before = ages.get(age, (0, 0))
            ages[age] = before[0] + looks, before[1] + shown
    if ages:
        end_ns = min(stretch.end_ns, max(case.end_ns, stretch.start_ns))
        yield StalenessCurve(
            home=home,
            region=region,
            fault=stretch.fault,
            period=stretch.period,
            start_s=(stretch.start_ns - case.t0_ns) / NS_PER_S,
            end_s=(end_ns - case.t0_ns) / NS_PER_S,
            points=[StalenessPoint(AGES_MS[age - 1], looks, shown) for age, (looks, shown) in sorted(ages.items())],
        )


def _step(column: str, bounds: Sequence[int]) -> str:
    """How many of the bounds a value has reached, as SQL."""
    arms = " ".join(f"WHEN {column} < {bound} THEN {k}" for k, bound in enumerate(bounds))
    return f"CASE {arms} ELSE {len(bounds)} END"
