"""Compares two sides, each one run or several repeats: metric by metric and phase by phase, check by check.

    1. what is compared: each metric and scope that was measured, and what has a tolerance of its own
    2. each statistic of each phase: the change and its bounds (`harness.judge.bootstrap`), and what they show
       (`harness.judge.difference`); a time that only a noisier machine made longer is inconclusive
    3. checks whose verdict changed
    4. whether the two can be compared at all: scenario, seed, target, machine

Reads the runs; writes their samples.parquet only.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from statistics import fmean

import msgspec

from harness.core.seeds import rng
from harness.core.verdict import Check, CheckKind, Outcome, Verdict, worst
from harness.judge.bootstrap import CONFIDENCE, bounds
from harness.judge.case import EVIDENCE_LIMIT, Case, read_case
from harness.judge.changed_checks import ChangedCheck, changed_checks, only_in_one, verdict_of
from harness.judge.difference import (
    Difference,
    Sides,
    judged,
    lack,
    machine_quantile,
    measured,
    statistic_of,
    told,
    weigh_machine,
)
from harness.judge.expressions import DELIVERY_METRICS, Selection
from harness.judge.likeness import differences_of
from harness.judge.recordings import Samples
from harness.judge.tolerance import Line, Tolerance
from harness.record.run_directory import RunDirectory

USUAL = ("med", "p(95)", "p(99)", "rate")
"""what is compared of every metric, beside the failures of those that count them"""

TOGETHER = "verdicts against the baseline"
"""name of the check on all checks that both sides have"""


class Comparison(msgspec.Struct, kw_only=True):
    """What became of a comparison, as it stands in comparison.json."""

    verdict: Outcome
    before: list[str]
    """names of the runs"""
    after: list[str]
    confidence: float
    notes: list[str]
    """what makes the two sides hard to compare"""
    differences: list[Difference]
    compared_checks: int
    """checks that both sides have"""
    checks: list[ChangedCheck]
    """those whose verdict is another one"""


def compare(before: Sequence[RunDirectory], after: Sequence[RunDirectory], tolerance: Tolerance) -> Comparison:
    """Compare the runs of one side with those of the other.

    Raises UsageError for a directory that is not a judged run, HistoryError for a damaged history, OSError.
    """
    cases = [read_case(run) for run in before], [read_case(run) for run in after]
    verdicts = [verdict_of(run) for run in before], [verdict_of(run) for run in after]
    differences = _differences(*cases, tolerance)
    for row in differences:
        weigh_machine(row, *(_machine_ms(side, row.phase, machine_quantile(row.aggregation)) for side in verdicts))
    compared, checks = changed_checks(*verdicts)
    return Comparison(
        verdict=_overall(differences, checks),
        before=[run.path.resolve().name for run in before],
        after=[run.path.resolve().name for run in after],
        confidence=CONFIDENCE,
        notes=[*differences_of(*cases), *only_in_one(*verdicts)],
        differences=differences,
        compared_checks=compared,
        checks=checks,
    )


def _overall(differences: Iterable[Difference], checks: Iterable[ChangedCheck]) -> Outcome:
    """Fail beats inconclusive beats pass; that nothing could be compared is inconclusive."""
    judged = [d.verdict for d in differences if not d.skipped]
    return worst([*(judged or [Outcome.INCONCLUSIVE]), *(c.verdict for c in checks)])


def _machine_ms(side: Sequence[Verdict], phase: str, quantile: str) -> float | None:
    """What the machine alone took in a phase, on an average of the runs; None: not measured in all, or no time."""
    seen = [m for verdict in side for m in verdict.machine if m.phase == phase and m.echoes]
    if not quantile or len(seen) < len(side):
        return None
    return fmean(getattr(machine, quantile) for machine in seen)


def _differences(before: Sequence[Case], after: Sequence[Case], tolerance: Tolerance) -> list[Difference]:
    with ExitStack() as stack:
        sides = [[stack.enter_context(Samples(case)) for case in cases] for cases in (before, after)]
        both = [*sides[0], *sides[1]]
        chosen = _selections(both, tolerance)
        phases = [name for name in both[0].phases if all(name in samples.phases for samples in both)]
        kinds = {name: both[0].phases[name].kind for name in phases}
        found = [[samples.recordings(chosen) for samples in side] for side in sides]
    made = []
    for selection in chosen:
        for phase in phases:
            cell = (selection.selector, phase)
            runs = [[recordings[cell] for recordings in side] for side in found]
            lines = [line for line in tolerance.lines if line.selection.selector == selection.selector]
            lines = [line for line in lines if line.is_for(phase, kinds[phase])]
            made += _compared(selection, phase, runs, lines, tolerance, before[0].scenario.seed)
    return made


def _selections(runs: Sequence[Samples], tolerance: Tolerance) -> list[Selection]:
    """Every metric and scope that some run has samples of, then what has tolerances of its own."""
    kinds = dict.fromkeys(kind for run in runs for kind in run.kinds())
    usual = [Selection(metric=m, tags={"scope": s} if s and m != "cross_region" else {}) for m, s in sorted(kinds)]
    named = [msgspec.structs.replace(line.selection, tags=_without_phase(line)) for line in tolerance.lines]
    return list({selection.selector: selection for selection in [*usual, *named]}.values())


def _without_phase(line: Line) -> dict[str, str]:
    return {name: value for name, value in line.selection.tags.items() if name != "phase"}


def _compared(
    selection: Selection,
    phase: str,
    runs: Sides,
    lines: Sequence[Line],
    tolerance: Tolerance,
    seed: int,
) -> list[Difference]:
    """All statistics of one selection in one phase; none where neither side has any op and nobody asked."""
    if not lines and not any(recording.count for side in runs for recording in side):
        return []
    own = {line.aggregation: line.allowance for line in lines}
    usual = [*USUAL] + ([] if selection.metric in DELIVERY_METRICS else ["failures"])
    made = []
    for aggregation in dict.fromkeys([*usual, *own]):
        random = rng(seed, "compare", selection.selector, phase, aggregation)
        found = bounds(runs[0], runs[1], statistic_of(aggregation), random)
        row = measured(selection.selector, phase, aggregation, runs)
        made.append(judged(row, found, own.get(aggregation), tolerance.general(aggregation), lack(aggregation, runs)))
    return made


def unchanged_checks(comparison: Comparison) -> set[tuple[str, str]]:
    """Name and phase of the checks of `as_checks` in which nothing changed."""
    return {(_row_name(row), row.phase) for row in comparison.differences if row.is_unchanged}


def as_checks(comparison: Comparison) -> list[Check]:
    """The comparison as checks of the verdict of its second side: one on the checks together, one a row that counts."""
    rows = [_row_check(row) for row in comparison.differences if not row.skipped]
    changed = [f"{_place(c.name, c.phase)}: {c.before}, now {c.after}; {c.reason}" for c in comparison.checks]
    together = Check(
        name=TOGETHER,
        kind=CheckKind.BASELINE,
        verdict=worst(c.verdict for c in comparison.checks) if comparison.checks else Outcome.PASS,
        observations=comparison.compared_checks,
        reason=_what(comparison),
        evidence=changed[:EVIDENCE_LIMIT],
    )
    if not rows:
        together.verdict = worst([together.verdict, Outcome.INCONCLUSIVE])
    return [together, *rows]


def _what(comparison: Comparison) -> str:
    """What was compared, in a sentence."""
    left = sum(row.skipped for row in comparison.differences)
    judged = len(comparison.differences) - left
    words = [
        f"compared with {', '.join(comparison.before)}: {judged} figures and {comparison.compared_checks} checks",
        *([f"{len(comparison.checks)} checks changed their verdict"] if comparison.checks else []),
        *([f"{left} more figures have too little data"] if left else []),
    ]
    return "; ".join([*words, *comparison.notes])


def _row_check(row: Difference) -> Check:
    return Check(
        name=_row_name(row),
        kind=CheckKind.BASELINE,
        verdict=row.verdict,
        phase=row.phase,
        value=row.change,
        bound=-row.tolerance if row.aggregation == "rate" else row.tolerance,
        unit="share",
        observations=min(row.samples),
        reason=told(row),
    )


def _row_name(row: Difference) -> str:
    return f"{row.selector} {row.aggregation} against the baseline"


def _place(name: str, phase: str) -> str:
    return f"{name} in {phase}" if phase else name
