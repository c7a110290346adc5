"""durable-slow: the durable store's SQLite file is locked again and again, for a share of the time.

A writer waits for the lock to be let go of, so its transactions take longer, up to a whole lock. The pauses are long
enough for SQLite's waiting, which looks every 100 ms at the latest, so nobody starves. Undo: the locking process ends.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import msgspec

from chaos.children import starting
from chaos.durable import after_lock, can_be_written, store_uri
from chaos.handles import Handle
from chaos.kind import FaultError, Parameter, Witness
from chaos.marks import end_marked, marked, new_mark
from harness.core.units import parse_duration_s

SHORTEST_PAUSE_S = 0.15
LONGEST_PERIOD_S = 60.0
SAMPLE_EVERY_S = 0.01
PERIODS_WATCHED = 2.5
CLOSE_ENOUGH = 0.7
"""share of the duty ratio that must be measured"""


class SlowPlan(msgspec.Struct, frozen=True, kw_only=True):
    """The store, how it is to be locked, and the mark of the process that will do it."""

    uri: str
    mark: str
    lease_s: float
    duty_ratio: float
    period_s: float


def _duty_ratio(value: Any) -> float:
    if not isinstance(value, int | float) or not 0.05 <= value <= 0.99:
        raise ValueError(f"must be a number from 0.05 to 0.99, got {value!r}")
    return float(value)


def _period_s(value: Any) -> float:
    seconds = parse_duration_s(value)
    if not 0.2 <= seconds <= LONGEST_PERIOD_S:
        raise ValueError(f"must be from 200ms to {LONGEST_PERIOD_S:g}s, got {value!r}")
    return seconds


class DurableSlow:
    """See the module."""

    name = "durable-slow"
    about = "The durable store's SQLite file is locked for a share of the time: writes to it take longer."
    backends: tuple[str, ...] = ("process",)
    needs: tuple[str, ...] = ("durable",)
    colour = "#a8825c"
    parameters: Mapping[str, Parameter] = {
        "duty": Parameter(_duty_ratio, "share of the time it is locked", default=0.8),
        "period": Parameter(_period_s, "a lock and the pause after it", default=1.0),
        "lease": starting.LEASE,
    }
    plan_type = SlowPlan

    def plan(self, handle: Handle, params: Mapping[str, Any]) -> SlowPlan:
        """The file, if it is one."""
        pause_s = params["period"] * (1 - params["duty"])
        if pause_s < SHORTEST_PAUSE_S:
            raise FaultError(
                f"duty {params['duty']:g} of {params['period']:g} s leaves writers {pause_s * 1000:.0f} ms, "
                f"they need {SHORTEST_PAUSE_S * 1000:.0f} ms: choose a longer period, or durable-lock"
            )
        return SlowPlan(
            uri=store_uri(handle),
            mark=new_mark(),
            lease_s=params["lease"],
            duty_ratio=params["duty"],
            period_s=params["period"],
        )

    def inject(self, plan: SlowPlan) -> None:
        """A child locks and pauses."""
        locked_s = plan.period_s * plan.duty_ratio
        job = {"uri": plan.uri, "locked_s": locked_s, "free_s": plan.period_s - locked_s}
        starting.start("sqlite_lock", plan.mark, plan.lease_s, job)

    def witness(self, plan: SlowPlan, within_s: float) -> Witness:
        """Over some periods a write lock is refused for about that share of the time, and given in between."""
        tried = refused = 0
        deadline = time.monotonic() + min(within_s, plan.period_s * PERIODS_WATCHED)
        try:
            while time.monotonic() < deadline:
                tried += 1
                refused += not can_be_written(plan.uri, 0)
                time.sleep(SAMPLE_EVERY_S)
        except FaultError as error:
            return Witness(False, str(error))
        share = refused / max(tried, 1)
        ok = plan.duty_ratio * CLOSE_ENOUGH <= share < 1 and bool(marked(plan.mark))
        return Witness(ok, f"{plan.uri} refused {share:.0%} of {tried} tries of a write lock, and gave the others")

    def undo(self, plan: SlowPlan) -> str:
        """End the child; its lock goes with it."""
        count = end_marked(plan.mark)
        return f"{count or 'no'} process locked the store; {after_lock(plan.uri)}"
