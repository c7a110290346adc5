"""Judges SLOs: each threshold in each phase is one check, over the exact samples of the phase.

A percentile needs 1 / (1 - q) samples to mean anything, a share of failures 3 / share (`harness.judge.power`): with
fewer, meeting it is inconclusive, missing it fails.
A time that is too long is inconclusive when the machine's own noise explains it (`harness.judge.noise`).
In a phase with a fault that has no witness no threshold passes: nothing is known of behaviour under that fault.
`failures == 0` over n ops proves, with 95 % confidence, a failure rate below 3 / n (rule of three): it is printed.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from typing import Any

from harness.core.clock import NS_PER_S
from harness.core.units import format_duration
from harness.core.verdict import Check, CheckKind, Outcome
from harness.judge import scrapes
from harness.judge.case import Case, Phase, Window
from harness.judge.delays import Delay
from harness.judge.expressions import PHASE_KINDS, Selection, Slo, Threshold
from harness.judge.invariants.witness import unproven_phases
from harness.judge.noise import excused, explained_ns
from harness.judge.power import bound_reached
from harness.judge.trial import Trial, doubted

EVIDENCE = 5
_MS = 1e6
_DETAIL = re.compile(r'"detail":\s*"((?:[^"\\]|\\.)*)')
"""of a problem document, of which a history keeps the first 200 bytes only"""


def judge_slos(trial: Trial, slos: tuple[Slo, ...]) -> Iterator[Check]:
    """One check a threshold and phase, in the scenario's order."""
    unproven = unproven_phases(trial.case)
    for slo in slos:
        phases = chosen_phases(trial.case.judged_phases, slo.tags.get("phase"))
        if not phases:
            yield from _absent(slo)
        for phase in phases:
            for threshold in slo.thresholds:
                yield doubted(judge_threshold(trial, slo, phase, threshold), unproven.get(phase.name, ""))


def _absent(slo: Slo) -> Iterator[Check]:
    """A phase that the run did not have leaves its thresholds unproven; a kind of phase it did not need is skipped."""
    wanted = slo.tags["phase"]
    for threshold in slo.thresholds:
        yield Check(
            name=f"{slo.selector} {threshold.text}",
            kind=CheckKind.SLO,
            verdict=Outcome.INCONCLUSIVE,
            phase=wanted,
            skipped=wanted in PHASE_KINDS,
            reason=f"skipped: the run has no {wanted} phase" if wanted in PHASE_KINDS else f"no phase {wanted} was run",
        )


def chosen_phases(phases: list[Phase], wanted: str | None) -> list[Phase]:
    """The phases an SLO is judged in: all but the warm-up, or those of that name or kind."""
    return [p for p in phases if wanted is None or wanted in (p.name, p.kind)]


def judge_threshold(trial: Trial, slo: Slo, phase: Phase, threshold: Threshold) -> Check:
    """The check of one threshold in one phase."""
    missing = _missing(trial, slo)
    check = Check(
        name=f"{slo.selector} {threshold.text}",
        kind=CheckKind.SLO,
        verdict=Outcome.INCONCLUSIVE,
        phase=phase.name,
        bound=shown(threshold, threshold.bound),
        unit=shown_unit(threshold),
        reason=missing,
        skipped=bool(missing),
    )
    if missing:
        return check
    if slo.metric.startswith("target:"):
        return _judge_target(trial, slo, phase, threshold, check)
    return _judge_samples(trial, slo, phase, threshold, check)


def shown(threshold: Threshold, value: float) -> float:
    """A value in the unit of the bound as a check shows it, in `shown_unit`."""
    return value / _MS if threshold.unit == "ns" else value


def shown_unit(threshold: Threshold) -> str:
    """The unit of a check's value and bound."""
    if threshold.aggregation == "failures" and not threshold.unit:
        return "failures"
    return {"ns": "ms", "%": "share"}.get(threshold.unit, threshold.unit)


def _missing(trial: Trial, slo: Slo) -> str:
    able, regions = trial.case.profile.capabilities, trial.case.profile.regions
    if slo.metric in ("post_to_event", "post_to_rendered", "stream_open", "cross_region") and able.stream == "none":
        return f"skipped: target {trial.case.profile.name} has no streams"
    if (slo.metric == "cross_region" or slo.tags.get("scope") == "remote") and (len(regions) < 2 or not able.regions):
        return f"skipped: target {trial.case.profile.name} has one region"
    if slo.metric == "feed_new" and not able.since:
        return f"skipped: target {trial.case.profile.name} lacks feed/new"
    if slo.metric == "import" and not able.imports:
        return f"skipped: target {trial.case.profile.name} lacks imports"
    return _foreign_metric(trial.case, slo)


