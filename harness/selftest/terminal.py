"""The matrix in the terminal: a line a defect, with what the checker named for it said, and who else failed."""

from __future__ import annotations

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from harness.report.terminal import STYLE
from harness.selftest.matrix import Matrix, Result, Row, lines_of, outcome_of, tally

_STYLES = {
    Result.CAUGHT: "green",
    Result.CLEAN: "green",
    Result.MISSED: "bold red",
    Result.FLAGGED: "bold red",
    Result.UNKNOWN: "yellow",
}
_SAYS_CHARS = 160


def print_row(row: Row, console: Console) -> None:
    """What one run brought, a line a defect."""
    for line in lines_of(row):
        result = Text(f"{line.result:8}", style=_STYLES[line.result])
        console.print(Text.assemble(result, line.subject, (f"  {_short(line.says)}", "dim")), soft_wrap=True)


def print_matrix(matrix: Matrix, console: Console) -> None:
    """The whole matrix, and the result in one sentence."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, header_style="dim")
    for column in ("planted", "trouble", "named checker", "", "also failed"):
        table.add_column(column, no_wrap=column != "also failed")
    lines = lines_of(*matrix.rows)
    for line in lines:
        result = Text(str(line.result), style=_STYLES[line.result])
        table.add_row(line.subject, str(line.trouble), line.caught_by, result, line.remark)
    console.print(table)
    for line in lines:
        if line.result not in (Result.CAUGHT, Result.CLEAN):
            console.print(Text.assemble((f"{line.result} ", _STYLES[line.result]), line.subject, f": {line.says}"))
    outcome = outcome_of(matrix)
    console.print(Text.assemble((f"{outcome.upper()} ", STYLE[outcome]), tally(lines)), soft_wrap=True)
    missing = matrix.planned - len(matrix.rows)
    if missing:
        console.print(Text(f"{missing} of {matrix.planned} runs were not made", style="yellow"))


def _short(text: str) -> str:
    return text if len(text) <= _SAYS_CHARS else text[: _SAYS_CHARS - 1] + "…"
