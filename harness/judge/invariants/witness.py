"""20. Witness: each planned fault was proven to take effect, and was undone.

Formally: for each fault that phases.json names there is a row in faults.jsonl with an injection time, an observed proof
of its effect (connection refused, measured delay, process gone ...) and the time of its undo; and no phase names fewer
faults than the scenario plans in it (it may name more: a pattern of handles gives one fault for each handle).

A fault without proof makes the run inconclusive, never failed: nothing is known about behaviour under that fault. Its
recovery, and the SLOs of the phases in which it was due, cannot pass either (`unproven_phases`).
Cost: none; it reads the records of faults.
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
    not_due = sum(_missing(case).values())
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
    problem = without_witness(fault)
    if not problem and fault.undone_ns is None:
        return f"{_name(fault)} was not undone: {fault.undo.get('detail') or 'no reason recorded'}"
    return problem


def without_witness(fault: Fault) -> str:
    """Why nothing proves that a fault took effect; empty: something does."""
    if fault.injected_ns is None:
        return f"{_name(fault)} was not injected" + (f": {fault.inject_error}" if fault.inject_error else "")
    if not fault.witness.get("ok"):
        return f"{_name(fault)} has no witness: {fault.witness.get('evidence') or 'nothing was observed'}"
    return ""


def unproven_phases(case: Case) -> dict[str, str]:
    """Phase name -> the faults that were due in it and have no witness, in words; phases without any are left out."""
    if not is_due(case):
        return {}
    known = {fault.id: fault for fault in case.faults}
    missing = _missing(case)
    found: dict[str, list[str]] = {}
    for phase in case.phases:
        due = dict.fromkeys([*phase.faults, *(f.id for f in case.faults if f.phase == phase.name)])
        problems = [without_witness(known[id]) if id in known else f"fault {id} left no record" for id in due]
        problems += [f"{missing[phase.name]} faults of the scenario were never due"] if phase.name in missing else []
        found[phase.name] = [problem for problem in problems if problem]
    return {name: _in_short(problems) for name, problems in found.items() if problems}


def _in_short(problems: list[str]) -> str:
    return problems[0] + (f"; and {len(problems) - 1} more" if len(problems) > 1 else "")


def _name(fault: Fault) -> str:
    return f"{fault.kind} of {fault.handle} ({fault.id})"


def _sentence(case: Case, fault: Fault) -> str:
    start, end = case.at(fault.injected_ns or 0), case.at(fault.undone_ns or 0)
    return f"{fault.kind} of {fault.handle} from {start} to {end}: {fault.witness.get('evidence', '')}"


def _missing(case: Case) -> dict[str, int]:
    """Phase name -> number of the scenario's faults for which phases.json has none in the same phase."""
    due = {phase.name: len(phase.faults) for phase in case.phases}
    short = {phase.name: len(phase.faults) - due.get(phase.name, 0) for phase in case.scenario.phases}
    return {name: number for name, number in short.items() if number > 0}


def is_due(case: Case) -> bool:
    """Whether there are faults to prove: then no scenario can do without this checker."""
    return not _skip(case)


def _skip(case: Case) -> str:
    if case.faults:
        return ""
    if case.scenario.chaos is None and not any(phase.faults for phase in case.scenario.phases):
        return "skipped: the scenario has no faults"
    if not case.profile.handles:
        return f"skipped: target {case.profile.name} has no handles that chaos may touch"
    return ""


CHECKER = Checker(check, kind=CheckKind.WITNESS, skip=_skip)
