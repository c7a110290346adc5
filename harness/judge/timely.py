"""Invariants that are promises of time, judged beside the machine: visibility, cross_region, and those that give what
is said a time to get around, eligibility and honest_degradation.

When one fails, it is checked again with each time shortened by what the machine explains of it (`harness.judge.noise`,
`Trial.doubtful`): late is only what is later than that. It stays failed when it fails then too, and is inconclusive
otherwise. All other invariants are of consistency: no machine is so slow that an acknowledged post may be lost.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

from harness.core.clock import NS_PER_MS
from harness.core.verdict import Check, Outcome
from harness.judge.case import Case, Window
from harness.judge.expressions import Threshold
from harness.judge.invariants import CHECKERS
from harness.judge.invariants.honest_degradation import GRACE_NS
from harness.judge.noise import excused
from harness.judge.trial import Trial, run_checker


def _within(name: str, quantile: float, bound_ns: int) -> Threshold:
    return Threshold(text=name, aggregation="p", quantile=quantile, comparison="<=", bound=bound_ns, unit="ns")


PROMISES: Mapping[str, Callable[[Case], Threshold]] = {
    "visibility": lambda case: _within("p(99)", 0.99, case.visibility_ns),
    "cross_region": lambda case: _within("max", 1.0, case.cross_region_ns),
    "eligibility": lambda case: _within("max", 1.0, case.visibility_ns),
    "honest_degradation": lambda case: _within("max", 1.0, case.visibility_ns + GRACE_NS),
}
"""invariant -> the bound on times that it stands for"""


def judge_invariant(trial: Trial, name: str) -> Check:
    """The check of one invariant. Never raises."""
    check = run_checker(name, CHECKERS[name], trial)
    promise = PROMISES.get(name)
    if promise is None or check.skipped or not trial.noise.rows or not trial.case.phases:
        return check
    threshold = promise(trial.case)
    span = Window(trial.case.phases[0].start_ns, max(row.end_ns for row in trial.noise.rows))
    if check.unit == "ms":
        machine_ns = trial.noise.machine_ns(span, threshold)
        check.machine = None if machine_ns is None else machine_ns / NS_PER_MS
    explaining = trial.noise.explaining(span, name)
    if check.verdict is not Outcome.FAIL or not explaining:
        return check
    quiet = run_checker(name, CHECKERS[name], replace(trial, doubtful=tuple(explaining)))
    if quiet.verdict is Outcome.FAIL:
        return check
    return excused(check, f"{trial.noise.told(span, name)}; without that: {quiet.reason}")
