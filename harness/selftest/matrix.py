"""What came of the runs: a row a run, a column a checker; and whether that proves the judge. Pure.

A defect is caught when the checker named for it failed; missed when that checker passed; unknown when it was
inconclusive, skipped or not there. A clean run is clean when no check failed and every checker that is named for a
defect of its trouble passed; flagged when one failed.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from enum import StrEnum
from typing import Any

import msgspec

from harness.core.verdict import Check, CheckKind, Outcome, Verdict, worst
from harness.selftest.catalogue import PLANTED, Planted, Trouble
from harness.selftest.plan import Planned

RECOVERY = "recovery"
_METRIC = re.compile(r"[\w:]+")


class Result(StrEnum):
    """What a run says of one defect, or of the sound stack."""

    CAUGHT = "caught"
    MISSED = "missed"
    CLEAN = "clean"
    FLAGGED = "flagged"
    UNKNOWN = "unknown"


class Cell(msgspec.Struct, kw_only=True):
    """What one checker said in one run."""

    verdict: Outcome
    violations: float | None = None
    says: str = ""
    """the first piece of evidence, or the reason"""


class Row(msgspec.Struct, kw_only=True):
    """One run."""

    trouble: Trouble
    defects: list[str]
    """planted together; none: the clean run"""
    cells: dict[str, Cell]
    run: str = ""
    """its directory, within that of the selftest"""
    took_s: float = 0.0
    attempts: int = 1
    """how often it was made: again when a named checker was inconclusive"""


class Matrix(msgspec.Struct, kw_only=True):
    """All runs so far."""

    rows: list[Row] = []
    planned: int = 0
    """runs that were wanted"""
    made: dict[str, Any] = {}
    """date, machine, versions: the manifest of a run"""

    @property
    def columns(self) -> list[str]:
        """Checkers that are named for a defect first, then the others that failed or passed somewhere."""
        seen = dict.fromkeys(column for row in self.rows for column in row.cells)
        named = dict.fromkeys(entry.caught_by for entry in PLANTED)
        return [*(c for c in named if c in seen), *(c for c in seen if c not in named)]


class Line(msgspec.Struct, kw_only=True):
    """A defect (or "" for the sound stack) and what became of it."""

    defect: str
    trouble: Trouble
    result: Result
    caught_by: str = ""
    says: str = ""
    also_failed: list[str] = []
    """columns that failed in the same run and are named for no defect of it"""
    planted_with: list[str] = []
    """other defects of the same run: nobody knows whose the others' failures are"""
    run: str = ""

    @property
    def subject(self) -> str:
        """What the line is about."""
        return self.defect or f"nothing planted ({self.trouble})"

    @property
    def remark(self) -> str:
        """Who else failed, in words."""
        failed = ", ".join(self.also_failed)
        return f"{failed} (planted with {', '.join(self.planted_with)})" if self.planted_with else failed


def column_of(check: Check) -> str:
    """The column a check belongs to; "" for what says nothing about the target."""
    if check.kind is CheckKind.INVARIANT:
        return check.name
    if check.kind is CheckKind.RECOVERY:
        return RECOVERY
    match = _METRIC.match(check.name) if check.kind is CheckKind.SLO else None
    return match[0] if match else ""


def cells_of(verdict: Verdict) -> dict[str, Cell]:
    """The cells of a run: of several checks in one column the worst counts."""
    together: dict[str, list[Check]] = {}
    for check in verdict.checks:
        if (column := column_of(check)) and not check.skipped:
            together.setdefault(column, []).append(check)
    return {column: _cell(checks) for column, checks in together.items()}


def _cell(checks: Sequence[Check]) -> Cell:
    outcome = worst(check.verdict for check in checks)
    telling = next(check for check in checks if check.verdict is outcome)
    says = telling.evidence[0] if telling.evidence and outcome is Outcome.FAIL else telling.reason
    return Cell(verdict=outcome, violations=telling.value, says=says)


def row_of(planned: Planned, verdict: Verdict, run: str, took_s: float) -> Row:
    """The row of a run that was judged."""
    defects = list(planned.defects)
    return Row(trouble=planned.trouble, defects=defects, cells=cells_of(verdict), run=run, took_s=took_s)


def lines_of(*rows: Row) -> list[Line]:
    """What rows say: a line a defect, and one for each clean run."""
    entries = {entry.defect: entry for entry in PLANTED}
    lines: list[Line] = []
    for row in rows:
        lines += [_line(row, entries[defect]) for defect in row.defects] or [_clean_line(row)]
    return lines


def _line(row: Row, entry: Planted) -> Line:
    cell = row.cells.get(entry.caught_by)
    named = {one.caught_by for one in PLANTED if one.defect in row.defects}
    results = {Outcome.FAIL: Result.CAUGHT, Outcome.PASS: Result.MISSED, Outcome.INCONCLUSIVE: Result.UNKNOWN}
    return Line(
        defect=entry.defect,
        trouble=row.trouble,
        result=results[cell.verdict] if cell else Result.UNKNOWN,
        caught_by=entry.caught_by,
        says=cell.says if cell else f"the run has no check {entry.caught_by}",
        also_failed=[name for name in _failed(row) if name not in named],
        planted_with=[defect for defect in row.defects if defect != entry.defect],
        run=row.run,
    )


def _clean_line(row: Row) -> Line:
    needed = [entry.caught_by for entry in PLANTED if entry.trouble is row.trouble]
    failed = _failed(row)
    unsure = [name for name in dict.fromkeys(needed) if name not in failed and not _passed(row, name)]
    result = Result.FLAGGED if failed else Result.UNKNOWN if unsure else Result.CLEAN
    says = "; ".join(
        f"{name}: {row.cells[name].says}" if name in row.cells else f"no check {name}" for name in failed + unsure
    )
    return Line(defect="", trouble=row.trouble, result=result, says=says, also_failed=failed, run=row.run)


def _failed(row: Row) -> list[str]:
    return [name for name, cell in row.cells.items() if cell.verdict is Outcome.FAIL]


def _passed(row: Row, name: str) -> bool:
    return name in row.cells and row.cells[name].verdict is Outcome.PASS


def is_unsure(row: Row) -> bool:
    """Whether something is not known that the run was made for."""
    return any(line.result is Result.UNKNOWN for line in lines_of(row))


def outcome_of(matrix: Matrix) -> Outcome:
    """Pass: each defect was caught and each clean run clean; fail: one was missed or flagged."""
    results = [line.result for line in lines_of(*matrix.rows)]
    if Result.MISSED in results or Result.FLAGGED in results:
        return Outcome.FAIL
    if Result.UNKNOWN in results or len(matrix.rows) < max(1, matrix.planned):
        return Outcome.INCONCLUSIVE
    return Outcome.PASS


def tally(lines: Sequence[Line]) -> str:
    """The result in one sentence."""
    planted = [line for line in lines if line.defect]
    caught = sum(line.result is Result.CAUGHT for line in planted)
    clean = sum(line.result is Result.CLEAN for line in lines)
    return (
        f"{caught} of {len(planted)} planted defects caught by the checker named for them, "
        f"{clean} of {len(lines) - len(planted)} clean runs clean"
    )
