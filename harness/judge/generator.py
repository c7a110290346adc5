"""Generator health: was the load what the scenario asked for? When not, nothing that looks good proves anything.

Each bound makes the run inconclusive, never failed: late arrivals (started more than 100 ms after they were due) over
2 % of a process's arrivals, any dropped arrival, fewer arrivals than the schedule has, event-loop lag p99 over 100 ms,
any error of the process's own, a process that did not finish or is missing.
Latency counts from the due time all the same, so a slow generator can only make a target look worse.
"""

from __future__ import annotations

from harness.core.verdict import Check, CheckKind, Outcome
from harness.judge.case import Case, LoadReport

LATE_SHARE = 0.02
LOOP_LAG_P99_MS = 100.0


def judge_generator(case: Case) -> list[Check]:
    """One check for all load processes together."""
    problems = missing_from(case) + [problem for report in case.load for problem in problems_of(report)]
    sent, late = sum(r.sent for r in case.load), sum(r.late for r in case.load)
    check = Check(
        name="generator",
        kind=CheckKind.GENERATOR,
        verdict=Outcome.INCONCLUSIVE if problems else Outcome.PASS,
        value=late / sent if sent else 0.0,
        bound=LATE_SHARE,
        unit="share",
        observations=sent,
        reason="; ".join(problems[:3]) or f"{late:,} of {sent:,} arrivals were late; none was dropped",
        evidence=problems[:20],
    )
    return [check]


def missing_from(case: Case) -> list[str]:
    """The kinds of load process that should have reported and did not."""
    if not case.load:
        return ["no load process reported"]
    reported = {report.kind or report.process.partition("-")[0] for report in case.load}
    needed = ["locust"]
    if case.scenario.population.listeners and case.profile.capabilities.stream != "none":
        needed.append("streams")
    return [f"no load process of kind {kind} reported" for kind in needed if kind not in reported]


def problems_of(report: LoadReport) -> list[str]:
    """What makes the load of one process unfit to judge by."""
    name = report.process
    problems = []
    if not report.completed:
        problems.append(f"{name} did not finish: {'; '.join(report.errors) or 'no reason recorded'}")
    elif report.errors:
        problems.append(f"{name} had errors: {'; '.join(report.errors)}")
    done = report.sent + report.dropped + report.skipped
    if report.kind == "locust" and done < report.planned:
        problems.append(f"{name} never came to {report.planned - done:,} of {report.planned:,} planned arrivals")
    if report.dropped:
        problems.append(f"{name} dropped {report.dropped:,} of {report.planned:,} arrivals")
    if report.sent and report.late / report.sent > LATE_SHARE:
        problems.append(
            f"{name} started {report.late:,} of {report.sent:,} arrivals more than 100 ms late "
            f"(the worst {report.max_late_ms:.0f} ms; bound {100 * LATE_SHARE:g} %)"
        )
    if report.loop_lag_p99_ms > LOOP_LAG_P99_MS:
        problems.append(f"{name}: p99 of its loop lag is {report.loop_lag_p99_ms:.0f} ms, bound {LOOP_LAG_P99_MS:g} ms")
    return problems
