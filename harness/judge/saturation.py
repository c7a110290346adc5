"""What is nearest to its limit in a run: the parts of the target, the machine they share, the load generator. Pure.

Only what has a limit of its own is ranked, each as the share of it that is used:

    a part         the time its busiest thread ran, of one core: a thread cannot run on two
    the machine    busy time of all its processors, whoever it was for
    a rate limit   1 when the target refused requests for their rate, whatever else was free
What is a consequence (loop lag, a queue that grows, refusals for want of room, misses) has no limit. It is told beside
the part that shows it. A part that waits for others (locks, disks, a slower part) may be what fails while nothing here
is near its limit; then that is said, and no culprit is named.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import msgspec

from harness.core.clock import NS_PER_S
from harness.core.units import format_duration
from harness.core.verdict import MachinePhase
from harness.judge.case import Case, LoadReport, Phase, Scrape
from harness.judge.scrapes import Labels, distribution, parse

NEAR = 0.85
"""of its limit: what uses less is not told to be at its end"""
RATE_REASONS = ("user_rate", "stranger_rate", "identity_rate")
"""refusals by a limit on rates that somebody set; all other reasons mean that there was no room"""
TARGET, LOAD = "target", "load"
GROWN_S = 1.0
"""a consumer that fell behind by more than that within a phase is told"""
NAMES = {"archive": "jobs"}
"""consumer of the posts -> part that it lives in, where that is not its own name"""


class PartUsage(msgspec.Struct, kw_only=True):
    """The processor time of one part, all its processes together, as shares of one core."""

    part: str
    group: str
    """TARGET or LOAD"""
    busiest: float
    """that its busiest thread ran"""
    in_line: float
    """that this thread was ready to run, and had to wait for a processor"""
    cores: float
    """that all its threads ran"""


class Usage(msgspec.Struct, kw_only=True):
    """All parts over the phases of a run."""

    processors: int = 1
    seconds: float = 0.0
    parts: list[PartUsage] = []

    def cores_of(self, group: str) -> float:
        """Cores that a group ran on."""
        return sum(part.cores for part in self.parts if part.group == group)


class Pressure(msgspec.Struct, kw_only=True):
    """How near something is to its limit."""

    part: str
    used: float
    """share of its limit"""
    says: str
    signs: list[str] = []
    """what else is known of it"""


MACHINE = "the machine"
GENERATOR = "generator "
"""what names of its processes begin with"""


def pressures(case: Case, usage: Usage, machine: Sequence[MachinePhase]) -> list[Pressure]:
    """Everything that has a limit, the nearest to its own first. Empty: nothing was measured."""
    signs = Signs()
    for phase in case.judged_phases:
        signs.of_metrics(case.scrapes, phase)
    for report in case.load:
        signs.of_load(report)
    found = [_of_part(part, signs) for part in usage.parts]
    found += signs.rate_limits
    measured = [phase for phase in machine if phase.kind != "warmup" and phase.seconds]
    if measured:
        found.append(_of_machine(usage, measured))
    return sorted(found, key=lambda pressure: -pressure.used)


def who_held_up(found: Sequence[Pressure]) -> str:
    """Why load did not come as asked: what of generator, machine and target was near its limit, in this order."""
    near = [pressure for pressure in found if pressure.used >= NEAR]
    if own := [pressure for pressure in near if pressure.part.startswith(GENERATOR)]:
        return f"the generator, not the target, is at its end ({own[0].part}: {own[0].says})"
    if any(pressure.part == MACHINE for pressure in near):
        return "the machine is at its end, and the generator runs on it too"
    if near:
        return (
            f"more arrivals waited for the target than the generator may have under way; it is {near[0].part} that is "
            "near its limit, but the load that would show it was not made"
        )
    return "neither the generator nor a part of the target was near its limit"


def _of_part(part: PartUsage, signs: Signs) -> Pressure:
    says = f"its busiest thread ran {_percent(part.busiest)} of the time"
    if part.in_line >= 0.05:
        says += f", and stood in line for a processor {_percent(part.in_line)}"
    if part.cores > part.busiest + 0.05:
        says += f"; {part.cores:.2f} cores in all"
    return Pressure(part=part.part, used=part.busiest, says=says, signs=signs.about(part.part))


def _of_machine(usage: Usage, measured: Sequence[MachinePhase]) -> Pressure:
    """Its processors. The target's share and the generator's are told apart: on one machine they compete."""
    seconds = sum(phase.seconds for phase in measured)

    def mean(name: str) -> float:
        return sum(float(getattr(phase, name)) * phase.seconds for phase in measured) / seconds

    target, load = (usage.cores_of(group) / usage.processors for group in (TARGET, LOAD))
    busy = min(1.0, mean("own") + mean("outside") + mean("steal"))
    says = (
        f"{_percent(busy)} of its {usage.processors} processors were busy: {_percent(target)} for the target, "
        f"{_percent(load)} for the generator and the harness, {_percent(mean('outside') + mean('steal'))} for others"
    )
    signs = []
    if target and load:
        signs.append("target and generator share it: on machines of their own the target can do more")
    waited = mean("waited")
    if waited >= 0.05:
        signs.append(f"threads that could have run stood in line {_percent(waited)} of that time")
    return Pressure(part=MACHINE, used=busy, says=says, signs=signs)


@dataclass
class Signs:
    """What the target says of its own parts, and load processes of themselves."""

    _told: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    rate_limits: list[Pressure] = field(default_factory=list)

    def about(self, part: str) -> list[str]:
        """Of a part, by its own name or, when it is one of several processes of a part, by that."""
        return [sign for name, signs in self._told.items() if name == part or _without_number(name) == part
                for sign in signs]  # fmt: skip

    def of_load(self, report: LoadReport) -> None:
        """Late arrivals and loop lag of a load process."""
        if not report.kind:  # lost: it said nothing
            return
        said = f"loop lag p99 {format_duration(report.loop_lag_p99_ms / 1000)}"
        if done := report.taken + report.dropped:
            late = _percent(report.late / done)
            said = f"{late} of its arrivals were late, {report.dropped:,} were dropped; {said}"
        self._told[f"{GENERATOR}{report.process}"].append(said)

    def of_metrics(self, scrapes: Sequence[Scrape], phase: Phase) -> None:
        """What changed in the target's own metrics over a phase; metrics that it does not have tell nothing."""
        for region in sorted({scrape.region for scrape in scrapes}):
            before, after = (_read(scrapes, phase.name, region, at) for at in ("start", "end"))
            seconds = (phase.end_ns - phase.start_ns) / NS_PER_S
            change = Change(before, after, seconds)
            self._of_loops(scrapes, phase.name, region, change)
            self._of_refusals(region, change)
            self._of_queues(region, change)
            self._of_caches(region, change)

    def _of_loops(self, scrapes: Sequence[Scrape], phase: str, region: str, change: Change) -> None:
        for part in sorted(change.values("feed_loop_lag_seconds_count", "part")):
            lags = distribution(scrapes, "feed_loop_lag_seconds", phase, region, {"part": part})
            p99 = lags.quantile(0.99) if lags is not None else math.nan
            if not math.isnan(p99) and p99 >= 0.01:
                self._told[f"{region}.{part}"].append(f"loop lag p99 {format_duration(p99)}")

    def _of_refusals(self, region: str, change: Change) -> None:
        admitted = change.rises("feed_overload_admitted_total", "part")
        refused = change.rises("feed_overload_rejected_total", "part", "reason")
        for (part, reason), count in refused.items():
            if not count:
                continue
            share = count / (count + admitted.get((part,), 0.0))
            name, said = f"{region}.{part}", f"it refused {count:,.0f} requests ({_percent(share)}; {reason})"
            if reason in RATE_REASONS:
                self.rate_limits.append(Pressure(part=f"the rate limit of {name}", used=1.0, says=said))
            else:
                self._told[name].append(said)

    def _of_queues(self, region: str, change: Change) -> None:
        for (consumer,), (start, end) in change.gauges("feed_jobs_seen_lag_seconds", "consumer").items():
            if end - start >= GROWN_S:
                said = f"it fell behind the posts by {end - start:.1f} s within {change.seconds:.0f} s"
                self._told[f"{region}.{NAMES.get(consumer, consumer)}"].append(said)
        for (stream,), (start, end) in change.gauges("feed_queue_depth", "stream").items():
            if end > 2 * start and end - start > change.seconds:  # by more than one entry a second
                self._told[f"{region}.redis-queue"].append(f"queue {stream} grew from {start:,.0f} to {end:,.0f}")

    def _of_caches(self, region: str, change: Change) -> None:
        hits, misses = (sum(change.rises(f"feed_memcached_{what}_total").values()) for what in ("hits", "misses"))
        if hits + misses:
            self._told[f"{region}.memcached"].append(f"hit ratio {_percent(hits / (hits + misses))}")


