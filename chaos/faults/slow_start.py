"""slow-start: the process is restarted, and each start of it is held up before its program even runs.

It has a pid and lives, but nobody listens: what a cold container, a slow disk or a long recovery looks like from
outside. A restart by another fault during the hold is held up as well. Undo: it starts at once again.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from chaos.addresses import unready, wait_until
from chaos.handles import Handle
from chaos.kind import Parameter, Witness
from chaos.marks import carries, new_mark
from chaos.processes import living, read_pid_file
from chaos.wrapper import Wrapper, plan_wrapper, unwrap, wrap
from harness.core.units import format_duration, parse_duration_s

LONGEST_S = 600.0
SHORTEST_S = 0.1
SCRIPT = 'sleep "$1"; shift; exec "$@"'


class SlowStartPlan(msgspec.Struct, frozen=True, kw_only=True):
    """How the process is started, and how long that takes longer."""

    wrapper: Wrapper
    delay_s: float


def _delay_s(value: Any) -> float:
    seconds = parse_duration_s(value)
    if not SHORTEST_S <= seconds <= LONGEST_S:
        raise ValueError(f"must be from 100ms to 10m, got {value!r}")
    return seconds


class SlowStart:
    """See the module."""

    name = "slow-start"
    about = "The handle's process is restarted, and each start takes `delay` longer until it serves."
    backends: tuple[str, ...] = ("process",)
    needs: tuple[str, ...] = ("pid_file", "wrapper_file", "ready")
    colour = "#b0562f"
    parameters: Mapping[str, Parameter] = {
        "delay": Parameter(_delay_s, "what a start takes longer, such as 5s", required=True)
    }
    plan_type = SlowStartPlan

    def plan(self, handle: Handle, params: Mapping[str, Any]) -> SlowStartPlan:
        """How it will be started."""
        mark, delay_s = new_mark(), params["delay"]
        words = ("/bin/sh", "-c", SCRIPT, mark, f"{delay_s:g}")
        return SlowStartPlan(wrapper=plan_wrapper(handle, "restart", mark, words), delay_s=delay_s)

    def inject(self, plan: SlowStartPlan) -> None:
        """Restart it, held up."""
        wrap(plan.wrapper)

    def witness(self, plan: SlowStartPlan, within_s: float) -> Witness:
        """Another process has taken its place, lives, and does not serve."""
        process, seen = plan.wrapper.process, [f"process {plan.wrapper.process.target.pid} still lives"]

        def held_up() -> bool:
            leader = read_pid_file(process.pid_file)
            if living(process.target) is not None:
                return False
            if leader is None:
                seen[:] = [f"process {process.target.pid} is gone, and no other has taken its place yet"]
                return False
            reason = unready(process.ready)
            place = f"process {leader.identity.pid} has taken the place of {process.target.pid}"
            seen[:] = [f"{place}, and does not serve ({reason})" if reason else f"{place}, and serves"]
            return bool(reason) and carries(leader.identity, plan.wrapper.mark)

        ok = wait_until(held_up, within_s)
        return Witness(ok, f"{seen[0]}; a start takes {format_duration(plan.delay_s)} longer")

    def undo(self, plan: SlowStartPlan) -> str:
        """Start it as before; one that is being held up is ended, so that the next one begins at once."""
        return f"it starts as before; {unwrap(plan.wrapper)}"
