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
    BASELINE = "baseline"
    """how the run compares with an older one"""


class Check(msgspec.Struct, kw_only=True):
    """One checked statement, as it appears in verdict.json.

    `observations` counts what the check looked at: 0 observations is never a pass.
    `evidence` holds readable sentences, the most telling first, at most 20.
    `skipped` marks what the target cannot do; a skipped check does not count in the verdict.
    `machine` is what the machine alone took of a time meanwhile, aggregated like `value` and in its unit; None: it is
    no time, or the machine was not measured.
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
    machine: float | None = None


class MachinePhase(msgspec.Struct, kw_only=True):
    """The machine of a run in one phase, measured beside it: times of echoes in ms, shares from 0 to 1, means."""

    phase: str
    kind: str = ""
    seconds: float = 0.0
    """that were measured"""
    starved_s: float = 0.0
    """of them, those in which others kept the run from the processors"""
    echoes: int = 0
    p50_ms: float = 0.0
    p95_ms: float = 0.0
    p99_ms: float = 0.0
    max_ms: float = 0.0
    lag_p99_ms: float = 0.0
    """how late a loop that does nothing else woke up"""
    own: float = 0.0
    """share of the processors that the run took, with its target"""
    outside: float = 0.0
    """share that other processes took"""
    steal: float = 0.0
    """share that the hypervisor gave to others"""
    waited: float = 0.0
    """of the time in which the run's main threads could have run, the share they stood in line"""
    running: float = 0.0
    """threads that ran or stood in line"""
    pressure_cpu: float | None = None
    """share of the time in which some task waited for a processor; None: the kernel does not tell"""
    pressure_memory: float | None = None
    pressure_io: float | None = None
    cost: float = 0.0
    """share of one core that measuring took"""


class Verdict(msgspec.Struct, kw_only=True):
    """The judgement of one run, as stored in verdict.json."""

    verdict: Outcome
    scenario: str
    seed: int
    checks: list[Check]
    counts: dict[str, Any] = msgspec.field(default_factory=dict)
    phases: list[dict[str, Any]] = msgspec.field(default_factory=list)
    machine: list[MachinePhase] = msgspec.field(default_factory=list)
    """phase by phase; empty: it was not measured"""


def worst(outcomes: Iterable[Outcome]) -> Outcome:
    """Merge outcomes: fail beats inconclusive beats pass; nothing at all is inconclusive."""
    seen = set(outcomes)
    if Outcome.FAIL in seen:
        return Outcome.FAIL
    if Outcome.INCONCLUSIVE in seen or not seen:
        return Outcome.INCONCLUSIVE
    return Outcome.PASS