def _foreign_metric(case: Case, slo: Slo) -> str:
    """Why a metric cannot be judged that another target than this one was written with; empty: it can.

    A target that the scenario is written for has to show its metrics, or nothing is known of them.
    """
    name, answered = slo.metric.removeprefix("target:"), [scrape for scrape in case.scrapes if scrape.text]
    foreign = name != slo.metric and case.profile.name != case.scenario.target
    if not foreign or not answered or scrapes.shown_by(answered, name):
        return ""
    return f"skipped: target {case.profile.name} has no metric {name}; it is one of target {case.scenario.target}"


def where(chosen: Selection, phase: Phase) -> tuple[str, dict[str, Any]]:
    """Which rows of the table `sample` a selection has in a phase: SQL, and the values in it."""
    tags = {k: v for k, v in chosen.tags.items() if k != "phase"}
    condition = "metric = $metric AND phase = $phase" + "".join(f" AND {k} = ${k}" for k in tags)
    return condition, {"metric": chosen.metric, "phase": phase.name, **tags}


def _judge_samples(trial: Trial, slo: Slo, phase: Phase, threshold: Threshold, check: Check) -> Check:
    rows, values = where(slo, phase)
    [(count, failed, measured)] = trial.rows(
        f"SELECT count(*), count(*) FILTER (NOT ok), {aggregate(threshold)} FROM sample WHERE {rows}", **values
    )
    good = count - failed
    check.observations = good if threshold.unit == "ns" else count
    value = _value(threshold, good, failed, measured, (phase.end_ns - phase.start_ns) / NS_PER_S)
    _decide(check, threshold, value)
    if check.verdict is Outcome.FAIL:
        check.evidence = _evidence(trial, threshold, rows, values)
    if threshold.unit == "ns":
        _weigh_noise(trial, phase, threshold, check, rows, values)
    if threshold.aggregation == "failures" and count:
        check.reason = failure_reason(count, failed)
        if check.verdict is Outcome.INCONCLUSIVE:
            check.reason += f"; {threshold.text} needs {threshold.needed_samples:,} samples"
    return check


def _weigh_noise(
    trial: Trial, phase: Phase, threshold: Threshold, check: Check, rows: str, values: dict[str, Any]
) -> None:
    """State what the machine alone took; a bound that is missed by no more than its noise is inconclusive."""
    span = Window(phase.start_ns, phase.end_ns)
    check.machine = _machine(trial, span, threshold)

    def shortened(delays: Sequence[Delay]) -> float | None:
        explained = explained_ns(delays, "due_ns", "(due_ns + value_ns)")
        [(value,)] = trial.rows(
            f"""SELECT {aggregate(threshold)} FROM (
                  SELECT ok, greatest(0, value_ns - {explained}) AS value_ns FROM sample WHERE {rows})""",
            **values,
        )
        return None if value is None else float(value)

    if check.verdict is Outcome.FAIL:
        excused(check, trial.noise.excuse(span, threshold, values["metric"], shortened))


def _machine(trial: Trial, span: Window, threshold: Threshold) -> float | None:
    """What the machine alone took, as a check shows it; None: it was not measured."""
    machine_ns = trial.noise.machine_ns(span, threshold)
    return None if machine_ns is None else shown(threshold, machine_ns)


def aggregate(threshold: Threshold) -> str:
    """The value of a threshold on times over samples, as SQL, in nanoseconds; NULL for what is counted."""
    if threshold.aggregation in ("p", "med"):
        return f"quantile_disc(value_ns, {threshold.quantile}) FILTER (ok)"
    if threshold.aggregation in ("avg", "min", "max"):
        return f"{threshold.aggregation}(value_ns) FILTER (ok)"
    return "NULL"


def _value(threshold: Threshold, good: int, failed: int, measured: float | None, seconds: float) -> float | None:
    """The measured value in the unit of the bound; None when there is nothing to measure."""
    match threshold.aggregation:
        case "count":
            return float(good)
        case "rate":
            return good / seconds if seconds else None
        case "failures":
            count = good + failed
            return None if not count else failed / count if threshold.unit == "%" else float(failed)
        case _:
            return None if measured is None else float(measured)


