"""`feedstorm new`: files to start from."""

from __future__ import annotations

from pathlib import Path

import click

from harness.cli.output import messages
from harness.run.starter import write_starter


@click.group()
def new() -> None:
    """Write a commented starter file. Example: feedstorm new scenario owner-pause"""


@new.command()
@click.argument("name")
@click.option(
    "--folder",
    type=click.Path(path_type=Path, file_okay=False, exists=True),
    default=Path(),
    help="Where to; default: the current folder.",
)
def scenario(name: str, folder: Path) -> None:
    """Write NAME.toml, a scenario that can be run as it is, with a comment on every line.

    Nothing is overwritten.

    \b
    Examples:
      feedstorm new scenario owner-pause
      feedstorm run owner-pause.toml
      feedstorm suite owner-pause.toml --prove
    """
    path = write_starter(name, folder)
    click.echo(path)
    messages().print(f"try it: feedstorm run {path}", markup=False, soft_wrap=True)
