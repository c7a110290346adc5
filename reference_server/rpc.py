"""Calls between processes of one region: msgpack frames over a unix socket, pipelined.

    request  [id, method, [arguments], deadline]     reply  [id, error | null, result]     each behind a u32 length
The deadline is the caller's, in s of time.monotonic(), which the processes of a host share: a server that was paused
does not work off calls that nobody waits for. It may be left out.
bytes, ints, strings, lists and maps travel as they are. One connection carries any number of calls at once.
"""

from __future__ import annotations

import asyncio
import itertools
import struct
import time
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any, cast

import msgspec

MAX_FRAME_BYTES = 64 << 20
MAX_UNSENT_BYTES = 4 << 20
"""a client with more than this to send refuses further calls: the other side does not read"""
_LENGTH = struct.Struct(">I")
Handler = Callable[..., Awaitable[Any]]


class RpcUnavailable(ConnectionError):
    """Nobody answers or reads at the socket, or the connection broke before the reply: the effect is unknown."""


class RpcTimeout(TimeoutError):
    """No reply within the time allowed: the effect is unknown."""


class RpcError(Exception):
    """The other side refused: `code` for programs ("not-found", "bad-request", ...), text for logs."""

    def __init__(self, code: str, detail: str = "") -> None:
        super().__init__(f"{code}: {detail}" if detail else code)
        self.code = code
        self.detail = detail


def _frame(message: Any) -> bytes:
    body = msgspec.msgpack.encode(message)
    return _LENGTH.pack(len(body)) + body


class _Frames(asyncio.Protocol):
    """Splits the byte stream into decoded frames."""

    def __init__(self) -> None:
        self.buffer = bytearray()
        self.transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)  # uvloop's transports are not subclasses of it

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        start = 0
        while len(self.buffer) - start >= 4:
            (length,) = _LENGTH.unpack_from(self.buffer, start)
            if length > MAX_FRAME_BYTES:
                self.close()
                return
            if len(self.buffer) - start - 4 < length:
                break
            frame = bytes(self.buffer[start + 4 : start + 4 + length])
            start += 4 + length
            self.frame_received(msgspec.msgpack.decode(frame))
        del self.buffer[:start]

    def frame_received(self, message: Any) -> None:
        """One decoded frame; each side says what it means."""

    def close(self) -> None:
        if self.transport is not None:
            self.transport.close()


class Connections:
    """Open connections of servers, to be broken together: a server that is closed only takes no new ones."""

    def __init__(self) -> None:
        self._open: set[_ServerConnection] = set()

    def add(self, connection: _ServerConnection) -> None:
        """A client has connected."""
        self._open.add(connection)

    def discard(self, connection: _ServerConnection) -> None:
        """It is gone."""
        self._open.discard(connection)

    async def break_all(self) -> None:
        """Return when no call is carried out any more; their callers see a loss."""
        broken = list(self._open)
        tasks = [task for connection in broken for task in connection.tasks]
        for connection in broken:
            connection.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


class _ServerConnection(_Frames):
    def __init__(self, handlers: Mapping[str, Handler], connections: Connections | None = None) -> None:
        super().__init__()
        self.handlers = handlers
        self.connections = connections or Connections()
        self.tasks: set[asyncio.Task[None]] = set()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self.connections.add(self)

    def frame_received(self, message: Any) -> None:
        task = asyncio.ensure_future(self._answer(*message))
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    async def _answer(self, call_id: int, method: str, arguments: list[Any], deadline_s: float | None = None) -> None:
        if deadline_s is not None and time.monotonic() > deadline_s:
            return  # the caller has given up
        handler = self.handlers.get(method)
        try:
            if handler is None:
                raise RpcError("no-such-method", method)
            reply = [call_id, None, await handler(*arguments)]
        except RpcError as error:
            reply = [call_id, [error.code, error.detail], None]
        except asyncio.CancelledError:
            raise
        except Exception as error:  # the process's edge: a bug in one call must not end the others
            reply = [call_id, ["internal", f"{type(error).__name__}: {error}"], None]
        if self.transport is not None and not self.transport.is_closing():
            self.transport.write(_frame(reply))

    def connection_lost(self, exc: Exception | None) -> None:
        self.connections.discard(self)
        for task in self.tasks:
            task.cancel()


async def serve(path: str, handlers: Mapping[str, Handler], connections: Connections | None = None) -> asyncio.Server:
    """Answer calls at the unix socket `path` (an older socket file is replaced); `connections` gets those it has."""
    Path(path).unlink(missing_ok=True)
    loop = asyncio.get_running_loop()
    return await loop.create_unix_server(lambda: _ServerConnection(handlers, connections), path)


class _ClientConnection(_Frames):
    def __init__(self) -> None:
        super().__init__()
        self.pending: dict[int, asyncio.Future[Any]] = {}
        self.lost = False

    def frame_received(self, message: Any) -> None:
        call_id, error, result = message
        future = self.pending.pop(call_id, None)
        if future is None or future.done():
            return
        if error is not None:
            future.set_exception(RpcError(*error))
        else:
            future.set_result(result)

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost = True
        for future in self.pending.values():
            if not future.done():
                future.set_exception(RpcUnavailable("connection lost"))
        self.pending.clear()


class RpcClient:
    """One side's view of a socket. Connects on the first call and again after a loss; never retries a call."""

    def __init__(self, path: str, timeout_s: float = 2.0) -> None:
        self.path = path
        self.timeout_s = timeout_s
        self._connection: _ClientConnection | None = None
        self._connecting = asyncio.Lock()
        self._ids = itertools.count(1)

    @property
    def generation(self) -> int:
        """Identity of the current connection (0: none). Changes when the other side restarted."""
        connection = self._connection
        return id(connection) if connection is not None and not connection.lost else 0

    async def call(self, method: str, *arguments: Any, timeout_s: float | None = None) -> Any:
        """The other side's result. Raises RpcUnavailable, RpcTimeout, RpcError."""
        limit = self.timeout_s if timeout_s is None else timeout_s
        deadline_s = time.monotonic() + limit
        try:
            async with asyncio.timeout(limit):
                connection = await self._connected()
                assert connection.transport is not None
                if connection.transport.get_write_buffer_size() > MAX_UNSENT_BYTES:
                    raise RpcUnavailable(f"{self.path}: earlier calls are not being read")
                call_id = next(self._ids)
                future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
                connection.pending[call_id] = future
                connection.transport.write(_frame([call_id, method, arguments, deadline_s]))
                try:
                    return await future
                finally:
                    connection.pending.pop(call_id, None)
        except TimeoutError as error:
            raise RpcTimeout(f"{self.path}: no reply to {method} within {limit} s") from error

    async def _connected(self) -> _ClientConnection:
        connection = self._connection
        if connection is not None and not connection.lost:
            return connection
        async with self._connecting:
            if self._connection is None or self._connection.lost:
                try:
                    loop = asyncio.get_running_loop()
                    _, self._connection = await loop.create_unix_connection(_ClientConnection, self.path)
                except OSError as error:
                    raise RpcUnavailable(f"{self.path}: {error.strerror or error}") from error
            return self._connection

    def close(self) -> None:
        """Drop the connection; calls under way fail with RpcUnavailable."""
        if self._connection is not None:
            self._connection.close()
