"""`feedstorm up | down | status`: the reference stack by hand. It is started as a program, never imported."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import click

DEFAULT_DIRECTORY = Path("runs") / "stack"

directory_option = click.option(
    "--dir",
    "directory",
    type=click.Path(path_type=Path),
    default=DEFAULT_DIRECTORY,
    show_default=True,
    help="The stack's directory.",
)


def _stack(*words: str) -> None:
    """Run `python -m reference_server ...` in the foreground and end with its exit code.

    With `--parent-pipe` among the words the stack ends when this process does, however it ends.
    """
    pipe = subprocess.PIPE if "--parent-pipe" in words else None
    process = subprocess.Popen([sys.executable, "-m", "reference_server", *words], stdin=pipe)
    while True:
        try:
            sys.exit(process.wait())
        except KeyboardInterrupt:
            continue


@click.command(context_settings={"ignore_unknown_options": True})
@directory_option
@click.option("--users", type=click.IntRange(1), default=1000, show_default=True, help="Identities that may sign up.")
@click.option("--population", type=click.Path(exists=True, file_okay=False), help="Population hand-over directory.")
@click.option("--defect", "defects", multiple=True, metavar="NAME", help="Plant a defect (may be repeated).")
@click.option("--flag", "flags", multiple=True, metavar="KEY=VALUE", help="Set a feature flag (may be repeated).")
@click.option("--detach", is_flag=True, help="Return once the stack is ready; end it with `feedstorm down`.")
def up(
    directory: Path, users: int, population: str | None, defects: tuple[str, ...], flags: tuple[str, ...], detach: bool
) -> None:
    """Bring the reference stack up, in the foreground unless --detach.

    Example: feedstorm up --users 2000 --detach && feedstorm status
    """
    words = ["up", "--dir", str(directory.resolve())]
    words += ["--population", str(Path(population).resolve())] if population else ["--users", str(users)]
    words += [word for defect in defects for word in ("--defect", defect)]
    words += [word for flag in flags for word in ("--flag", flag)]
    _stack(*words, "--detach" if detach else "--parent-pipe")


@click.command()
@directory_option
def down(directory: Path) -> None:
    """End a detached reference stack. Example: feedstorm down"""
    _stack("down", "--dir", str(directory.resolve()))


@click.command()
@directory_option
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
def status(directory: Path, as_json: bool) -> None:
    """Show the parts of a running reference stack. Example: feedstorm status --json"""
    _stack("status", "--dir", str(directory.resolve()), *(["--json"] if as_json else []))
