"""`feedstorm doctor`: what is missing, what that costs, and the fix."""

from __future__ import annotations

import click
from rich.table import Table

from harness.cli.output import json_option, print_json, results
from harness.core.errors import ExitCode
from harness.run.doctor import examine


@click.command()
@json_option
def doctor(as_json: bool) -> None:
    """Tell what is missing on this machine and the command that fixes it. Example: feedstorm doctor

    Ends with exit code 4 when something required is missing.
    """
    findings = examine()
    if as_json:
        print_json(findings)
    else:
        table = Table(box=None, pad_edge=False)
        for column in ("", "part", "found", "needed for"):
            table.add_column(column)
        for f in findings:
            mark = "[green]ok[/]" if f.found else "[red]missing[/]" if f.required else "[yellow]lacks[/]"
            table.add_row(mark, f.name, f.detail, f.needed_for)
        console = results()
        console.print(table)
        for f in findings:
            if not f.found:  # in a line of its own, however long: it is to be copied
                console.print(f"\n{f.name}:\n  {f.fix}", markup=False, soft_wrap=True)
    if any(f.required and not f.found for f in findings):
        raise click.exceptions.Exit(ExitCode.ENVIRONMENT)
