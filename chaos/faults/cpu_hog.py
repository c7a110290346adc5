"""cpu-hog: busy loops beside the target take processor time. Undo: ends them.

The workers are processes of ours (`chaos.children.burn`), with the priority of the harness. Pinned, they run on the
target's cores only, one after the other: a target that has the machine to itself does not share it with idle cores.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import msgspec

from chaos.children.starting import LEASE, start_all
from chaos.handles import Handle
from chaos.kind import FaultError, Parameter, Witness
from chaos.marks import end_marked, marked, new_mark
from chaos.processes import Identity, members, read_pid_file
from harness.core.clock import NS_PER_S
from harness.core.values import flag

MOST_WORKERS = 256
START_TIMEOUT_S = 25.0
"""for all of them; others may undo a fault 30 s after its hold"""
WINDOW_S = 0.5
"""how long the witness measures"""
WANTED = 0.8
"""share of what was asked for that the workers must have taken or stood in line for"""
TAKEN = 0.1
"""and that they must have taken: the rest went to others who wanted it too, the target among them"""


class CpuHogPlan(msgspec.Struct, frozen=True, kw_only=True):
    """The workers, each with its core (None: any), and who is to suffer."""

    target: Identity
    mark: str
    cores: tuple[int | None, ...]
    share: float
    lease_s: float


class Use(msgspec.Struct, frozen=True):
    """Processor time of some processes so far: what they ran, and what they waited for a core though ready."""

    ran_s: float
    waited_s: float


def _workers(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= MOST_WORKERS:
        raise ValueError(f"must be a whole number from 1 to {MOST_WORKERS}, got {value!r}")
    return value


def _share(value: Any) -> float:
    number = value.strip().removesuffix("%") if isinstance(value, str) and value.strip().endswith("%") else ""
    if not number.isdecimal() or not 1 <= int(number) <= 100:
        raise ValueError(f'must be from "1%" to "100%", got {value!r}')
    return int(number) / 100


class CpuHog:
    """See the module."""

    name = "cpu-hog"
    about = "Busy loops run beside the handle's processes and compete with them for the processor."
    backends: tuple[str, ...] = ("process",)
    needs: tuple[str, ...] = ("pid_file",)
    colour = "#a3462f"
    parameters: Mapping[str, Parameter] = {
        "workers": Parameter(_workers, "busy loops; default: one for each core that the target may use"),
        "share": Parameter(_share, 'of a core that each loop takes, such as "50%"', default=1.0),
        "pin": Parameter(flag, "true: only on cores that the target may use", default=False),
        "lease": LEASE,
    }
    plan_type = CpuHogPlan

    def plan(self, handle: Handle, params: Mapping[str, Any]) -> CpuHogPlan:
        """How many workers, and where."""
        target = read_pid_file(handle.pid_file)
        if target is None:
            raise FaultError(f"{handle.name} is not running: nobody would notice")
        cores = sorted(os.sched_getaffinity(target.identity.pid))
        workers = params["workers"] or len(cores)
        return CpuHogPlan(
            target=target.identity,
            mark=new_mark(),
            cores=tuple(cores[k % len(cores)] if params["pin"] else None for k in range(workers)),
            share=params["share"],
            lease_s=params["lease"],
        )

    def inject(self, plan: CpuHogPlan) -> None:
        """Start the workers, all at once: one by one, each would wait for a core behind those before it."""
        jobs = [{"share": plan.share, "core": core} for core in plan.cores]
        start_all("burn", plan.mark, plan.lease_s, jobs, START_TIMEOUT_S)

    def witness(self, plan: CpuHogPlan, within_s: float) -> Witness:
        """The kernel's accounts: the workers ran, or stood in line, as much as asked; what the target waited."""
        hogs, target = marked(plan.mark), [state.identity for state in members(plan.target)]
        if not hogs:
            return Witness(False, "no worker runs")
        before, target_before, began = _use(hogs), _use(target), time.monotonic()
        time.sleep(min(within_s, WINDOW_S))
        after, target_after, seconds = _use(hogs), _use(target), time.monotonic() - began
        took, waited = (after.ran_s - before.ran_s) / seconds, (after.waited_s - before.waited_s) / seconds
        asked = len(plan.cores) * plan.share
        lost = (target_after.waited_s - target_before.waited_s) / seconds
        evidence = (
            f"{len(hogs)} worker(s) took {took:.2f} cores and stood in line for {waited:.2f} more, of {asked:.2f} "
            f"asked for; meanwhile the target ran {(target_after.ran_s - target_before.ran_s) / seconds:.2f} and stood "
            f"in line for {lost:.2f}"
        )
        return Witness(took + waited >= WANTED * asked and took >= TAKEN * asked, evidence)

    def undo(self, plan: CpuHogPlan) -> str:
        """End them, whoever started them."""
        return f"{end_marked(plan.mark)} worker(s) ended, none is left"


def _use(processes: Iterable[Identity]) -> Use:
    """Of all their threads, from /proc/PID/task/TID/schedstat; threads that end take their accounts along."""
    ran_ns = waited_ns = 0
    for process in processes:
        for file in Path(f"/proc/{process.pid}/task").glob("*/schedstat"):
            try:
                ran, waited, _ = file.read_bytes().split()
            except OSError:
                continue
            ran_ns, waited_ns = ran_ns + int(ran), waited_ns + int(waited)
    return Use(ran_ns / NS_PER_S, waited_ns / NS_PER_S)
