"""How the api gets a timeline: memcached, else the lane's owner (which refills memcached), else the durable store.

    mg gen:{lane}, mg tl:{gen}:{user} (lease on a miss)  ->  hit
        |  miss, or no generation, or memcached away
    rebuild(user) at the lane's owner  ->  serve, and publish under the lease's CAS number
        |  silent for 30 ms, or away
    durable store  ->  serve, marked stale, not published
A lease is taken before the owner reads its index, and the owner appends to whatever key may exist from then on, so the
CAS number decides: had anything been appended, or the key deleted, the publish fails and a new round begins with a new
lease and a new rebuild. A first page also opens the user's session: what is owed by cold followees is written first.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from typing import Any

import numpy as np

from reference_server.partition import lane_of
from reference_server.rpc import RpcClient, RpcError, RpcTimeout, RpcUnavailable
from reference_server.settings import Region, Settings
from reference_server.timeline.cached import (
    Slots,
    for_display,
    gen_key,
    make_value,
    newest,
    read_value,
    timeline_key,
)
from reference_server.timeline.entry import SLOT_BYTES
from reference_server.timeline.memcached import Memcached, MemcachedDown, Reply
from reference_server.timeline.read_measures import MATERIALISED, PUBLISHES, REBUILD_CALL

OWNER_TIMEOUT_S = 0.03
SESSION_TIMEOUT_S = 0.25
CACHE_TIMEOUT_S = 0.2
HOT_TTL_S = 600
HOT_MARK_S = 660
LEASE_S = 5
LOSER_WAIT_S = 0.005
PUBLISH_ROUNDS = 4
TRIM_ABOVE = 1000
TTL_S = 86_400
_OWNER_FAILED = (RpcUnavailable, RpcTimeout, RpcError)
DurablePull = Callable[[int], Awaitable[Slots]]


@dataclass(frozen=True)
class TimelineView:
    """A timeline as read."""

    slots: Slots
    """SLOT_DTYPE, newest first by (ts_us, id), no post twice; `seq` is the arrival number"""
    degraded: str
    """"" or "stale" """
    source: str
    """"cache", "owner" or "durable" """
    floor: int = 0
    """all that arrived at or after this number is there"""


@dataclass(frozen=True)
class _Lease:
    """The right to publish under a key, as long as nothing changes it."""

    gen: int
    cas: bytes
    connection: int


@dataclass(frozen=True)
class _Rebuilt:
    gen: int
    floor: int
    upto: int
    slots: bytes


class TimelineReader:
    """Reads timelines of one region. Safe for any number of tasks of one event loop."""

    def __init__(
        self,
        settings: Settings,
        region: Region,
        durable_pull: DurablePull,
        *,
        owner_timeout_s: float = OWNER_TIMEOUT_S,
    ) -> None:
        """`durable_pull(user)` makes a timeline from the durable store; it must not raise."""
        self._lanes = settings.lanes
        self._depth = settings.depth
        self._forgetful = settings.has_defect("no-wal")
        self._durable_pull = durable_pull
        self._owner_timeout_s = owner_timeout_s
        self._owners = [RpcClient(settings.socket(region.name, f"lane-{n}")) for n in range(settings.lanes)]
        self._cache = Memcached(region.memcached_ports[0], timeout_s=CACHE_TIMEOUT_S)
        self._gens: dict[int, int] = {}
        self._sessions: dict[int, float] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    async def read(self, user: int, first_page: bool) -> TimelineView:
        """The user's timeline in display order. Never raises for an unavailable part; says so in `degraded`."""
        degraded = ""
        value, lease, has_session = await self._look(user, first_page)
        if first_page and not has_session and not self._has_local_session(user):
            added = await self._open_session(user)
            if added is None:
                degraded = "stale"
            elif added:
                value, new_lease, _ = await self._look(user, False)
                lease = new_lease or lease  # the second look of one reader must not lose what the first one leased
        if value is None and lease is None and self._cache.connected:
            await asyncio.sleep(LOSER_WAIT_S)  # somebody else holds the lease: it is about to be published
            value, lease, _ = await self._look(user, False)
        if value is not None and (timeline := read_value(value)) is not None:
            if lease is not None and len(timeline.slots) > TRIM_ABOVE * SLOT_BYTES:
                self._spawn(self._trim(user, lease, timeline.floor, timeline.upto, timeline.slots))
            return TimelineView(for_display(timeline.slots), degraded, "cache", timeline.floor)
        return await self._miss(user, lease, degraded)

    async def settle(self) -> None:
        """Return when all publishing under way has ended."""
        while self._tasks:
            await asyncio.wait(self._tasks)

    async def close(self) -> None:
        """Drop all connections."""
        for task in self._tasks:
            task.cancel()
        await self.settle()
        await self._cache.close()
        for owner in self._owners:
            owner.close()

    # --- cache

    async def _look(self, user: int, with_session: bool) -> tuple[bytes | None, _Lease | None, bool]:
        """(value, lease, session mark there).

        No timeline but a lease: the caller may publish. Neither: another reader holds the lease, or the cache cannot be
        used.
        """
        lane = lane_of(user, self._lanes)
        session = b"mg hot:%d\r\n" % user if with_session else b""
        try:
            gen = self._gens.get(lane)
            guess = b"" if gen is None else _lookup(gen, user)
            replies = await self._cache.submit(b"mg %b v\r\n" % gen_key(lane).encode() + session + guess)
            marked = with_session and replies[1].code == b"HD"
            current = _number(replies[0].value)
            if current is None:
                # Flushed or evicted: what is cached may be outdated, but a lease is good if the owner agrees.
                lease = None if gen is None else self._taken(gen, replies[-1])[1]
                self._gens.pop(lane, None)
                return None, lease, marked
            self._gens[lane] = current
            if current != gen:
                replies = await self._cache.submit(_lookup(current, user))
        except MemcachedDown:
            return None, None, False
        return (*self._taken(current, replies[-1]), marked)

    def _taken(self, gen: int, reply: Reply) -> tuple[bytes | None, _Lease | None]:
        cas = reply.flag(b"c")
        if reply.value is None or cas is None:
            return None, None
        if reply.flag(b"Z") is not None and read_value(reply.value) is None:
            return None, None
        return reply.value, _Lease(gen, cas, self._cache.generation)

    # --- session

    def _has_local_session(self, user: int) -> bool:
        """Whether this process opened a session lately: what counts while memcached is away."""
        return not self._cache.connected and self._sessions.get(user, 0.0) > time.monotonic()

    async def _open_session(self, user: int) -> int | None:
        """How many owed entries that brought; None: the owner, or the graph behind it, does not answer."""
        owner = self._owners[lane_of(user, self._lanes)]
        try:
            (added,) = await owner.call("materialise", user, HOT_MARK_S, timeout_s=SESSION_TIMEOUT_S)
        except _OWNER_FAILED:
            return None
        MATERIALISED.inc(added)
        if len(self._sessions) > 200_000:
            self._sessions.clear()
        self._sessions[user] = time.monotonic() + HOT_TTL_S
        self._cache.set(f"hot:{user}", b"1", HOT_TTL_S)
        return int(added)

    # --- owner and durable store

    async def _miss(self, user: int, lease: _Lease | None, degraded: str) -> TimelineView:
        call = asyncio.ensure_future(self._rebuild(user, 10 * self._owner_timeout_s))
        await asyncio.wait([call], timeout=self._owner_timeout_s)
        slots: Slots | None = None
        if not call.done() or call.exception() is not None:
            slots = await self._durable_pull(user)  # the owner may still answer meanwhile: its answer is the better one
        if not call.done():
            call.cancel()
            await asyncio.wait([call])
        if not call.cancelled() and (error := call.exception()) is None:
            rebuilt = call.result()
            if lease is not None and lease.gen == rebuilt.gen:
                self._spawn(self._publish(user, lease, rebuilt))
            return TimelineView(for_display(rebuilt.slots), degraded, "owner", rebuilt.floor)
        assert slots is not None
        if self._forgetful and isinstance(None if call.cancelled() else error, RpcError):
            return self._believe(user, lease, slots)
        return TimelineView(slots, "stale", "durable")

    async def _rebuild(self, user: int, limit_s: float) -> _Rebuilt:
        started = time.perf_counter()
        owner = self._owners[lane_of(user, self._lanes)]
        gen, _, floor, upto, slots = await owner.call("rebuild", user, timeout_s=limit_s)
        REBUILD_CALL.observe(time.perf_counter() - started)
        return _Rebuilt(gen, floor, upto, slots)

    def _believe(self, user: int, lease: _Lease | None, slots: Slots) -> TimelineView:
        """The planted defect "no-wal": what the durable store has is taken for the whole timeline, and published."""
        slots = slots.copy()
        slots["seq"] = np.arange(len(slots), 0, -1)
        if lease is not None:
            self._spawn(self._store(user, lease, make_value(0, 0, slots.tobytes())))
        return TimelineView(slots, "", "owner")

    # --- publishing

    def _spawn(self, work: Coroutine[Any, Any, Any]) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _publish(self, user: int, lease: _Lease, rebuilt: _Rebuilt) -> None:
        """Put a rebuilt timeline into the cache, in a few rounds if it changes meanwhile."""
        for _ in range(PUBLISH_ROUNDS):
            if await self._store(user, lease, self._value(rebuilt)):
                PUBLISHES.labels("stored").inc()
                return
            value, new_lease, _ = await self._look(user, False)
            if new_lease is None or (value is not None and read_value(value) is not None):
                PUBLISHES.labels("others").inc()
                return
            lease = new_lease
            try:
                rebuilt = await self._rebuild(user, SESSION_TIMEOUT_S)
            except _OWNER_FAILED:
                return
            if rebuilt.gen != lease.gen:
                return
        PUBLISHES.labels("given-up").inc()

    def _value(self, rebuilt: _Rebuilt) -> bytes:
        if len(rebuilt.slots) <= self._depth * SLOT_BYTES:
            return make_value(rebuilt.floor, rebuilt.upto, rebuilt.slots)
        slots = rebuilt.slots[-self._depth * SLOT_BYTES :]
        return make_value(int.from_bytes(slots[:8], "big"), rebuilt.upto, slots)

    async def _store(self, user: int, lease: _Lease, value: bytes) -> bool:
        """Whether the value was stored; False: the key changed since the lease."""
        if lease.connection != self._cache.generation:
            return False
        command = b"ms %b %d C%b T%d\r\n" % (timeline_key(lease.gen, user).encode(), len(value), lease.cas, TTL_S)
        try:
            replies = await self._cache.submit(command + value + b"\r\n")
        except MemcachedDown:
            return False
        return replies[0].code == b"HD"

    async def _trim(self, user: int, lease: _Lease, floor: int, upto: int, slots: bytes) -> None:
        kept = newest(slots, self._depth)
        floor = max(floor, int.from_bytes(kept[:8], "big"))
        await self._store(user, lease, make_value(floor, upto, kept))


def _lookup(gen: int, user: int) -> bytes:
    return b"mg %b v c t N%d\r\n" % (timeline_key(gen, user).encode(), LEASE_S)


def _number(value: bytes | None) -> int | None:
    return int(value) if value is not None and value.isdigit() else None
