"""Stop conditions: what would have ended the run before its time, and what did.

One check a condition: it held at every look at which something was measured, or the run was ended because it broke.
Never measured, it is inconclusive. So is a run that somebody ended by stopping its faults, or that ended because nobody
could watch it: what was to come was never tried. A game day is ended by its operator, which says nothing against it.
"""

from __future__ import annotations

from collections.abc import Iterator

from harness.core.verdict import Check, CheckKind, Outcome
from harness.judge.case import Case


def judge_stops(case: Case) -> Iterator[Check]:
    """The checks; none when the scenario has no stop conditions and nobody ended the run."""
    report = case.stop
    if report is None:
        return
    ended = f"the run was ended at {case.at(report.ended_ns or 0)}: {report.reason}"
    for condition in report.conditions:
        seen = report.seen.get(condition, 0)
        unseen = "nothing was measured at any look" if report.looks else "the run ended before the first look"
        check = Check(
            name=f"stop: {condition}",
            kind=CheckKind.STOP,
            verdict=Outcome.PASS if seen else Outcome.INCONCLUSIVE,
            observations=seen,
            reason=f"held at each of {seen:,} looks" if seen else unseen,
        )
        if condition == report.broken:
            check.verdict, check.reason = Outcome.FAIL, ended
            check.value, check.bound, check.unit = report.value, report.bound, report.unit
        yield check
    if report.ended_ns is not None and not report.broken and not report.by_operator:
        yield Check(name="ran to its end", kind=CheckKind.STOP, verdict=Outcome.INCONCLUSIVE, reason=ended)
