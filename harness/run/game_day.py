"""A game day: a scenario's load for as long as its operator wants, with no faults but those that are injected by hand.

It is a run like any other (`harness.run.execute`); here is only what its request and its phases are. Phases are known
afterwards: `baseline` until the first fault, then `fault-1`, `recovered-1`, `fault-2` and so on.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import msgspec

from chaos.schedule import FaultRow
from harness.contract.profile import with_proxies
from harness.core.clock import NS_PER_S
from harness.core.errors import UsageError, nearest
from harness.core.scenario import Phase, Scenario
from harness.judge.expressions import PHASE_KINDS
from harness.load.plan import PlanPhase
from harness.load.recorder import RECENT_S
from harness.run.request import RunRequest, read_request

SHORTEST_CALM_NS = 3 * NS_PER_S
"""a shorter pause between two faults belongs to them: nothing can be said about it"""

STEADY_LOAD = Path(__file__).with_name("steady_load.toml")
"""what is run when only a target is named"""


def as_game_day(scenario: Scenario, length_s: float) -> Scenario:
    """The scenario's load and expectations, without its phases and faults.

    Expectations of a phase by its name go, and those on the target's own metrics, which are read at planned borders.
    Stop conditions of a phase go as well: phases are known afterwards only.
    """
    phase = Phase(name="gameday", duration_s=length_s)
    expect = {key: texts for key, texts in scenario.expect.items() if _is_kept(key)}
    lasting = {key: texts for key, texts in scenario.stop.expressions.items() if "phase:" not in key.replace(" ", "")}
    stop = msgspec.structs.replace(scenario.stop, expressions=lasting)
    about = f"A game day: the load of {scenario.name}, and faults by hand."
    kept = {"about": about, "expect": expect, "stop": stop}
    return msgspec.structs.replace(scenario, phases=(phase,), chaos=None, tolerance={}, catalogue=None, **kept)


def _is_kept(selector: str) -> bool:
    if selector.startswith("target:"):
        return False
    _, tag, rest = selector.replace(" ", "").partition("phase:")
    return not tag or rest.rstrip("}").split(",")[0] in PHASE_KINDS


def read_game_day(
    scenario: str | None,
    target: str | None,
    assignments: Sequence[str],
    seed: int | None,
    out: Path,
    length_s: float,
    flags: Sequence[str] = (),
    proxies: Sequence[str] = (),
    allow_hosts: Sequence[str] = (),
    preset: str | None = None,
) -> RunRequest:
    """The request for a game day of `length_s` at most, with proxies on these links of the target for faults on them.

    Raises UsageError with every problem found.
    """
    request = read_request(
        scenario or str(STEADY_LOAD),
        target,
        assignments,
        seed,
        out,
        flags=flags,
        allow_hosts=allow_hosts,
        preset=preset,
        adapt=lambda found: as_game_day(found, length_s),
    )
    known = request.profile.start.proxies if request.profile.start else []
    if unknown := [f"--proxy: unknown link {link!r}{nearest(link, known)}" for link in proxies if link not in known]:
        raise UsageError(unknown)
    return replace(request, is_game_day=True, profile=with_proxies(request.profile, proxies))


def game_day_phases(
    injected: Iterable[FaultRow], played: Sequence[PlanPhase], t0_ns: int
) -> tuple[Sequence[PlanPhase], list[FaultRow]]:
    """The phases of a game day, and its faults, each with the phase it began in.

    `played`: the warm-up and one phase from `t0_ns` to the end.
    """
    warmup, end_ns = played[0], played[-1].end_ns
    windows = _windows(sorted(injected, key=lambda row: row.injected_ns), t0_ns, end_ns)
    phases, named, at_ns = [warmup], [], 0
    for number, (start_ns, stop_ns, members) in enumerate(windows, start=1):
        if start_ns > at_ns:
            phases.append(PlanPhase(_calm(number - 1), at_ns, start_ns))
        phases.append(PlanPhase(f"fault-{number}", start_ns, stop_ns))
        named += [msgspec.structs.replace(row, phase=f"fault-{number}") for row in members]
        at_ns = stop_ns
    if at_ns < end_ns:
        phases.append(PlanPhase(_calm(len(windows)), at_ns, end_ns))
    return phases, named


def kind_now(injected: Sequence[FaultRow], at_ns: int) -> str:
    """The kind of phase at a monotonic time, as far as ops of the last RECENT_S seconds can tell.

    Shortly after an undo they are of both kinds: "".
    """
    if any(row.undone_ns is None for row in injected):
        return "fault"
    last_ns = max((row.undone_ns for row in injected if row.undone_ns is not None), default=0)
    if injected and at_ns - last_ns < (RECENT_S + 1) * NS_PER_S:
        return ""
    return "recovered" if injected else "baseline"


def _calm(faults_before: int) -> str:
    return f"recovered-{faults_before}" if faults_before else "baseline"


def _windows(rows: Sequence[FaultRow], t0_ns: int, end_ns: int) -> list[tuple[int, int, list[FaultRow]]]:
    """(start, end, faults): stretches with a fault active, ns from t0; those with a short pause between them joined."""
    joined: list[tuple[int, int, list[FaultRow]]] = []
    for row in rows:
        start_ns = max(0, row.injected_ns - t0_ns)
        stop_ns = min(end_ns, (row.undone_ns or t0_ns + end_ns) - t0_ns)
        if joined and start_ns - joined[-1][1] < SHORTEST_CALM_NS:
            first_ns, last_ns, members = joined[-1]
            joined[-1] = (first_ns, max(last_ns, stop_ns), [*members, row])
        elif stop_ns > start_ns:
            joined.append((start_ns, stop_ns, [row]))
    return joined
