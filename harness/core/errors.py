"""Errors a person can act on, each with the exit code it ends the command with.

    FeedstormError
    |-- UsageError         2   the scenario, profile or command line is wrong: `problems` lists all of them
    |-- UnavailableError   4   a program, port or target is missing: says what and the fix
    |-- ResidueError       5   a fault could not be undone
    `-- InterruptedRun   130   stopped by the operator; everything was undone

Only `harness.cli` turns them into process exits.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from enum import IntEnum


class ExitCode(IntEnum):
    """What a command's exit status means. The same for every command."""

    PASS = 0
    """every check passed"""
    FAIL = 1
    """an SLO or invariant failed"""
    USAGE = 2
    """usage, or an invalid scenario or profile"""
    INCONCLUSIVE = 3
    """generator saturated, fault without witness, too few observations"""
    ENVIRONMENT = 4
    """something this machine or the target should provide is unavailable"""
    RESIDUE = 5
    """a fault could not be undone"""
    INTERNAL = 70
    """a bug of ours"""
    INTERRUPTED = 130
    """interrupted; everything was undone"""


class FeedstormError(Exception):
    """Base of all errors meant for people. `str(error)` is the whole message, no traceback needed."""

    exit_code: ExitCode = ExitCode.INTERNAL


class UsageError(FeedstormError):
    """Bad input. Carries every problem found, each as "path: what was expected, what was got"."""

    exit_code = ExitCode.USAGE

    def __init__(self, problems: Sequence[str] | str) -> None:
        self.problems: list[str] = [problems] if isinstance(problems, str) else list(problems)
        super().__init__("\n".join(self.problems))


class UnavailableError(FeedstormError):
    """The machine or the target lacks something. The message is one sentence and the fix."""

    exit_code = ExitCode.ENVIRONMENT


class ResidueError(FeedstormError):
    """A fault is still active although its undo was tried. Lists what remains."""

    exit_code = ExitCode.RESIDUE


class InterruptedRun(FeedstormError):
    """The operator stopped the run (Ctrl-C or SIGTERM); every stage was undone."""

    exit_code = ExitCode.INTERRUPTED


def first_line(error: BaseException) -> str:
    """What an error says, in one line; its name where it says nothing."""
    return str(error).splitlines()[0] if str(error) else repr(error)


def foremost(error: BaseException) -> BaseException:
    """The error to tell about: of a group, a fault that was not undone before anything else, then the first.

    Task groups raise groups, although their tasks mostly fail for one reason.
    """
    if not isinstance(error, BaseExceptionGroup):
        return error
    found = [foremost(inner) for inner in error.exceptions]
    meant = [inner for inner in found if isinstance(inner, FeedstormError)]
    return next((inner for inner in meant if isinstance(inner, ResidueError)), (meant or found)[0])


def nearest(name: str, valid: Iterable[str]) -> str:
    """`" (did you mean 'x'?)"` when a valid name is close, else the list of valid names."""
    choices = sorted(set(valid))
    close = difflib.get_close_matches(name, choices, n=1, cutoff=0.6)
    if close:
        return f" (did you mean '{close[0]}'?)"
    return f" (valid: {', '.join(choices)})" if choices else ""
