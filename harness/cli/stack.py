"""`feedstorm up | down | status`: the reference stack by hand. It is started as a program, never imported."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import click

from harness.cli.interrupt import STOPPING
from harness.core.errors import ExitCode

DEFAULT_DIRECTORY = Path("runs") / "stack"

directory_option = click.option(
    "--dir",
    "directory",
    type=click.Path(path_type=Path, file_okay=False),
    default=DEFAULT_DIRECTORY,
    show_default=True,
    help="The stack's directory.",
)


def _stack(*words: str) -> None:
    """Run `python -m reference_server ...` in the foreground and end with its exit code.

    With `--parent-pipe` among the words the stack ends when this process does, however it ends. A SIGTERM goes on to
    it; a Ctrl-C reaches it from the terminal.
    """
    pipe = subprocess.PIPE if "--parent-pipe" in words else None
    process = subprocess.Popen([sys.executable, "-m", "reference_server", *words], stdin=pipe)
    signal.signal(signal.SIGTERM, lambda *_: process.terminate())
    while True:
        try:
            status = process.wait()
            break
        except KeyboardInterrupt:
            continue
    raise click.exceptions.Exit(status if status >= 0 else _code_of_signal(-status))


def _code_of_signal(number: int) -> ExitCode:
    """The exit code when a signal ended the program: one that means "stop", or one that nobody expects."""
    if number in STOPPING:
        return ExitCode.INTERRUPTED
    click.echo(f"feedstorm: the program was ended by signal {number}", err=True)
    return ExitCode.INTERNAL


@click.command()
@directory_option
@click.option("--users", type=click.IntRange(1), help="Identities that may sign up. [default: as before, or 1000]")
@click.option("--population", type=click.Path(exists=True, file_okay=False), help="Population hand-over directory.")
@click.option("--defect", "defects", multiple=True, metavar="NAME", help="Plant a defect (may be repeated).")
@click.option("--flag", "flags", multiple=True, metavar="KEY=VALUE", help="Set a feature flag (may be repeated).")
@click.option("--preset", metavar="NAME", help="A named set of flags: threads (default) or x-early.")
@click.option("--regions", metavar="NAMES", help="Names with commas between. [default: us-east,ap-tokyo]")
@click.option("--apis", type=click.IntRange(1), help="Api processes a region. [default: 1]")
@click.option("--feps", type=click.IntRange(1), help="Stream edges a region. [default: 1]")
@click.option("--memcacheds", type=click.IntRange(1), help="Cache nodes a region. [default: 1]")
@click.option("--fanout-workers", type=click.IntRange(1), help="Fan-out workers a region. [default: 1]")
@click.option("--link-latency-ms", type=click.IntRange(0), help="One way, between regions. [default: 100]")
@click.option(
    "--wal-tmpfs-mb", type=click.IntRange(1), help="Keep the lanes' logs on a disk of that many MiB in memory."
)
@click.option("--proxy", "proxies", multiple=True, metavar="LINK", help="Proxy us-east.api-to-memcached, or the like.")
@click.option("--detach", is_flag=True, help="Return once the stack is ready; end it with `feedstorm down`.")
def up(
    directory: Path,
    users: int | None,
    population: str | None,
    defects: tuple[str, ...],
    flags: tuple[str, ...],
    proxies: tuple[str, ...],
    detach: bool,
    **shape: str | int | None,
) -> None:
    """Bring the reference stack up, in the foreground unless --detach.

    Examples: feedstorm up --users 2000 --detach && feedstorm status; feedstorm up --preset x-early;
    feedstorm up --regions eu,us,ap --apis 2 --feps 2 --memcacheds 3 --fanout-workers 3
    """
    words = ["up", "--dir", str(directory.resolve())]
    words += ["--population", str(Path(population).resolve())] if population else []
    words += [word for defect in defects for word in ("--defect", defect)]
    words += [word for flag in flags for word in ("--flag", flag)]
    words += [word for link in proxies for word in ("--proxy", link)]
    for name, value in {"users": None if population else users, **shape}.items():
        words += [f"--{name.replace('_', '-')}", str(value)] if value is not None else []
    _stack(*words, "--detach" if detach else "--parent-pipe")


@click.command()
@directory_option
def down(directory: Path) -> None:
    """End a detached reference stack. Example: feedstorm down"""
    _stack("down", "--dir", str(directory.resolve()))


@click.command()
@directory_option
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
@click.option("--watch", is_flag=True, help="Show it again and again, until Ctrl-C.")
def status(directory: Path, as_json: bool, watch: bool) -> None:
    """Show the parts of a running reference stack, what they use and what each region does.

    Example: feedstorm status --watch
    """
    if as_json and watch:
        raise click.UsageError("--json and --watch exclude each other")
    options = [name for name, wanted in (("--json", as_json), ("--watch", watch)) if wanted]
    _stack("status", "--dir", str(directory.resolve()), *options)
