"""A small asyncio client of memcached's meta protocol, made for quiet pipelining.

Commands travel in batches. A batch is any bytes of meta commands; the client puts a no-op (`mn`) behind it, whose
answer is the barrier: everything before it has been carried out, and every line that came before it belongs to the
batch. Quiet commands answer only when something is wrong, so a burst of 1,000 appends costs one line of reply.

    batch:  ms tl:1:7 45 MA q k\\r\\n<45 bytes>\\r\\n ... mn\\r\\n        reply: NS ktl:1:7\\r\\n ... MN\\r\\n

One connection, kept up in the background. While it is down every call fails at once (`MemcachedDown`). A server counts
as down when it stops answering for `timeout_s`, leaves MAX_UNSENT_BYTES unread, sends what is no reply, or more than
MAX_REPLY_BYTES for one batch. `generation` changes with each connection: leases and CAS numbers of an older one are
void, as the server may have restarted in between and its CAS numbers begin anew.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import struct
from collections import deque
from collections.abc import Callable, Iterable

from reference_server.timeline.meta_protocol import BARRIER, Reply, ReplyReader, key_bytes, set_command

__all__ = ["Memcached", "MemcachedDown", "Reply", "set_command"]
_log = logging.getLogger(__name__)
FIRST_RETRY_S = 0.01
LAST_RETRY_S = 0.25
MAX_UNSENT_BYTES = 32 << 20
GATHER_BYTES = 64 << 10
"""so much is sent at once, less when the loop comes round"""
MAX_REPLY_BYTES = 64 << 20
_NEVER = float("inf")
_RESET = struct.pack("ii", 1, 0)
"""a socket closed like this sends a reset, not what is left in its buffer"""


class MemcachedDown(ConnectionError):
    """The server cannot be reached, or went silent; a write under way may or may not have happened."""


class _Batch:
    __slots__ = ("deadline", "future", "replies")

    def __init__(self, future: asyncio.Future[list[Reply]], deadline: float) -> None:
        self.future = future
        self.deadline = deadline
        self.replies: list[Reply] = []


class _Connection(asyncio.Protocol):
    """Hands replies to the batches they belong to; ends when one is overdue or nothing can be attributed."""

    def __init__(self, on_lost: Callable[[_Connection], None], timeout_s: float, ping_s: float) -> None:
        self.on_lost = on_lost
        self.batches: deque[_Batch] = deque()
        self.transport: asyncio.Transport | None = None
        self.lost, self.reason = False, ""
        self._loop = asyncio.get_running_loop()
        self._reader = ReplyReader()
        self._unsent: list[bytes] = []
        self._unsent_bytes = 0
        self._received_bytes = 0
        self._timeout_s, self._ping_s = timeout_s, ping_s
        self._looking: asyncio.TimerHandle | None = None
        self._pinging: asyncio.TimerHandle | None = None
        self._late = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport  # type: ignore[assignment]

    def send(self, commands: bytes, deadline: float) -> asyncio.Future[list[Reply]]:
        """Raises MemcachedDown when the server does not read."""
        if self.transport is not None and self.transport.get_write_buffer_size() > MAX_UNSENT_BYTES:
            self.drop("the server does not read")
        if self.lost or self.transport is None:
            raise MemcachedDown("connection lost")
        future: asyncio.Future[list[Reply]] = self._loop.create_future()
        self.batches.append(_Batch(future, deadline))
        if not self._unsent:
            self._loop.call_soon(self._flush)
        self._unsent += (commands, BARRIER)
        self._unsent_bytes += len(commands)
        if self._unsent_bytes > GATHER_BYTES:
            self._flush()
        if self._looking is None:
            self._looking = self._loop.call_later(self._timeout_s / 4, self._look)
        return future

    def _flush(self) -> None:
        """Send what was asked for since the loop last came round, in one piece."""
        if self._unsent and self.transport is not None and not self.lost:
            self.transport.write(b"".join(self._unsent))
        self._unsent.clear()
        self._unsent_bytes = 0

    def data_received(self, data: bytes) -> None:
        if self.lost:
            return
        self._received_bytes += len(data)
        for reply in self._reader.feed(data):
            if not self.batches:
                self.drop("an answer that nobody waits for")
                return
            if reply is None:
                self._finish(len(data))
            else:
                self.batches[0].replies.append(reply)
        if self._reader.broken:
            self.drop(self._reader.broken)
        elif self._received_bytes > MAX_REPLY_BYTES:
            self.drop("an endless reply")

    def _finish(self, received_bytes: int) -> None:
        self._received_bytes = received_bytes
        batch = self.batches.popleft()
        if not batch.future.done():
            batch.future.set_result(batch.replies)

    def _look(self) -> None:
        """End the connection when the oldest batch is overdue twice in a row.

        Twice: if this process itself was held up, the answer lay in the socket.
        """
        self._looking = None
        if not self.batches:
            self._late = 0
            if self._pinging is not None:
                self._pinging.cancel()
            if self._ping_s:
                self._pinging = self._loop.call_later(self._ping_s, self._ping)
            return
        self._late = self._late + 1 if self.batches[0].deadline < self._loop.time() else 0
        if self._late > 1:
            self.drop("no answer")
        else:
            self._looking = self._loop.call_later(self._timeout_s / 4, self._look)

    def _ping(self) -> None:
        if not self.batches:
            self.send(b"", self._loop.time() + self._timeout_s)

    def connection_lost(self, exc: Exception | None) -> None:
        self.transport = None  # its descriptor may be somebody else's by now
        self.drop("closed by the server")

    def drop(self, reason: str) -> None:
        """Close at once; whatever is under way fails."""
        if self.lost:
            return
        self.lost, self.reason = True, reason
        for timer in (self._looking, self._pinging):
            if timer is not None:
                timer.cancel()
        if self.transport is not None:
            sock = self.transport.get_extra_info("socket")
            if sock is not None:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)  # what was not sent never will be
            self.transport.abort()
            self.transport = None
        while self.batches:
            future = self.batches.popleft().future
            if not future.done():
                future.set_exception(MemcachedDown(reason))
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
        ping_s: float = 0.0,
        hello: Callable[[], bytes] = bytes,
        on_up: Callable[[], None] | None = None,
        on_lost: Callable[[], None] | None = None,
        on_unreachable: Callable[[bool], None] | None = None,
    ) -> None:
        """`ping_s`: an idle connection is tried that often, so that a silent server is noticed without calls; 0: never.

        `hello`: quiet commands that open each connection, ahead of anything else; `on_up` follows their barrier.

        `on_lost`: an open connection broke; an attempt to connect follows (at once, if it had lasted). `on_unreachable`
        tells of each that failed, and whether the server refused it (its process is gone) or was silent.
        """
        self.generation = 0
        """number of the current or last connection"""
        self._host, self._port = host, port
        self._timeout_s, self._connect_timeout_s, self._ping_s = timeout_s, connect_timeout_s, ping_s
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

    def reset(self, reason: str = "given up") -> None:
        """Break the connection; a new one is made."""
        if self._connection is not None:
            self._connection.drop(reason)

    def submit(self, commands: bytes) -> asyncio.Future[list[Reply]]:
        """Send a batch; the future holds its replies once the barrier is answered.

        Raises MemcachedDown, as does the future.
        """
        connection = self._connection
        if connection is None:
            self.start()
            raise MemcachedDown("not connected")
        return connection.send(commands, asyncio.get_running_loop().time() + self._timeout_s)

    def send(self, commands: bytes) -> None:
        """Send a batch without waiting; lost when the server is down."""
        try:
            self.submit(commands)
        except MemcachedDown:
            pass

    # --- ordinary keys

    async def get_many(self, keys: Iterable[str]) -> dict[str, bytes]:
        """Values of those keys that exist. Raises MemcachedDown."""
        names = {key_bytes(key): key for key in keys}
        if not names:
            return {}
        found = {}
        for reply in await self.submit(b"".join([b"mg %b v k q\r\n" % name for name in names])):
            key = names.get(reply.flag(b"k") or b"")
            if reply.value is not None and key is not None:
                found[key] = reply.value
        return found

    async def get(self, key: str) -> bytes | None:
        """One value. Raises MemcachedDown."""
        return (await self.get_many([key])).get(key)

    def set(self, key: str, value: bytes, ttl_s: int = 0) -> None:
        """Store a value without waiting; lost when the server is down, or finds it too large (and drops the key)."""
        self.send(set_command(key, value, ttl_s))

    def set_many(self, values: dict[str, bytes], ttl_s: int = 0) -> None:
        """Store several values without waiting; lost when the server is down."""
        if values:
            self.send(b"".join([set_command(key, value, ttl_s) for key, value in values.items()]))

    async def delete(self, key: str) -> None:
        """Delete a key and return when it is gone. Raises MemcachedDown."""
        replies = await self.submit(b"md %b q\r\n" % key_bytes(key))
        if any(reply.code != b"NF" for reply in replies):  # 1.6.18 answers NF although asked to be quiet
            raise MemcachedDown("refused")

    # --- the connection's life

    async def _keep(self) -> None:
        """Connect again at once when a connection breaks that has lasted; wait longer and longer otherwise."""
        loop = asyncio.get_running_loop()
        wait_s = 0.0
        try:
            while True:
                began_s = loop.time()
                try:
                    await self._connect()
                except (OSError, TimeoutError) as error:
                    lasted = False
                    if self._on_unreachable is not None:
                        self._on_unreachable(isinstance(error, ConnectionRefusedError))
                else:
                    await self._lost.wait()
                    lasted = loop.time() - began_s > LAST_RETRY_S
                wait_s = 0.0 if lasted else min(max(2 * wait_s, FIRST_RETRY_S), LAST_RETRY_S)
                await asyncio.sleep(wait_s)
        finally:
            if self._connection is not None:
                self._connection.drop("closed")

    async def _connect(self) -> None:
        """Open a connection and say hello; the time for both together is limited. Raises OSError, TimeoutError."""
        loop = asyncio.get_running_loop()
        connection: _Connection | None = None
        try:
            async with asyncio.timeout(self._connect_timeout_s):
                _, connection = await loop.create_connection(self._new_connection, self._host, self._port)
                await connection.send(b"", _NEVER)  # a paused server must not find an old hello when it goes on
                refusals = await connection.send(self._hello(), _NEVER)
            if connection.lost or refusals:
                raise MemcachedDown("lost at once")
        except (OSError, TimeoutError, asyncio.CancelledError):
            if connection is not None:
                connection.drop("no answer")
            raise
        self._lost.clear()
        self._found.set()
        self.generation += 1
        self._connection = connection
        if self._on_up is not None:
            self._on_up()

    def _new_connection(self) -> _Connection:
        return _Connection(self._note_lost, self._timeout_s, self._ping_s)

    def _note_lost(self, connection: _Connection) -> None:
        if connection is self._connection:
            _log.info("memcached at port %d: %s", self._port, connection.reason)
            self._connection = None
            self._found.clear()
            self._lost.set()
            if self._on_lost is not None:
                self._on_lost()
