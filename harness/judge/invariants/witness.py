"""20. Witness: each planned fault was proven to take effect, and was undone.

Formally: for each fault of the scenario there is a row in faults.jsonl with an injection time, an observed proof of its
effect (connection refused, measured delay, process gone ...) and the time of its undo.

A fault without proof makes the run inconclusive, never failed: nothing is known about behaviour under that fault.
Skipped: the scenario has no faults, or the target no handles.
"""

from __future__ import annotations

from harness.core.verdict import CheckKind
from harness.judge.case import Case, Fault
from harness.judge.trial import Checker, Finding, Trial


def check(trial: Trial) -> Finding:
    """Read what the chaos schedule observed."""
    case = trial.case
    planned = _planned(case)
    problems = [f"{planned - len(case.faults)} planned faults left no record"] if len(case.faults) < planned else []
    problems += [problem for f in case.faults if (problem := problem_of(f))]
    proven = [f for f in case.faults if not problem_of(f)]
    return Finding(
        observations=len(proven),
        evidence=[_sentence(case, f) for f in proven],
        unproven="; ".join(problems),
        value=float(len(proven)),
        bound=float(planned),
        unit="faults",
    )


def problem_of(fault: Fault) -> str:
    """What is missing about a fault; empty: nothing."""
    name = f"{fault.kind} of {fault.handle} ({fault.id})"
    if fault.injected_ns is None:
        return f"{name} was not injected"
    if not fault.witness.get("ok"):
        return f"{name} has no witness: {fault.witness.get('evidence') or 'nothing was observed'}"
    if fault.undone_ns is None:
        return f"{name} was not undone: {fault.undo.get('detail') or 'no reason recorded'}"
    return ""


def _sentence(case: Case, fault: Fault) -> str:
    start, end = case.at(fault.injected_ns or 0), case.at(fault.undone_ns or 0)
    return f"{fault.kind} of {fault.handle} from {start} to {end}: {fault.witness.get('evidence', '')}"


def _planned(case: Case) -> int:
    return sum(len(p.faults) for p in case.scenario.phases)


def _skip(case: Case) -> str:
    if case.faults:
        return ""
    if not _planned(case):
        return "skipped: the scenario has no faults"
    if not case.profile.handles:
        return f"skipped: target {case.profile.name} has no handles that chaos may touch"
    return ""


CHECKER = Checker(check, kind=CheckKind.WITNESS, skip=_skip)
