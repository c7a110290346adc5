"""The `feedstorm` command: the composition root. One file a group of commands; errors become exit codes here."""

from __future__ import annotations

import os
import sys
import traceback

import click

from harness.cli.inspect import check, doctor, query, report, scenarios
from harness.cli.run import run
from harness.cli.stack import down, status, up
from harness.cli.target import conform
from harness.core.errors import ExitCode, FeedstormError


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(package_name="feedstorm", prog_name="feedstorm")
def feedstorm() -> None:
    """Load tests and chaos verification, with a verdict, for real-time social feeds.

    \b
    Start here:
      feedstorm doctor                      what this machine lacks
      feedstorm scenarios                   what can be run
      feedstorm run celebrity-cache-kill    run it, read the verdict
    \b
    Exit codes: 0 pass, 1 an SLO or invariant failed, 2 usage, 3 inconclusive,
    4 environment unavailable, 5 a fault could not be undone, 70 internal error, 130 interrupted.
    """


for command in (run, scenarios, conform, up, down, status, check, report, query, doctor):
    feedstorm.add_command(command)


def main() -> None:
    """Entry point: run a command, exit with its code, never with a traceback for a foreseeable error."""
    try:
        feedstorm.main(standalone_mode=False)
    except click.ClickException as error:
        error.show()
        sys.exit(ExitCode.USAGE)
    except (click.Abort, KeyboardInterrupt):
        click.echo("interrupted", err=True)
        sys.exit(ExitCode.INTERRUPTED)
    except FeedstormError as error:
        for line in str(error).splitlines():
            click.echo(f"feedstorm: {line}", err=True)
        sys.exit(error.exit_code)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(ExitCode.PASS)
    except click.exceptions.Exit as done:
        sys.exit(done.exit_code)
    except Exception:
        click.echo("feedstorm: internal error; please report it with this traceback", err=True)
        traceback.print_exc()
        sys.exit(ExitCode.INTERNAL)


if __name__ == "__main__":
    main()
