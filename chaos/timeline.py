"""From phases with faults to single faults with absolute due times."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec

from chaos.handles import matching
from harness.core.clock import NS_PER_S
from harness.core.scenario import FaultSpec, Phase


class DueFault(msgspec.Struct, frozen=True, kw_only=True):
    """One fault on one handle, due at a monotonic time."""

    id: str
    kind: str
    handle: str
    hold_s: float
    due_ns: int
    phase: str = ""
    params: dict[str, Any] = {}


def fault_paths(phases: Sequence[Phase]) -> dict[str, FaultSpec]:
    """Every fault of a scenario by its path there ("phase[1].faults[0]")."""
    return {f"phase[{i}].faults[{j}]": spec for i, phase in enumerate(phases) for j, spec in enumerate(phase.faults)}


def due_faults(phases: Sequence[Phase], start_ns: int, handles: Iterable[str] | Mapping[str, Any]) -> list[DueFault]:
    """The faults of phases that follow each other from `start_ns`, in order of time, numbered f1, f2, ...

    A handle that is a pattern gives one fault for each handle it means.
    """
    names = list(handles)
    found: list[tuple[int, str, str, FaultSpec]] = []
    for phase in phases:
        for spec in phase.faults:
            due_ns = start_ns + round(spec.at_s * NS_PER_S)
            found += [(due_ns, phase.name, name, spec) for name in matching(spec.handle, names)]
        start_ns += round(phase.duration_s * NS_PER_S)
    return [
        DueFault(
            id=f"f{number}",
            kind=spec.kind,
            handle=name,
            hold_s=spec.hold_s,
            due_ns=due_ns,
            phase=phase_name,
            params=spec.params,
        )
        for number, (due_ns, phase_name, name, spec) in enumerate(sorted(found, key=lambda f: f[0]), start=1)
    ]
