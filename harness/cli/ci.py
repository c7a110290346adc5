"""What a CI job is told at the end of a command, beside output and exit code: step summary and annotations."""

from __future__ import annotations

from collections.abc import Iterable

import click

from harness.cli.output import messages
from harness.report.github import Remark, add_to_summary, commands, is_github


def tell_ci(markdown: str, remarks: Iterable[Remark]) -> None:
    """Add to the step summary ($GITHUB_STEP_SUMMARY), and annotate when this is GitHub Actions; else nothing.

    Annotations go to standard error, where the runner reads them as well: standard output is for JSON.
    """
    try:
        add_to_summary(markdown)
    except OSError as error:
        messages().print(f"note: no step summary: {error}", markup=False)
    if is_github():
        for line in commands(remarks):
            click.echo(line, err=True)
