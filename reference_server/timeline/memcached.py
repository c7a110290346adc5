"""A small asyncio client of memcached's meta protocol, made for quiet pipelining.

Commands travel in batches. A batch is any bytes of meta commands; the client puts a no-op (`mn`) behind it, whose
answer is the barrier: everything before it has been carried out, and every line that came before it belongs to the
batch. Quiet commands answer only when something is wrong, so a burst of 1,000 appends costs one line of reply.

    batch:  ms tl:1:7 45 MA q k\\r\\n<45 bytes>\\r\\n ... mn\\r\\n        reply: NS ktl:1:7\\r\\n ... MN\\r\\n

One connection, kept up in the background. While it is down every call fails at once (`MemcachedDown`). A server that
stops answering for `timeout_s` counts as down. `generation` changes with each connection: leases and CAS numbers of an
older one are void, as the server may have restarted in between and its CAS numbers begin anew.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterable
from typing import NamedTuple

BARRIER = b"mn\r\n"
FIRST_RETRY_S = 0.01
LAST_RETRY_S = 0.25
_NEVER = float("inf")


class MemcachedDown(ConnectionError):
    """The server cannot be reached, or went silent; a write under way may or may not have happened."""


class Reply(NamedTuple):
    """One answer: `code` is HD, VA, EN, NF, NS, EX or an error word; `value` is a VA's data."""

    code: bytes
    flags: tuple[bytes, ...]
    value: bytes | None = None

    def flag(self, letter: bytes) -> bytes | None:
        """What follows the letter in the returned flags; b"" when the flag has no argument, None when it is absent."""
        for word in self.flags:
            if word[:1] == letter:
                return word[1:]
        return None


class _Batch:
    __slots__ = ("deadline", "future", "replies")

    def __init__(self, future: asyncio.Future[list[Reply]], deadline: float) -> None:
        self.future = future
        self.deadline = deadline
        self.replies: list[Reply] = []


class _Connection(asyncio.Protocol):
    """Splits what the server sends into replies, and those into batches."""

    def __init__(self, on_lost: Callable[[_Connection], None]) -> None:
        self.on_lost = on_lost
        self.batches: deque[_Batch] = deque()
        self.buffer = bytearray()
        self.transport: asyncio.Transport | None = None
        self.lost = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport  # type: ignore[assignment]

    def send(self, commands: bytes, deadline: float) -> asyncio.Future[list[Reply]]:
        future: asyncio.Future[list[Reply]] = asyncio.get_running_loop().create_future()
        self.batches.append(_Batch(future, deadline))
        assert self.transport is not None
        self.transport.write(commands + BARRIER)
        return future

    def data_received(self, data: bytes) -> None:
        if self.lost:
            return
        self.buffer += data
        position = 0
        while True:
            end = self.buffer.find(b"\r\n", position)
            if end < 0:
                break
            line = bytes(self.buffer[position:end])
            after = end + 2
            if line == b"MN":
                position = after
                self._finish()
                continue
            value = None
            code, *flags = line.split(b" ")
            if code == b"VA":
                size = int(flags.pop(0))
                if len(self.buffer) < after + size + 2:
                    break
                value = bytes(self.buffer[after : after + size])
                after += size + 2
            if self.batches:
                self.batches[0].replies.append(Reply(code, tuple(flags), value))
            position = after
        del self.buffer[:position]

    def _finish(self) -> None:
        if not self.batches:
            self.drop()
            return
        batch = self.batches.popleft()
        if not batch.future.done():
            batch.future.set_result(batch.replies)

    def connection_lost(self, exc: Exception | None) -> None:
        self.drop()

    def drop(self) -> None:
        """Close at once; whatever is under way fails."""
        if self.lost:
            return
        self.lost = True
        if self.transport is not None:
            self.transport.abort()
        while self.batches:
            future = self.batches.popleft().future
            if not future.done():
                future.set_exception(MemcachedDown("connection lost"))
                future.exception()  # an abandoned batch is no unhandled error
        self.on_lost(self)


