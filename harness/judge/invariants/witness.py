"""20. Witness: each planned fault was proven to take effect, and was undone.

Formally: for each fault that phases.json names there is a row in faults.jsonl with an injection time, an observed proof
of its effect (connection refused, measured delay, process gone ...) and the time of its undo; and no phase names fewer
faults than the scenario plans in it (it may name more: a pattern of handles gives one fault for each handle).

A fault without proof makes the run inconclusive, never failed: nothing is known about behaviour under that fault.
Skipped: the scenario has no faults, or the target no handles. Otherwise it is judged in any case, whatever invariants
the scenario lists.
"""

from __future__ import annotations

from harness.core.verdict import CheckKind
from harness.judge.case import Case, Fault
from harness.judge.trial import Checker, Finding, Trial


def check(trial: Trial) -> Finding:
    """Read what the chaos schedule observed."""
    case = trial.case
    planned = [fault for phase in case.phases for fault in phase.faults]
    not_due = _not_due(case)
    lost = sorted(set(planned) - {f.id for f in case.faults})
    problems = [f"{not_due} faults of the scenario were never due"] if not_due else []
    problems += [f"planned faults left no record: {', '.join(lost)}"] if lost else []
    problems += [problem for f in case.faults if (problem := problem_of(f))]
    proven = [f for f in case.faults if not problem_of(f)]
    return Finding(
        observations=len(proven),
        evidence=[_sentence(case, f) for f in proven],
        unproven="; ".join(problems),
        value=float(len(proven)),
        bound=float(len(planned) + not_due),
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


def _not_due(case: Case) -> int:
    """Faults of the scenario for which phases.json has none in the same phase."""
    due = {phase.name: len(phase.faults) for phase in case.phases}
    return sum(max(0, len(phase.faults) - due.get(phase.name, 0)) for phase in case.scenario.phases)


def is_due(case: Case) -> bool:
    """Whether there are faults to prove: then no scenario can do without this checker."""
    return not _skip(case)


def _skip(case: Case) -> str:
    if case.faults:
        return ""
    if not any(phase.faults for phase in case.scenario.phases):
        return "skipped: the scenario has no faults"
    if not case.profile.handles:
        return f"skipped: target {case.profile.name} has no handles that chaos may touch"
    return ""


CHECKER = Checker(check, kind=CheckKind.WITNESS, skip=_skip)
