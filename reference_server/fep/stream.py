"""One connection to the edge: a request head, then either one short response or a stream.

There may be tens of thousands of these, so the object is small: slots, no task, no timer, no dictionary of its own.
What a connection needs only while it is opening hangs in `pending`.
"""

from __future__ import annotations

import asyncio
import enum
from collections.abc import Iterable
from typing import TYPE_CHECKING, NamedTuple, cast

from reference_server.fep import measures, wire
from reference_server.fep.request_head import (
    END,
    MAX_HEAD_BYTES,
    MalformedRequest,
    is_malformed_already,
    parse_head,
)

if TYPE_CHECKING:
    from reference_server.fep.edge import Edge

NOT_LIVE, DEAF = -1, (1 << 64) - 1
MAX_BODY_BYTES = 65_536
"""what may follow a request head; nothing is done with it"""


class State(enum.IntEnum):
    """Where a connection stands."""

    HEAD = 0
    """its request is still arriving"""
    OPENING = 1
    """its subscription is on the way to the lane's owner"""
    LIVE = 2
    CLOSED = 3


class Opening(NamedTuple):
    """What a stream is waiting to start with."""

    since: int | None
    """resume after this arrival number; None: start at the head"""
    resync: bool
    """the listener named a point that means nothing here"""
    began_s: float


class Stream(asyncio.Protocol):
    """One listener's connection."""

    __slots__ = ("bucket", "edge", "ignored_bytes", "last_seq", "pending", "sibling", "state", "transport", "user")

    def __init__(self, edge: Edge) -> None:
        self.edge = edge
        self.transport: asyncio.Transport
        self.state = State.HEAD
        self.user = -1
        self.last_seq = NOT_LIVE
        """newest arrival number sent, or skipped by starting at the head"""
        self.sibling: Stream | None = None
        """the user's next stream here: a user may listen on several devices"""
        self.bucket = -1
        """its place in the heartbeat's round"""
        self.pending: bytes | Opening = b""
        self.ignored_bytes = 0
        """what came after the request head"""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Accepted; the request head comes next."""
        self.transport = cast(asyncio.Transport, transport)  # uvloop's transports are not subclasses of it
        self.transport.set_write_buffer_limits(high=self.edge.buffer_bytes)
        self.edge.accepted(self)

    def data_received(self, data: bytes) -> None:
        """Collect the request head. What a listener sends after it is ignored, up to a bound."""
        if self.state is not State.HEAD:
            self._ignore(len(data))
            return
        assert isinstance(self.pending, bytes)
        head = self.pending + data
        end = head.find(END)
        if end > MAX_HEAD_BYTES or (end < 0 and len(head) > MAX_HEAD_BYTES):
            self.answer(wire.problem(431, "too-large", f"a request head is at most {MAX_HEAD_BYTES} bytes"))
        elif end >= 0:
            self.pending = b""
            self._parsed(head[:end])
            self._ignore(len(head) - end - len(END))
        elif is_malformed_already(head):
            self.answer(wire.problem(400, "bad-request", "lines of a request head end with CR LF"))
        else:
            self.pending = head

    def _parsed(self, head: bytes) -> None:
        try:
            request = parse_head(head)
        except MalformedRequest as error:
            self.answer(wire.problem(400, "bad-request", str(error)))
        else:
            self.edge.requested(self, request)

    def _ignore(self, size_bytes: int) -> None:
        """Whoever goes on sending takes time from the others: that connection is cut."""
        self.ignored_bytes += size_bytes
        if self.ignored_bytes > MAX_BODY_BYTES and self.state in (State.OPENING, State.LIVE):
            self.edge.flooded(self)

    def answer(self, response: bytes) -> None:
        """Write one whole response and close."""
        self.state = State.CLOSED
        self.transport.write(response)
        self.transport.close()

    def begin(self, head: int, missed: list[tuple[int, bytes]] | None) -> None:
        """Start the stream: `missed` holds (arrival number, event bytes) after the resume point; None: it is lost.

        The first id is the point resumed from, not the head: a listener that breaks off between
        the two must come back for the events between them.
        """
        opening = self.pending
        assert isinstance(opening, Opening)
        self.pending = b""
        self.state = State.LIVE
        region = self.edge.region
        since = opening.since
        lost = opening.resync or (since is not None and missed is None)
        start = head if since is None or lost else since
        parts = [wire.STREAM_HEAD, wire.first_block(region, start, self.edge.retry_ms())]
        if lost:
            measures.RESYNCS.inc()
            parts.append(wire.resync(region, head))
        elif missed:
            measures.EVENTS.inc(len(missed))
            parts += [event for _, event in missed]
        if head > max(start, missed[-1][0] if missed else 0):
            parts.append(wire.anchor(region, head))
        self.last_seq = DEAF if self.edge.deafens and since is not None else max(start, head)
        self.edge.began(self, opening.began_s)
        self.write(b"".join(parts))

    def catch_up(self, head: int, missed: list[tuple[int, bytes]] | None) -> None:
        """Fill a gap of a live stream: everything after its newest event up to `head`, or a resync."""
        if missed is None:
            measures.RESYNCS.inc()
            self.last_seq = head
            self.write(wire.resync(self.edge.region, head))
            return
        self.send(missed)
        self.last_seq = max(self.last_seq, head)

    def send(self, events: Iterable[tuple[int, bytes]]) -> None:
        """Write those events (ascending) that the stream has not had yet."""
        fresh = [(seq, event) for seq, event in events if seq > self.last_seq]
        if fresh:
            self.last_seq = fresh[-1][0]
            measures.EVENTS.inc(len(fresh))
            self.write(b"".join([event for _, event in fresh]))

    def write(self, data: bytes) -> None:
        """Write; a burst larger than the buffer gets some seconds to drain before its listener counts as slow."""
        if len(data) <= self.edge.burst_bytes:
            self.transport.write(data)
            return
        self.edge.burst(self)
        self.transport.write(data)
        if not self.transport.get_write_buffer_size():
            self.edge.drained(self)

    def pause_writing(self) -> None:
        """More than the buffer is waiting to be read by the listener."""
        self.edge.overflowed(self)

    def resume_writing(self) -> None:
        """The listener has caught up."""
        self.edge.drained(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """Closed, by either side."""
        self.edge.lost(self)
