"""docs/detection.md: the matrix of a whole selftest, for the documentation. Generated; nobody edits it."""

from __future__ import annotations

from collections.abc import Iterator

from harness.core.verdict import Outcome
from harness.selftest.catalogue import FAULTS, PLANTED, WAITING, Trouble
from harness.selftest.matrix import Line, Matrix, Result, lines_of, tally

_ABOUT = """\
# What the judge catches
A check that cannot fail proves nothing. So the reference stack has bugs that can be switched on, each a realistic one,
and `feedstorm selftest` plants them one after the other, under load, and looks whether the checker that is named for
the bug turns red. Runs with nothing planted must have no failing check at all.

```sh
feedstorm selftest --quick                   # a sample, every checker at least once
feedstorm selftest                           # all of it
feedstorm selftest --only refill-loses-last  # one
feedstorm selftest --only clean-edge         # nothing planted, in that trouble
feedstorm run selftest --defect skip-notify  # the run behind it, with its report
```

This page is generated: `feedstorm selftest` writes it as `detection.md` into its directory. To add a defect: a name
and a sentence in `reference_server/settings.py` (`DEFECTS`) and in the profile of the target, a few lines at the place
where it acts, and in `harness/selftest/catalogue.py` the checker that must catch it.

A quick selftest plants several defects in one run, where they concern different checkers. Wherever that was done, it is
said with which. A run in which a named checker was inconclusive, as the machine was noisy, is made once more.
"""
_MARKS = {Outcome.PASS: "·", Outcome.FAIL: "✗", Outcome.INCONCLUSIVE: "?"}


def render(matrix: Matrix) -> str:
    """The page."""
    return "\n".join([_ABOUT, *_result(matrix), "", *_planted(matrix), "", *_troubles(), "", *_whole(matrix), ""])


def _result(matrix: Matrix) -> Iterator[str]:
    lines = lines_of(*matrix.rows)
    machine = matrix.made.get("machine", {})
    where = f"{machine.get('cores', '?')} cores, {machine.get('memory_gib', '?')} GiB"
    date = str(matrix.made.get("started", ""))[:10]
    took = sum(row.took_s for row in matrix.rows)
    yield f"## Result of {date}\n{tally(lines)}. {len(matrix.rows)} runs in {took / 60:.0f} min on {where}."


def _planted(matrix: Matrix) -> Iterator[str]:
    lines = lines_of(*matrix.rows)
    found = {line.defect: line for line in lines}
    yield "## Planted defects\n| defect | trouble | named checker | result | also red |\n|---|---|---|---|---|"
    for entry in PLANTED:
        line = found.get(entry.defect)
        result, also = (_result_of(line), line.remark) if line else ("not run", "")
        yield f"| `{entry.defect}` | {entry.trouble} | `{entry.caught_by}` | {result} | {also} |"
    yield "\n## Nothing planted\n| trouble | result |\n|---|---|"
    for line in lines:
        if not line.defect:
            yield f"| {line.trouble} | {_result_of(line)} |"


def _result_of(line: Line) -> str:
    return str(line.result) if line.result in (Result.CAUGHT, Result.CLEAN) else f"**{line.result}**"


def _troubles() -> Iterator[str]:
    yield "## Troubles\n| trouble | faults in the middle of the run |\n|---|---|"
    for trouble in Trouble:
        faults = ", ".join(f"{fault.kind} {fault.handle} for {fault.hold_s:g} s" for fault in FAULTS[trouble])
        yield f"| {trouble} | {faults or f'none: somebody signs up whom {WAITING} follow already'} |"


def _whole(matrix: Matrix) -> Iterator[str]:
    columns = matrix.columns
    yield "## The whole matrix\n✗ failed · passed ? inconclusive; the checker named for a defect in bold.\n"
    yield "| planted | " + " | ".join(columns) + " |\n|---|" + ":-:|" * len(columns)
    named = {entry.defect: entry.caught_by for entry in PLANTED}
    for row in matrix.rows:
        bold = {named[defect] for defect in row.defects}
        marks = [_MARKS[row.cells[name].verdict] if name in row.cells else "" for name in columns]
        cells = [f"**{mark}**" if name in bold and mark else mark for name, mark in zip(columns, marks, strict=True)]
        name = ", ".join(row.defects) or f"nothing ({row.trouble})"
        yield f"| {name}{', made twice' if row.attempts > 1 else ''} | " + " | ".join(cells) + " |"
