"""The `feedstorm` command: the composition root. One file a group of commands; errors become exit codes here."""

from __future__ import annotations

import errno
import importlib
import os
import sys
import traceback

import click

from harness.core.errors import ExitCode, FeedstormError, foremost, nearest

COMMANDS = {
    "run": ("run", "Run a scenario against a target and judge it."),
    "worker": ("machines", "Make load for a run that another machine leads."),
    "scenarios": ("inspect", "List the scenarios that ship with feedstorm."),
    "capacity": ("capacity", "Search the highest load at which all that is expected holds."),
    "suite": ("suite", "Run several scenarios, with one summary and one exit code."),
    "new": ("new", "Write a commented starter file."),
    "selftest": ("selftest", "Plant bugs in the reference stack: does the judge catch each?"),
    "claims": ("claims", "Measure what the articles claim, one by one."),
    "conform": ("target", "Check an implementation against the contract."),
    "check": ("inspect", "Judge a recorded run again."),
    "compare": ("compare", "Compare two runs, figure by figure and check by check."),
    "report": ("inspect", "Write a run's reports again."),
    "query": ("inspect", "Ask the history of a run in SQL."),
    "up": ("stack", "Bring the reference stack up."),
    "status": ("stack", "Show the parts of a running reference stack."),
    "down": ("stack", "End a detached reference stack."),
    "flags": ("flags", "List, set and reset feature flags of a running target."),
    "gameday": ("gameday", "Run load, leave the faults to an operator, judge it."),
    "faults": ("faults", "Inject faults by hand, list, undo and stop them."),
    "doctor": ("doctor", "Tell what is missing on this machine, and the fix."),
}
"""command -> (module of this package, one line of help); a module is imported when its command is used"""


REFUSALS = {
    *(errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.EDQUOT, errno.EMFILE, errno.ENFILE),
    *(errno.EISDIR, errno.ENOTDIR, errno.ENAMETOOLONG, errno.ELOOP),
}
"""what a machine may refuse at any place: to read or write a file, space, one more descriptor, a path through a file"""


class Commands(click.Group):
    """The commands, loaded on demand: `feedstorm --help` must not wait for DuckDB."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Names in the order of the map."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command of that name, imported now."""
        if cmd_name not in COMMANDS:
            ctx.fail(f"No such command {cmd_name!r}{nearest(cmd_name, COMMANDS)}.")
        module = importlib.import_module(f"harness.cli.{COMMANDS[cmd_name][0]}")
        command: click.Command = getattr(module, cmd_name)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The list in --help, without importing anything."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, line) for name, (_, line) in COMMANDS.items()])


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(package_name="feedstorm", prog_name="feedstorm")
def feedstorm() -> None:
    """Load tests and chaos verification, with a verdict, for real-time social feeds.

    \b
    Start here:
      feedstorm doctor                      what this machine lacks
      feedstorm scenarios                   what can be run
      feedstorm run celebrity-cache-kill    run it, read the verdict
      feedstorm suite --tag ci              run those that are for CI
    \b
    Exit codes: 0 pass, 1 an SLO or invariant failed, 2 usage, 3 inconclusive,
    4 environment unavailable, 5 a fault could not be undone, 70 internal error, 130 interrupted.
    """


def main() -> None:
    """Entry point: run a command, exit with its code, never with a traceback for a foreseeable error."""
    try:
        code = feedstorm.main(standalone_mode=False)  # what a command gave to click's Exit comes back as a value
        sys.exit(code if isinstance(code, int) else ExitCode.PASS)
    except click.ClickException as error:
        error.show()
        sys.exit(ExitCode.USAGE)
    except (click.Abort, KeyboardInterrupt):
        click.echo("interrupted", err=True)
        sys.exit(ExitCode.INTERRUPTED)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(ExitCode.PASS)
    except Exception as raised:
        sys.exit(told(foremost(raised)))


def told(error: BaseException) -> ExitCode:
    """Say what went wrong, and the exit code for it."""
    if isinstance(error, FeedstormError):
        for line in str(error).splitlines():
            click.echo(f"feedstorm: {line}", err=True)
        return error.exit_code
    if isinstance(error, OSError) and error.errno in REFUSALS:
        about = f"{os.fsdecode(error.filename)}: " if error.filename else ""
        click.echo(f"feedstorm: {about}{error.strerror}", err=True)
        return ExitCode.ENVIRONMENT
    if isinstance(error, MemoryError):
        click.echo(f"feedstorm: this machine has too little memory for that: {error or 'nothing is left'}", err=True)
        return ExitCode.ENVIRONMENT
    click.echo("feedstorm: internal error; please report it with this traceback", err=True)
    traceback.print_exception(error)
    return ExitCode.INTERNAL
