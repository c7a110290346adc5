"""greedy-client: a few users ask for their feed far more often than anybody could read it. Undo: their process ends.

The users' tokens come from a file, as those of `slow-readers` do; neither plan nor command line nor output holds one.
"""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Mapping
from typing import Any

import msgspec

from chaos.addresses import wait_until
from chaos.children import starting
from chaos.handles import Handle
from chaos.kind import FaultError, Parameter, Witness
from chaos.marks import end_marked, new_mark
from chaos.tokens import read_tokens
from harness.core.units import parse_rate_per_s
from harness.core.values import whole

MOST_PER_S = 20_000.0
MOST_CONNECTIONS = 4000
PROVEN = 0.5
"""share of the rate that must be answered, refusals included"""
LOOK_S = 0.5
TELL_TIMEOUT_S = 2.0


class GreedyPlan(msgspec.Struct, frozen=True, kw_only=True):
    """What is asked for, how often and as whom (by file), and the mark of the process that does."""

    url: str
    token_file: str
    users: int
    rate_per_s: float
    connections: int
    mark: str
    lease_s: float


def _rate(value: Any) -> float:
    rate = parse_rate_per_s(value)
    if not 0 < rate <= MOST_PER_S:
        raise ValueError(f"must be more than 0/s and at most {MOST_PER_S:g}/s, got {value!r}")
    return rate


def _connections(value: Any) -> int:
    number: int = whole(1)(value)
    if number > MOST_CONNECTIONS:
        raise ValueError(f"must be at most {MOST_CONNECTIONS}, got {value!r}")
    return number


class GreedyClient:
    """See the module."""

    name = "greedy-client"
    about = "A few users ask the handle for their feed over and over, at a steady rate."
    backends: tuple[str, ...] = ("process",)
    needs: tuple[str, ...] = ("reads", "token_file")
    colour = "#a8662c"
    parameters: Mapping[str, Parameter] = {
        "rate": Parameter(_rate, "requests of all of them together", default=600.0),
        "users": Parameter(whole(1), "how many", default=1),
        "connections": Parameter(_connections, "most requests under way, one on each", default=8),
        "lease": starting.LEASE,
    }
    plan_type = GreedyPlan

    def plan(self, handle: Handle, params: Mapping[str, Any]) -> GreedyPlan:
        """Whether there are users to be had."""
        if len(read_tokens(handle.token_file)) < params["users"]:
            raise FaultError(f"{handle.token_file}: holds fewer than {params['users']} tokens")
        if not handle.reads.startswith("http://"):
            raise FaultError(f"{handle.name}: greedy-client speaks plain HTTP, its feed is at {handle.reads}")
        return GreedyPlan(
            url=handle.reads,
            token_file=handle.token_file,
            users=params["users"],
            rate_per_s=params["rate"],
            connections=params["connections"],
            mark=new_mark(),
            lease_s=params["lease"],
        )

    def inject(self, plan: GreedyPlan) -> None:
        """A child asks as all of them. They are the last ones of the file: others take the first."""
        job = {
            "url": plan.url,
            "tokens": read_tokens(plan.token_file)[-plan.users :],
            "rate_per_s": plan.rate_per_s,
            "connections": plan.connections,
        }
        starting.start("greedy_client", plan.mark, plan.lease_s, job)

    def witness(self, plan: GreedyPlan, within_s: float) -> Witness:
        """By its own count the child is answered about as often as it should ask, or refused."""
        seen = ""

        def is_greedy() -> bool:
            nonlocal seen
            try:
                answered, refused = _rates(plan.mark)
            except (OSError, ValueError) as error:
                seen = f"its count cannot be read: {error}"
                return False
            seen = f"{answered:.0f} answers/s of {plan.url}, {refused:.0f}/s of them refusals"
            return answered >= PROVEN * plan.rate_per_s

        ok = wait_until(is_greedy, within_s)
        return Witness(ok, f"{seen}; asked for: {plan.rate_per_s:g}/s")

    def undo(self, plan: GreedyPlan) -> str:
        """End the child."""
        count = end_marked(plan.mark)
        return f"{count or 'no'} process asked; none is left"


def _rates(mark: str) -> tuple[float, float]:
    """Answers a second, and refusals among them, over LOOK_S. Raises OSError, ValueError."""
    before, began = _told(mark), time.monotonic()
    time.sleep(LOOK_S)
    after, length_s = _told(mark), time.monotonic() - began
    return ((after["answered"] - before["answered"]) / length_s, (after["refused"] - before["refused"]) / length_s)


def _told(mark: str) -> dict[str, int]:
    with socket.socket(socket.AF_UNIX) as asking:
        asking.settimeout(TELL_TIMEOUT_S)
        asking.connect(f"\0{mark}")
        with asking.makefile("rb") as told:
            counts: dict[str, int] = json.loads(told.read())
            return counts
