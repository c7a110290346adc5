"""container-cpu-limit: a container may use less CPU than before; its work goes on, slower. Undo: its limit as it was.

An engine cannot forget a limit once it was set: a container that had none gets quota -1, which means the same.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import msgspec

from chaos.containers import Target, both, observed, read_target, undo_on
from chaos.docker_engine import DEFAULT_PERIOD_US, UNLIMITED, ContainerState, CpuLimit, DockerEngine
from chaos.handles import Handle
from chaos.kind import FaultError, Parameter, Witness
from harness.core.units import format_duration

LEAST_CPUS = 0.01
"""one period of 100 ms with the least quota that kernels take, 1 ms"""
MOST_CPUS = 1024.0
LEAST_PERIODS = 3
SAMPLE_S = 0.1
LONGEST_LOOK_S = 3.0
SHORTEST_LOOK_S = 0.5
SLACK = 1.25
SLACK_CPUS = 0.02
"""quota is handed out in slices: within a short look a little more than the limit may be used"""


class ContainerCpuLimitPlan(msgspec.Struct, frozen=True, kw_only=True):
    """The container, its limit before, and the limit of the fault in the same terms."""

    target: Target
    before: CpuLimit
    limit: CpuLimit


def _cpus(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not LEAST_CPUS <= value <= MOST_CPUS:
        raise ValueError(f"must be a number of CPUs from {LEAST_CPUS:g}, such as 0.2, got {value!r}")
    return float(value)


class ContainerCpuLimit:
    """See the module."""

    name = "container-cpu-limit"
    about = "The handle's container may use no more than `cpus` of CPU time a second; its work is slower."
    backends: tuple[str, ...] = ("container",)
    needs: tuple[str, ...] = ("container",)
    colour = "#8a7a12"
    parameters: Mapping[str, Parameter] = {
        "cpus": Parameter(_cpus, "CPU seconds a second, such as 0.2", required=True),
    }
    plan_type = ContainerCpuLimitPlan

    def plan(self, handle: Handle, params: Mapping[str, Any]) -> ContainerCpuLimitPlan:
        """The limit as it is."""
        target, state = read_target(handle, "limit")
        cpus, present = params["cpus"], state.cpu.cpus
        if present is not None and cpus >= present:
            raise FaultError(f"{handle.name} is already limited to {present:g} CPUs: cpus must be less")
        return ContainerCpuLimitPlan(target=target, before=state.cpu, limit=_limit(state.cpu, cpus))

    def inject(self, plan: ContainerCpuLimitPlan) -> None:
        """Set it, read back."""
        plan.target.engine.set_cpu(plan.target.id, plan.limit)

    def witness(self, plan: ContainerCpuLimitPlan, within_s: float) -> Witness:
        """The limit reads back, and the kernel makes the container wait for CPU."""

        def effect(state: ContainerState) -> str:
            return f"is limited to {state.cpu.cpus:g} CPUs" if state.cpu.cpus == plan.limit.cpus else ""

        def limited(look_s: float) -> Witness:
            return observed(plan.target, look_s, effect, f"limited to {plan.limit.cpus:g} CPUs")

        return both(within_s, limited, lambda s: _throttled(plan, s))

    def undo(self, plan: ContainerCpuLimitPlan) -> str:
        """The limit as before, read back."""

        def change(engine: DockerEngine, state: ContainerState) -> str:
            if state.cpu.cpus != plan.before.cpus:
                lifted = plan.before if plan.before.cpus else CpuLimit(quota_us=UNLIMITED)
                engine.set_cpu(plan.target.id, lifted)
            limit = f"limited to {plan.before.cpus:g} CPUs" if plan.before.cpus else "without a CPU limit"
            return f"container {plan.target.name} reads back as {limit}, as before"

        return undo_on(plan.target, change)


def _limit(before: CpuLimit, cpus: float) -> CpuLimit:
    """`cpus` in the terms the container has its limit in: an engine refuses to mix them."""
    if before.nano_cpus > 0:
        return CpuLimit(nano_cpus=round(cpus * 1e9))
    period_us = before.period_us or DEFAULT_PERIOD_US
    return CpuLimit(quota_us=round(cpus * period_us), period_us=before.period_us)


def _throttled(plan: ContainerCpuLimitPlan, within_s: float) -> Witness:
    """Whether it had to wait in several periods while it used no more than it may."""
    engine, limit = plan.target.engine, plan.limit.cpus or 0.0
    look_s = min(within_s, LONGEST_LOOK_S)
    try:
        first, began = engine.cpu_usage(plan.target.id), time.monotonic()
        while True:
            time.sleep(SAMPLE_S)
            now, took_s = engine.cpu_usage(plan.target.id), time.monotonic() - began
            waited = now.throttled_periods - first.throttled_periods
            used = (now.used_s - first.used_s) / took_s
            ok = waited >= LEAST_PERIODS and used <= limit * SLACK + SLACK_CPUS
            if took_s >= look_s or (ok and took_s >= SHORTEST_LOOK_S):
                break
    except FaultError as error:
        return Witness(False, str(error))
    periods = now.periods - first.periods
    evidence = (
        f"it used {used:.2f} CPUs for {format_duration(took_s)} and waited for more in {waited} of {periods} periods"
    )
    return Witness(ok, evidence if waited else f"{evidence}: it had no need for more")
