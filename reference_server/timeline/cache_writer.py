"""The owner's hand on one memcached node: appends to cached timelines, and what may be said to have arrived.

A lane has one of these a node (`lane_cache`), each for the users whose timelines the node holds, and each with a state
and a key generation of its own.

States, and when a batch of records counts as applied (only then may anybody be notified):

    JOINING    no connection yet since the lane was opened: batches are held
    UP         connected: a batch is applied once its barrier is answered
    LOST       the connection broke: batches are held while one attempt to reconnect runs
    DOWN       the server is gone, or silent for long: nobody can read the cache, batches are applied at once

A break may have swallowed appends, so it always raises the key generation (stored in the log first): timelines under
the old keys count no more. Each connection begins by writing the generation's key, and only from that barrier on
is the cache filled again. Everything a key misses before that is harmless, as no key of the new generation exists.

Per user a "may be cached" byte: 0 means that no key can exist, so appends are skipped. A rebuild sets it *before* it
reads the index; an append answered NS (no such key, or no room) clears it and deletes the key. Timelines that nobody
reads, and so nobody trims, are dropped when they have grown beyond OVERGROWN_BYTES.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections import deque
from collections.abc import Callable, Sequence
from enum import Enum
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from reference_server.timeline.cache_measures import APPENDS, GENERATIONS, IN_FLIGHT, MISSES, NODE_STATE, OVERGROWN
from reference_server.timeline.cached import gen_key, session_key, timeline_key
from reference_server.timeline.entry import SLOT_BYTES
from reference_server.timeline.index import Users
from reference_server.timeline.memcached import Memcached, MemcachedDown, Reply, set_command

_log = logging.getLogger(__name__)
TIMELINE_TTL_S = 86_400
TIMEOUT_S = 1.0
"""a barrier that takes longer counts as a broken connection"""
SILENT_ATTEMPTS = 3
"""so many connections without an answer, and the server counts as gone"""
MAX_OUTSTANDING = 8
GEN_REFRESH_S = 5.0
OVERGROWN_BYTES = 2000 * SLOT_BYTES
"""readers trim a value above 1,000 slots, so nobody read this one while the last thousand arrived"""
_SESSIONS_AT_ONCE = 20_000
_GEN_HURRY_S = 0.02
_KEY = re.compile(rb"tl:[0-9]{1,19}:[0-9]{1,10}")
NO_GEN = -1
"""given instead of a generation: the cache must not be filled now"""


class State(Enum):
    """See the module's table."""

    JOINING = 0
    UP = 1
    LOST = 2
    DOWN = 3


class Cached(NamedTuple):
    """What a lane knows of its users' cached timelines; shared by its nodes, each of which minds its own users."""

    may_be: npt.NDArray[np.bool_]
    """user -> whether a key of the present generation can exist"""
    prefixes: list[bytes]
    """user -> the command that appends one slot"""


