"""Where output goes: JSON results to standard output alone, everything for people to standard error or a table."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
import msgspec
from rich.console import Console

from harness.core.errors import UsageError

RUNS = Path("runs")

json_option = click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")


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


def find_run(name: str, runs: Path = RUNS) -> Path:
    """The directory of a run: a path, a name under `runs`, or `latest`. Raises UsageError."""
    for path in (Path(name), runs / name):
        if (path / "scenario.json").is_file():
            return path
    raise UsageError(f"run {name!r}: no such run directory (a path, a name under {runs}/, or 'latest')")
