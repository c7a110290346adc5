"""Posts by id: memcached, then redis-queue (posts not yet archived), then the durable store; misses refill memcached.

In memcached, key p:{post id hex}: the JSON of the post as it goes on the wire, or a tombstone "-{author}". Tombstones
are set, posts are only added: a reader that looked before a delete cannot bring the post back.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

import msgspec

from reference_server.api.body_cache import tombstone
from reference_server.api.post_ids import to_text
from reference_server.durable import DurableReader, DurableUnavailable, PostRow
from reference_server.events import PostEvent
from reference_server.queue import Queue, QueueUnavailable
from reference_server.timeline.entry import Status

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


class WirePost(msgspec.Struct):
    """A post as clients see it."""

    id: str
    author: str
    created_at_us: int
    text: str
    reply_to: str | None


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

    def __init__(self, cache: BodyCache, queue: Queue, durable: DurableReader) -> None:
        self._cache = cache
        self._queue = queue
        self._durable = durable
        self.found = {"cache": 0, "queue": 0, "durable": 0, "missing": 0}

    async def get(self, ids: Sequence[bytes]) -> Hydrated:
        """Look the ids up; never raises."""
        hydrated = Hydrated(await self._cache.get(ids))
        self.found["cache"] += len(hydrated.values)
        missing = [post_id for post_id in ids if post_id not in hydrated.values]
        if missing:
            await self._get_slow(missing, hydrated)
        return hydrated

    async def _get_slow(self, missing: list[bytes], hydrated: Hydrated) -> None:
        fresh: dict[bytes, bytes] = {}
        unknown_authors: set[bytes] = set()
        try:
            for post_id, event in (await self._queue.bodies(missing)).items():
                if event is None:
                    unknown_authors.add(post_id)
                else:
                    fresh[post_id] = render(event)
        except QueueUnavailable:
            hydrated.degraded = True
        self.found["queue"] += len(fresh)
        rest = [post_id for post_id in missing if post_id not in fresh]
        if rest:
            try:
                rows = await self._durable.posts(rest)
            except DurableUnavailable:
                rows = {}
                hydrated.degraded = True
            self.found["durable"] += len(rows)
            for post_id, row in rows.items():
                fresh[post_id] = tombstone(row.author) if post_id in unknown_authors else render_row(row)
            for post_id in unknown_authors:
                fresh.setdefault(post_id, tombstone(-1))
        self.found["missing"] += len(missing) - len(fresh)
        hydrated.values.update(fresh)
        self._cache.add(fresh)

    async def known(self, post_id: bytes) -> Known | None:
        """What is known about one post; None: there is none. Raises QueueUnavailable when that cannot be told."""
        hydrated = await self.get([post_id])
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
        self._cache.add({post_id: value})

    async def deleted(self, post_id: bytes, author: int) -> None:
        """A post was deleted here. (The archiver sets the tombstone too, until it holds.)"""
        await self._cache.bury(post_id, author)


def render(event: PostEvent) -> bytes:
    """The JSON of a post."""
    return _render(event.id, event.author, event.ts_us, event.text, event.reply_to)


def render_row(row: PostRow) -> bytes:
    """The JSON of an archived post, or its tombstone."""
    if row.status != Status.VISIBLE:
        return tombstone(row.author)
    return _render(row.id, row.author, row.ts_us, row.text, row.reply_to)


def _render(post_id: bytes, author: int, ts_us: int, text: str, reply_to: bytes) -> bytes:
    parent = to_text(reply_to) if reply_to else None
    return msgspec.json.encode(WirePost(to_text(post_id), str(author), ts_us, text, parent))