class CacheWriter:
    """One lane's connection to one node."""

    def __init__(
        self,
        lane: int,
        node: int,
        port: int,
        users: Users,
        cached: Cached,
        gen: int,
        store_gen: Callable[[int], None],
        on_applied: Callable[[int], None],
        timeout_s: float = TIMEOUT_S,
    ) -> None:
        """`users`: those of the lane whose timelines are on the node.

        `store_gen` makes a generation durable; `on_applied` learns of each batch, in order.
        """
        self.gen = gen
        self._lane, self._node, self._users, self._cached = lane, node, users, cached
        self._store_gen, self._on_applied = store_gen, on_applied
        self._held: deque[int] = deque()
        self._outstanding = 0
        self._room = asyncio.Event()
        self._room.set()
        self._joined = asyncio.Event()
        self._gen_sent_s = 0.0
        self._silent = 0
        self._refresh: asyncio.TimerHandle | None = None
        name = str(node)
        self._appends, self._misses, self._overgrown = (one.labels(name) for one in (APPENDS, MISSES, OVERGROWN))
        self._generations, self._in_flight = GENERATIONS.labels(name), IN_FLIGHT.labels(name)
        self._set_state(State.JOINING)
        cached.may_be[users] = True
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
        """Return when fewer than MAX_OUTSTANDING batches are under way."""
        while self._outstanding >= MAX_OUTSTANDING:
            self._room.clear()
            await self._room.wait()

    def send(self, commands: bytes, slots: int, last: int) -> None:
        """Send a batch that appends so many slots; `on_applied(last)` follows."""
        self._held.append(last)
        if self.state is State.UP and (commands or len(self._held) > 1):
            try:
                future = self._client.submit(commands)
            except MemcachedDown:
                return  # held: `_lost` was called
            self._outstanding += 1
            self._appends.inc(slots)
            self._in_flight.inc(len(commands))
            future.add_done_callback(lambda done: self._answered(done, last, len(commands)))
        elif self.state in (State.UP, State.DOWN):
            self._release()

    def lend(self, user: int) -> int:
        """The generation under which the user's timeline may be published; from now on appends go there. Or NO_GEN."""
        if self.state is State.UP:
            self._cached.may_be[user] = True
        return self.stand_by()

    def stand_by(self) -> int:
        """The generation whose cached timelines count; NO_GEN while none do."""
        if self.state is not State.UP:
            return NO_GEN
        if asyncio.get_running_loop().time() - self._gen_sent_s > _GEN_HURRY_S:
            self._keep_gen()  # a reader asks: perhaps the whole node was flushed, the generation's key with it
        return self.gen

    async def store(self, timelines: Sequence[tuple[int, bytes]]) -> bool:
        """Store whole timelines, user and value; False: they were given up, as the node is not there."""
        if self.state is not State.UP:
            return False
        self._cached.may_be[[user for user, _ in timelines]] = True
        commands = [set_command(timeline_key(self.gen, user), value, TIMELINE_TTL_S) for user, value in timelines]
        try:
            refused = await self._client.submit(b"".join(commands))
        except MemcachedDown:
            return False
        if refused:
            self._client.reset("a timeline was refused")
        return not refused

    def drop(self, user: int) -> asyncio.Future[list[Reply]] | None:
        """Delete the user's cached timeline, also for who is about to publish it; see LaneCache.drop."""
        if self.state is not State.UP:
            return None
        self._cached.may_be[user] = False
        return self._send_aside(b"md %b q\r\n" % timeline_key(self.gen, user).encode())

    async def end_sessions(self) -> None:
        """Have its users' next first pages open sessions anew."""
        for start in range(0, len(self._users), _SESSIONS_AT_ONCE):
            users = self._users[start : start + _SESSIONS_AT_ONCE].tolist()
            deletes = b"".join([b"md %b q\r\n" % session_key(user).encode() for user in users])
            if self.state is State.UP and (sent := self._send_aside(deletes)) is not None:
                await asyncio.wait([sent])

    # --- answers

    def _answered(self, future: asyncio.Future[list[Reply]], last: int, size_bytes: int) -> None:
        self._outstanding -= 1
        self._in_flight.dec(size_bytes)
        self._room.set()
        if future.cancelled() or future.exception() is not None or self.state is not State.UP:
            return  # held; `_up` or `_unreachable` releases it
        missed, overgrown = [], []
        for reply in future.result():
            key, size = reply.flag(b"k") or b"", reply.flag(b"s") or b""
            if reply.code == b"NS" and _KEY.fullmatch(key):
                missed.append(key)
            elif reply.code == b"HD" and _KEY.fullmatch(key) and size.isdigit():
                if int(size) > OVERGROWN_BYTES:
                    overgrown.append(key)
            else:
                # An error names no key, so no cached timeline can be trusted: as if the connection had broken.
                _log.warning("lane %d, node %d: answered %s %s", self._lane, self._node, reply.code, reply.flags)
                self._client.reset("an append was refused")
                return
        self._misses.inc(len(missed))
        self._overgrown.inc(len(overgrown))
        self._forget(missed + overgrown)
        while self._held and self._held[0] <= last:
            self._on_applied(self._held.popleft())

    def _forget(self, keys: list[bytes]) -> None:
        """Appends found no key, or there is no room, or it is too long: all mean that the key must not be used."""
        deletes = []
        for key in keys:
            gen, user = map(int, key[3:].split(b":"))
            if gen == self.gen and user < len(self._cached.may_be):
                self._cached.may_be[user] = False
                deletes.append(b"md %b q\r\n" % key)
        if deletes:
            self._send_aside(b"".join(deletes))

    def _send_aside(self, commands: bytes) -> asyncio.Future[list[Reply]] | None:
        try:
            return self._client.submit(commands)
        except MemcachedDown:
            return None  # `_lost` was called, and has raised the generation

    # --- connection

    def _hello(self) -> bytes:
        return set_command(gen_key(self._lane), b"%d" % self.gen, 0)

    def _up(self) -> None:
        _log.info("lane %d, node %d: there, generation %d", self._lane, self._node, self.gen)
        self._set_state(State.UP)
        self._silent = 0
        self._joined.set()
        self._release()
        self._keep_gen()

    def _lost(self) -> None:
        if self.state is State.UP:
            self._set_state(State.LOST)
            self._raise_gen()

    def _unreachable(self, refused: bool) -> None:
        self._silent += 1
        if not refused and self._silent < SILENT_ATTEMPTS:
            return  # slow rather than gone: others may still read what is cached there
        if self.state is State.JOINING:
            self._raise_gen()
        if self.state is not State.DOWN:
            _log.warning("lane %d, node %d: away", self._lane, self._node)
            self._set_state(State.DOWN)
        self._joined.set()
        self._release()

    def _set_state(self, state: State) -> None:
        self.state = state
        NODE_STATE.labels(str(self._node), str(self._lane)).set(state.value)

    def _release(self) -> None:
        while self._held:
            self._on_applied(self._held.popleft())

    def _raise_gen(self) -> None:
        self.gen += 1
        self._cached.may_be[self._users] = False
        self._render_prefixes()
        self._store_gen(self.gen)
        self._generations.inc()

    def _render_prefixes(self) -> None:
        gen, prefixes = self.gen, self._cached.prefixes
        for user in self._users.tolist():
            prefixes[user] = b"ms tl:%d:%d %d MA q k\r\n" % (gen, user, SLOT_BYTES)

    def _keep_gen(self) -> None:
        """Write the generation's key again now and then, if it is gone: memcached may have evicted it.

        Only if it is gone: what a paused server finds in its sockets, it carries out when it goes on, also on a
        connection given up long before; an outdated generation must not replace the one of the next connection.
        """
        if self._refresh is not None:
            self._refresh.cancel()
        if self.state is not State.UP:
            return
        loop = asyncio.get_running_loop()
        self._gen_sent_s = loop.time()
        key, number = gen_key(self._lane).encode(), b"%d" % self.gen
        sent = self._send_aside(b"ms %b %d ME q\r\n%b\r\nmg %b v\r\n" % (key, len(number), number, key))
        if sent is not None:
            sent.add_done_callback(self._check_gen)
            self._refresh = loop.call_later(GEN_REFRESH_S, self._keep_gen)

    def _check_gen(self, sent: asyncio.Future[list[Reply]]) -> None:
        """Whatever else stands there was written by nobody who owns the lane now."""
        if sent.cancelled() or sent.exception() is not None or self.state is not State.UP:
            return
        replies = sent.result()
        if not replies or replies[-1].value != b"%d" % self.gen:
            _log.warning("lane %d, node %d: a foreign generation", self._lane, self._node)
            self._send_aside(self._hello())