class Memcached:
    """One server as seen from one event loop."""

    def __init__(
        self,
        port: int,
        *,
        host: str = "127.0.0.1",
        timeout_s: float = 0.25,
        connect_timeout_s: float = 0.25,
        hello: Callable[[], bytes] = bytes,
        on_up: Callable[[], None] | None = None,
        on_lost: Callable[[], None] | None = None,
        on_unreachable: Callable[[bool], None] | None = None,
    ) -> None:
        """`hello`: quiet commands that open each connection, ahead of anything else; `on_up` follows their barrier.

        `on_lost`: an open connection broke; an attempt to connect follows at once. `on_unreachable` tells of each that
        failed, and whether the server refused it (its process is gone) or was silent.
        """
        self.generation = 0
        """number of the current or last connection"""
        self._host, self._port = host, port
        self._timeout_s, self._connect_timeout_s = timeout_s, connect_timeout_s
        self._hello, self._on_up, self._on_lost, self._on_unreachable = hello, on_up, on_lost, on_unreachable
        self._connection: _Connection | None = None
        self._task: asyncio.Task[None] | None = None
        self._lost = asyncio.Event()
        self._found = asyncio.Event()

    @property
    def connected(self) -> bool:
        """Whether calls can be made now."""
        return self._connection is not None

    def start(self) -> None:
        """Begin to connect, and keep connected from now on."""
        if self._task is None:
            self._task = asyncio.ensure_future(self._keep())

    async def wait_connected(self, limit_s: float) -> bool:
        """Start, and wait until calls can be made; False: not within the limit."""
        self.start()
        try:
            async with asyncio.timeout(limit_s):
                await self._found.wait()
        except TimeoutError:
            return False
        return self.connected

    async def close(self) -> None:
        """Disconnect for good; calls under way fail, and no callback comes any more."""
        self._on_lost = self._on_up = self._on_unreachable = None
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
            self._task = None

    def reset(self) -> None:
        """Break the connection; a new one is made at once."""
        if self._connection is not None:
            self._connection.drop()

    def submit(self, commands: bytes) -> asyncio.Future[list[Reply]]:
        """Send a batch; the future holds its replies once the barrier is answered.

        Raises MemcachedDown, as does the future.
        """
        connection = self._connection
        if connection is None:
            self.start()
            raise MemcachedDown("not connected")
        return connection.send(commands, asyncio.get_running_loop().time() + self._timeout_s)

    # --- ordinary keys

    async def get_many(self, keys: Iterable[str]) -> dict[str, bytes]:
        """Values of those keys that exist. Raises MemcachedDown."""
        commands = b"".join([b"mg %b v k q\r\n" % key.encode() for key in keys])
        if not commands:
            return {}
        found = {}
        for reply in await self.submit(commands):
            name = reply.flag(b"k")
            if reply.value is not None and name is not None:
                found[name.decode()] = reply.value
        return found

    async def get(self, key: str) -> bytes | None:
        """One value. Raises MemcachedDown."""
        return (await self.get_many([key])).get(key)

    def set(self, key: str, value: bytes, ttl_s: int = 0) -> None:
        """Store a value without waiting; lost when the server is down."""
        self._send_quietly(set_command(key, value, ttl_s))

    def set_many(self, values: dict[str, bytes], ttl_s: int = 0) -> None:
        """Store several values without waiting; lost when the server is down."""
        if values:
            self._send_quietly(b"".join([set_command(key, value, ttl_s) for key, value in values.items()]))

    async def delete(self, key: str) -> None:
        """Delete a key and return when it is gone. Raises MemcachedDown."""
        await self.submit(b"md %b q\r\n" % key.encode())

    def _send_quietly(self, commands: bytes) -> None:
        if self._connection is not None:
            self.submit(commands)
        else:
            self.start()

    # --- the connection's life

    async def _keep(self) -> None:
        wait_s = 0.0
        try:
            while True:
                try:
                    await self._connect()
                except (OSError, TimeoutError) as error:
                    if self._on_unreachable is not None:
                        self._on_unreachable(isinstance(error, ConnectionRefusedError))
                else:
                    wait_s = 0.0
                    await self._watch()
                    continue
                wait_s = min(max(2 * wait_s, FIRST_RETRY_S), LAST_RETRY_S)
                await asyncio.sleep(wait_s)
        finally:
            if self._connection is not None:
                self._connection.drop()

    async def _connect(self) -> None:
        """Open a connection and say hello; the time for both together is limited. Raises OSError, TimeoutError."""
        loop = asyncio.get_running_loop()
        connection: _Connection | None = None
        try:
            async with asyncio.timeout(self._connect_timeout_s):
                _, connection = await loop.create_connection(self._new_connection, self._host, self._port)
                await connection.send(self._hello(), _NEVER)
            if connection.lost:
                raise MemcachedDown("lost at once")
        except (OSError, TimeoutError):
            if connection is not None:
                connection.drop()
            raise
        self._lost.clear()
        self._found.set()
        self.generation += 1
        self._connection = connection
        if self._on_up is not None:
            self._on_up()

    async def _watch(self) -> None:
        """Return when the connection is lost; a batch past its deadline ends the connection."""
        connection = self._connection
        assert connection is not None
        loop = asyncio.get_running_loop()
        late = 0
        while not connection.lost:
            try:
                async with asyncio.timeout(self._timeout_s / 4):
                    await self._lost.wait()
            except TimeoutError:
                overdue = bool(connection.batches) and connection.batches[0].deadline < loop.time()
                late = late + 1 if overdue else 0
                if late > 1:  # seen twice: if this process itself was held up, the answer lay in the socket
                    connection.drop()

    def _new_connection(self) -> _Connection:
        return _Connection(self._note_lost)

    def _note_lost(self, connection: _Connection) -> None:
        if connection is self._connection:
            self._connection = None
            self._found.clear()
            self._lost.set()
            if self._on_lost is not None:
                self._on_lost()


def set_command(key: str, value: bytes, ttl_s: int) -> bytes:
    """A quiet set."""
    return b"ms %b %d T%d q\r\n%b\r\n" % (key.encode(), len(value), ttl_s, value)
