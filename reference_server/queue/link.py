"""One pipelined connection to a redis server: any number of commands under way, answered in order.

Why not redis-py's pool: it retries commands (an accepted post would be written twice) and says nothing about whether a
failed command was sent. Here a command is sent once, and a failure tells whether it can have had an effect.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections import deque
from pathlib import Path
from typing import Any

from redis.asyncio import Connection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import NoScriptError, RedisError, ResponseError

from reference_server.queue.errors import Backpressure, QueueUnavailable

CONNECT_TIMEOUT_S = 0.5
COOL_DOWN_S = 0.1
"""after a failed connect, calls fail at once for this long"""


class Script:
    """A Lua script and its SHA-1."""

    def __init__(self, path: Path) -> None:
        self.source = path.read_bytes()
        self.sha = hashlib.sha1(self.source, usedforsecurity=False).hexdigest()


class Link:
    """A redis server as seen from one event loop. Connects on the first call and again after a loss."""

    def __init__(self, port: int, timeout_s: float, *, fail_fast: bool = False) -> None:
        """`fail_fast`: once the server was lost, calls fail at once until it is back (reads that can do without)."""
        self.port = port
        self.timeout_s = timeout_s
        self._fail_fast = fail_fast
        self._lost = False
        self._restoring: asyncio.Task[None] | None = None
        self._connection: Connection | None = None
        self._waiting: deque[asyncio.Future[Any]] = deque()
        self._reader: asyncio.Task[None] | None = None
        self._connecting = asyncio.Lock()
        self._cool_until = 0.0

    async def call(self, *command: Any, timeout_s: float | None = None) -> Any:
        """The server's reply. Raises QueueUnavailable, Backpressure."""
        limit = self.timeout_s if timeout_s is None else timeout_s
        connection = await self._connected()
        reply: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._waiting.append(reply)
        try:
            async with asyncio.timeout(limit):
                await connection.send_packed_command(connection.pack_command(*command), check_health=False)
                return await reply
        except TimeoutError:
            await self._drop(connection)
            self._mark_lost()
            raise QueueUnavailable(f"no reply within {limit} s", definite=False) from None
        except ResponseError as error:
            raise _refusal(error) from error
        except (RedisError, OSError) as error:
            await self._drop(connection)
            raise QueueUnavailable(f"connection lost: {error}", definite=False) from error

    async def run(self, script: Script, keys: list[str], arguments: list[Any], timeout_s: float | None = None) -> Any:
        """The script's reply; it is loaded where the server does not know it. Raises as `call`."""
        try:
            return await self.call("EVALSHA", script.sha, len(keys), *keys, *arguments, timeout_s=timeout_s)
        except QueueUnavailable as error:
            if not isinstance(error.__cause__, NoScriptError):
                raise
        return await self.call("EVAL", script.source, len(keys), *keys, *arguments, timeout_s=timeout_s)

    async def _connected(self) -> Connection:
        connection = self._connection
        if connection is not None:
            return connection
        if self._fail_fast and self._lost:
            if self._restoring is None or self._restoring.done():
                self._restoring = asyncio.create_task(self._restore())
            raise QueueUnavailable("lost, not back yet", definite=True)
        async with self._connecting:
            if self._connection is not None:
                return self._connection
            if time.monotonic() < self._cool_until:
                raise QueueUnavailable("recently found unreachable", definite=True)
            return await self._connect()

    async def _connect(self) -> Connection:
        connection = _new_connection(self.port)
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT_S):
                await connection.connect()  # type: ignore[no-untyped-call]
        except (RedisError, OSError, TimeoutError) as error:
            self._mark_lost()
            await connection.disconnect(nowait=True)
            raise QueueUnavailable(f"cannot connect: {error}", definite=True) from error
        self._connection = connection
        self._waiting = deque()
        self._reader = asyncio.create_task(self._read(connection, self._waiting))
        self._lost = False
        return connection

    async def _restore(self) -> None:
        while self._connection is None:
            try:
                await self._connect()
            except QueueUnavailable:
                await asyncio.sleep(COOL_DOWN_S)

    def _mark_lost(self) -> None:
        self._lost = True
        self._cool_until = time.monotonic() + COOL_DOWN_S

    async def _read(self, connection: Connection, waiting: deque[asyncio.Future[Any]]) -> None:
        """Hand each reply to the oldest caller; on a loss all callers learn of it."""
        try:
            while True:
                try:
                    reply = await connection.read_response(timeout=float("inf"), disconnect_on_error=False)
                except ResponseError as refused:
                    reply = refused
                future = waiting.popleft()
                if future.done():
                    continue
                if isinstance(reply, ResponseError):
                    future.set_exception(reply)
                else:
                    future.set_result(reply)
        except (RedisError, OSError, IndexError) as error:
            if self._connection is connection:
                self._connection = None
            await connection.disconnect(nowait=True)
            _fail(waiting, error)

    async def _drop(self, connection: Connection) -> None:
        if self._connection is not connection:
            return
        self._connection = None
        if self._reader is not None:
            self._reader.cancel()
        waiting = self._waiting
        await connection.disconnect(nowait=True)
        _fail(waiting, ConnectionError("dropped"))

    async def close(self) -> None:
        """Drop the connection; calls under way fail."""
        if self._restoring is not None:
            self._restoring.cancel()
        if self._connection is not None:
            await self._drop(self._connection)
        if self._reader is not None:
            await asyncio.wait([self._reader])


def _fail(waiting: deque[asyncio.Future[Any]], error: BaseException) -> None:
    while waiting:
        future = waiting.popleft()
        if not future.done():
            future.set_exception(OSError(f"connection lost before the reply ({error})"))


def _new_connection(port: int) -> Connection:
    return Connection(
        host="127.0.0.1",
        port=port,
        protocol=3,
        socket_timeout=None,
        socket_connect_timeout=CONNECT_TIMEOUT_S,
        retry=Retry(NoBackoff(), 0),
        driver_info=None,
    )


def _refusal(error: ResponseError) -> Backpressure | QueueUnavailable:
    """A reply that begins with an error code: the command had no effect (scripts write only after their checks)."""
    text = str(error)
    if "BACKPRESSURE" in text or text.startswith("OOM") or "command not allowed when used memory" in text:
        return Backpressure(text)
    return QueueUnavailable(f"refused: {text}", definite=True)
