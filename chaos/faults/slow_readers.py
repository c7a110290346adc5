"""slow-readers: listeners that open streams as real users and read nothing. Undo: their process ends.

A reader that the server cuts comes back after a pause, as a client would. The users' tokens come from a file that
whoever runs the target, or the harness, has written (one a line, readable by its owner only); neither plan nor command
line nor output holds one.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from chaos.addresses import wait_until
from chaos.children import starting
from chaos.connections import Connection, established, sockets_of
from chaos.handles import Handle
from chaos.kind import FaultError, Parameter, Witness
from chaos.marks import end_marked, marked, new_mark
from chaos.tokens import read_tokens
from harness.core.units import parse_duration_s

MOST_STREAMS = 10_000
OPEN_TIMEOUT_S = 60.0


class ReadersPlan(msgspec.Struct, frozen=True, kw_only=True):
    """Which streams to open, as whom (by file), and the mark of the process that does."""

    url: str
    token_file: str
    streams: int
    reconnect_s: float
    mark: str
    lease_s: float


def _streams(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= MOST_STREAMS:
        raise ValueError(f"must be a whole number from 1 to {MOST_STREAMS}, got {value!r}")
    return value


class SlowReaders:
    """See the module."""

    name = "slow-readers"
    about = "Listeners open streams of the handle and read nothing from them."
    backends: tuple[str, ...] = ("process",)
    needs: tuple[str, ...] = ("stream", "token_file")
    colour = "#b5548f"
    parameters: Mapping[str, Parameter] = {
        "streams": Parameter(_streams, "how many; users take turns when there are fewer", default=20),
        "reconnect": Parameter(parse_duration_s, "pause until a reader that was cut comes back", default=3.0),
        "lease": starting.LEASE,
    }
    plan_type = ReadersPlan

    def plan(self, handle: Handle, params: Mapping[str, Any]) -> ReadersPlan:
        """Whether there are users to be had."""
        read_tokens(handle.token_file)
        if not handle.stream.startswith("http://"):
            raise FaultError(f"{handle.name}: slow-readers speaks plain HTTP, the stream is {handle.stream}")
        return ReadersPlan(
            url=handle.stream,
            token_file=handle.token_file,
            streams=params["streams"],
            reconnect_s=params["reconnect"],
            mark=new_mark(),
            lease_s=params["lease"],
        )

    def inject(self, plan: ReadersPlan) -> None:
        """A child opens all of them."""
        job = {
            "url": plan.url,
            "tokens": read_tokens(plan.token_file)[: plan.streams],
            "streams": plan.streams,
            "reconnect_s": plan.reconnect_s,
        }
        starting.start("stream_readers", plan.mark, plan.lease_s, job, OPEN_TIMEOUT_S)

    def witness(self, plan: ReadersPlan, within_s: float) -> Witness:
        """That many connections of the child are established, and each has bytes that nobody reads."""
        unread: list[Connection] = []

        def all_unread() -> bool:
            unread[:] = [found for found in _open_streams(plan) if found.unread_bytes]
            return len(unread) >= plan.streams

        ok = wait_until(all_unread, within_s)
        waiting = sum(found.unread_bytes for found in unread)
        return Witness(
            ok, f"{len(unread)} of {plan.streams} streams of {plan.url} are open and unread ({waiting} bytes)"
        )

    def undo(self, plan: ReadersPlan) -> str:
        """End the child; its streams go with it."""
        count = end_marked(plan.mark)
        return f"{count or 'no'} process held the streams; none is left"


def _open_streams(plan: ReadersPlan) -> list[Connection]:
    return established(sockets_of(marked(plan.mark)))
