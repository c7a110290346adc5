"""One connection of a listener, as a plain asyncio protocol: response head, body, events. No task, no timer."""

from __future__ import annotations

import asyncio
from typing import Protocol, cast

from harness.contract.sse_parser import SseEvent, SseParser, TooLong
from harness.core.clock import now_ns
from harness.load.listener import Listener
from harness.load.stream_response import BadResponse, Chunks, ResponseHead, StreamRequest, split_head


class StreamOwner(Protocol):
    """Who is told what happens on connections."""

    def connected(self, connection: StreamConnection) -> StreamRequest:
        """A connection was made. Returns what to ask for."""
        ...

    def opened(self, connection: StreamConnection) -> None:
        """The response is a stream, and its first id or event is here."""
        ...

    def events(self, connection: StreamConnection, events: list[SseEvent]) -> None:
        """Events arrived at `connection.heard_ns`."""
        ...

    def closed(self, connection: StreamConnection, reason: str) -> None:
        """The connection is gone."""
        ...

    def pace(self, listener: Listener) -> float | None:
        """Bytes a second that the listener reads now; None: as fast as they come. Asked for late readers only."""
        ...


class StreamConnection(asyncio.Protocol):
    """From connect to close. `listener.connection` points back while it lives."""

    __slots__ = (
        "_chunks",
        "_rest",
        "due_ns",
        "heard_ns",
        "listener",
        "made",
        "opened",
        "owner",
        "parser",
        "reason",
        "sent_ns",
        "status",
        "transport",
    )

    def __init__(self, owner: StreamOwner, listener: Listener, due_ns: int, sent_ns: int) -> None:
        self.owner = owner
        self.listener = listener
        self.due_ns = due_ns
        self.sent_ns = sent_ns
        self.heard_ns = sent_ns
        """when the last bytes came"""
        self.transport: asyncio.Transport | None = None
        self.made = False
        """its owner was told of it, and is told of its end"""
        self.parser: SseParser | None = None
        """there as soon as the response is known to be a stream"""
        self.opened = False
        self.status = 0
        self.reason = ""
        """why we closed it; empty: we did not"""
        self._chunks: Chunks | None = None
        self._rest = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Send the request."""
        self.transport, self.made = cast(asyncio.Transport, transport), True
        self.transport.write(self.owner.connected(self).http1())

    def data_received(self, data: bytes) -> None:
        """Head first, then events."""
        self.heard_ns = now_ns()
        try:
            if self.parser is None:
                head, data = split_head(self._rest + data if self._rest else data)
                if head is None:
                    self._rest = data
                    return
                self._rest = b""
                if not self._accept(head):
                    return
            self._body(data)
        except (BadResponse, TooLong) as error:
            self.close(f"protocol: {error}")

    def _accept(self, head: ResponseHead) -> bool:
        self.status = head.status
        if head.status != 200 or not head.is_event_stream:
            self.listener.retry_after_s = head.retry_after_s
            self.close(f"status {head.status}" if head.status != 200 else "not an event stream")
            return False
        self.parser = SseParser(self.listener.last_event_id)
        if head.is_chunked:
            self._chunks = Chunks()
        return True

    def _body(self, data: bytes) -> None:
        parser = self.parser
        assert parser is not None
        if self._chunks is not None:
            data = self._chunks.feed(data)
        events = parser.feed(data)
        if not self.opened and (parser.first_event_id is not None or events):
            self.opened = True
            self.owner.opened(self)
        listener = self.listener
        listener.last_event_id = parser.last_event_id
        if parser.retry_ms is not None:
            listener.retry_ms = parser.retry_ms
        if events:
            self.owner.events(self, events)
        if self._chunks is not None and self._chunks.ended:
            self.close("eof")

    @property
    def reads(self) -> bool:
        """Whether what the server sends is read at once; silence means nothing otherwise."""
        return True

    def close(self, reason: str) -> None:
        """End the connection from our side."""
        self.reason = self.reason or reason
        if self.transport is not None:
            self.transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        """Closed by either side."""
        reason = self.reason or ("eof" if exc is None else f"reset: {type(exc).__name__}")
        self.transport = None
        self.owner.closed(self, reason)
