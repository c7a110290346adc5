"""What became of several runs of one scenario: how often each check passed. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

import msgspec

from harness.core.verdict import Check, CheckKind, Outcome, Verdict, worst


class RepeatedRun(msgspec.Struct, kw_only=True):
    """One of the runs."""

    run: str
    """its directory, as one would type it"""
    verdict: Outcome
    troubles: list[str]
    """names of the checks that did not pass, failed ones first"""


class CheckRate(msgspec.Struct, kw_only=True):
    """One check over all runs that have it."""

    name: str
    kind: CheckKind
    phase: str
    passed: int
    failed: int
    inconclusive: int
    skipped: int

    @property
    def judged(self) -> int:
        """Runs in which it was not skipped."""
        return self.passed + self.failed + self.inconclusive


class Repeats(msgspec.Struct, kw_only=True):
    """Several runs."""

    scenario: str
    verdict: Outcome
    """the worst of all; inconclusive when not all were made"""
    wanted: int
    ended: str
    """why there are fewer runs than wanted; empty: there are not"""
    runs: list[RepeatedRun]
    checks: list[CheckRate]
    """those that passed least often first"""


def repeats_of(
    scenario: str, made: Sequence[tuple[str, Verdict]], wanted: int, ended: str = "", also: Iterable[Outcome] = ()
) -> Repeats:
    """The runs together. `also`: what else is part of the verdict."""
    outcomes = [verdict.verdict for _, verdict in made]
    unmade = [Outcome.INCONCLUSIVE] if len(made) < wanted else []
    return Repeats(
        scenario=scenario,
        verdict=worst([*outcomes, *unmade, *also]),
        wanted=wanted,
        ended=ended,
        runs=[RepeatedRun(run=run, verdict=v.verdict, troubles=troubles_of(v)) for run, v in made],
        checks=check_rates(verdict for _, verdict in made),
    )


def check_rates(verdicts: Iterable[Verdict]) -> list[CheckRate]:
    """How often each check passed, over all verdicts."""
    found: dict[tuple[str, str, str], Counter[str]] = {}
    for verdict in verdicts:
        for check in verdict.checks:
            words = found.setdefault((check.kind, check.name, check.phase), Counter())
            words["skipped" if check.skipped else str(check.verdict)] += 1
    rates = [
        CheckRate(
            name=name,
            kind=CheckKind(kind),
            phase=phase,
            passed=words[Outcome.PASS],
            failed=words[Outcome.FAIL],
            inconclusive=words[Outcome.INCONCLUSIVE],
            skipped=words["skipped"],
        )
        for (kind, name, phase), words in found.items()
    ]
    return sorted(rates, key=_passed_share)


def _passed_share(rate: CheckRate) -> tuple[float, float]:
    """Least often passed first, of these the most failed; what was skipped in all runs is last."""
    return (rate.passed / rate.judged, -rate.failed / rate.judged) if rate.judged else (2.0, 0.0)


def troubles_of(verdict: Verdict) -> list[str]:
    """Names of the checks that did not pass, failed ones first."""

    def found(outcome: Outcome) -> list[Check]:
        return [check for check in verdict.checks if check.verdict is outcome and not check.skipped]

    return list(dict.fromkeys(check.name for o in (Outcome.FAIL, Outcome.INCONCLUSIVE) for check in found(o)))
