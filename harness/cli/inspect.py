"""Commands that look: scenarios, and old runs (check, report, query)."""

from __future__ import annotations

from pathlib import Path

import click
import duckdb
from msgspec import structs
from rich.markup import escape
from rich.table import Table

from harness.cli.ci import tell_ci
from harness.cli.exit_codes import EXIT_OF
from harness.cli.output import all_option, find_run, json_option, messages, print_json, results
from harness.cli.tags import tagged
from harness.core.errors import UsageError
from harness.core.verdict import Verdict
from harness.judge.judge import judge
from harness.record.parquet import open_history
from harness.record.run_directory import RunDirectory
from harness.report import catalogue, summary, write_reports
from harness.report.github import remarks_of
from harness.report.run_data import read_run
from harness.report.terminal import print_verdict
from harness.run.judging import expectations_for, judge_and_store, unchanged_in

WIDEST = 100_000
"""columns, when it is asked how wide a table would be"""


@click.command()
@click.option("--tag", "tags", multiple=True, metavar="TAG", help="Only those with this tag.")
@click.option("--markdown", "as_markdown", is_flag=True, help="Print docs/catalogue.md.")
@json_option
def scenarios(tags: tuple[str, ...], as_markdown: bool, as_json: bool) -> None:
    """List the scenarios that ship with feedstorm, in the order of their catalogue.

    \b
    Examples:
      feedstorm scenarios
      feedstorm scenarios --tag ci
    """
    if as_markdown and as_json:
        raise UsageError("--markdown, --json: choose one")
    chosen = tagged(tags)
    if as_json:
        print_json([catalogue.row(scenario) for scenario in chosen])
    elif as_markdown:
        click.echo(catalogue.markdown(chosen), nl=False)
    else:
        catalogue.print_scenarios(chosen, results())


@click.command()
@click.argument("run")
@click.option(
    "--expect", "rules", type=click.Path(path_type=Path), metavar="FILE", help="Judge by the [expect] in FILE."
)
@click.option("--save", is_flag=True, help="With --expect: make the new verdict the run's own.")
@all_option
@json_option
def check(run: str, rules: Path | None, save: bool, every: bool, as_json: bool) -> None:
    """Judge a recorded run again, by its own expectations or by others.

    FILE is TOML with the table [expect] of a scenario; a whole scenario will do. The run's own verdict and reports stay
    as they are, unless --save is given.

    \b
    Examples:
      feedstorm check latest
      feedstorm check latest --expect stricter.toml
    """
    if save and rules is None:
        raise UsageError("--save: goes with --expect; without it the verdict is always the run's own")
    directory = RunDirectory(find_run(run))
    if not directory.phases.exists() or not directory.profile.exists():
        raise UsageError(f"run {run}: ended before its first phase began, so there is nothing to judge")
    expect = expectations_for(directory, rules) if rules is not None else None
    is_kept = expect is None or save
    verdict = judge_and_store(directory, expect=expect) if is_kept else judge(directory, expect)
    if as_json:
        print_json(verdict)
    else:
        print_verdict(verdict, messages(), unchanged=() if every else unchanged_in(directory))
    tell_ci(_summary(directory, verdict, is_kept), remarks_of(verdict.scenario, verdict.checks))
    raise click.exceptions.Exit(EXIT_OF[verdict.verdict])


def _summary(run: RunDirectory, verdict: Verdict, is_kept: bool) -> str:
    """The summary of this verdict, which is the run's own or not; empty for a run that has none of its own."""
    if is_kept:
        return run.summary.read_text(encoding="utf-8")
    return summary.render(structs.replace(read_run(run), verdict=verdict)) if run.verdict.exists() else ""


@click.command()
@click.argument("run")
def report(run: str) -> None:
    """Write a run's report.html, junit.xml and summary.md again. Example: feedstorm report latest"""
    directory = RunDirectory(find_run(run))
    if not directory.verdict.exists():
        raise UsageError(f"run {run}: has no verdict yet; use `feedstorm check {run}`")
    write_reports(directory)
    click.echo(directory.report)


@click.command()
@click.argument("run")
@click.argument("sql")
@json_option
def query(run: str, sql: str, as_json: bool) -> None:
    """Ask the history of a run in SQL. A run under way can be asked too.

    The tables are `ops`, `seen`, `phases` and `faults`; docs/results.md tells what is in them.

    Example: feedstorm query latest "select kind, outcome, count(*) from ops group by all order by 3 desc"
    """
    try:
        with open_history(RunDirectory(find_run(run))) as history:
            answer = history.execute(sql)
            if answer is None:
                raise UsageError("query: no statement was given")
            names = [column[0] for column in answer.description or []]
            rows = answer.fetchall()
    except duckdb.Error as error:
        said = str(error).partition("Traceback (most recent call last)")[0].strip()  # of a module that it lacks
        raise UsageError(f"query: {said}") from error
    if as_json:
        print_json([dict(zip(names, row, strict=True)) for row in rows])
        return
    _print_rows(names, [[str(value) for value in row] for row in rows])


def _print_rows(names: list[str], rows: list[list[str]]) -> None:
    """A table; when that is wider than the terminal a line for each value, and a blank one after each row."""
    console = results()
    table = Table(*names, box=None, pad_edge=False)
    for row in rows:
        table.add_row(*map(escape, row))
    if console.measure(table, options=console.options.update(width=WIDEST)).maximum <= console.width:
        console.print(table)
        return
    longest = max(map(len, names))
    for row in rows:
        for name, value in zip(names, row, strict=True):
            console.print(f"{name:{longest}}  {value}", markup=False, soft_wrap=True)
        console.print()
