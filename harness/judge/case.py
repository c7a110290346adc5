"""The case before the judge: the facts of one run, read once from its directory.

Reads scenario, profile, phases, faults, generator rows and scrapes. The history itself is `harness.judge.tables`.
Writes nothing. Absent files read as empty: what needs them is then inconclusive, never a pass.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import msgspec

from harness.contract.profile import Profile
from harness.core.clock import NS_PER_S
from harness.core.json_file import read_json, read_json_lines
from harness.core.scenario import Scenario
from harness.record.clocks import read_clocks, widest_error_ns
from harness.record.noise_file import NoiseRow
from harness.record.run_directory import RunDirectory

EVIDENCE_LIMIT = 20
FEED_DEPTH = 800
"""entries a feed must show (FACTS section 5: checkers judge the newest `feed_depth` arrivals)"""
STABLE_EDGE_NS = 5 * NS_PER_S
"""a follow edge counts for posts acknowledged at least this long after its last change"""
FOREVER_NS = 1 << 62


class Phase(msgspec.Struct, kw_only=True):
    """A stretch of the run, monotonic times."""

    name: str
    start_ns: int
    end_ns: int
    kind: str = ""
    """ "warmup", "baseline", "fault" or "recovered" """
    faults: list[str] = []


class Fault(msgspec.Struct, kw_only=True):
    """One fault with its actual times, as the chaos schedule recorded it; see `as_it_acted`."""

    id: str
    kind: str
    handle: str
    phase: str = ""
    injected_ns: int | None = None
    """when the injection began; null: it never did"""
    undone_ns: int | None = None
    region: str | None = None
    regions: list[str] = []
    due_ns: int | None = None
    witnessed_ns: int | None = None
    undo_started_ns: int | None = None
    inject_error: str = ""
    """why the injection was refused, or failed half way; empty: it did not fail"""
    params: dict[str, Any] = {}
    witness: dict[str, Any] = {}
    undo: dict[str, Any] = {}
    colour: str = ""


class LoadReport(msgspec.Struct, kw_only=True):
    """What one load process says of itself at its end."""

    process: str
    kind: str = ""
    """ "locust" or "streams"; empty in a row written for a process that was lost """
    planned: int = 0
    sent: int = 0
    late: int = 0
    dropped: int = 0
    skipped: int = 0
    """what nobody could do, before anybody had joined, on a post that was not acknowledged ..."""
    max_late_ms: float = 0.0
    loop_lag_p99_ms: float = 0.0
    loop_lag_max_ms: float = 0.0
    completed: bool = False
    errors: list[str] = []
    left_out: list[str] = []
    """what the scenario asked for and the target cannot take"""

    @property
    def taken(self) -> int:
        """Arrivals that somebody was there for, in time or late."""
        return self.sent + self.skipped


class StopReport(msgspec.Struct, kw_only=True):
    """What came of a run's stop conditions, and who ended it before its time."""

    conditions: list[str] = []
    """selector and threshold of each"""
    looks: int = 0
    seen: dict[str, int] = {}
    """condition -> looks at which something was measured"""
    broken: str = ""
    """the condition that ended the run"""
    value: float | None = None
    bound: float | None = None
    unit: str = ""
    """of the broken condition, as a check shows them"""
    ended_ns: int | None = None
    """when the phases ended, if that was before their time"""
    reason: str = ""
    by_operator: bool = False
    """a game day, which ends when its operator wants"""


class Scrape(msgspec.Struct, kw_only=True):
    """The target's own metrics at the border of a phase; empty text: it did not answer."""

    phase: str
    at: str
    """ "start" or "end" """
    region: str
    at_ns: int
    text: str


@dataclass(frozen=True)
class Window:
    """A stretch of time in which promises for undisturbed operation do not bind: a fault and its convergence."""

    start_ns: int
    end_ns: int


