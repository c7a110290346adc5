"""How the api gets a timeline: memcached, else the lane's owner (which refills memcached), else the durable store.

    mg gen:{lane}, mg tl:{gen}:{user} (lease on a miss)  ->  hit
        |  miss, or no generation, or memcached away
    rebuild(user) at the lane's owner  ->  serve, and publish under the lease's CAS number
        |  silent for 30 ms, or away                  (a page below what is cached of a long timeline begins here)
    durable store  ->  serve, marked stale, not published
Each cache node has its own generation a lane, under its own gen:{lane}; a user's timeline and session mark are on the
node that rendezvous hashing gives. A node that is away leaves its users to the owner, nobody else notices.

A lease is taken before the owner reads its index, and the owner appends to whatever key may exist from then on, so the
CAS number decides: had anything been appended, or the key deleted, the publish fails and a new round begins with a new
lease and a new rebuild. A user without a session gets one: what is owed by cold followees is written first. That may be
in the middle of a walk, when its first pages came from another region.
With the flag fanout at pull or hybrid, that is asked of the owner at every first page.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from reference_server.flags import Flags
from reference_server.partition import lane_of, node_of
from reference_server.rpc import RpcClient, RpcError, RpcTimeout, RpcUnavailable
from reference_server.settings import Region, Settings
from reference_server.timeline.cached import (
    MAGIC,
    CachedTimeline,
    Slots,
    make_value,
    newest_part,
    read_value,
    session_key,
    timeline_key,
)
from reference_server.timeline.display import Key, TimelineView
from reference_server.timeline.entry import SLOT_BYTES
from reference_server.timeline.memcached import Memcached, MemcachedDown, Reply
from reference_server.timeline.read_measures import MATERIALISED, PUBLISHES, REBUILD_CALL
from reference_server.timeline.vouching import LaneNode, Vouching

OWNER_TIMEOUT_S = 0.03
SESSION_TIMEOUT_S = 0.25
CACHE_TIMEOUT_S = 0.2
PING_S = 0.25
"""with CACHE_TIMEOUT_S well below what an owner takes to give up a silent node (cache_writer.TIMEOUT_S and more)"""
HOT_TTL_S = 600
HOT_MARK_S = 660
LEASE_S = 5
LOSER_PAUSE_S = 0.002
"""first pause before who came too late for the lease looks again; each is twice as long as the one before"""
PUBLISH_ROUNDS = 4
TRIM_SLACK = 200
"""a cached value is cut back when it holds so many more slots than it should"""
TTL_S = 86_400
LIMP_FOR_S, LIMP_S = 12.0, 1.5
_OWNER_FAILED = (RpcUnavailable, RpcTimeout, RpcError)
DurablePull = Callable[[int, Key | None], Awaitable[Slots | None]]
"""(user, place) -> the user's newest slots behind the place, from the durable store; None: it is away. Never raises."""


class TimelineUnavailable(ConnectionError):
    """Neither the owner nor the durable store can tell what stands in a timeline."""


class _Place(NamedTuple):
    """Where a user's timeline is."""

    user: int
    lane: int
    node: int
    cache: Memcached


@dataclass(frozen=True)
class _Lease:
    """The right to publish under a key, as long as nothing changes it."""

    gen: int
    cas: bytes
    connection: int


class _Found(NamedTuple):
    """What a look at the cache brought.

    No timeline but a lease: the caller may publish. Neither: another reader holds the lease, or the cache cannot be
    used.
    """

    value: bytes | None
    lease: _Lease | None
    has_session: bool
    is_doubtful: bool = False
    """the lane's owner has not said yet whether what is cached counts"""

    @property
    def is_empty(self) -> bool:
        """Neither value nor lease."""
        return self.value is None and self.lease is None


@dataclass(frozen=True)
class _Rebuilt:
    gen: int
    timeline: CachedTimeline


