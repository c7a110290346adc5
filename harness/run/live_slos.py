"""SLOs while a run is under way, over the last seconds of what its load processes report.

Only what a load process sees by itself has a live value: the ops it sends (reads, posts, sign-ups ...), by region. What
takes the whole history, deliveries above all, is judged at the end.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from harness.core.clock import NS_PER_S
from harness.core.errors import UsageError, nearest
from harness.core.op import OP_METRICS
from harness.core.scenario import Stop
from harness.core.units import format_duration
from harness.judge.expressions import Slo, Threshold, parse_slos
from harness.load.plan import PlanPhase
from harness.load.recorder import RECENT_S
from harness.run.load_processes import LoadProcesses

KINDS_OF = {
    wanted: tuple(kind for kind, metric in OP_METRICS.items() if metric == wanted) for wanted in OP_METRICS.values()
}
"""metric -> the kinds of ops it is about"""
NS_PER_US = 1000
SHORTEST_S = 1.0
"""a rate over less says little: the first ops are still on their way"""


@dataclass
class Reading:
    """The ops of one SLO that ended lately, of all load processes together."""

    seconds: float = 0.0
    """the shortest stretch that a process tells of; 0: none tells of any"""
    ok: int = 0
    ok_per_s: float = 0.0
    """each process over its own stretch: they do not begin at the same time"""
    failed: int = 0
    latencies_us: list[int] = field(default_factory=list)
    """ascending; of many ops every second, third, ..."""


@dataclass(frozen=True)
class LiveValue:
    """What an expression amounts to now. `value` is None when nothing was measured."""

    slo: Slo
    threshold: Threshold
    value: float | None
    ops: int
    violating: int
    """ops that failed, for a bound on failures; for one on times, latencies that are beyond it"""

    @property
    def name(self) -> str:
        """The expression with its selector."""
        return f"{self.slo.selector} {self.threshold.text}"

    @property
    def is_broken(self) -> bool:
        """Whether it does not hold. Where a single op would break a bound on a share or a percentile: not yet."""
        is_alone = self.violating <= 1 and _allows_some(self.threshold)
        return self.value is not None and not is_alone and not self.threshold.holds(self.value)

    @property
    def text(self) -> str:
        """The value as people read it."""
        if self.value is None:
            return "-"
        if self.threshold.unit == "ns":
            return format_duration(self.value / 1e9)
        return f"{100 * self.value:.3g} %" if self.threshold.unit == "%" else f"{self.value:.3g}{self.threshold.unit}"


def _allows_some(threshold: Threshold) -> bool:
    """Whether its bound leaves room for a share of ops that are slow or fail."""
    if threshold.aggregation in ("p", "med"):
        return threshold.quantile < 1
    return threshold.unit == "%" and threshold.bound > 0


def is_live(slo: Slo) -> bool:
    """Whether a load process can tell it."""
    return slo.metric in KINDS_OF and set(slo.tags) <= {"region", "phase"}


def in_force(slo: Slo, phases: Iterable[PlanPhase], offset_ns: int) -> bool:
    """Whether a condition holds at a time from the first phase on: with a phase, once all recent ops are of it."""
    recent_ns = round(RECENT_S * NS_PER_S)
    wanted = slo.tags.get("phase")
    return wanted is None or any(
        phase.name == wanted and phase.start_ns + recent_ns <= offset_ns < phase.end_ns for phase in phases
    )


def parse_stop(stop: Stop, regions: Iterable[str], phases: Iterable[str] = ()) -> tuple[Slo, ...]:
    """The stop conditions of a scenario; `phases`: names that they may use. Raises UsageError with every problem."""
    slos, problems = parse_slos("stop", stop.expressions, {"region": set(regions), "phase": set(phases)})
    for slo in slos:
        path = f"stop.{slo.selector}"
        if slo.metric not in KINDS_OF:
            problems.append(f"{path}: has no value while a run is under way{nearest(slo.metric, KINDS_OF)}")
        problems += [f"{path}: tag {tag!r} is not known while a run is under way (valid: phase, region)"
                     for tag in slo.tags if slo.metric in KINDS_OF and tag not in ("phase", "region")]  # fmt: skip
    if problems:
        raise UsageError(problems)
    return slos


def live_values(slos: Sequence[Slo], load: LoadProcesses) -> list[LiveValue]:
    """Every expression of the live ones among `slos`, now."""
    return [
        live_value(slo, threshold, reading)
        for slo in slos
        if is_live(slo)
        for reading in [read(slo, [m.status.get("recent", {}) for m in load.members if m.state == "running"])]
        for threshold in slo.thresholds
    ]


def live_value(slo: Slo, threshold: Threshold, reading: Reading) -> LiveValue:
    """One expression over the ops of its SLO."""
    slow = sum(not threshold.holds(NS_PER_US * us) for us in reading.latencies_us) if threshold.unit == "ns" else 0
    violating = reading.failed if threshold.aggregation == "failures" else slow
    return LiveValue(slo, threshold, value_of(threshold, reading), reading.ok + reading.failed, violating)


def read(slo: Slo, recent: Iterable[dict[str, Any]]) -> Reading:
    """The ops of an SLO in the load processes' newest status lines (`harness.load.recorder`)."""
    reading, wanted = Reading(), slo.tags.get("region")
    stretches = []
    for report in recent:
        seconds = float(report.get("seconds", 0.0))
        if not seconds:
            continue
        stretches.append(seconds)
        ops = report.get("ops", {})
        by_region = [item for kind in KINDS_OF[slo.metric] for item in ops.get(kind, {}).items()]
        for region, ended in by_region:
            if wanted in (None, region):
                reading.ok += ended["ok"]
                reading.ok_per_s += ended["ok"] / seconds
                reading.failed += ended["failed"]
                reading.latencies_us += ended["us"]
    reading.seconds = min(stretches, default=0.0)
    reading.latencies_us.sort()
    return reading


def value_of(threshold: Threshold, reading: Reading) -> float | None:
    """The value in the unit of the bound; None: nothing was measured."""
    total = reading.ok + reading.failed
    match threshold.aggregation:
        case "count":
            return float(reading.ok) if reading.seconds else None
        case "rate":
            return reading.ok_per_s if reading.seconds >= SHORTEST_S else None
        case "failures":
            return None if not total else reading.failed / total if threshold.unit == "%" else float(reading.failed)
    if not reading.latencies_us:
        return None
    if threshold.aggregation == "avg":
        return NS_PER_US * sum(reading.latencies_us) / len(reading.latencies_us)
    quantile = {"min": 0.0, "max": 1.0}.get(threshold.aggregation, threshold.quantile)
    return float(NS_PER_US * reading.latencies_us[max(0, math.ceil(quantile * len(reading.latencies_us)) - 1)])