@dataclass(frozen=True)
class Change:
    """Two scrapes of one region."""

    before: Mapping[tuple[str, Labels], float]
    after: Mapping[tuple[str, Labels], float]
    seconds: float

    def values(self, name: str, label: str) -> set[str]:
        """What values a label of the metric has."""
        return {dict(labels)[label] for series, labels in self.after if series == name and label in dict(labels)}

    def rises(self, name: str, *by: str) -> dict[tuple[str, ...], float]:
        """By how much a counter rose, by these labels; one that fell was begun anew."""
        found: dict[tuple[str, ...], float] = defaultdict(float)
        for key, labels, value in self._of(name, by):
            rise = value - self.before.get((name, labels), 0.0)
            found[key] += value if rise < 0 else rise
        return dict(found)

    def gauges(self, name: str, *by: str) -> dict[tuple[str, ...], tuple[float, float]]:
        """A gauge at the start and at the end, by these labels."""
        return {key: (self.before.get((name, labels), 0.0), value) for key, labels, value in self._of(name, by)}

    def _of(self, name: str, by: Sequence[str]) -> Iterable[tuple[tuple[str, ...], Labels, float]]:
        for (series, labels), value in self.after.items():
            tags = dict(labels)
            if series == name and all(label in tags for label in by):
                yield tuple(tags[label] for label in by), labels, value


def _read(scrapes: Sequence[Scrape], phase: str, region: str, at: str) -> dict[tuple[str, Labels], float]:
    texts = [s.text for s in scrapes if (s.phase, s.region, s.at) == (phase, region, at)]
    return {(name, labels): value for name, labels, value in parse(texts[-1] if texts else "")}


def _without_number(part: str) -> str:
    """us-east.api-0 -> us-east.api"""
    name, dash, number = part.rpartition("-")
    return name if dash and number.isdigit() else part


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %" if share >= 0.1 or not share else f"{100 * share:.1f} %"
