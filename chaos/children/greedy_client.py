"""Asks for the same thing over and over, as a few users, at a steady rate; whoever asks is told what came of it.

Open loop: what is due goes out, whatever became of what went before, on a connection that is free; connections are
opened as they are needed. What finds none is left out, and so is what this program is late for: it is greedy, not a
backlog. One thread and no task a request, as it shares its processors with what it asks.

Told on an abstract unix socket whose name is the mark: `{"sent": n, "answered": n, "refused": n}`, refused being 429
and 503 of what was answered. The tokens come on standard input and go nowhere but into requests.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from typing import Any, cast
from urllib.parse import urlsplit

import uvloop

from chaos.children.lease import begin, say_ready

TIMEOUT_S = 5.0
"""a connection whose answer takes longer is closed, as is one that cannot be opened in that time"""
RETRY_S = 0.1
"""rest after a connection could not be opened"""
TICK_S = 0.002
BEHIND_S = 0.1
REFUSALS = (b"429", b"503")
_END, _LENGTH = b"\r\n\r\n", b"content-length:"


class Crowd:
    """All connections of all users."""

    def __init__(self, job: Any) -> None:
        parts = urlsplit(job["url"])
        self.address = (parts.hostname or "", parts.port or 80)
        self.requests = [_request(job["url"], token) for token in job["tokens"]]
        self.rate_per_s: float = job["rate_per_s"]
        self.most: int = job["connections"]
        self.counts = {"sent": 0, "answered": 0, "refused": 0}
        self.free: dict[Connection, None] = {}
        self.busy: dict[Connection, float] = {}
        """since when, the one that has waited longest in front"""
        self._opening: set[asyncio.Task[None]] = set()
        self._rest_until_s = 0.0

    async def ask_for_ever(self) -> None:
        """Every tick, ask what has become due."""
        began_s, asked = time.monotonic(), 0
        while True:
            now_s = time.monotonic()
            due = int((now_s - began_s) * self.rate_per_s)
            asked = max(asked, due - max(1, int(BEHIND_S * self.rate_per_s)))
            while asked < due:
                self._ask(self.requests[asked % len(self.requests)], now_s)
                asked += 1
            while self.busy and (oldest := next(iter(self.busy.items())))[1] < now_s - TIMEOUT_S:
                oldest[0].close()
            await asyncio.sleep(TICK_S)

    def _ask(self, request: bytes, now_s: float) -> None:
        if self.free:
            self.free.popitem()[0].send(request, now_s)
        elif len(self.busy) + len(self._opening) < self.most and now_s >= self._rest_until_s:
            opening = asyncio.ensure_future(self._open(request))
            self._opening.add(opening)
            opening.add_done_callback(self._opening.discard)

    async def _open(self, request: bytes) -> None:
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(TIMEOUT_S):
                _, connection = await loop.create_connection(lambda: Connection(self), *self.address)
        except (OSError, TimeoutError):
            self._rest_until_s = time.monotonic() + RETRY_S
        else:
            connection.send(request, time.monotonic())

    async def tell(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """What came of it so far."""
        writer.write(json.dumps(self.counts).encode())
        writer.close()


class Connection(asyncio.Protocol):
    """One keep-alive connection, with one request at a time."""

    def __init__(self, crowd: Crowd) -> None:
        self._crowd = crowd
        self._transport: asyncio.Transport | None = None
        self._data = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """It is open."""
        self._transport = cast(asyncio.Transport, transport)

    def send(self, request: bytes, now_s: float) -> None:
        """Ask."""
        assert self._transport is not None
        self._crowd.counts["sent"] += 1
        self._crowd.busy[self] = now_s
        self._transport.write(request)

    def data_received(self, data: bytes) -> None:
        """A part of an answer, or all of it."""
        self._data += data
        end = self._data.find(_END)
        if end < 0 or len(self._data) < end + len(_END) + _length(self._data[:end]):
            return
        crowd, status = self._crowd, self._data[9:12]
        self._data = b""
        crowd.counts["answered"] += 1
        crowd.counts["refused"] += status in REFUSALS
        if crowd.busy.pop(self, None) is not None:
            crowd.free[self] = None

    def connection_lost(self, exc: Exception | None) -> None:
        """It is closed; another is opened when it is needed."""
        self._crowd.free.pop(self, None)
        self._crowd.busy.pop(self, None)

    def close(self) -> None:
        """Wait no longer."""
        self._crowd.busy.pop(self, None)
        if self._transport is not None:
            self._transport.abort()


def _length(head: bytes) -> int:
    """How long the body is. Raises ValueError for what is no answer: the connection is closed."""
    _, found, rest = head.lower().partition(_LENGTH)
    return int(rest.partition(b"\r")[0]) if found else 0


def _request(url: str, token: str) -> bytes:
    parts = urlsplit(url)
    return (
        f"GET {parts.path or '/'} HTTP/1.1\r\nHost: {parts.netloc}\r\nAuthorization: Bearer {token}\r\n\r\n"
    ).encode()


async def _ask(job: Any, mark: str) -> None:
    crowd = Crowd(job)
    async with await asyncio.start_unix_server(crowd.tell, f"\0{mark}"):
        say_ready()
        await crowd.ask_for_ever()


def main() -> None:
    """See the module."""
    uvloop.run(_ask(begin(), sys.argv[1]))


if __name__ == "__main__":
    main()
