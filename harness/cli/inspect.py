"""Commands that look: scenarios, and old runs (check, report, query)."""

from __future__ import annotations

import click
import duckdb
from rich.table import Table

from harness.cli.exit_codes import EXIT_OF
from harness.cli.output import find_run, json_option, messages, print_json, results
from harness.core.errors import UsageError
from harness.record.parquet import open_history
from harness.record.run_directory import RunDirectory
from harness.report import write_reports
from harness.report.terminal import print_verdict
from harness.run.judging import judge_and_store
from harness.run.scenario_file import load_scenario, scenario_paths


@click.command()
@json_option
def scenarios(as_json: bool) -> None:
    """List the scenarios that ship with feedstorm. Example: feedstorm scenarios"""
    loaded = [load_scenario(name) for name in scenario_paths()]
    if as_json:
        print_json([{"name": s.name, "about": s.about, "tags": s.tags, "duration_s": s.duration_s} for s in loaded])
        return
    table = Table(box=None, pad_edge=False)
    for column in ("scenario", "length", "tags", "about"):
        table.add_column(column)
    for s in loaded:
        table.add_row(s.name, f"{s.duration_s:.0f} s", " ".join(s.tags), s.about)
    results().print(table)


@click.command()
@click.argument("run")
@json_option
def check(run: str, as_json: bool) -> None:
    """Judge a recorded run again. Example: feedstorm check latest"""
    directory = RunDirectory(find_run(run))
    if not directory.phases.exists() or not directory.profile.exists():
        raise UsageError(f"run {run}: ended before its first phase began, so there is nothing to judge")
    verdict = judge_and_store(directory)
    if as_json:
        print_json(verdict)
    else:
        print_verdict(verdict, messages())
    raise click.exceptions.Exit(EXIT_OF[verdict.verdict])


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
    """Ask the history of a run in SQL; the tables are `ops` and `seen`. A run under way can be asked too.

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
        raise UsageError(f"query: {error}") from error
    if as_json:
        print_json([dict(zip(names, row, strict=True)) for row in rows])
        return
    table = Table(*names, box=None, pad_edge=False)
    for row in rows:
        table.add_row(*(str(value) for value in row))
    results().print(table)
