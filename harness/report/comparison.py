"""A comparison as people read it: in the terminal, and in Markdown for the step summary of a CI job."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from rich import box
from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from harness.core.verdict import Outcome
from harness.judge.compare import Comparison
from harness.judge.difference import Difference, Finding, amount, signed, told
from harness.report.github import Remark
from harness.report.markdown import MARK as EMOJI
from harness.report.markdown import plain
from harness.report.terminal import MARK, STYLE
from harness.report.wording import HOW_TO_LIST, number_of, unchanged_text

RANK = {Outcome.FAIL: 0, Outcome.INCONCLUSIVE: 1, Outcome.PASS: 2}
FINDINGS = {Finding.WORSE: 0, Finding.BETTER: 1, Finding.SAME: 2, Finding.UNKNOWN: 3}
COLUMNS = ("metric", "phase", "before", "after", "change", "bounds", "tolerance", "")
RIGHT = ("before", "after", "change", "bounds", "tolerance")


def gravest_first(rows: Iterable[Difference]) -> list[Difference]:
    """The rows that were judged: regressions, undecided ones, worse, better, the rest; else as they were compared."""
    judged = [row for row in rows if not row.skipped]
    return sorted(judged, key=lambda row: (RANK[row.verdict], FINDINGS[row.finding]))


def changed(rows: Iterable[Difference]) -> list[Difference]:
    """The rows that show a difference, or had to exclude one and could not."""
    return [row for row in rows if not row.is_unchanged]


def cells(row: Difference) -> list[str]:
    """A row in the order of COLUMNS."""
    change, bounds = "", ""
    if row.change is not None and row.low is not None and row.high is not None:
        change = signed(row.change, row.unit)
        bounds = f"{signed(row.low, row.unit)} … {signed(row.high, row.unit)}"
    allowed = signed(-row.tolerance if row.aggregation == "rate" else row.tolerance, row.unit)
    word = row.finding + (", regression" if row.verdict is Outcome.FAIL else "")
    values = [amount(row.before, row.unit), amount(row.after, row.unit)]
    return [f"{row.selector} {row.aggregation}", row.phase, *values, change, bounds, allowed, word]


def headline(comparison: Comparison) -> str:
    """The comparison in one sentence."""
    judged = gravest_first(comparison.differences)
    worse = [row for row in judged if row.verdict is Outcome.FAIL]
    broken = [check for check in comparison.checks if check.verdict is Outcome.FAIL]
    names = ", ".join(dict.fromkeys([*(f"{r.selector} {r.aggregation}" for r in worse), *(c.name for c in broken)]))
    if comparison.verdict is Outcome.FAIL:
        return f"{number_of(len(worse) + len(broken), 'regression')}: {names}."
    if comparison.verdict is Outcome.PASS:
        checks = number_of(comparison.compared_checks, "check")
        return f"no regression in {number_of(len(judged), 'figure')} and {checks}."
    if not judged:
        return "nothing could be compared."
    open_rows = [
        f"{row.selector} {row.aggregation} in {row.phase}" for row in judged if row.verdict is not Outcome.PASS
    ]
    undecided = [check.name for check in comparison.checks if check.verdict is Outcome.INCONCLUSIVE]
    return f"no regression shown, and not excluded: {', '.join([*open_rows, *undecided])}."


def print_comparison(comparison: Comparison, console: Console, *, every: bool = False) -> None:
    """Print what the two sides are, the figures and checks that changed, and the verdict in a line.

    `every`: the figures that did not change, too, instead of their number.
    """
    for name, runs in (("before", comparison.before), ("after", comparison.after)):
        console.print(Text.assemble((f"{name}: ", "dim"), ", ".join(runs)), soft_wrap=True)
    for note in comparison.notes:
        console.print(Text(f"note: {note}", style="yellow"), soft_wrap=True)
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, header_style="dim")
    table.add_column("", no_wrap=True)
    for column in COLUMNS:
        table.add_column(column, justify="right" if column in RIGHT else "left", no_wrap=column != "metric")
    rows = gravest_first(comparison.differences)
    for row in rows if every else changed(rows):
        style = "" if row.verdict is Outcome.PASS else STYLE[row.verdict]
        mark = Text(MARK[row.verdict], style=STYLE[row.verdict])
        table.add_row(mark, *(Text(cell, style=style) for cell in cells(row)))
    if table.rows:
        console.print(table)
    if not every and (count := len(rows) - len(changed(rows))):
        console.print(Text(f"{unchanged_text(count)} ({HOW_TO_LIST})", style="dim"), soft_wrap=True)
    _print_rest(comparison, console)
    word = Text(f"{comparison.verdict.upper()} ", style=STYLE[comparison.verdict])
    console.print(Text.assemble(word, Text(headline(comparison), style=STYLE[comparison.verdict])), soft_wrap=True)


def _print_rest(comparison: Comparison, console: Console) -> None:
    """The checks that changed, and how much was left out."""
    for check in comparison.checks:
        where = f" in {check.phase}" if check.phase else ""
        said = f"{MARK[check.verdict]} {check.name}{where}: {check.before}, now {check.after}"
        passed = f" (passed in {check.passed[0]} runs, now in {check.passed[1]})"
        console.print(Text.assemble((said, STYLE[check.verdict]), (passed, "dim")), soft_wrap=True)
        if check.reason:
            console.print(Padding(Text(check.reason), (0, 0, 0, 4)))
    if left := left_out(comparison.differences):
        console.print(Text(left, style="dim"), soft_wrap=True)


def left_out(rows: Sequence[Difference]) -> str:
    """How many figures had too little data; empty: none."""
    count = sum(row.skipped for row in rows)
    return f"too little data for {number_of(count, 'more figure')} (--json lists them, with reasons)" if count else ""


def markdown(comparison: Comparison) -> str:
    """The comparison for a step summary: what is not as before, row by row."""
    title = f"{comparison.verdict.upper()}: compared with {', '.join(comparison.before)}"
    lines = [f"## {EMOJI[comparison.verdict]} {plain(title)}", "", plain(headline(comparison))]
    lines += ["", *(f"- {plain(note)}" for note in comparison.notes)] if comparison.notes else []
    judged = gravest_first(comparison.differences)
    rows = changed(judged)
    if rows:
        lines += ["", f"| | {' | '.join(COLUMNS)} |", "|---|---|---|--:|--:|--:|--:|--:|---|"]
        lines += [f"| {' | '.join([EMOJI[row.verdict], *map(plain, cells(row))])} |" for row in rows]
    lines += ["", f"{unchanged_text(len(judged) - len(rows))}."] if len(rows) < len(judged) else []
    said = [(c.verdict, f"{c.name}: {c.before}, now {c.after}. {c.reason}") for c in comparison.checks]
    lines += ["", *(f"- {EMOJI[verdict]} {plain(text)}" for verdict, text in said)] if said else []
    return "\n".join(lines) + "\n"


def remarks_of(comparison: Comparison) -> list[Remark]:
    """What is annotated: each regression, and what could not be decided."""
    rows = [row for row in gravest_first(comparison.differences) if row.verdict is not Outcome.PASS]
    checks = [check for check in comparison.checks if check.verdict is not Outcome.PASS]
    return [
        *(Remark(row.verdict, f"{row.selector} {row.aggregation} in {row.phase}", told(row)) for row in rows),
        *(Remark(c.verdict, f"{c.name}: {c.before}, now {c.after}", c.reason or c.name) for c in checks),
    ]
