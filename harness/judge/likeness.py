"""Whether two sides of a comparison can be compared: what differs beside what was meant to. In sentences."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from harness.judge.case import Case
from harness.record.manifest import Manifest, read_manifest

SCENARIO_PARTS = ("population", "load", "phases", "chaos", "warmup_s")
"""what of a scenario decides about its ops and faults"""


def differences_of(before: Sequence[Case], after: Sequence[Case]) -> list[str]:
    """What is not the same on both sides, the gravest first; and within a side, where it should be."""
    cases = [*before, *after]
    notes = _told("scenarios", lambda c: c.scenario.name, before, after)
    if not notes:
        parts = [part for part in SCENARIO_PARTS if len({repr(getattr(c.scenario, part)) for c in cases}) > 1]
        notes += [f"the scenario was changed between the runs: {', '.join(parts)}"] if parts else []
    notes += _told("seeds, so not the same ops", lambda c: str(c.scenario.seed), before, after)
    notes += _told("targets", lambda c: c.profile.name, before, after)
    made = {id(case): read_manifest(case.run) for case in cases}
    notes += _told("machines", lambda c: _machine(made[id(c)]), before, after)
    notes += _told("planted defects", lambda c: ", ".join(made[id(c)].defects) or "none", before, after)
    notes += _phases(before, after)
    ended = [case.run.path.name for case in cases if case.stop is not None and case.stop.ended_ns is not None]
    notes += [f"ended before its time: {', '.join(ended)}"] if ended else []
    if len(cases) < 4:
        notes.append("too few runs to tell how runs differ among each other: the bounds hold for these runs alone")
    return notes


def _machine(manifest: Manifest) -> str:
    kernel = str(manifest.machine.get("kernel", ""))
    return (
        ", ".join(part for part in (manifest.machine_text, f"kernel {kernel}" if kernel else "") if part) or "unknown"
    )


def _told(what: str, tell: Callable[[Case], str], before: Iterable[Case], after: Iterable[Case]) -> list[str]:
    old, new = (list(dict.fromkeys(map(tell, side))) for side in (before, after))
    if len({*old, *new}) < 2:
        return []
    return [f"different {what}: {' and '.join(old)} before, {' and '.join(new)} after"]


def _phases(before: Sequence[Case], after: Sequence[Case]) -> list[str]:
    """Phases that not every run has: they are not compared."""
    names = [[p.name for p in case.judged_phases] for case in (*before, *after)]
    everywhere = [name for name in names[0] if all(name in found for found in names)]
    lacking = list(dict.fromkeys(name for found in names for name in found if name not in everywhere))
    return [f"phases that are not in all runs, and not compared: {', '.join(lacking)}"] if lacking else []
