"""What the machine alone did to the times of a run, and when that excuses a time that is too long.

The null probe (`harness.load.null_probe`) measured it beside the run; `harness.judge.delays` says how much longer it
may have made a time, second by second. A bound on times that is missed is judged again with each time shortened by
that: the most that one of the seconds it touches explains. It stays missed when it is missed then too, and is
inconclusive otherwise. So what is seconds too late beside a noise of some milliseconds is missed, however busy the
machine was.

Noise of the run's own making is none: of a second in which the run took half of the processors and others less than a
fifth, or in which a fault of its own loaded the machine. So a target that wants more processor than there is fails.

Nothing ever passes by this, and what is not a time (failures, lost posts, order) is never excused. A run that was not
measured is judged without this.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from operator import itemgetter
from typing import TYPE_CHECKING

from harness.core.clock import NS_PER_S
from harness.core.units import format_duration
from harness.core.verdict import Check, Outcome
from harness.judge.case import FOREVER_NS, Case, Window
from harness.judge.delays import AFTERMATH_NS, FEW_HOPS, MANY_HOPS, Delay, hops_of
from harness.judge.delays import delays as delays_of
from harness.record.noise_file import NoiseRow

if TYPE_CHECKING:  # expressions know the checkers, and these this module
    from harness.judge.expressions import Threshold

TAKEN_SHARE = 0.2
WAITED_SHARE = 0.5
IN_LINE = 0.5
OWN_SHARE = 0.5
MACHINE_FAULTS = ("cpu-hog", "memory-pressure", "disk-full")
"""kinds of fault that load the whole machine on purpose"""


@dataclass(frozen=True)
class Noise:
    """The lines of the null probe, in time order, and when the run itself loaded the machine on purpose."""

    rows: Sequence[NoiseRow]
    provoked: Sequence[Window] = ()

    @classmethod
    def of(cls, case: Case) -> Noise:
        """The noise of a case."""
        loads = [f for f in case.faults if f.kind in MACHINE_FAULTS and f.injected_ns is not None]
        return cls(
            sorted(case.noise, key=lambda row: row.start_ns),
            [Window(f.injected_ns or 0, FOREVER_NS if f.undone_ns is None else f.undone_ns) for f in loads],
        )

    def is_own_making(self, row: NoiseRow) -> bool:
        """Whether the run itself, and nobody else, made what noise there was."""
        provoked = any(row.start_ns < w.end_ns and row.end_ns > w.start_ns for w in self.provoked)
        return provoked or (row.own >= OWN_SHARE and row.taken < TAKEN_SHARE)

    def starved(self, row: NoiseRow) -> bool:
        """Whether others kept the run from the processors."""
        waits = row.waited >= WAITED_SHARE and row.in_line >= IN_LINE
        return waits and row.taken >= TAKEN_SHARE and not self.is_own_making(row)

    def machine_ns(self, span: Window, threshold: Threshold) -> float | None:
        """What the machine alone took in a stretch of time, aggregated as the threshold does; None: not measured."""
        first = bisect_left(self._echoes, span.start_ns, key=itemgetter(0))
        last = bisect_left(self._echoes, span.end_ns, key=itemgetter(0))
        return aggregated([took_ns for _, took_ns in self._echoes[first:last]], threshold)

    def explaining(self, span: Window, what: str) -> list[Delay]:
        """What explains something of times in a stretch of time; `what`: the metric or the invariant they are of."""
        delays = self._delays[hops_of(what)]
        return [d for d in delays if d.longest_ns and d.start_ns < span.end_ns and d.end_ns > span.start_ns]

    def excuse(
        self, span: Window, threshold: Threshold, what: str, shortened: Callable[[Sequence[Delay]], float | None]
    ) -> str:
        """Why a bound on times of a metric that was missed in `span` says nothing against the target; empty: it does.

        `shortened(delays)`: what is measured, ns, when each time is shorter by what they explain of it.
        """
        if threshold.unit != "ns" or threshold.comparison not in ("<", "<="):
            return ""
        delays = self.explaining(Window(span.start_ns, span.end_ns + AFTERMATH_NS), what)
        value = shortened(delays) if delays else None
        if value is None or not threshold.holds(value):
            return ""
        return f"{self.told(span, what)}; without that: {format_duration(value / NS_PER_S)}"

    def excuse_total(self, span: Window, threshold: Threshold, what: str, value: float) -> str:
        """The same for a value of which only the total is known.

        It is unknown without the stretches that explain what it is over the bound, when these make up 1 % of the time,
        for a p(99), or any of it, for a max.
        """
        quantile = {"max": 1.0, "avg": 0.5}.get(threshold.aggregation, threshold.quantile)

        def shortened(delays: Sequence[Delay]) -> float | None:
            able = [d for d in delays if threshold.holds(value - d.longest_ns)]
            inside = _covered(able, span)
            enough = inside and inside >= (1 - quantile) * (span.end_ns - span.start_ns)
            return value - max(d.longest_ns for d in able) if enough else None

        return self.excuse(span, threshold, what, shortened)

    @cached_property
    def _delays(self) -> dict[int, list[Delay]]:
        """By the number of hops."""
        own = [self.is_own_making(row) for row in self.rows]
        return {hops: list(delays_of(self.rows, own, hops)) for hops in (FEW_HOPS, MANY_HOPS)}

    @cached_property
    def _echoes(self) -> list[tuple[int, int]]:
        """(due, took) of all echoes, monotonic ns, in the order of their due times, which is that of their answers."""
        return [(row.start_ns + 1000 * echo.due_us, 1000 * echo.took_us) for row in self.rows for echo in row.echoes]

    def told(self, span: Window, what: str) -> str:
        """What the machine was like in a stretch of time (and just after it), and what that explains at most."""
        near = self.explaining(Window(span.start_ns, span.end_ns + AFTERMATH_NS), what)
        said = [f"explains up to {format_duration(max((d.longest_ns for d in near), default=0) / NS_PER_S)} of a time"]
        rows = [row for row in self.rows if row.start_ns < span.end_ns and row.end_ns > span.start_ns]
        if starved := [row for row in rows if self.starved(row)]:
            said.append(
                f"for {_seconds(starved)} others took {_percent(starved, 'taken')} of the processors (the hypervisor "
                f"{_percent(starved, 'steal')}), and the run stood in line {_percent(starved, 'waited')} of the time "
                f"in which it could have run"
            )
        if echoes := [echo.took_us for row in rows for echo in row.echoes]:
            said.append(f"an echo on this machine alone took up to {format_duration(max(echoes) / 1e6)}")
        return "the machine was noisy: it " + "; ".join(said)


def excused(check: Check, why: str) -> Check:
    """A failed check on times that noise explains: inconclusive; unchanged when `why` is empty or it did not fail."""
    if why and check.verdict is Outcome.FAIL:
        check.verdict = Outcome.INCONCLUSIVE
        check.reason = "; ".join(part for part in (check.reason, why) if part)
    return check


def aggregated(values: Sequence[float], threshold: Threshold) -> float | None:
    """The threshold's aggregation over times, as DuckDB's quantile_disc, avg, min and max do it; None for no times."""
    if not values:
        return None
    match threshold.aggregation:
        case "avg":
            return sum(values) / len(values)
        case "min":
            return min(values)
        case "max":
            return max(values)
        case _:
            return sorted(values)[max(0, math.ceil(len(values) * threshold.quantile) - 1)]


def explained_ns(delays: Sequence[Delay], start: str, end: str) -> str:
    """SQL: what the machine explains at most of the time from column `start` to column `end`, ns."""
    if not delays:
        return "0"
    first_ns = delays[0].start_ns
    most = [0] * (-(-(max(d.end_ns for d in delays) - first_ns) // NS_PER_S))
    for delay in delays:
        for cell in range((delay.start_ns - first_ns) // NS_PER_S, -(-(delay.end_ns - first_ns) // NS_PER_S)):
            most[cell] = max(most[cell], delay.longest_ns)
    cells = f"greatest(0, {start} - {first_ns}) // {NS_PER_S} + 1 : ({end} - {first_ns}) // {NS_PER_S} + 1"
    return f"CASE WHEN {end} < {first_ns} THEN 0 ELSE coalesce(list_max(({most}::BIGINT[])[{cells}]), 0) END"


def unexplained(delays: Sequence[Delay], start: str, end: str, bound_ns: float | str) -> str:
    """SQL condition on the columns `start` and `end` of a time: it is over the bound (which may be SQL too) also when
    shortened by what the machine explains, or this explains nothing of it.
    """
    if not delays:
        return "true"
    explained = explained_ns(delays, start, end)
    return f"({explained} = 0 OR {end} - {start} - {explained} > {bound_ns})"


def _covered(stretches: Sequence[Delay], span: Window) -> int:
    """How much of a stretch of time others, in time order, cover, ns."""
    covered = 0
    until_ns = span.start_ns
    for stretch in stretches:
        start_ns, end_ns = max(until_ns, stretch.start_ns), min(stretch.end_ns, span.end_ns)
        covered += max(0, end_ns - start_ns)
        until_ns = max(until_ns, end_ns)
    return covered


def _seconds(rows: Sequence[NoiseRow]) -> str:
    return f"{sum(row.seconds for row in rows):.0f} s"


def _percent(rows: Sequence[NoiseRow], name: str) -> str:
    """Mean share over time."""
    return f"{100 * sum(getattr(r, name) * r.seconds for r in rows) / (sum(r.seconds for r in rows) or 1):.0f} %"
