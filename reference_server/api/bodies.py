"""Posts by id: this process's memory, memcached, redis-queue (posts not yet archived), the durable store.

In memcached, key p:{post id hex}: the JSON of the post as it goes on the wire, or a tombstone "-{author}". Tombstones
are set by who takes a post away, posts are only added: a reader that looked before a delete or hide cannot bring the
post back. Readers store tombstones of deleted posts only: a hidden one may show again, and a reader that looked before
that must not hide it.

A memcached that was paused comes back with what it had. What it could not be told here, it is not believed about until
it says the same as those who decide.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

import msgspec

from reference_server.api.body_cache import tombstone
from reference_server.api.body_memory import BodyMemory
from reference_server.api.post_ids import to_text
from reference_server.durable import DurableReader, DurableUnavailable, PostRow
from reference_server.events import Label, PostEvent
from reference_server.queue import Gone, Queue, QueueUnavailable
from reference_server.timeline.entry import Status

RENEW_S = 0.45
"""a little less than a period of memory"""
RENEW_COUNT = 500
UNTOLD_KEPT = 50_000
TOMBSTONE = 0x2D
"""first byte of a tombstone ("-"); a post begins with "{" """


class BodyCache(Protocol):
    """What is asked of memcached. Never raises: an unreachable node is a miss, or a write that did not happen."""

    async def get(self, ids: Sequence[bytes]) -> dict[bytes, bytes]:
        """The values present."""

    def add(self, values: Mapping[bytes, bytes]) -> None:
        """Store where absent; does not wait."""

    async def bury(self, post_id: bytes, author: int) -> bool:
        """Replace a post by its tombstone; False when that is not certain."""

    async def lift(self, post_id: bytes) -> bool:
        """Forget what is stored; False when that is not certain."""


class WirePost(msgspec.Struct):
    """A post as clients see it."""

    id: str
    author: str
    created_at_us: int
    text: str
    reply_to: str | None
    labels: list[str] | msgspec.UnsetType = msgspec.UNSET


class Known(NamedTuple):
    """What a write needs to know about a post."""

    author: int
    ts_us: int
    deleted: bool


@dataclass
class Hydrated:
    """Values by id: JSON of a post, or a tombstone. Ids that are nowhere are absent."""

    values: dict[bytes, bytes] = field(default_factory=dict)
    degraded: bool = False
    """a place could not be asked: absent does not mean unknown"""

    def visible(self, post_id: bytes) -> bytes | None:
        """The JSON to show; None: deleted, hidden or unknown."""
        value = self.values.get(post_id)
        return value if value is not None and value[0] != TOMBSTONE else None


class Bodies:
    """The chain of places a post may be in."""

    def __init__(
        self, cache: BodyCache, queue: Queue, durable: DurableReader, revived: frozenset[Status] = frozenset()
    ) -> None:
        """`revived`: what planted defects forget of posts that memcached does not have."""
        self._cache = cache
        self._revived = revived
        self._queue = queue
        self._durable = durable
        self.memory = BodyMemory()
        self._untold: dict[bytes, bytes] = {}
        """posts whose last change here memcached may not have, and what it says of them (b"": nothing yet)"""
        self._renewing: asyncio.Task[None] | None = None
        self.found = {"memory": 0, "cache": 0, "queue": 0, "durable": 0, "missing": 0}

    def at_hand(self, ids: Sequence[bytes]) -> list[bytes] | None:
        """The values of all these posts, in order, when nobody need be asked."""
        if self._renewing is None:
            self._renewing = asyncio.ensure_future(self._renew())
        values = self.memory.take(ids, time.monotonic())
        if not all(values):  # no value is empty
            return None
        self.found["memory"] += len(ids)
        return values  # type: ignore[return-value]

    async def get(self, ids: Sequence[bytes], sure: Collection[bytes] = ()) -> Hydrated:
        """Look the ids up; never raises. `sure`: those that memory is not believed about."""
        if self._renewing is None:
            self._renewing = asyncio.ensure_future(self._renew())
        memory, now_s = self.memory, time.monotonic()
        known = zip(ids, memory.take(ids, now_s), strict=True)
        hydrated = Hydrated({post_id: value for post_id, value in known if value is not None and post_id not in sure})
        rest = [post_id for post_id in ids if post_id not in hydrated.values]
        self.found["memory"] += len(ids) - len(rest)
        if rest:
            changes = memory.changes
            fresh = await self._cached(rest)
            missing = [post_id for post_id in rest if post_id not in fresh]
            if missing:
                fresh |= await self._get_slow(missing, hydrated)
                self._believe(fresh)
            if changes == memory.changes:  # else what was read may be from before the change
                memory.keep(fresh, now_s)
            hydrated.values |= fresh
        return hydrated

    async def _renew(self) -> None:
        """Turn memory's generations while it is used, and read again what is in use, many posts at once."""
        memory = self.memory
        try:
            while True:
                await asyncio.sleep(RENEW_S)
                memory.turn(time.monotonic())
                ids = memory.aging()
                if not ids:
                    return
                for start in range(0, len(ids), RENEW_COUNT):
                    now_s, changes = time.monotonic(), memory.changes
                    found = await self._cached(ids[start : start + RENEW_COUNT])
                    if changes == memory.changes:
                        memory.keep(found, now_s)
        finally:
            self._renewing = None

    async def close(self) -> None:
        """End what goes on in the background."""
        if self._renewing is not None:
            self._renewing.cancel()
            await asyncio.wait([self._renewing])

    async def _cached(self, ids: Sequence[bytes]) -> dict[bytes, bytes]:
        """What memcached has of these, as far as it is believed."""
        found = await self._cache.get(ids)
        for post_id in found.keys() & self._untold.keys():
            self._untold[post_id] = found.pop(post_id)
        self.found["cache"] += len(found)
        return found

    def _believe(self, fresh: Mapping[bytes, bytes]) -> None:
        """Memcached is believed again about posts that it says the same of."""
        for post_id in fresh.keys() & self._untold.keys():
            cached = self._untold[post_id]
            if cached and (cached[0] == TOMBSTONE) == (fresh[post_id][0] == TOMBSTONE):
                del self._untold[post_id]

    def _note(self, post_id: bytes, is_told: bool) -> None:
        """A post was changed here; whether memcached has that for certain."""
        self._untold.pop(post_id, None)
        if not is_told:
            self._untold[post_id] = b""
            if len(self._untold) > UNTOLD_KEPT:
                del self._untold[next(iter(self._untold))]

    async def _get_slow(self, missing: list[bytes], hydrated: Hydrated) -> dict[bytes, bytes]:
        fresh: dict[bytes, bytes] = {}
        gone: dict[bytes, Gone] = {}
        try:
            for post_id, event in (await self._queue.bodies(missing)).items():
                if isinstance(event, Gone):
                    if event.status not in self._revived:
                        gone[post_id] = event
                else:
                    fresh[post_id] = render(event)
        except QueueUnavailable:
            hydrated.degraded = True
        self.found["queue"] += len(fresh)
        hidden = {post_id for post_id, found in gone.items() if found.status is not Status.DELETED}
        rest = [post_id for post_id in missing if post_id not in fresh]
        if rest:
            try:
                rows = await self._durable.posts(rest)
            except DurableUnavailable:
                rows = {}
                hydrated.degraded = True
            self.found["durable"] += len(rows)
            for post_id, row in rows.items():
                if row.status in self._revived:
                    row = row._replace(status=Status.VISIBLE)
                fresh[post_id] = tombstone(row.author) if post_id in gone else render_row(row)
                if row.status in (Status.HIDDEN_BY_AUTHOR, Status.MODERATED):
                    hidden.add(post_id)
            for post_id, found in gone.items():
                fresh.setdefault(post_id, tombstone(found.author))
            hydrated.degraded |= self._durable.is_lacking and not fresh.keys() >= set(rest)
        self.found["missing"] += len(missing) - len(fresh)
        self._cache.add({post_id: value for post_id, value in fresh.items() if post_id not in hidden})
        return fresh

    async def known(self, post_id: bytes) -> Known | None:
        """What is known about one post; None: there is none. Raises QueueUnavailable when that cannot be told."""
        hydrated = await self.get([post_id], sure=(post_id,))
        value = hydrated.values.get(post_id)
        if value is None:
            if hydrated.degraded:
                raise QueueUnavailable("cannot look the post up", definite=True)
            return None
        if value[0] == TOMBSTONE:
            return Known(int(value[1:]), 0, True)
        post = msgspec.json.decode(value, type=WirePost)
        return Known(int(post.author), post.created_at_us, False)

    def accepted(self, post_id: bytes, value: bytes) -> None:
        """A post was accepted here: have it at hand for the reads that follow."""
        self.memory.keep({post_id: value}, time.monotonic())
        self._cache.add({post_id: value})

    async def hidden(self, post_id: bytes, author: int) -> None:
        """A post was hidden here. (The archiver sets the tombstone too, until it holds.)"""
        self.memory.change(post_id, tombstone(author))
        self._note(post_id, await self._cache.bury(post_id, author))

    async def shown(self, post_id: bytes) -> None:
        """A post may show again from here on. (The archiver lifts the tombstone too, until that holds.)"""
        self._note(post_id, await self._cache.lift(post_id))
        self.memory.forget([post_id])

    async def deleted(self, post_id: bytes, author: int) -> None:
        """A post was deleted here. (The archiver sets the tombstone too, until it holds.)"""
        self.memory.bury(post_id, tombstone(author))
        self._note(post_id, await self._cache.bury(post_id, author))


def render(event: PostEvent) -> bytes:
    """The JSON of a post."""
    return _render(event.id, event.author, event.ts_us, event.text, event.reply_to, event.labels)


def render_row(row: PostRow) -> bytes:
    """The JSON of an archived post, or its tombstone."""
    if row.status != Status.VISIBLE:
        return tombstone(row.author)
    return _render(row.id, row.author, row.ts_us, row.text, row.reply_to, row.labels)


def _render(post_id: bytes, author: int, ts_us: int, text: str, reply_to: bytes, labels: int) -> bytes:
    parent = to_text(reply_to) if reply_to else None
    names = label_names(labels) if labels else msgspec.UNSET
    return msgspec.json.encode(WirePost(to_text(post_id), str(author), ts_us, text, parent, names))


def label_names(labels: int) -> list[str]:
    """Labels as on the wire: "adult", "sensitive"."""
    return [str(label.name).lower() for label in Label if label & labels]
