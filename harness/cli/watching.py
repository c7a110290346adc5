"""Shows a run while it runs: folds a `Progress` into the `LiveState` that the terminal draws."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console

from chaos.switch import Switch
from harness.core.clock import NS_PER_S, now_ns
from harness.report.terminal import ActiveFault, LivePanel, LiveState, OpLine, SloLine
from harness.run.execute import Observer, Progress
from harness.run.game_day import kind_now
from harness.run.live_slos import live_values


@contextmanager
def watching(console: Console, keys: str = "") -> Iterator[Observer]:
    """An observer that draws on the console while the block lasts; `keys`: what can be typed meanwhile."""
    rates = Rates()
    with LivePanel(console) as panel:
        yield lambda progress: panel.update(live_state(progress, rates, keys))


class Rates:
    """Turns counters into rates over the last few looks."""

    def __init__(self) -> None:
        self._seen: dict[str, list[tuple[int, int]]] = {}

    def per_s(self, name: str, value: int) -> float:
        """Increase of the counter per second, over about two seconds."""
        looks = self._seen.setdefault(name, [])
        looks.append((now_ns(), value))
        del looks[:-9]
        (first_ns, first), (last_ns, last) = looks[0], looks[-1]
        return max(0.0, (last - first) * NS_PER_S / (last_ns - first_ns)) if last_ns > first_ns else 0.0


def live_state(progress: Progress, rates: Rates, keys: str = "") -> LiveState:
    """The state of this moment."""
    scenario = progress.request.scenario
    state = LiveState(scenario=scenario.name, target=progress.request.profile.name, stage=progress.stage)
    state.length_s = scenario.duration_s
    if progress.load is None:
        return state
    _fill_load(state, progress, rates)
    if progress.stage == "running":
        _fill_phase(state, progress)
        if progress.request.is_game_day:
            _fill_game_day(state, progress)
            state.keys = keys
    _fill_faults(state, progress)
    return state


def _fill_load(state: LiveState, progress: Progress, rates: Rates) -> None:
    load = progress.load
    assert load is not None
    state.ops_per_s = rates.per_s("sent", load.total("sent"))
    state.events_per_s = rates.per_s("events", load.total("events"))
    state.streams_open, state.late, state.dropped = load.total("open"), load.total("late"), load.total("dropped")
    state.streams_wanted = len(progress.plan.listeners) if progress.plan else 0
    ops: dict[str, OpLine] = {}
    for member in load.members:
        for kind, row in _ops_of(member.status):
            line = ops.setdefault(kind, OpLine(kind=kind))
            line.count += int(row.get("count", 0))
            line.failed += int(row.get("failed", 0))
            line.p99_ms = max(line.p99_ms, float(row.get("p99_ms", 0.0)))
    state.ops = sorted(ops.values(), key=lambda o: o.kind)


def _ops_of(status: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    ops = status.get("ops", {})
    return list(ops.items()) if isinstance(ops, dict) else []


def _fill_phase(state: LiveState, progress: Progress) -> None:
    assert progress.plan is not None
    offset_ns = now_ns() - progress.t0_ns
    for phase in progress.plan.phases:
        if offset_ns < phase.end_ns:
            state.phase = phase.name
            state.phase_elapsed_s = max(0.0, (offset_ns - phase.start_ns) / NS_PER_S)
            state.phase_length_s = (phase.end_ns - phase.start_ns) / NS_PER_S
            break
    state.elapsed_s = max(0.0, offset_ns / NS_PER_S)


def _fill_game_day(state: LiveState, progress: Progress) -> None:
    """What an operator who injects faults wants to see beside them."""
    assert progress.load is not None
    state.forbidden = Switch(progress.run.path.parent).reason
    kind = kind_now(progress.by_hand.injected if progress.by_hand else (), now_ns())
    state.slos = [
        SloLine(name=now.name, value=now.text, holds=None if now.value is None else not now.is_broken)
        for now in live_values([slo for slo in progress.slos if slo.tags.get("phase", kind) == kind], progress.load)
    ]


def _fill_faults(state: LiveState, progress: Progress) -> None:
    rows = [
        *(progress.faults.active if progress.faults else ()),
        *(progress.by_hand.active if progress.by_hand else ()),
    ]
    now = now_ns()
    state.faults = [
        ActiveFault(kind=f.kind, handle=f.handle, left_s=f.hold_s - (now - f.injected_ns) / NS_PER_S) for f in rows
    ]
