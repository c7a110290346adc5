"""`GET /metrics` and `GET /healthz` of a process that serves no HTTP otherwise, on a port of 127.0.0.1.

Small on purpose: one request a connection, a bounded head, few connections, a limit on the whole exchange. While nobody
asks, it costs nothing.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import cast

from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from reference_server.fep.request_head import END, MAX_HEAD_BYTES, MalformedRequest, is_malformed_already, parse_head
from reference_server.fep.wire import problem, response

EXCHANGE_LIMIT_S = 5.0
"""from the connection to the last byte that was read"""
MAX_CONNECTIONS = 16
BACKLOG = 16
_log = logging.getLogger(__name__)
Text = Callable[[], bytes]


class _Exchange(asyncio.Protocol):
    """One connection."""

    def __init__(self, metrics: Text, open_now: set[_Exchange]) -> None:
        self._metrics = metrics
        self._open_now = open_now
        self._head = bytearray()
        self._transport: asyncio.Transport | None = None
        self._limit: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        if len(self._open_now) >= MAX_CONNECTIONS:
            self._transport.abort()
            return
        self._open_now.add(self)
        self._limit = asyncio.get_running_loop().call_later(EXCHANGE_LIMIT_S, self._transport.abort)

    def data_received(self, data: bytes) -> None:
        assert self._transport is not None
        if self._transport.is_closing():
            return
        self._head += data
        answer = self._answer()
        if answer is not None:
            self._transport.write(answer)
            self._transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        self._open_now.discard(self)
        if self._limit is not None:
            self._limit.cancel()

    def _answer(self) -> bytes | None:
        """The response; None: the request head is not complete yet."""
        end = self._head.find(END)
        if end > MAX_HEAD_BYTES or (end < 0 and len(self._head) > MAX_HEAD_BYTES):
            return problem(431, "too-large", f"a request head has at most {MAX_HEAD_BYTES} bytes")
        if end < 0 and not is_malformed_already(bytes(self._head)):
            return None
        try:
            request = parse_head(bytes(self._head[: end if end >= 0 else None]))
        except MalformedRequest as error:
            return problem(400, "bad-request", str(error))
        if request.path not in ("/metrics", "/healthz"):
            return problem(404, "not-found", "no such resource here")
        if request.method != "GET":
            return problem(405, "method-not-allowed", "only GET", (("Allow", "GET"),))
        if request.path == "/healthz":
            return response(200, "application/json", b'{"status":"ok"}')
        return response(200, CONTENT_TYPE_LATEST, self._metrics())


async def serve_metrics(port: int, metrics: Text = generate_latest) -> asyncio.Server:
    """Answer on 127.0.0.1:`port`; close the server to end. Raises OSError when the port is taken."""
    open_now: set[_Exchange] = set()
    loop = asyncio.get_running_loop()
    return await loop.create_server(lambda: _Exchange(metrics, open_now), "127.0.0.1", port, backlog=BACKLOG)
