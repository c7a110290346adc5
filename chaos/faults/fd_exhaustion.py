"""fd-exhaustion: the handle's processes may open only so many more files and connections. Undo: their limits as before.

Only the soft limit (RLIMIT_NOFILE) is lowered, so it takes no privilege to raise it again. What is open stays open. A
process that is started during the fault has the limit of its supervisor, as ever.
"""

from __future__ import annotations

import resource
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from chaos.addresses import unready, wait_until
from chaos.handles import Handle
from chaos.kind import FaultError, Parameter, Witness
from chaos.processes import Identity, includes_us, living, members, read_pid_file
from harness.core.values import whole


class FileLimit(msgspec.Struct, frozen=True):
    """One process, and its soft limit of open files before the fault."""

    process: Identity
    soft: int


class FdExhaustionPlan(msgspec.Struct, frozen=True, kw_only=True):
    """The group, and the limits to restore."""

    target: Identity
    limits: tuple[FileLimit, ...]
    """the leader's first"""
    free: int
    ready: str


class FdExhaustion:
    """See the module."""

    name = "fd-exhaustion"
    about = "The handle's processes can open `free` more files and connections, and then none."
    backends: tuple[str, ...] = ("process",)
    needs: tuple[str, ...] = ("pid_file",)
    colour = "#7a6a4f"
    parameters: Mapping[str, Parameter] = {
        "free": Parameter(whole(0), "descriptors that each process can still open", default=0)
    }
    plan_type = FdExhaustionPlan

    def plan(self, handle: Handle, params: Mapping[str, Any]) -> FdExhaustionPlan:
        """The limits now."""
        target = read_pid_file(handle.pid_file)
        if target is None:
            raise FaultError(f"{handle.name} is not running: nothing to limit")
        states = members(target.identity)
        if includes_us(states):
            raise FaultError(f"{handle.name} contains the harness itself")
        group = sorted((s.identity for s in states), key=lambda identity: identity != target.identity)
        limits = [FileLimit(process, _soft(process)) for process in group]
        left = limits[0].soft - _used_below(target.identity, limits[0].soft)
        if left <= params["free"]:
            raise FaultError(f"{handle.name} can open only {left} more anyway: free must be less")
        return FdExhaustionPlan(target=target.identity, limits=tuple(limits), free=params["free"], ready=handle.ready)

    def inject(self, plan: FdExhaustionPlan) -> None:
        """Lower each limit to where only `free` descriptors are left below it."""
        for limit in plan.limits:
            lowered = limit_leaving(plan.free, _open_numbers(limit.process))
            if lowered < limit.soft:
                _set_soft(limit.process, lowered)
        if living(plan.target) is None:
            raise FaultError(f"process {plan.target.pid} ended while its limit was being lowered")

    def witness(self, plan: FdExhaustionPlan, within_s: float) -> Witness:
        """The kernel has a lower limit for each; what is left to them is told, and whether an http address answers."""
        alive = [limit for limit in plan.limits if living(limit.process) is not None]
        ok = wait_until(lambda: all(_soft(limit.process) < limit.soft for limit in alive), within_s) and bool(alive)
        seen = ", ".join(_told(limit) for limit in alive) or "no process left"
        if plan.ready.startswith("http:"):  # other connections are accepted by the kernel, whoever takes them
            seen += f"; {unready(plan.ready) or f'{plan.ready} still answers'}"
        return Witness(ok, seen)

    def undo(self, plan: FdExhaustionPlan) -> str:
        """Restore each limit; also of children that inherited a lowered one. One that fails stops none of the others.

        A hard limit that was lowered meanwhile is as high as it gets.
        """
        known = {limit.process: limit.soft for limit in plan.limits}
        present = {*known, *(state.identity for state in members(plan.target))}
        restored, failures = 0, []
        for process in sorted(present):
            try:
                restored += _restored(process, known.get(process, plan.limits[0].soft))
            except (FaultError, OSError) as error:
                failures.append(f"limit of process {process.pid}: {error}")
        if failures:
            raise FaultError("; ".join(failures))
        return f"the limits of {restored} process(es) are as before"


def _told(limit: FileLimit) -> str:
    soft = _soft(limit.process)
    left = max(soft - _used_below(limit.process, soft), 0)
    return f"process {limit.process.pid} can open {left} more (limit {soft}, was {limit.soft})"


def _open_numbers(process: Identity) -> list[int]:
    try:
        return sorted(int(entry.name) for entry in Path(f"/proc/{process.pid}/fd").iterdir())
    except (FileNotFoundError, ProcessLookupError):
        return []


def _used_below(process: Identity, limit: int) -> int:
    return sum(number < limit for number in _open_numbers(process))


def limit_leaving(free: int, numbers: list[int]) -> int:
    """The limit below which exactly `free` numbers are not in use: a descriptor takes the lowest unused number."""
    limit, unused = 0, 0
    taken = set(numbers)
    while unused < free or limit in taken:
        unused += limit not in taken
        limit += 1
    return limit


def _restored(process: Identity, soft: int) -> bool:
    """Raise the soft limit to `soft`, or to the hard limit; whether it was lower. Raises FaultError, OSError."""
    try:
        now, hard = resource.prlimit(process.pid, resource.RLIMIT_NOFILE)
    except ProcessLookupError:
        return False
    wanted = min(soft, hard)
    if living(process) is None or now >= wanted:
        return False
    _set_soft(process, wanted)
    return True


def _soft(process: Identity) -> int:
    """The soft limit; 0 when the process is gone."""
    try:
        return resource.prlimit(process.pid, resource.RLIMIT_NOFILE)[0]
    except ProcessLookupError:
        return 0


def _set_soft(process: Identity, soft: int) -> None:
    """Set it and read it back; a process that is gone needs nothing. Raises FaultError, PermissionError."""
    try:
        _, hard = resource.prlimit(process.pid, resource.RLIMIT_NOFILE)
        if living(process) is None:
            return
        resource.prlimit(process.pid, resource.RLIMIT_NOFILE, (soft, hard))
    except ProcessLookupError:
        return
    if living(process) is not None and (now := _soft(process)) != soft:
        raise FaultError(f"process {process.pid} may open {now} files, not {soft} as it was told")
