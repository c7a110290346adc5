import sys

import click
import pytest

from harness import cli
from harness.core.errors import ExitCode, UnavailableError, UsageError


def ends_with(error):
    @click.command()
    def ends():
        if error is not None:
            raise error

    return ends


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (None, ExitCode.PASS),
        (click.exceptions.Exit(ExitCode.FAIL), ExitCode.FAIL),
        (click.exceptions.Exit(ExitCode.INCONCLUSIVE), ExitCode.INCONCLUSIVE),
        (click.UsageError("x"), ExitCode.USAGE),
        (UsageError("x"), ExitCode.USAGE),
        (UnavailableError("x"), ExitCode.ENVIRONMENT),
        (KeyboardInterrupt(), ExitCode.INTERRUPTED),
        (KeyError("a bug"), ExitCode.INTERNAL),
    ],
)
def test_what_ends_a_command_becomes_its_exit_code(monkeypatch, capsys, error, code):
    monkeypatch.setattr(cli.Commands, "get_command", lambda *_: ends_with(error))
    monkeypatch.setattr(sys, "argv", ["feedstorm", "scenarios"])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == code
    assert capsys.readouterr().out == ""
