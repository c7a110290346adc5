"""The owner's hand on memcached: appends to cached timelines, and what may be said to have arrived.

States, and when a batch of records counts as applied (only then may anybody be notified):

    JOINING    no connection yet since the lane was opened: batches are held
    UP         connected: a batch is applied once its barrier is answered
    LOST       the connection broke: batches are held while one attempt to reconnect runs
    DOWN       the server is gone, or silent for long: nobody can read the cache, batches are applied at once

A break may have swallowed appends, so it always raises the lane's key generation (stored in the log first): timelines
under the old keys count no more. Each connection begins by writing the generation's key, and only from that barrier on
is the cache filled again. Everything a key misses before that is harmless, as no key of the new generation exists.

Per user a "may be cached" byte: 0 means that no key can exist, so appends are skipped. A rebuild sets it *before* it
reads the index; an append answered NS (no such key, or too long) clears it and deletes the key.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from enum import Enum

import numpy as np
import numpy.typing as npt

from reference_server.timeline.cached import gen_key, make_value, timeline_key
from reference_server.timeline.entry import SLOT_BYTES
from reference_server.timeline.index import Users, picker
from reference_server.timeline.memcached import Memcached, MemcachedDown, Reply, set_command

_log = logging.getLogger(__name__)
TIMELINE_TTL_S = 86_400
TIMEOUT_S = 1.0
"""a barrier that takes longer counts as a broken connection"""
SILENT_ATTEMPTS = 3
"""so many connections without an answer, and the server counts as gone"""
MAX_OUTSTANDING = 8
GEN_REFRESH_S = 5.0
_GEN_HURRY_S = 0.05
_BULK_BYTES = 1 << 20
NO_GEN = -1
"""given instead of a generation: the cache must not be filled now"""


class State(Enum):
    """See the module's table."""

    JOINING = 0
    UP = 1
    LOST = 2
    DOWN = 3


class Appends:
    """What one batch appends, being put together."""

    def __init__(self, writer: CacheWriter) -> None:
        self._writer = writer
        self.parts: list[bytes] = []

    def slot(self, slot: bytes, users: Users) -> None:
        """One slot to many users."""
        writer = self._writer
        cached = writer.may_be_cached[users]
        targets = users if cached.all() else users[cached]
        if len(targets):
            keys = picker(targets.tolist())(writer.prefixes)
            self.parts.append((slot + b"\r\n").join((*keys, b"")))

    def slots(self, slots: bytes, user: int) -> None:
        """Many slots to one user."""
        if self._writer.may_be_cached[user]:
            head = b"ms %b %d MA q k\r\n" % (timeline_key(self._writer.gen, user).encode(), len(slots))
            self.parts.append(head + slots + b"\r\n")

    def forget(self, user: int) -> None:
        """Drop a user's cached timeline."""
        if self._writer.may_be_cached[user]:
            self._writer.may_be_cached[user] = False
            self.parts.append(b"md %b q\r\n" % timeline_key(self._writer.gen, user).encode())


