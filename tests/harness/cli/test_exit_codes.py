import errno
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
        (PermissionError(errno.EACCES, "Permission denied", "runs/x"), ExitCode.ENVIRONMENT),
        (OSError(errno.ENOSPC, "No space left on device"), ExitCode.ENVIRONMENT),
        (IsADirectoryError(errno.EISDIR, "Is a directory", "runs/x/report.html"), ExitCode.ENVIRONMENT),
        (NotADirectoryError(errno.ENOTDIR, "Not a directory", "runs/x"), ExitCode.ENVIRONMENT),
        (FileNotFoundError(errno.ENOENT, "No such file or directory", "a bug"), ExitCode.INTERNAL),
        (MemoryError("Unable to allocate 7 TiB"), ExitCode.ENVIRONMENT),
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


def test_a_refusal_of_the_machine_is_told_in_a_line(monkeypatch, capsys):
    refusal = PermissionError(errno.EACCES, "Permission denied", "runs/x")
    monkeypatch.setattr(cli.Commands, "get_command", lambda *_: ends_with(refusal))
    monkeypatch.setattr(sys, "argv", ["feedstorm", "scenarios"])
    with pytest.raises(SystemExit):
        cli.main()
    assert capsys.readouterr().err == "feedstorm: runs/x: Permission denied\n"
