"""A caller's newest posts, for every page: LRANGE recent:{user} on a connection of its own, with next to no overhead.

Every read of a feed asks this, and most get an empty list, so what counts is the price of a call: one line out, one
line in, no task and no timer a call. Any number of calls are under way at once; redis answers in order. When it is
away or silent for READ_TIMEOUT_S calls fail, at once until it is back.

An api that is the only one of its region hears of every post and delete itself, so it asks once an author and keeps the
list, packed. A write whose outcome it does not learn makes it ask again.
"""

from __future__ import annotations

import asyncio
import contextlib
import struct
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from reference_server.queue import QueueUnavailable, RecentPost
from reference_server.timeline.display import Key

READ_TIMEOUT_S = 0.25
CONNECT_TIMEOUT_S = 0.25
RETRY_S = 0.1
AUTHORS_KEPT = 50_000
POSTS_KEPT = 200
"""of an author, as many as redis-queue keeps"""
BYTES_KEPT = 16 << 20
"""of all authors; who was asked for longest ago is asked for again"""
_POST = struct.Struct(">Q16s")
_MAX_REPLY_BYTES = 1 << 20
Answer = asyncio.Future[list[RecentPost]]


class _Call(NamedTuple):
    deadline_s: float
    answer: Answer
    author: int
    changes: int
    """how many changes there were when it was asked"""


class _Garbled(ValueError):
    """Not what LRANGE answers."""


class _Connection(asyncio.Protocol):
    def __init__(self, on_answer: Callable[[_Call, list[RecentPost]], None]) -> None:
        self._on_answer = on_answer
        self.transport: asyncio.Transport | None = None
        self.waiting: deque[_Call] = deque()
        """oldest first"""
        self.lost = asyncio.Event()
        self._buffer = bytearray()
        self._unsent: list[bytes] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport  # type: ignore[assignment]

    def send(self, line: bytes) -> None:
        """Send a line, together with the others of this turn of the loop."""
        if not self._unsent:
            asyncio.get_running_loop().call_soon(self._flush)
        self._unsent.append(line)

    def _flush(self) -> None:
        if self.transport is not None and not self.lost.is_set():
            self.transport.write(b"".join(self._unsent))
        self._unsent.clear()

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        position = 0
        try:
            while self.waiting and position < len(self._buffer):
                posts, end = read_reply(self._buffer, position)
                if posts is None:
                    break
                position = end
                call = self.waiting.popleft()
                self._on_answer(call, posts)
                if not call.answer.done():
                    call.answer.set_result(posts)
        except _Garbled:
            self.drop()
            return
        del self._buffer[:position]
        if len(self._buffer) > _MAX_REPLY_BYTES:
            self.drop()

    def connection_lost(self, exc: Exception | None) -> None:
        self.drop()

    def drop(self) -> None:
        """Hang up; calls under way fail."""
        self.lost.set()
        if self.transport is not None:
            self.transport.abort()
        while self.waiting:
            answer = self.waiting.popleft().answer
            if not answer.done():
                answer.set_exception(QueueUnavailable("connection lost", definite=True))
                answer.exception()  # nobody may be waiting for it


