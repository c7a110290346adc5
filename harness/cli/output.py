"""Where output goes: JSON results to standard output alone, everything for people to standard error or a table."""

from __future__ import annotations

import glob
from pathlib import Path
from typing import Any

import click
import msgspec
from rich.console import Console

from harness.core.errors import UsageError
from harness.core.json_file import read_json
from harness.record.run_directory import RunDirectory

RUNS = Path("runs")
LATEST = "latest"

json_option = click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")


class NewDirectory(click.Path):
    """Where something is to be written. "" names nothing: a shell gives it for a variable that is not set."""

    def __init__(self) -> None:
        super().__init__(path_type=Path)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The path, or fail."""
        if value == "":
            self.fail("is empty; name a directory", param, ctx)
        return super().convert(value, param, ctx)


all_option = click.option("--all", "every", is_flag=True, help="List the figures that did not change, too.")


def print_json(value: Any) -> None:
    """One JSON document on standard output."""
    click.echo(msgspec.json.format(msgspec.json.encode(value), indent=2).decode())


LOG_WIDTH = 140
"""columns when the output is no terminal (a CI log)"""


def messages() -> Console:
    """Console for progress and remarks (standard error)."""
    return _console(stderr=True)


def results() -> Console:
    """Console for tables a command prints as its result (standard output)."""
    return _console(stderr=False)


def _console(stderr: bool) -> Console:
    console = Console(stderr=stderr, highlight=False)
    if not console.is_terminal:
        console.width = LOG_WIDTH
    return console


def find_runs(name: str, runs: Path = RUNS) -> list[Path]:
    """One run (see `find_run`), or several: NAME-1, NAME-2 ... of `--repeat`, or those that a pattern matches.

    Raises UsageError when there is none.
    """
    if (one := _run_at(name, runs)) is not None:
        return [one]
    for path in (Path(name), runs / name):
        pattern = path.name if any(letter in path.name for letter in "*?[") else f"{glob.escape(path.name)}-*"
        matching = path.parent.glob(pattern) if path.parent.is_dir() else ()
        found = [one for one in matching if not one.is_symlink() and (one / "scenario.json").is_file()]
        if pattern != path.name:
            found = [one for one in found if one.name.removeprefix(f"{path.name}-").isdigit()]
        if found:
            return sorted(found, key=lambda one: (len(one.name), one.name))
    raise UsageError(
        f"run {name!r}: no such run, nor repeats of it (a path, a name or pattern under {runs}/, 'latest')"
    )


def judged_runs(name: str, runs: Path = RUNS) -> list[RunDirectory]:
    """The same, ready to be compared.

    Raises UsageError when one has no verdict or a damaged one, or they are of several scenarios.
    """
    found = [RunDirectory(path) for path in find_runs(name, runs)]
    problems = [
        f"run {run.path}: has no verdict yet; use `feedstorm check {run.path}`"
        for run in found
        if not run.verdict.exists() or not run.phases.exists()
    ]
    if problems:
        raise UsageError(problems)
    names = {read_json(run.verdict, _Judged).scenario: run for run in found}
    if len(names) > 1:
        raise UsageError(f"run {name!r}: matches runs of several scenarios: {', '.join(sorted(names))}")
    return found


def typed(path: Path) -> str:
    """A path as one would type it here."""
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)


class _Judged(msgspec.Struct):
    scenario: str


def find_run(name: str, runs: Path = RUNS) -> Path:
    """The directory of a run: a path, a name under `runs`, or `latest`. Raises UsageError."""
    if (one := _run_at(name, runs)) is not None:
        return one
    raise UsageError(f"run {name!r}: no such run directory (a path, a name under {runs}/, or 'latest')")


def _run_at(name: str, runs: Path) -> Path | None:
    """Where the run of that name is. When the latest is a suite, `latest` is the last run in it."""
    places = [Path(name), runs / name, *([runs / LATEST / LATEST] if name == LATEST else [])]
    return next((path for path in places if (path / "scenario.json").is_file()), None)