class CacheWriter:
    """One lane's connection to memcached."""

    def __init__(
        self,
        lane: int,
        users: Sequence[int],
        population: int,
        port: int,
        gen: int,
        store_gen: Callable[[int], None],
        on_applied: Callable[[int], None],
        timeout_s: float = TIMEOUT_S,
    ) -> None:
        """`store_gen` makes a generation durable; `on_applied` learns of each batch, in order."""
        self.gen = gen
        self.state = State.JOINING
        self.may_be_cached: npt.NDArray[np.bool_] = np.zeros(population, bool)
        self.may_be_cached[list(users)] = True
        self.prefixes: list[bytes] = [b""] * population
        self._lane, self._users = lane, users
        self._store_gen, self._on_applied = store_gen, on_applied
        self._held: deque[int] = deque()
        self._outstanding = 0
        self._room = asyncio.Event()
        self._room.set()
        self._joined = asyncio.Event()
        self._gen_sent_s = 0.0
        self._silent = 0
        self._refresh: asyncio.TimerHandle | None = None
        self._render_prefixes()
        self._client = Memcached(
            port,
            timeout_s=timeout_s,
            hello=self._hello,
            on_up=self._up,
            on_lost=self._lost,
            on_unreachable=self._unreachable,
        )

    async def join(self) -> None:
        """Connect; returns when the state is known to be UP or DOWN."""
        self._client.start()
        await self._joined.wait()

    async def wait_up(self, limit_s: float) -> bool:
        """Whether memcached is there, or comes within the limit."""
        return await self._client.wait_connected(limit_s)

    async def close(self) -> None:
        """Disconnect."""
        if self._refresh is not None:
            self._refresh.cancel()
        await self._client.close()

    async def wait_room(self) -> None:
        """Return when fewer than MAX_OUTSTANDING batches are under way. Always lets the event loop send what waits."""
        await asyncio.sleep(0)
        while self._outstanding >= MAX_OUTSTANDING:
            self._room.clear()
            await self._room.wait()

    def appends(self) -> Appends:
        """A new batch."""
        return Appends(self)

    def send(self, appends: Appends, last: int) -> None:
        """Send a batch; `on_applied(last)` follows."""
        if self.state is State.UP:
            try:
                future = self._client.submit(b"".join(appends.parts))
            except MemcachedDown:
                self._held.append(last)  # `_lost` is about to be called
                return
            self._outstanding += 1
            self._held.append(last)
            future.add_done_callback(lambda done: self._answered(done, last))
        else:
            self._held.append(last)
            if self.state is State.DOWN:
                self._release()

    def lend(self, user: int) -> int:
        """The generation under which the user's timeline may be published; from now on appends go there. Or NO_GEN."""
        if self.state is not State.UP:
            return NO_GEN
        self.may_be_cached[user] = True
        if asyncio.get_running_loop().time() - self._gen_sent_s > _GEN_HURRY_S:
            self._keep_gen()  # a caller missed: perhaps the whole cache was flushed, the generation's key with it
        return self.gen

    async def fill(self, timelines: Iterable[tuple[int, int, int, bytes]]) -> None:
        """Store whole timelines (user, floor, upto, slots) in bulk; gives up when the cache goes away."""
        parts: list[bytes] = []
        size = 0
        for user, floor, upto, slots in timelines:
            if self.state is not State.UP:
                return
            self.may_be_cached[user] = True
            parts.append(set_command(timeline_key(self.gen, user), make_value(floor, upto, slots), TIMELINE_TTL_S))
            size += len(slots)
            if size >= _BULK_BYTES:
                if not await self._delivered(b"".join(parts)):
                    return
                parts, size = [], 0
        await self._delivered(b"".join(parts))

    async def _delivered(self, commands: bytes) -> bool:
        try:
            await self._client.submit(commands)
        except MemcachedDown:
            return False
        return True

    # --- answers

    def _answered(self, future: asyncio.Future[list[Reply]], last: int) -> None:
        self._outstanding -= 1
        self._room.set()
        if future.cancelled() or future.exception() is not None or self.state is not State.UP:
            return  # held; `_up` or `_unreachable` releases it
        missed = []
        for reply in future.result():
            if reply.code == b"NS":
                missed.append(reply.flag(b"k") or b"")
            elif reply.code not in (b"NF", b"HD"):
                # An error names no key, so no cached timeline can be trusted: as if the connection had broken.
                _log.warning("lane %d: memcached answered %s %s", self._lane, reply.code, reply.flags)
                self._client.reset()
                return
        self._forget(missed)
        while self._held and self._held[0] <= last:
            self._on_applied(self._held.popleft())

    def _forget(self, keys: list[bytes]) -> None:
        """Appends found no key, or one that is full: both mean that the key must not be used."""
        deletes = []
        for key in keys:
            gen, _, user = key.removeprefix(b"tl:").partition(b":")
            if int(gen) == self.gen:
                self.may_be_cached[int(user)] = False
                deletes.append(b"md %b q\r\n" % key)
        if deletes:
            self._send_aside(b"".join(deletes))

    def _send_aside(self, commands: bytes) -> None:
        try:
            self._client.submit(commands)
        except MemcachedDown:
            pass  # `_lost` follows and raises the generation

    # --- connection

    def _hello(self) -> bytes:
        return set_command(gen_key(self._lane), b"%d" % self.gen, 0)

    def _up(self) -> None:
        _log.info("lane %d: memcached is there, generation %d", self._lane, self.gen)
        self.state = State.UP
        self._silent = 0
        self._joined.set()
        self._release()
        self._keep_gen()

    def _lost(self) -> None:
        if self.state is State.UP:
            self.state = State.LOST
            self._raise_gen()

    def _unreachable(self, refused: bool) -> None:
        self._silent += 1
        if not refused and self._silent < SILENT_ATTEMPTS:
            return  # slow rather than gone: others may still read what is cached there
        if self.state is State.JOINING:
            self._raise_gen()
        if self.state is not State.DOWN:
            _log.warning("lane %d: memcached is away", self._lane)
            self.state = State.DOWN
        self._joined.set()
        self._release()

    def _release(self) -> None:
        while self._held:
            self._on_applied(self._held.popleft())

    def _raise_gen(self) -> None:
        self.gen += 1
        self._store_gen(self.gen)
        self.may_be_cached[:] = False
        self._render_prefixes()

    def _render_prefixes(self) -> None:
        gen = self.gen
        for user in self._users:
            self.prefixes[user] = b"ms tl:%d:%d %d MA q k\r\n" % (gen, user, SLOT_BYTES)

    def _keep_gen(self) -> None:
        """Write the generation's key again now and then: memcached may have evicted it."""
        if self._refresh is not None:
            self._refresh.cancel()
        if self.state is State.UP:
            loop = asyncio.get_running_loop()
            self._gen_sent_s = loop.time()
            self._send_aside(self._hello())
            self._refresh = loop.call_later(GEN_REFRESH_S, self._keep_gen)