@dataclass(frozen=True)
class Case:
    """The facts of a run."""

    run: RunDirectory
    scenario: Scenario
    profile: Profile
    phases: list[Phase]
    faults: list[Fault] = field(default_factory=list)
    load: list[LoadReport] = field(default_factory=list)
    scrapes: list[Scrape] = field(default_factory=list)
    stop: StopReport | None = None
    noise: list[NoiseRow] = field(default_factory=list)
    """what the machine did meanwhile; empty: it was not measured"""
    clock_error_ns: int = 0
    """how far the clocks of two of the run's processes may differ, after correction; 0 on one machine"""

    @property
    def t0_ns(self) -> int:
        """End of the warm-up: the zero of every time in evidence and reports."""
        for phase in self.phases:
            if phase.kind != "warmup":
                return phase.start_ns
        return self.phases[0].start_ns if self.phases else 0

    @property
    def end_ns(self) -> int:
        """End of the last phase."""
        return self.phases[-1].end_ns if self.phases else 0

    @property
    def late_readers_until_ns(self) -> int:
        """From when on listeners that read late read like all others."""
        until_s = self.scenario.listeners.until_s
        return self.end_ns if until_s is None else min(self.end_ns, self.t0_ns + round(until_s * NS_PER_S))

    @property
    def judged_phases(self) -> list[Phase]:
        """All phases but the warm-up."""
        return [p for p in self.phases if p.kind != "warmup"]

    @property
    def celebrities(self) -> int:
        """Number of celebrities; they are users 0 .. n-1."""
        return len(self.scenario.population.all_celebrities)

    @property
    def late_users(self) -> list[int]:
        """Who had not signed up before the run, where others had: late celebrities, and the last users."""
        population, stars = self.scenario.population, self.celebrities
        first = population.users - population.newcomers
        return [*range(stars - len(population.late_celebrities), stars), *range(first, population.users)]

    @property
    def convergence_ns(self) -> int:
        """T of the profile: from the end of a fault until everything holds again."""
        return round(self.profile.slo.convergence_s * NS_PER_S)

    @property
    def visibility_ns(self) -> int:
        """Promise for a post to be in a follower's feed, same region."""
        return round(self.profile.slo.visibility_s * NS_PER_S)

    @property
    def celebrity_ns(self) -> int:
        """The same for a celebrity's post."""
        return round(self.profile.slo.celebrity_s * NS_PER_S)

    @property
    def cross_region_ns(self) -> int:
        """The same in another region."""
        return round(self.profile.slo.cross_region_s * NS_PER_S)

    @property
    def heal_ns(self) -> int:
        """End of the last fault; 0 without faults; for ever when one was not undone."""
        return max((f.undone_ns or FOREVER_NS for f in self.faults if f.injected_ns is not None), default=0)

    @property
    def healed_ns(self) -> int:
        """End of the last fault's window: from then on all regions must agree; 0 without faults."""
        return self.fault_windows[-1].end_ns if self.fault_windows else 0

    @property
    def fault_windows(self) -> list[Window]:
        """From each injection to its undo + T, overlapping ones joined, in time order; wider by the clocks' error."""
        windows: list[Window] = []
        injected = [f for f in self.faults if f.injected_ns is not None]
        for fault in sorted(injected, key=lambda f: f.injected_ns or 0):
            start = (fault.injected_ns or 0) - self.clock_error_ns
            end = FOREVER_NS if fault.undone_ns is None else fault.undone_ns + self.convergence_ns + self.clock_error_ns
            if windows and start <= windows[-1].end_ns:
                windows[-1] = Window(windows[-1].start_ns, max(end, windows[-1].end_ns))
            else:
                windows.append(Window(start, end))
        return windows

    def at(self, time_ns: int) -> str:
        """A time as evidence shows it: seconds from t0."""
        return f"{(time_ns - self.t0_ns) / NS_PER_S:.3f} s"


def read_case(run: RunDirectory) -> Case:
    """Read the facts of a run. Raises UsageError when one of its files is missing or damaged, OSError."""
    return Case(
        run=run,
        scenario=read_json(run.scenario, Scenario),
        profile=read_json(run.profile, Profile),
        phases=with_kinds(read_json(run.phases, list[Phase])),
        faults=[as_it_acted(fault) for fault in read_json_lines(run.faults, Fault)],
        load=read_json_lines(run.generator, LoadReport),
        scrapes=read_json_lines(run.path / "scrapes.jsonl", Scrape),
        stop=read_json(run.stop, StopReport) if run.stop.exists() else None,
        noise=read_json_lines(run.noise, NoiseRow),
        clock_error_ns=widest_error_ns(read_clocks(run.clocks).values()),
    )


def as_it_acted(fault: Fault) -> Fault:
    """The fault, without a time of injection when it was refused or failed before it touched anything.

    The schedule records the time of every attempt. One that failed half way was undone, and keeps its times; one whose
    undo failed as well is active for ever.
    """
    if fault.inject_error and fault.undone_ns is None and fault.undo.get("ok"):
        return msgspec.structs.replace(fault, injected_ns=None)
    return fault


def with_kinds(phases: list[Phase]) -> list[Phase]:
    """The phases with kinds filled in where absent: warm-up, baseline up to the first fault, recovered after it."""
    struck = False
    named: list[Phase] = []
    for phase in phases:
        kind = phase.kind
        if not kind:
            kind = (
                "warmup"
                if phase.name == "warmup"
                else "fault"
                if phase.faults
                else "recovered"
                if struck
                else "baseline"
            )
        struck = struck or kind == "fault"
        named.append(msgspec.structs.replace(phase, kind=kind))
    return named
