"""Says no before anything is touched: every problem of a set of faults, each with its path and the nearest name."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from itertools import combinations
from typing import Any

from chaos.containers import refusal
from chaos.faults import KINDS, exclude_each_other
from chaos.handles import Handle, is_loopback, matching, parse_handle, unmatched
from chaos.kind import FaultKind, parse_parameters
from chaos.timeline import fault_paths
from harness.core.errors import nearest
from harness.core.scenario import FaultSpec, Phase
from harness.core.units import format_duration


def validate(
    specs: Mapping[str, FaultSpec], handles: Mapping[str, Mapping[str, Any]], allow_hosts: Collection[str] = ()
) -> list[str]:
    """Problems of faults given by their path, against the handles of a target profile. Empty: all may run."""
    problems: list[str] = []
    for path, spec in specs.items():
        kind = KINDS.get(spec.kind)
        if kind is None:
            problems.append(f"{path}.kind: unknown fault kind {spec.kind!r}{nearest(spec.kind, KINDS)}")
        else:
            params, wrong = parse_parameters(kind, spec.params)
            if not wrong and "lease" in spec.params and params["lease"] < spec.hold_s:
                wrong = [f"lease: must be as long as the hold ({format_duration(spec.hold_s)}) at least"]
            problems += [f"{path}.{problem}" for problem in wrong]
        names = matching(spec.handle, handles)
        if not names:
            problems.append(f"{path}.handle: {unmatched(spec.handle, handles)}")
        for name in names:
            problems += [f"{path}.handle: {p}" for p in misfits(name, handles[name], kind, allow_hosts)]
    return problems


def validate_phases(
    phases: Sequence[Phase], handles: Mapping[str, Mapping[str, Any]], allow_hosts: Collection[str] = ()
) -> list[str]:
    """`validate` for a whole scenario; also faults on one handle that must not be active at the same time."""
    problems = validate(fault_paths(phases), handles, allow_hosts)
    for i, phase in enumerate(phases):
        for (a, first), (b, second) in combinations(enumerate(phase.faults), 2):
            shared = set(matching(first.handle, handles)) & set(matching(second.handle, handles))
            apart = first.at_s + first.hold_s <= second.at_s or second.at_s + second.hold_s <= first.at_s
            if shared and exclude_each_other(first.kind, second.kind) and not apart:
                where = f"phase[{i}].faults[{b}].at"
                problems.append(
                    f"{where}: {second.kind} on {min(shared)} overlaps {first.kind} of phase[{i}].faults[{a}]"
                )
    return problems


def misfits(
    name: str, table: Mapping[str, Any], kind: FaultKind[Any] | None, allow_hosts: Collection[str] = ()
) -> list[str]:
    """Why faults of the kind (None: of any) may not touch the handle. Empty: they may."""
    try:
        handle = parse_handle(name, table)
    except ValueError as error:
        return [f"{name}: {error}"]
    problems = [
        f"{name}: address {host!r} is not on this machine (allow it with --allow-host {host})"
        for host in sorted(set(handle.addresses))
        if not is_loopback(host) and host not in allow_hosts
    ]
    if kind is not None:
        problems += _unfit(handle, kind)
    if handle.backend == "container" and not problems and (why := refusal(handle)):
        problems.append(f"{name}: {why}")
    return problems


def _unfit(handle: Handle, kind: FaultKind[Any]) -> list[str]:
    if handle.backend not in kind.backends:
        wanted = " or ".join(kind.backends)
        return [f"{handle.name}: {kind.name} needs a {wanted} handle, this is a {handle.backend} one"]
    missing = [field for field in kind.needs if not getattr(handle, field)]
    return [f"{handle.name}: {kind.name} needs {' and '.join(missing)} of the handle"] if missing else []
