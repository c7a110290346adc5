"""durable-lock: somebody else holds the write lock of the durable store's SQLite file. Undo: that process ends.

In WAL mode readers read on, as SQLite means it to be; in the other modes they wait like writers.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from chaos.children import starting
from chaos.durable import after_lock, can_be_written, store_uri
from chaos.handles import Handle
from chaos.kind import FaultError, Parameter, Witness
from chaos.marks import end_marked, marked, new_mark

PROBE_S = 0.2


class LockPlan(msgspec.Struct, frozen=True, kw_only=True):
    """The store, and the mark of the process that will hold its lock."""

    uri: str
    mark: str
    lease_s: float


class DurableLock:
    """See the module."""

    name = "durable-lock"
    about = "The durable store's SQLite file is locked by another process: nothing can be written to it."
    backends: tuple[str, ...] = ("process",)
    needs: tuple[str, ...] = ("durable",)
    colour = "#7a5230"
    parameters: Mapping[str, Parameter] = {"lease": starting.LEASE}
    plan_type = LockPlan

    def plan(self, handle: Handle, params: Mapping[str, Any]) -> LockPlan:
        """The file, if it is one."""
        return LockPlan(uri=store_uri(handle), mark=new_mark(), lease_s=params["lease"])

    def inject(self, plan: LockPlan) -> None:
        """A child takes the lock as soon as the target's own transaction is over."""
        starting.start("sqlite_lock", plan.mark, plan.lease_s, {"uri": plan.uri, "free_s": 0})

    def witness(self, plan: LockPlan, within_s: float) -> Witness:
        """No write lock is to be had, and the child is alive."""
        try:
            refused = not can_be_written(plan.uri, min(PROBE_S, within_s))
        except FaultError as error:
            return Witness(False, str(error))
        holders = ", ".join(str(process.pid) for process in marked(plan.mark))
        seen = f"a write lock was {'refused' if refused else 'given'} by {plan.uri}"
        return Witness(refused and bool(holders), f"{seen}; process {holders or '(none)'} holds it")

    def undo(self, plan: LockPlan) -> str:
        """End the child; its lock goes with it."""
        count = end_marked(plan.mark)
        return f"{count or 'no'} process held the lock; {after_lock(plan.uri)}"