class TimelineReader:
    """Reads timelines of one region. Safe for any number of tasks of one event loop."""

    def __init__(
        self,
        settings: Settings,
        region: Region,
        durable_pull: DurablePull,
        *,
        flags: Callable[[], Flags] = Flags,
        owner_timeout_s: float = OWNER_TIMEOUT_S,
    ) -> None:
        """`flags()`: the present ones."""
        self._lanes = settings.lanes
        self._forgetful = settings.has_defect("no-wal")
        self._limps = settings.has_defect("slow-recovery")
        self._limping: dict[int, tuple[int, float]] = {}
        self._durable_pull = durable_pull
        self._flags = flags
        self._owner_timeout_s = owner_timeout_s
        self._owners = [RpcClient(settings.socket(region.name, f"lane-{n}")) for n in range(settings.lanes)]
        self._caches = [Memcached(port, timeout_s=CACHE_TIMEOUT_S, ping_s=PING_S) for port in region.memcached_ports]
        self._gens: dict[tuple[int, int], int] = {}
        """(lane, node) -> key generation last seen"""
        self._vouching = Vouching(self._owners, owner_timeout_s)
        self._sessions: dict[int, float] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    async def wait_connected(self, limit_s: float) -> None:
        """Connect to all cache nodes, or give up waiting; connecting goes on in the background."""
        await asyncio.gather(*(cache.wait_connected(limit_s) for cache in self._caches))

    async def read(self, user: int, after: Key | None = None, *, lean: bool = False) -> TimelineView:
        """The user's timeline, for the page behind `after` (None: the first page).

        Says in `degraded` when a part did not answer; raises TimelineUnavailable when none did that could. `lean`: no
        session is opened, so that what cold followees owe may be missing ("reduced"); where feeds are pulled, that is
        the feed, and it is not left out.
        """
        flags = self._flags()
        if not flags.cache_first and (slots := await self._durable_pull(user, after)) is not None:
            return TimelineView(slots.tobytes(), "stale", "durable")
        degraded = ""
        place = self._place(user)
        if self._limps:
            await self._limp(place)
        goes_on = after is not None and self._opened_lately(user)  # most walks began here
        found = await self._look(place, not goes_on)
        has_session = goes_on or found.has_session or self._has_local_session(place)
        opens = not has_session or (after is None and flags.fanout != "push")
        if opens and lean and flags.fanout == "push":
            degraded = "reduced"
        elif opens:
            if await self._open_session(place):
                # also when this added nothing: another read may have had written what `found` lacks
                again = await self._look(place, False)
                # the second look of one reader must not lose what the first one leased
                found = again._replace(lease=again.lease or found.lease)
            else:
                degraded = "stale"
        if found.is_empty:
            found = await self._await_published(place)
        lease = found.lease
        if found.value is not None and (timeline := read_value(found.value)) is not None:
            if found.is_doubtful:
                degraded = "stale"  # a slow owner is not asked for what may well be right
            if after is not None and after[0] <= timeline.cut_us:
                return await self.deeper(user, after)
            if lease is not None and len(timeline.slots) > (flags.cached_entries + TRIM_SLACK) * SLOT_BYTES:
                self._spawn(self._store(place, lease, newest_part(timeline, flags.cached_entries)))
            return _view(timeline, degraded, "cache")
        return await self._miss(place, lease, degraded, after)

    async def deeper(self, user: int, after: Key | None) -> TimelineView:
        """All that the lane's owner has, or what the durable store has behind the place. Raises as `read` does."""
        return await self._miss(self._place(user), None, "", after)

    async def settle(self) -> None:
        """Return when all publishing under way has ended."""
        while self._tasks:
            await asyncio.wait(self._tasks)

    async def close(self) -> None:
        """Drop all connections."""
        for task in self._tasks:
            task.cancel()
        await self.settle()
        await self._vouching.close()
        for cache in self._caches:
            await cache.close()
        for owner in self._owners:
            owner.close()

    # --- cache

    def _place(self, user: int) -> _Place:
        node = node_of(user, len(self._caches))
        return _Place(user, lane_of(user, self._lanes), node, self._caches[node])

    async def _look(self, place: _Place, with_session: bool) -> _Found:
        user, cache = place.user, place.cache
        group = LaneNode(place.lane, place.node)
        session = b"mg %b\r\n" % session_key(user).encode() if with_session else b""
        try:
            gen = self._gens.get(group)
            guess = b"" if gen is None else _lookup(gen, user)
            replies = await cache.submit(b"mg gen:%d v\r\n%b%b" % (place.lane, session, guess))
            marked = with_session and replies[1].code == b"HD"
            current = _number(replies[0].value)
            if current is None:
                if gen is None:
                    return _Found(None, None, marked)
                self._vouching.doubt(group)  # flushed or evicted: nobody but the owner can tell
                current = gen
            self._gens[group] = current
            if current != gen:
                replies = await cache.submit(_lookup(current, user))
            value, lease = _taken(cache, current, replies[-1])
            stands: bool | None = True
            if value is not None and value.startswith(MAGIC):
                stands = await self._vouching.stands(group, cache.generation, current, user)
        except MemcachedDown:
            return _Found(None, None, False)
        return _Found(None if stands is False else value, lease, marked, stands is None)

    async def _await_published(self, place: _Place) -> _Found:
        """What is there once the holder of the lease has published, or as long as the owner may take for it."""
        found, pause_s = _Found(None, None, False), LOSER_PAUSE_S
        deadline = time.monotonic() + self._owner_timeout_s
        while found.is_empty and place.cache.connected and time.monotonic() < deadline:
            await asyncio.sleep(pause_s)
            found = await self._look(place, False)
            pause_s *= 2
        return found

    async def _limp(self, place: _Place) -> None:
        """The planted defect "slow-recovery": slow for a while once the node was connected to again."""
        connection, now_s = place.cache.generation, time.monotonic()
        known, until_s = self._limping.setdefault(place.node, (connection, 0.0))
        if connection != known:
            until_s = now_s + LIMP_FOR_S
            self._limping[place.node] = connection, until_s
        if now_s < until_s:
            await asyncio.sleep(LIMP_S)

    # --- session

    def _opened_lately(self, user: int) -> bool:
        """Whether this process opened the user's session."""
        return self._sessions.get(user, 0.0) > time.monotonic()

    def _has_local_session(self, place: _Place) -> bool:
        """Whether this process opened a session lately: what counts while the user's cache node is away."""
        return not place.cache.connected and self._opened_lately(place.user)

    async def _open_session(self, place: _Place) -> bool:
        """Have what is owed written, and a session opened; False: the owner, or the graph behind it, is silent."""
        owner = self._owners[place.lane]
        try:
            added = await owner.call("materialise", place.user, HOT_MARK_S, timeout_s=SESSION_TIMEOUT_S)
        except _OWNER_FAILED:
            return False
        MATERIALISED.inc(added)
        if len(self._sessions) > 200_000:
            self._sessions.clear()
        self._sessions[place.user] = time.monotonic() + HOT_TTL_S
        place.cache.set(session_key(place.user), b"1", HOT_TTL_S)
        return True

    # --- owner and durable store

    async def _miss(self, place: _Place, lease: _Lease | None, degraded: str, after: Key | None) -> TimelineView:
        call = asyncio.ensure_future(self._rebuild(place, 10 * self._owner_timeout_s))
        await asyncio.wait([call], timeout=self._owner_timeout_s)
        slots: Slots | None = None
        if not call.done() or call.exception() is not None:
            # the owner may still answer meanwhile: its answer is the better one
            slots = await self._durable_pull(place.user, after)
        if slots is None:
            await asyncio.wait([call])  # nobody else can tell: as long as it may take
        elif not call.done():
            if lease is not None:  # who else would fill the cache while the owner is slow
                self._spawn(self._publish_late(place, lease, call))
                return TimelineView(slots.tobytes(), "stale", "durable")
            call.cancel()
            await asyncio.wait([call])
        if not call.cancelled() and (error := call.exception()) is None:
            rebuilt = call.result()
            if lease is not None and lease.gen == rebuilt.gen:
                self._spawn(self._publish(place, lease, rebuilt))
            return _view(rebuilt.timeline, degraded, "owner")
        if self._forgetful and slots is not None and isinstance(None if call.cancelled() else error, RpcError):
            return self._believe(place, lease, slots)
        if slots is None:
            raise TimelineUnavailable(f"user {place.user}")
        return TimelineView(slots.tobytes(), "stale", "durable")

    async def _rebuild(self, place: _Place, limit_s: float) -> _Rebuilt:
        started = time.perf_counter()
        owner = self._owners[place.lane]
        gen, _, floor, upto, slots, horizon_us = await owner.call("rebuild", place.user, timeout_s=limit_s)
        REBUILD_CALL.observe(time.perf_counter() - started)
        return _Rebuilt(gen, CachedTimeline(floor, upto, slots, horizon_us))

    def _believe(self, place: _Place, lease: _Lease | None, slots: Slots) -> TimelineView:
        """The planted defect "no-wal": what the durable store has is taken for the whole timeline, and published."""
        slots = slots.copy()
        slots["seq"] = np.arange(len(slots), 0, -1)
        if lease is not None:
            self._spawn(self._store(place, lease, CachedTimeline(0, 0, slots.tobytes())))
        return TimelineView(slots.tobytes(), "", "owner")

    # --- publishing

    def _spawn(self, work: Coroutine[Any, Any, Any]) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _publish_late(self, place: _Place, lease: _Lease, call: asyncio.Future[_Rebuilt]) -> None:
        try:
            rebuilt = await call
        except _OWNER_FAILED:
            return
        if rebuilt.gen == lease.gen:
            await self._publish(place, lease, rebuilt)

    async def _publish(self, place: _Place, lease: _Lease, rebuilt: _Rebuilt) -> None:
        """Put a rebuilt timeline into the cache, in a few rounds if it changes meanwhile."""
        for _ in range(PUBLISH_ROUNDS):
            if await self._store(place, lease, newest_part(rebuilt.timeline, self._flags().cached_entries)):
                PUBLISHES.labels("stored").inc()
                return
            found = await self._look(place, False)
            if found.lease is None or (found.value is not None and read_value(found.value) is not None):
                PUBLISHES.labels("others").inc()
                return
            lease = found.lease
            try:
                rebuilt = await self._rebuild(place, SESSION_TIMEOUT_S)
            except _OWNER_FAILED:
                return
            if rebuilt.gen != lease.gen:
                return
        PUBLISHES.labels("given-up").inc()

    async def _store(self, place: _Place, lease: _Lease, timeline: CachedTimeline) -> bool:
        """Whether it was stored; False: the key changed since the lease."""
        if lease.connection != place.cache.generation:
            return False
        value = make_value(*timeline)
        command = b"ms %b %d C%b T%d\r\n" % (timeline_key(lease.gen, place.user).encode(), len(value), lease.cas, TTL_S)
        try:
            replies = await place.cache.submit(command + value + b"\r\n")
        except MemcachedDown:
            return False
        return replies[0].code == b"HD"


def _view(timeline: CachedTimeline, degraded: str, source: str) -> TimelineView:
    return TimelineView(timeline.slots, degraded, source, timeline.floor, timeline.horizon_us, timeline.cut_us)


def _taken(cache: Memcached, gen: int, reply: Reply) -> tuple[bytes | None, _Lease | None]:
    cas = reply.flag(b"c")
    if reply.value is None or cas is None:
        return None, None
    if reply.flag(b"Z") is not None and read_value(reply.value) is None:
        return None, None
    return reply.value, _Lease(gen, cas, cache.generation)


def _lookup(gen: int, user: int) -> bytes:
    return b"mg %b v c t N%d\r\n" % (timeline_key(gen, user).encode(), LEASE_S)


def _number(value: bytes | None) -> int | None:
    return int(value) if value is not None and value.isdigit() else None
