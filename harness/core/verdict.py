"""Three-valued verdicts: pass, fail, inconclusive. Fail beats inconclusive beats pass."""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum
from typing import Any

import msgspec


class Outcome(StrEnum):
    """The result of one check or of a whole run."""

    PASS = "pass"
    FAIL = "fail"
    INCONCLUSIVE = "inconclusive"


class CheckKind(StrEnum):
    """What sort of statement a check makes."""

    SLO = "slo"
    INVARIANT = "invariant"
    RECOVERY = "recovery"
    WITNESS = "witness"
    GENERATOR = "generator"
    STOP = "stop"


class Check(msgspec.Struct, kw_only=True):
    """One checked statement, as it appears in verdict.json.

    `observations` counts what the check looked at: 0 observations is never a pass.
    `evidence` holds readable sentences, the most telling first, at most 20.
    `skipped` marks what the target cannot do; a skipped check does not count in the verdict.
    """

    name: str
    kind: CheckKind
    verdict: Outcome
    phase: str = ""
    value: float | None = None
    bound: float | None = None
    unit: str = ""
    observations: int = 0
    reason: str = ""
    evidence: list[str] = msgspec.field(default_factory=list)
    skipped: bool = False


class Verdict(msgspec.Struct, kw_only=True):
    """The judgement of one run, as stored in verdict.json."""

    verdict: Outcome
    scenario: str
    seed: int
    checks: list[Check]
    counts: dict[str, Any] = msgspec.field(default_factory=dict)
    phases: list[dict[str, Any]] = msgspec.field(default_factory=list)


def worst(outcomes: Iterable[Outcome]) -> Outcome:
    """Merge outcomes: fail beats inconclusive beats pass; nothing at all is inconclusive."""
    seen = set(outcomes)
    if Outcome.FAIL in seen:
        return Outcome.FAIL
    if Outcome.INCONCLUSIVE in seen or not seen:
        return Outcome.INCONCLUSIVE
    return Outcome.PASS
