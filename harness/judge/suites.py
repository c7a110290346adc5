"""What became of a suite: several scenarios, one run each, and of some another run that has to fail. Pure."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from harness.core.errors import ExitCode
from harness.core.verdict import Outcome

GRAVEST_FIRST = (
    ExitCode.RESIDUE,
    ExitCode.INTERNAL,
    ExitCode.ENVIRONMENT,
    ExitCode.USAGE,
    ExitCode.FAIL,
    ExitCode.INCONCLUSIVE,
    ExitCode.PASS,
)
"""of several runs the gravest code is that of all"""


class SuiteRun(msgspec.Struct, kw_only=True):
    """One run of a suite."""

    scenario: str
    planted: str = ""
    """the option by which it has to fail ("--defect no-wal"); empty: it has to pass"""
    caught_by: str = ""
    """the check that has to turn red with it"""
    run: str
    """its directory, within that of the suite"""
    outcome: Outcome | None = None
    """pass: it did what it has to; None: it was not judged"""
    exit_code: int
    says: str
    """in one sentence"""
    troubles: list[str] = []
    """names of the checks that did not pass, failed ones first"""
    took_s: float = 0.0

    @property
    def name(self) -> str:
        """What was run, as one would type it."""
        return f"{self.scenario} {self.planted}".strip()


class Suite(msgspec.Struct, kw_only=True):
    """All runs so far."""

    runs: list[SuiteRun] = []
    wanted: int = 0
    ended: str = ""
    """why there are fewer runs than wanted; empty: there are not"""

    @property
    def exit_code(self) -> ExitCode:
        """The gravest of all; inconclusive when some were not made."""
        unmade = [ExitCode.INCONCLUSIVE] if len(self.runs) < max(1, self.wanted) else []
        return gravest([*(ExitCode(run.exit_code) for run in self.runs), *unmade])

    @property
    def verdict(self) -> Outcome:
        """The same in the three values of a verdict: what could not be run is inconclusive."""
        outcomes = {ExitCode.PASS: Outcome.PASS, ExitCode.FAIL: Outcome.FAIL}
        return outcomes.get(self.exit_code, Outcome.INCONCLUSIVE)

    @property
    def took_s(self) -> float:
        """Of all runs together."""
        return sum(run.took_s for run in self.runs)


def gravest(codes: Iterable[ExitCode]) -> ExitCode:
    """The one that stands first in GRAVEST_FIRST."""
    return min(codes, key=GRAVEST_FIRST.index)
