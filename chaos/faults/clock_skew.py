"""clock-skew: the process's clock is ahead or behind; time passes for it as for everybody else.

Its supervisor starts it again under libfaketime (Debian's package of that name), which answers for the wall clock of
all programs that ask the C library: Python, memcached, redis, most of Rust. Clocks that only count (CLOCK_MONOTONIC)
and the times of files are left alone. The skew costs a restart at its begin and one at its end.

The C library itself is preloaded next, so that its allocator comes before any other: jemalloc, which redis is linked
with, asks for the time while libfaketime asks it for memory, and neither would get any further.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from chaos.addresses import wait_until
from chaos.clocks import RESOLUTION_S, read_offset_s
from chaos.handles import Handle
from chaos.kind import FaultError, Parameter, Witness
from chaos.marks import new_mark
from chaos.processes import read_state
from chaos.wrapper import Wrapper, plan_wrapper, unwrap, wrap
from harness.core.units import format_duration, parse_duration_s

SMALLEST_S = 5.0
LARGEST_S = 366 * 86400.0
TOLERANCE_S = 2 * RESOLUTION_S
CLOCK_TIMEOUT_S = 5.0
"""from a process's readiness until it tells the time"""
LIBRARIES = ("lib/*/faketime", "lib/faketime", "lib64/faketime")
SHARED_MEMORY = Path("/dev/shm")  # noqa: S108 - of POSIX shared memory, not ours to choose
LEFTOVERS = ("faketime_shm_*", "sem.faketime_sem_*")


class ClockSkewPlan(msgspec.Struct, frozen=True, kw_only=True):
    """How the process is started, how far its clock is to be moved, and how far it was off before."""

    wrapper: Wrapper
    clock: str
    offset_s: float
    before_s: float


def _offset_s(value: Any) -> float:
    text = str(value).strip()
    sign = -1 if text.startswith("-") else 1
    seconds = parse_duration_s(text.removeprefix("-") if sign < 0 else text.removeprefix("+"))
    if not SMALLEST_S <= seconds <= LARGEST_S:
        raise ValueError(f"must be from 5s to 8784h, ahead or (with a minus sign) behind, got {value!r}")
    return sign * seconds


class ClockSkew:
    """See the module."""

    name = "clock-skew"
    about = "The handle's process is restarted with a clock that is ahead, or behind, by `offset`."
    backends: tuple[str, ...] = ("process",)
    needs: tuple[str, ...] = ("pid_file", "wrapper_file", "clock", "ready")
    colour = "#3f8f86"
    parameters: Mapping[str, Parameter] = {
        "offset": Parameter(_offset_s, 'how far its clock is ahead, such as "5m"; "-30s": behind', required=True)
    }
    plan_type = ClockSkewPlan

    def plan(self, handle: Handle, params: Mapping[str, Any]) -> ClockSkewPlan:
        """How it will be started, and what its clock says now."""
        mark = new_mark()
        words = (
            "/usr/bin/env",
            f"FEEDSTORM_FAULT={mark}",
            f"LD_PRELOAD={find_libfaketime()}:libc.so.6",
            f"FAKETIME={params['offset']:+.3f}",
            "FAKETIME_DONT_FAKE_MONOTONIC=1",
            "NO_FAKE_STAT=1",
            "FAKETIME_DISABLE_SHM=1",  # newer ones then leave nothing in /dev/shm
        )
        return ClockSkewPlan(
            wrapper=plan_wrapper(handle, "skew", mark, words),
            clock=handle.clock,
            offset_s=params["offset"],
            before_s=read_offset_s(handle.clock),
        )

    def inject(self, plan: ClockSkewPlan) -> None:
        """Restart it under libfaketime."""
        wrap(plan.wrapper)

    def witness(self, plan: ClockSkewPlan, within_s: float) -> Witness:
        """The clock it tells has moved by the offset."""
        seen = ""

        def moved() -> bool:
            nonlocal seen
            try:
                now_s = read_offset_s(plan.clock)
            except (OSError, FaultError) as error:
                seen = f"its clock cannot be read: {error}"
                return False
            seen = f"{plan.clock} was {_ahead(plan.before_s)} of us, is {_ahead(now_s)} now"
            return abs(now_s - plan.before_s - plan.offset_s) <= TOLERANCE_S

        ok = wait_until(moved, within_s)
        return Witness(ok, f"{seen}; asked for: {_ahead(plan.offset_s)}")

    def undo(self, plan: ClockSkewPlan) -> str:
        """Restart it without, and read its clock."""
        told = unwrap(plan.wrapper)
        _clear_shared_memory()
        if plan.wrapper.process.is_orphaned:
            return told
        if not wait_until(lambda: _is_as_before(plan), CLOCK_TIMEOUT_S):
            raise FaultError(f"{plan.clock} does not tell the time of before; {told}")
        return f"its clock is as before; {told}"


def find_libfaketime() -> str:
    """Path of the library, in its variant for programs with threads. Raises FaultError."""
    for folder in LIBRARIES:
        for found in sorted(Path("/usr").glob(f"{folder}/libfaketimeMT.so.1")):
            return str(found)
    raise FaultError("libfaketime is not installed; install it with: apt-get install libfaketime")


def _is_as_before(plan: ClockSkewPlan) -> bool:
    try:
        return abs(read_offset_s(plan.clock) - plan.before_s) <= TOLERANCE_S
    except (OSError, FaultError):
        return False


def _ahead(offset_s: float) -> str:
    return f"{format_duration(abs(offset_s))} {'ahead' if offset_s >= 0 else 'behind'}"


def _clear_shared_memory() -> None:
    """What libfaketime 0.9.10 leaves when its process is killed: two small files with the pid in their name."""
    for pattern in LEFTOVERS:
        for file in SHARED_MEMORY.glob(pattern):
            pid = file.name.rpartition("_")[2]
            if pid.isdigit() and read_state(int(pid)) is None:
                file.unlink(missing_ok=True)
