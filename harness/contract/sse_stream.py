"""One open event stream over httpx: events as they come, the first id, heartbeats. For set-up and conformance.

A task of its own reads the connection, so that waiting for an event with a time limit never cuts the stream.
Never reconnects. Load uses `harness.load.stream_engine`.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Mapping

import httpx

from harness.contract.sse_parser import SseEvent, SseParser, TooLong


class EventStream:
    """An answer to GET /v1/stream. Made by `open`; ended by `aclose`."""

    def __init__(self, response: httpx.Response) -> None:
        self.status = response.status_code
        self.headers: Mapping[str, str] = {name.lower(): value for name, value in response.headers.items()}
        self.comments = 0
        """comments received: heartbeats"""
        self.ended = ""
        """why the stream ended; empty while it is open"""
        self._response = response
        self._parser = SseParser()
        self._events: asyncio.Queue[SseEvent | None] = asyncio.Queue()
        self._changed = asyncio.Condition()
        self._reader = asyncio.create_task(self._read())

    @classmethod
    async def open(cls, http: httpx.AsyncClient, request: httpx.Request, timeout_s: float) -> EventStream:
        """Send the request and wait for the head of its answer. Raises httpx.HTTPError, a time-out included."""
        try:
            async with asyncio.timeout(timeout_s):
                return cls(await http.send(request, stream=True))
        except TimeoutError as error:
            raise httpx.ReadTimeout(f"no answer within {timeout_s:g} s", request=request) from error

    @property
    def content_type(self) -> str:
        """The content type of the answer, or nothing."""
        return self.headers.get("content-type", "")

    @property
    def retry_ms(self) -> int | None:
        """How long the server wants a listener to wait before it connects again."""
        return self._parser.retry_ms

    @property
    def last_event_id(self) -> str:
        """What Last-Event-ID of the next stream should be."""
        return self._parser.last_event_id

    async def first_id(self, timeout_s: float) -> str:
        """The id of the first block; empty when none came in time."""
        await self._wait(lambda: self._parser.first_event_id is not None, timeout_s)
        return self._parser.first_event_id or ""

    async def heartbeat(self, timeout_s: float) -> bool:
        """A further comment came in time."""
        before = self.comments
        await self._wait(lambda: self.comments > before, timeout_s)
        return self.comments > before

    async def next(self, timeout_s: float) -> SseEvent | None:
        """The next event; None when none came in time or the stream ended (see `ended`)."""
        if self.ended and self._events.empty():
            return None
        try:
            async with asyncio.timeout(timeout_s):
                return await self._events.get()
        except TimeoutError:
            return None

    async def events(self) -> AsyncIterator[SseEvent]:
        """Events until the stream ends."""
        while not (self.ended and self._events.empty()):
            event = await self._events.get()
            if event is not None:
                yield event

    async def aclose(self) -> None:
        """Close the connection."""
        self._reader.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._reader
        await self._response.aclose()

    async def _read(self) -> None:
        try:
            async for piece in self._response.aiter_raw():
                self.comments += _comments(piece)
                for event in self._parser.feed(piece):
                    self._events.put_nowait(event)
                async with self._changed:
                    self._changed.notify_all()
            self.ended = "the server closed it"
        except (httpx.HTTPError, TooLong) as error:
            self.ended = f"{type(error).__name__}: {error}"
        self._events.put_nowait(None)
        async with self._changed:
            self._changed.notify_all()

    async def _wait(self, condition: Callable[[], bool], timeout_s: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s), self._changed:
                await self._changed.wait_for(lambda: bool(self.ended) or condition())


def _comments(piece: bytes) -> int:
    """Comment lines that begin in this piece. A heartbeat is written in one piece, so none is missed in practice."""
    return piece.startswith(b":") + piece.count(b"\n:")
