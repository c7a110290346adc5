"""What the machine alone did to the times of a run, and when that excuses a time that is too long.

The null probe (`harness.load.null_probe`) measured it beside the run. A second is *noisy* for a bound on times when
  - the echo alone took half of the bound or more in it (the same quantile as is judged), or
  - the run starved: others took a fifth of the processors or more, and the run's main threads stood in line at least
    half of the time in which they could have run, and half of the second all together (who hardly runs at all waits
    longer than it runs on any busy machine, and is little later for it).
Noise of the run's own making is none: of a second in which the run took half of the processors and others less than a
fifth, or in which a fault of its own loaded the machine. So a target that wants more processor than there is fails.

A bound on times that is missed stays missed when it is missed in the quiet seconds too, by more than what the machine
took of them. It is inconclusive when it holds there, or when they are too few to tell. It never passes by this, and
what is not a time (failures, lost posts, order) is never excused. A run that was not measured is judged without this.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from harness.core.clock import NS_PER_S
from harness.core.units import format_duration
from harness.core.verdict import Check, Outcome
from harness.judge.case import FOREVER_NS, Case, Window
from harness.record.noise_file import NoiseRow

if TYPE_CHECKING:  # expressions know the checkers, and these this module
    from harness.judge.expressions import Threshold

SHARE_OF_BOUND = 0.5
TAKEN_SHARE = 0.2
WAITED_SHARE = 0.5
IN_LINE = 0.5
OWN_SHARE = 0.5
AFTERMATH_NS = 2 * NS_PER_S
"""what piled up in a noisy second is worked off after it"""
MACHINE_FAULTS = ("cpu-hog", "memory-pressure", "disk-full")
"""kinds of fault that load the whole machine on purpose"""


@dataclass(frozen=True)
class TimedEcho:
    """One echo, monotonic ns."""

    due_ns: int
    took_ns: int
    own_making: bool
    """it came back in a second whose noise the run made itself"""


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

    def slow(self, row: NoiseRow, threshold: Threshold) -> bool:
        """Whether the machine alone took too much of a bound on times for it to be judged."""
        took = aggregated([1000 * echo.took_us for echo in row.echoes], threshold) or 0
        return took >= SHARE_OF_BOUND * threshold.bound and not self.is_own_making(row)

    def machine_ns(self, span: Window, threshold: Threshold) -> float | None:
        """What the machine alone took in a stretch of time, aggregated as the threshold does; None: not measured."""
        return aggregated([echo.took_ns for echo in self._within(span)], threshold)

    def noisy(self, span: Window, threshold: Threshold) -> list[Window]:
        """Stretches that are noisy for the threshold and touch `span`, each with its aftermath, in time order."""
        found: list[Window] = []
        for row in self.rows:
            end_ns = row.end_ns + AFTERMATH_NS
            if end_ns <= span.start_ns or row.start_ns >= span.end_ns:
                continue
            if not self.starved(row) and not self.slow(row, threshold):
                continue
            if found and row.start_ns <= found[-1].end_ns:
                found[-1] = Window(found[-1].start_ns, end_ns)
            else:
                found.append(Window(row.start_ns, end_ns))
        return found

    def excuse(
        self, span: Window, threshold: Threshold, quiet_value: Callable[[Sequence[Window]], float | None]
    ) -> str:
        """Why a bound on times that was missed in `span` says nothing against the target; empty: it does.

        `quiet_value(noisy)`: what is measured without what these stretches explain, ns; None: too little is left.
        """
        if not self.rows or threshold.unit != "ns" or threshold.comparison not in ("<", "<="):
            return ""
        noisy = self.noisy(Window(span.start_ns, span.end_ns + AFTERMATH_NS), threshold)
        value, machine_ns = quiet_value(noisy), self._quiet_machine_ns(span, threshold, noisy)
        if value is not None and not threshold.holds(value - machine_ns):
            return ""
        if not noisy:
            return f"the machine alone took {format_duration(machine_ns / NS_PER_S)} of it, without which it would hold"
        without = "too little is left" if value is None else format_duration(value / NS_PER_S)
        return f"{self.told(span, threshold)}; without that: {without}"

    def excuse_total(self, span: Window, threshold: Threshold, value: float) -> str:
        """The same for a value of which only the total is known: noisy stretches take with them what they could hold.

        So the value is unknown without them when they make up 1 % of the time, for a p(99), or any of it, for a max.
        """
        quantile = {"max": 1.0, "avg": 0.5}.get(threshold.aggregation, threshold.quantile)

        def quiet_value(noisy: Sequence[Window]) -> float | None:
            inside = sum(max(0, min(w.end_ns, span.end_ns) - max(w.start_ns, span.start_ns)) for w in noisy)
            return None if inside and inside >= (1 - quantile) * (span.end_ns - span.start_ns) else value

        return self.excuse(span, threshold, quiet_value)

    def _quiet_machine_ns(self, span: Window, threshold: Threshold, noisy: Sequence[Window]) -> float:
        """What the machine took of answers due outside `noisy`; what the run made itself counts as nothing."""
        quiet = [
            0 if echo.own_making else echo.took_ns
            for echo in self._within(span)
            if not any(echo.due_ns < w.end_ns and echo.due_ns + echo.took_ns > w.start_ns for w in noisy)
        ]
        return aggregated(quiet, threshold) or 0.0

    @cached_property
    def _echoes(self) -> list[TimedEcho]:
        """All echoes in the order of their due times, which is that of their answers."""
        return [
            TimedEcho(row.start_ns + 1000 * echo.due_us, 1000 * echo.took_us, self.is_own_making(row))
            for row in self.rows
            for echo in row.echoes
        ]

    def _within(self, span: Window) -> list[TimedEcho]:
        """Echoes due in a stretch of time."""
        first = bisect_left(self._echoes, span.start_ns, key=lambda echo: echo.due_ns)
        return self._echoes[first : bisect_left(self._echoes, span.end_ns, key=lambda echo: echo.due_ns)]

    def told(self, span: Window, threshold: Threshold) -> str:
        """What made noisy seconds of a stretch of time noisy; if it has none, those just before and after it."""
        around = Window(span.start_ns - AFTERMATH_NS, span.end_ns + AFTERMATH_NS)
        starved, slow = self._noisy_rows(span, threshold)
        if not starved + slow:
            starved, slow = self._noisy_rows(around, threshold)
        said = []
        if starved:
            said.append(
                f"for {_seconds(starved)} others took {_percent(starved, 'taken')} of the processors (the hypervisor "
                f"{_percent(starved, 'steal')}), and the run stood in line {_percent(starved, 'waited')} of the time "
                f"in which it could have run"
            )
        if slow:
            worst = max(aggregated([1000 * echo.took_us for echo in row.echoes], threshold) or 0 for row in slow)
            said.append(f"for {_seconds(slow)} an echo on this machine alone took up to {format_duration(worst / 1e9)}")
        return "the machine was noisy: " + ", and ".join(said)

    def _noisy_rows(self, span: Window, threshold: Threshold) -> tuple[list[NoiseRow], list[NoiseRow]]:
        """Lines that touch a stretch of time and starved, and others in which the machine was too slow."""
        near = [row for row in self.rows if row.start_ns < span.end_ns and row.end_ns > span.start_ns]
        starved = [row for row in near if self.starved(row)]
        return starved, [row for row in near if not self.starved(row) and self.slow(row, threshold)]


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


def unexplained(noisy: Sequence[Window], start: str, end: str, bound_ns: float | str) -> str:
    """SQL condition on the columns `start` and `end` of a time: it touches no noisy stretch, or is over the bound
    (which may be SQL too) also without the parts that lie in one.
    """
    if not noisy:
        return "true"
    touched = " + ".join(f"greatest(0, least({end}, {w.end_ns}) - greatest({start}, {w.start_ns}))" for w in noisy)
    return f"({touched} = 0 OR {end} - {start} - ({touched}) > {bound_ns})"


def _seconds(rows: Sequence[NoiseRow]) -> str:
    return f"{sum(row.seconds for row in rows):.0f} s"


def _percent(rows: Sequence[NoiseRow], name: str) -> str:
    """Mean share over time."""
    return f"{100 * sum(getattr(r, name) * r.seconds for r in rows) / (sum(r.seconds for r in rows) or 1):.0f} %"
