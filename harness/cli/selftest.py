"""`feedstorm selftest`: does the judge bite?"""

from __future__ import annotations

from pathlib import Path

import click
import msgspec

from harness.cli.exit_codes import EXIT_OF
from harness.cli.interrupt import run_interruptible
from harness.cli.output import NewDirectory, json_option, messages, print_json
from harness.cli.run import run_directory
from harness.cli.watching import watching
from harness.core.errors import UsageError
from harness.core.verdict import Outcome
from harness.selftest.files import MATRIX, PAGE, write_files
from harness.selftest.matrix import Line, Matrix, lines_of, outcome_of, tally
from harness.selftest.plan import plan_runs
from harness.selftest.running import run_all
from harness.selftest.terminal import print_matrix, print_row


class Answer(msgspec.Struct, kw_only=True):
    """What --json prints."""

    verdict: Outcome
    summary: str
    lines: list[Line]
    matrix: Matrix


@click.command()
@click.option("--quick", is_flag=True, help="A sample in five minutes: each checker at least once.")
@click.option("--only", multiple=True, metavar="NAME", help="This defect alone; A+B: in one run; clean-TROUBLE: none.")
@click.option("--out", type=NewDirectory(), help="Directory; default: runs/<time>-selftest.")
@json_option
def selftest(quick: bool, only: tuple[str, ...], out: Path | None, as_json: bool) -> None:
    """Plant bugs in the reference stack, one after the other, and see that each turns the checker red that is named
    for it, and that nothing is red when nothing is planted.

    \b
    Examples:
      feedstorm selftest --quick
      feedstorm selftest --only skip-notify --only no-wal        (no clean runs)
      feedstorm selftest --only clean-edge --only no-resume      (one, in the same trouble)
    Exit codes: 0 each was caught and clean runs were clean, 1 otherwise, 3 a named checker was inconclusive.
    """
    if quick and only:
        raise UsageError("--quick, --only: choose one")
    runs = plan_runs(only, quick=quick)
    directory = run_directory(out, "selftest")
    if (directory / MATRIX).exists():
        raise UsageError(f"--out {out}: holds a selftest already; choose another directory")
    matrix, console = Matrix(), messages()
    try:
        with watching(console) as observe:
            run_interruptible(run_all(runs, directory, matrix, observe, lambda row: print_row(row, console)))
    finally:
        _show(matrix, directory, as_json)
    raise click.exceptions.Exit(EXIT_OF[outcome_of(matrix)])


def _show(matrix: Matrix, directory: Path, as_json: bool) -> None:
    """What is known, also when it was interrupted."""
    if matrix.rows:
        write_files(matrix, directory)
    lines = lines_of(*matrix.rows)
    if as_json:
        print_json(Answer(verdict=outcome_of(matrix), summary=tally(lines), lines=lines, matrix=matrix))
        return
    print_matrix(matrix, messages())
    if matrix.rows:
        messages().print(f"matrix: {directory / PAGE}", soft_wrap=True)
