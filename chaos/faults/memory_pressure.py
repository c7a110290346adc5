"""memory-pressure: memory is taken away from the machine, and held. Undo: given back.

A process of ours (`chaos.children.hoard`) takes it. It never takes so much that less than `reserve` stays available,
gives back when others need that, and is the first that the kernel ends when memory runs out.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from chaos.addresses import wait_until
from chaos.children.hoard import available_bytes
from chaos.children.starting import LEASE, start
from chaos.handles import Handle
from chaos.kind import FaultError, Parameter, Witness
from chaos.marks import end_marked, marked, new_mark
from harness.core.units import format_size, parse_size_bytes
from harness.core.values import Parser

SMALLEST_BYTES = 1 << 20
SMALLEST_RESERVE_BYTES = 64 << 20


class MemoryPressurePlan(msgspec.Struct, frozen=True, kw_only=True):
    """How much is taken, and what is left to others."""

    mark: str
    size_bytes: int
    reserve_bytes: int
    lease_s: float
    before_bytes: int
    """available before"""


def _at_least(smallest_bytes: int) -> Parser:
    def parse(value: Any) -> int:
        size = parse_size_bytes(value)
        if size < smallest_bytes:
            raise ValueError(f"must be at least {smallest_bytes >> 20}MiB, got {value!r}")
        return size

    return parse


class MemoryPressure:
    """See the module."""

    name = "memory-pressure"
    about = "`size` of the machine's memory is taken and held; at least `reserve` always stays available."
    backends: tuple[str, ...] = ("process",)
    needs: tuple[str, ...] = ("pid_file",)
    colour = "#6d7f2f"
    parameters: Mapping[str, Parameter] = {
        "size": Parameter(_at_least(SMALLEST_BYTES), "memory to take, such as 2GiB", required=True),
        "reserve": Parameter(
            _at_least(SMALLEST_RESERVE_BYTES), "memory that stays available to others", default=512 << 20
        ),
        "lease": LEASE,
    }
    plan_type = MemoryPressurePlan

    def plan(self, handle: Handle, params: Mapping[str, Any]) -> MemoryPressurePlan:
        """Whether there is as much to take."""
        size, reserve, available = params["size"], params["reserve"], available_bytes()
        if available - size < reserve:
            raise FaultError(
                f"{format_size(available)} are available: without {format_size(size)}, "
                f"the reserve of {format_size(reserve)} would not be left"
            )
        return MemoryPressurePlan(
            mark=new_mark(),
            size_bytes=size,
            reserve_bytes=reserve,
            lease_s=params["lease"],
            before_bytes=available,
        )

    def inject(self, plan: MemoryPressurePlan) -> None:
        """Begin to take it."""
        start("hoard", plan.mark, plan.lease_s, {"size_bytes": plan.size_bytes, "reserve_bytes": plan.reserve_bytes})

    def witness(self, plan: MemoryPressurePlan, within_s: float) -> Witness:
        """The kernel counts it as resident in one process, so that nobody else has it."""
        ok = wait_until(lambda: _held_bytes(plan) >= plan.size_bytes, within_s)
        evidence = (
            f"{format_size(_held_bytes(plan))} held, of {format_size(plan.size_bytes)} asked for; available: "
            f"{format_size(available_bytes())}, was {format_size(plan.before_bytes)}"
        )
        return Witness(ok, evidence)

    def undo(self, plan: MemoryPressurePlan) -> str:
        """End the process that holds it."""
        ended = end_marked(plan.mark)
        return f"{'given back' if ended else 'nobody holds it'}; {format_size(available_bytes())} available"


def _held_bytes(plan: MemoryPressurePlan) -> int:
    """What is resident of the memory taken, by /proc; the interpreter's own is not in it."""
    held = 0
    for process in marked(plan.mark):
        try:
            facts = Path(f"/proc/{process.pid}/status").read_bytes().splitlines()
        except OSError:
            continue
        held += sum(int(line.split()[1]) * 1024 for line in facts if line.startswith(b"RssShmem:"))
    return held
