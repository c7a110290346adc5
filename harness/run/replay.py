"""Replays the faults of an older run: the same kinds on the same handles at the same times, in another run's phases."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

import msgspec

from chaos.schedule import FaultRow, read_rows
from harness.core.clock import NS_PER_MS, NS_PER_S
from harness.core.errors import UsageError
from harness.core.scenario import FaultSpec, Phase, Scenario
from harness.judge.case import Phase as PlayedPhase
from harness.judge.case import with_kinds
from harness.record.run_directory import RunDirectory

GRAIN = 3
"""decimals of a second that are kept of recorded times"""
ON_TIME_NS = 100 * NS_PER_MS
"""a fault that began this soon after it was due is due at the same time again; else when it did begin"""


def replayed(scenario: Scenario, recorded: Path) -> Scenario:
    """The scenario with the faults that were injected in the run at `recorded`, and no others.

    Raises UsageError when there are none, or for each that does not fit: it must begin and end within one phase, and
    in the phase it was recorded in where the scenario has one of that name.
    """
    run = RunDirectory(recorded)
    rows = [row for row in read_rows(run.faults) if not row.inject_error]
    if not rows:
        raise UsageError(f"--replay {recorded}: no fault was injected in this run")
    t0_ns = _t0_ns(run)
    found: dict[str, list[FaultSpec]] = {}
    problems: list[str] = []
    for row in rows:
        spec = _spec(row, t0_ns)
        phase, problem = _place(scenario, row, spec)
        if problem:
            problems.append(f"--replay {recorded}: {row.id} ({row.kind} on {row.handle}) {problem}")
        found.setdefault(phase, []).append(spec)
    if problems:
        raise UsageError(problems)
    phases = tuple(
        msgspec.structs.replace(phase, faults=tuple(_relative(found.get(phase.name, []), start_s)))
        for start_s, phase in _starts(scenario)
    )
    return msgspec.structs.replace(scenario, phases=phases, chaos=None)


def _t0_ns(run: RunDirectory) -> int:
    """When the first phase of a recorded run began. Raises UsageError when that is not recorded."""
    try:
        phases = with_kinds(msgspec.json.decode(run.phases.read_bytes(), type=list[PlayedPhase]))
    except (OSError, msgspec.DecodeError) as error:
        raise UsageError(f"--replay {run.path}: its phases cannot be read: {error}") from error
    started = [phase.start_ns for phase in phases if phase.kind != "warmup"]
    if not started:
        raise UsageError(f"--replay {run.path}: it had no phase")
    return started[0]


def _spec(row: FaultRow, t0_ns: int) -> FaultSpec:
    """The fault with its time from the first phase; held no longer than it was."""
    held_s = row.hold_s
    if row.undo_started_ns is not None:
        held_s = min(held_s, (row.undo_started_ns - row.injected_ns) / NS_PER_S)
    began_ns = row.due_ns if row.injected_ns - row.due_ns <= ON_TIME_NS else row.injected_ns
    at_s = round((began_ns - t0_ns) / NS_PER_S, GRAIN)
    return FaultSpec(kind=row.kind, handle=row.handle, hold_s=round(held_s, GRAIN), at_s=at_s, params=row.params)


def _place(scenario: Scenario, row: FaultRow, spec: FaultSpec) -> tuple[str, str]:
    """The phase in which a fault begins, and why it does not fit there; empty: it does."""
    when = f"begins at {spec.at_s:g} s and is held for {spec.hold_s:g} s"
    for start_s, phase in _starts(scenario):
        end_s = start_s + phase.duration_s
        if not start_s <= spec.at_s < end_s:
            continue
        if spec.at_s + spec.hold_s > end_s:
            longer = f"--set phase.{phase.name}.duration={math.ceil(spec.at_s + spec.hold_s - start_s)}s"
            return phase.name, f"{when}, but phase {phase.name} ends at {end_s:g} s ({longer})"
        if row.phase != phase.name and row.phase in {p.name for p in scenario.phases}:
            return phase.name, f"{when}, which is in phase {phase.name}; it was recorded in phase {row.phase}"
        return phase.name, ""
    return "", f"{when}, outside of the phases, which end at {scenario.duration_s:g} s"


def _starts(scenario: Scenario) -> Iterator[tuple[float, Phase]]:
    start_s = 0.0
    for phase in scenario.phases:
        yield start_s, phase
        start_s += phase.duration_s


def _relative(specs: list[FaultSpec], start_s: float) -> Iterator[FaultSpec]:
    """The same faults with times from the start of their phase."""
    for spec in specs:
        yield msgspec.structs.replace(spec, at_s=round(spec.at_s - start_s, GRAIN))