def _decide(check: Check, threshold: Threshold, value: float | None) -> None:
    """Set verdict, value and reason of a check from the measured value."""
    if value is None or math.isnan(value):
        check.reason = "no samples"
        return
    check.value = shown(threshold, value)
    if not threshold.holds(value):
        check.verdict = Outcome.FAIL
        if threshold.unit == "ns":
            check.reason = f"measured {_time(value)} over {check.observations:,} samples"
    elif check.observations < threshold.needed_samples:
        check.reason = f"only {check.observations:,} samples; {threshold.text} needs {threshold.needed_samples:,}"
    elif check.observations or threshold.aggregation in ("count", "rate"):
        check.verdict = Outcome.PASS
    else:
        check.reason = "no samples"


def _time(value_ns: float) -> str:
    return "more than the highest bucket" if math.isinf(value_ns) else format_duration(value_ns / NS_PER_S)


def failure_reason(count: int, failed: int) -> str:
    """How many failed, and what that says of the true failure rate."""
    if failed:
        return f"{failed:,} of {count:,} failed ({100 * failed / count:.3g} %)"
    return (
        f"0 of {count:,} failed: availability of at least {100 - 100 * bound_reached(count):.4f} % at 95 % confidence"
    )


def _evidence(trial: Trial, threshold: Threshold, rows: str, values: dict[str, Any]) -> list[str]:
    failures = threshold.aggregation == "failures"
    chosen, order = ("NOT s.ok", "s.due_ns") if failures else ("s.ok", "s.value_ns DESC")
    found = trial.rows(
        f"""SELECT s.value_ns, s.due_ns, o.kind, o."user", o.region, o.post, o.outcome, o.status, o.error
            FROM (SELECT * FROM sample WHERE {rows}) s JOIN op o ON o.id = s.op
            WHERE {chosen} ORDER BY {order}, s.op LIMIT {EVIDENCE}""",
        **values,
    )
    at = trial.case.at
    return [
        f"{kind} of user {user} in {region}, due at {at(due)}: "
        + (f"{outcome}, {_answered(status, error)}" if failures else format_duration(value / NS_PER_S))
        + (f" (post {post})" if post else "")
        for value, due, kind, user, region, post, outcome, status, error in found
    ]


def _answered(status: int, error: str) -> str:
    """What became of a request: "status 503: no worker answers", by the detail of a problem document if it has one."""
    if not status:
        return error or "no answer"
    said = error.removeprefix("status ").removeprefix(str(status)).strip()
    detail = _DETAIL.search(said)
    return f"status {status}: {detail[1] if detail else said}".removesuffix(": ")


def _judge_target(trial: Trial, slo: Slo, phase: Phase, threshold: Threshold, check: Check) -> Check:
    """A threshold on a histogram or counter of the target's own metrics. Histograms of times count in seconds."""
    labels = {k: v for k, v in slo.tags.items() if k not in ("phase", "region")}
    name = slo.metric.removeprefix("target:")
    seen = scrapes.distribution(trial.case.scrapes, name, phase.name, slo.tags.get("region", ""), labels)
    if seen is None:
        check.reason = f"the target's metrics show no {name} at both ends of the phase"
        return check
    seconds = (phase.end_ns - phase.start_ns) / NS_PER_S
    counted = seen.count if seen.buckets else seen.total
    check.observations = int(counted)
    match threshold.aggregation:
        case "count":
            value = counted
        case "rate":
            value = counted / seconds if seconds else math.nan
        case "avg":
            value = seen.total / seen.count * NS_PER_S if seen.count else math.nan
        case "p" | "med" | "min" | "max":
            quantile = {"min": 0.0, "max": 1.0}.get(threshold.aggregation, threshold.quantile)
            value = seen.quantile(quantile) * NS_PER_S
        case other:
            check.reason = f"{other} cannot be read from the target's metrics"
            return check
    _decide(check, threshold, value)
    if threshold.unit == "ns" and check.value is not None:
        span = Window(phase.start_ns, phase.end_ns)
        check.machine = _machine(trial, span, threshold)
        excused(check, trial.noise.excuse_total(span, threshold, slo.metric, value))
    if check.value is not None and math.isinf(check.value):
        check.value = None
    return check