class OwnPosts:
    """Asks one redis-queue; connects on the first call and again after a loss."""

    def __init__(self, port: int, *, alone: bool = False) -> None:
        """`alone`: nobody else accepts posts in this region."""
        self._port = port
        self._alone = alone
        self._lists: dict[int, bytes] = {}
        """author -> posts, newest first"""
        self._bytes = 0
        """in all of them"""
        self._changes = 0
        self._connection: _Connection | None = None
        self._found = asyncio.Event()
        self._keeping: asyncio.Task[None] | None = None

    def ask(self, user: int) -> Iterator[Key] | Answer | None:
        """The user's newest posts, newest first, or a future of them (QueueUnavailable); None: redis is away."""
        known = self._lists.get(user)
        if known is not None:
            return _POST.iter_unpack(known)
        connection = self._connection
        if connection is None or connection.transport is None:
            self.start()
            return None
        loop = asyncio.get_running_loop()
        answer: Answer = loop.create_future()
        connection.waiting.append(_Call(loop.time() + READ_TIMEOUT_S, answer, user, self._changes))
        connection.send(b"LRANGE recent:%d 0 -1\r\n" % user)
        return answer

    @contextlib.contextmanager
    def changing(self, author: int) -> Iterator[None]:
        """Around a write of the author: when it ends by an error it may have happened all the same."""
        try:
            yield
        except BaseException:
            self._changes += 1
            self._drop(author)
            raise

    def accepted(self, author: int, post: RecentPost) -> None:
        """The author posted, through this api."""
        self._changes += 1
        if author in self._lists:
            self._put(author, sorted((post, *_POST.iter_unpack(self._lists[author])), reverse=True)[:POSTS_KEPT])

    def deleted(self, author: int, post_id: bytes) -> None:
        """The author took a post back, through this api."""
        self._changes += 1
        if author in self._lists:
            self._put(author, [post for post in _POST.iter_unpack(self._lists[author]) if post[1] != post_id])

    def _keep(self, call: _Call, posts: list[RecentPost]) -> None:
        if self._alone and call.changes == self._changes:  # else it may be from before a change
            self._put(call.author, posts)
            while len(self._lists) > AUTHORS_KEPT or self._bytes > BYTES_KEPT:
                self._drop(next(iter(self._lists)))

    def _put(self, author: int, posts: Sequence[tuple[int, bytes]]) -> None:
        self._drop(author)
        packed = self._lists[author] = b"".join([_POST.pack(*post) for post in posts])
        self._bytes += len(packed)

    def _drop(self, author: int) -> None:
        self._bytes -= len(self._lists.pop(author, b""))

    def start(self) -> None:
        """Begin to connect, and keep connected from now on."""
        if self._keeping is None:
            self._keeping = asyncio.ensure_future(self._stay_connected())

    async def wait_connected(self, limit_s: float) -> None:
        """Start, and wait until calls can be made, or the limit."""
        self.start()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(limit_s):
                await self._found.wait()

    async def close(self) -> None:
        """Disconnect for good."""
        if self._keeping is not None:
            self._keeping.cancel()
            await asyncio.wait([self._keeping])

    async def _stay_connected(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                async with asyncio.timeout(CONNECT_TIMEOUT_S):
                    _, connection = await loop.create_connection(self._new_connection, "127.0.0.1", self._port)
            except (OSError, TimeoutError):
                await asyncio.sleep(RETRY_S)
                continue
            self._connection = connection
            self._found.set()
            try:
                await _watch(connection)
            finally:
                self._connection = None
                self._found.clear()
                connection.drop()

    def _new_connection(self) -> _Connection:
        return _Connection(self._keep)


async def _watch(connection: _Connection) -> None:
    """Return when the connection is lost, or a call is overdue."""
    loop = asyncio.get_running_loop()
    late = 0
    while not connection.lost.is_set():
        try:
            async with asyncio.timeout(READ_TIMEOUT_S / 4):
                await connection.lost.wait()
        except TimeoutError:
            overdue = bool(connection.waiting) and connection.waiting[0].deadline_s < loop.time()
            late = late + 1 if overdue else 0
            if late > 1:  # seen twice: if this process itself was held up, the answer lay in the socket
                return


def read_reply(buffer: bytearray, position: int) -> tuple[list[RecentPost] | None, int]:
    """The posts in the RESP array that begins there, and where it ends; None when it is not whole. Raises _Garbled."""
    end = buffer.find(b"\r\n", position)
    if end < 0:
        return None, position
    if buffer[position] != 0x2A:
        raise _Garbled(bytes(buffer[position:end]))
    posts: list[RecentPost] = []
    try:
        count, at = int(buffer[position + 1 : end]), end + 2
        for _ in range(count):
            end = buffer.find(b"\r\n", at)
            if end < 0:
                return None, position
            start, size = end + 2, int(buffer[at + 1 : end])
            if len(buffer) < start + size + 2:
                return None, position
            ts_us, _, hexadecimal = buffer[start : start + size].partition(b":")
            posts.append(RecentPost(int(ts_us), bytes.fromhex(hexadecimal.decode())))
            at = start + size + 2
    except ValueError:
        raise _Garbled("no recent posts") from None
    return posts, at
