"""buffering-proxy: a proxy in the path keeps answers back until its buffer is full. Undo: the path is as before.

The link's toxiproxy is pointed at a child instead of its upstream, and the child reaches the upstream. To do so breaks
the connections that are open through the link, at the begin as at the end.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Mapping
from typing import Any

import msgspec

from chaos.addresses import connect
from chaos.children import starting
from chaos.handles import Handle
from chaos.kind import Parameter, Witness
from chaos.links import STREAMS, Link, nominal_latency_s, read_link, undo_on
from chaos.marks import end_marked, new_mark
from chaos.toxiproxy import ProxyState, ToxiproxyServer
from harness.core.units import format_duration, parse_size_bytes
from harness.core.values import positive_duration

MARGIN_S = 0.5
READ_BYTES = 65_536
SMALLEST_BUFFER_BYTES, LARGEST_BUFFER_BYTES = 64, 16 << 20


class BufferingPlan(msgspec.Struct, frozen=True, kw_only=True):
    """The link, and the proxy that goes between it and its upstream."""

    link: Link
    address: str
    """where the child will listen, HOST:PORT"""
    normal_s: float
    """how long a probe takes by the link's own delay"""
    buffer_bytes: int
    idle_s: float
    mark: str
    lease_s: float


def _buffer_bytes(value: Any) -> int:
    size_bytes = parse_size_bytes(value)
    if not SMALLEST_BUFFER_BYTES <= size_bytes <= LARGEST_BUFFER_BYTES:
        raise ValueError(f"must be from {SMALLEST_BUFFER_BYTES}B to 16MiB, got {value!r}")
    return size_bytes


class BufferingProxy:
    """See the module."""

    name = "buffering-proxy"
    about = "What comes back over the link is held until `buffer` is full or its sender is done."
    backends: tuple[str, ...] = ("toxiproxy",)
    needs: tuple[str, ...] = ("api", "proxy")
    colour = "#5f7f8f"
    parameters: Mapping[str, Parameter] = {
        "buffer": Parameter(_buffer_bytes, "what is held back of each connection, at most", default=16_384),
        "idle": Parameter(positive_duration, "a sender that is silent for so long is cut", default=60.0),
        "lease": starting.LEASE,
    }
    plan_type = BufferingPlan

    def plan(self, handle: Handle, params: Mapping[str, Any]) -> BufferingPlan:
        """The link, and a port that is free."""
        link, state = read_link(handle)
        return BufferingPlan(
            link=link,
            address=_free_address(),
            normal_s=sum(nominal_latency_s(state.toxics, stream) for stream in STREAMS),
            buffer_bytes=params["buffer"],
            idle_s=params["idle"],
            mark=new_mark(),
            lease_s=params["lease"],
        )

    def inject(self, plan: BufferingPlan) -> None:
        """A child listens; then the link leads to it."""
        job = {
            "listen": plan.address,
            "upstream": plan.link.upstream,
            "buffer_bytes": plan.buffer_bytes,
            "idle_s": plan.idle_s,
        }
        starting.start("buffering_proxy", plan.mark, plan.lease_s, job)
        plan.link.server.set_upstream(plan.link.proxy, plan.address)

    def witness(self, plan: BufferingPlan, within_s: float) -> Witness:
        """Bytes that the child takes as an answer do not come back over the link, until they fill the buffer."""
        try:
            return _held_back(plan, within_s)
        except OSError as error:
            return Witness(False, f"probe of {plan.link.proxy} failed: {error}")

    def undo(self, plan: BufferingPlan) -> str:
        """The link leads to its upstream again, then the child ends."""

        def change(server: ToxiproxyServer, state: ProxyState) -> str:
            server.set_upstream(state.name, plan.link.upstream)
            return f"{state.name} reads back as leading to {plan.link.upstream}"

        told = undo_on(plan.link, change)
        end_marked(plan.mark)
        return told


def _held_back(plan: BufferingPlan, within_s: float) -> Witness:
    enough_s = plan.normal_s + MARGIN_S
    if within_s < 2 * enough_s:
        return Witness(False, f"a hold of {format_duration(within_s)} is too short to prove silence")
    with connect(f"tcp://{plan.link.listen}") as sock:
        few = f"{plan.mark}\n".encode()
        sock.sendall(few)
        before = _received(sock, 1, enough_s)
        sock.sendall(bytes(plan.buffer_bytes))
        after = _received(sock, plan.buffer_bytes, enough_s)
    seen = (
        f"of {len(few)} bytes {before} came back over {plan.link.proxy} within {format_duration(enough_s)}; "
        f"with {plan.buffer_bytes} more, {after}"
    )
    return Witness(not before and after >= plan.buffer_bytes, seen)


def _received(sock: socket.socket, enough: int, timeout_s: float) -> int:
    """How many bytes come, until there are enough, the other side ends, or the time is over."""
    received, deadline = 0, time.monotonic() + timeout_s
    while received < enough:
        sock.settimeout(max(deadline - time.monotonic(), 0.001))
        try:
            count = len(sock.recv(READ_BYTES))
        except (TimeoutError, ConnectionError):
            break
        if not count:
            break
        received += count
    return received


def _free_address() -> str:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{sock.getsockname()[1]}"
