"""Generator health: was the load what the scenario asked for? When not, nothing that looks good proves anything.

Each bound makes the run inconclusive, never failed: late arrivals (started more than 100 ms after they were due) over
2 % of a process's arrivals, any dropped arrival, fewer arrivals than the schedule has, arrivals that nobody could do
over 5 %, event-loop lag p99 over 100 ms, any error of the process's own, a process that did not finish or is missing.
So does a clock that cannot be trusted: the wall clock, by which targets stamp posts, was set by 50 ms or more while the
load ran; the clock that times are read from went 1 % faster or slower than the unadjusted one; a process elsewhere has
a clock that differs by an amount not known to 50 ms.
Latency counts from the due time all the same, so a slow generator can only make a target look worse.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import pairwise

from harness.core.clock import NS_PER_MS, NS_PER_S
from harness.core.verdict import Check, CheckKind, Outcome
from harness.judge.case import Case, LoadReport
from harness.record.noise_file import NoiseRow
from harness.record.parquet import processes

LATE_SHARE = 0.02
SKIPPED_SHARE = 0.05
LOOP_LAG_P99_MS = 100.0
CLOCK_STEP_NS = 50 * NS_PER_MS
CLOCK_ERROR_NS = 50 * NS_PER_MS
CLOCK_PACE = 0.01
PACED_OVER_NS = 5 * NS_PER_S
"""a shorter time says nothing of the pace of a clock"""
_LOAD_SEGMENT = re.compile(r"(locust|streams)-[0-9]+")
"""names of the histories that load processes write"""


def judge_generator(case: Case) -> list[Check]:
    """One check for all load processes together."""
    problems = missing_from(case) + [problem for report in case.load for problem in problems_of(report)]
    problems += clock_problems(case)
    taken, late = sum(r.taken for r in case.load), sum(r.late for r in case.load)
    said = "; ".join(problems[:3]) or f"{late:,} of {taken:,} arrivals were late; none was dropped"
    left_out = dict.fromkeys(what for report in case.load for what in report.left_out)
    check = Check(
        name="generator",
        kind=CheckKind.GENERATOR,
        verdict=Outcome.INCONCLUSIVE if problems else Outcome.PASS,
        value=late / taken if taken else 0.0,
        bound=LATE_SHARE,
        unit="share",
        observations=taken,
        reason="; left out: ".join([said, *left_out]),
        evidence=problems[:20],
    )
    return [check]


def missing_from(case: Case) -> list[str]:
    """What should have reported and did not: kinds of load process, and processes that left a history."""
    if not case.load:
        return ["no load process reported"]
    reported = {report.kind or report.process.partition("-")[0] for report in case.load}
    needed = ["locust"]
    if case.scenario.population.listeners and case.profile.capabilities.stream != "none":
        needed.append("streams")
    missing = [f"no load process of kind {kind} reported" for kind in needed if kind not in reported]
    wrote = {name for name in processes(case.run) if _LOAD_SEGMENT.fullmatch(name)}
    silent = sorted(wrote - {report.process for report in case.load})
    return missing + [f"{name} wrote a history but never reported" for name in silent]


def problems_of(report: LoadReport) -> list[str]:
    """What makes the load of one process unfit to judge by."""
    name = report.process
    problems = []
    if not report.completed:
        problems.append(f"{name} did not finish: {'; '.join(report.errors) or 'no reason recorded'}")
    elif report.errors:
        problems.append(f"{name} had errors: {'; '.join(report.errors)}")
    done = report.taken + report.dropped
    if report.kind == "locust" and done < report.planned:
        problems.append(f"{name} never came to {report.planned - done:,} of {report.planned:,} planned arrivals")
    if report.dropped:
        problems.append(f"{name} dropped {report.dropped:,} of {report.planned:,} arrivals")
    if report.skipped > SKIPPED_SHARE * report.planned:
        problems.append(
            f"{name} skipped {report.skipped:,} of {report.planned:,} arrivals that nobody could do "
            f"(bound {100 * SKIPPED_SHARE:g} %)"
        )
    if report.taken and report.late / report.taken > LATE_SHARE:
        problems.append(
            f"{name} started {report.late:,} of {report.taken:,} arrivals more than 100 ms late "
            f"(the worst {report.max_late_ms:.0f} ms; bound {100 * LATE_SHARE:g} %)"
        )
    if report.loop_lag_p99_ms > LOOP_LAG_P99_MS:
        problems.append(f"{name}: p99 of its loop lag is {report.loop_lag_p99_ms:.0f} ms, bound {LOOP_LAG_P99_MS:g} ms")
    return problems


def clock_problems(case: Case) -> list[str]:
    """Why times of the run cannot be trusted. The clocks of this machine are known when the null probe ran."""
    rows = sorted((row for row in case.noise if row.wall_ns), key=lambda row: row.end_ns)
    problems = [
        f"the wall clock was set {'forward' if step > 0 else 'back'} by {abs(step) / NS_PER_S:.3f} s at about "
        f"{case.at(after.end_ns)}"
        for before, after in pairwise(rows)
        if abs(step := wall_step_ns(before, after)) >= CLOCK_STEP_NS
    ]
    pace = clock_pace(rows)
    if abs(pace) >= CLOCK_PACE:
        way = "fast" if pace > 0 else "slow"
        problems.append(f"the clock that times are read from went {100 * abs(pace):.2g} % too {way}")
    if case.clock_error_ns >= CLOCK_ERROR_NS:
        known_ms = case.clock_error_ns / NS_PER_MS
        problems.append(f"how far the clocks of two processes differ is known to {known_ms:.0f} ms only")
    return problems


def wall_step_ns(before: NoiseRow, after: NoiseRow) -> int:
    """By how much the wall clock went further than the monotonic one from one line to the next."""
    return (after.wall_ns - before.wall_ns) - (after.end_ns - before.end_ns)


def clock_pace(rows: Sequence[NoiseRow]) -> float:
    """Share by which the monotonic clock outran the unadjusted one (negative: fell behind); 0: too short to tell."""
    if len(rows) < 2 or (raw_ns := rows[-1].raw_ns - rows[0].raw_ns) < PACED_OVER_NS:
        return 0.0
    return (rows[-1].end_ns - rows[0].end_ns) / raw_ns - 1
