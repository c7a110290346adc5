"""The region's post queue as the api, the replicator and the jobs see it.

A returned `accept_post`, `accept_delete`, `append_graph` or `apply_replicated` is durable: redis-queue writes its log
before it replies (appendfsync always). Each is one script, so it happens as a whole or not at all.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from reference_server.events import (
    STREAM_CELEB,
    STREAM_GRAPH,
    STREAM_JOBS,
    STREAM_OUTBOX,
    STREAM_POSTS,
    DeleteEvent,
    Event,
    GraphEvent,
    ImportEvent,
    PostEvent,
    decode,
    encode,
)
from reference_server.queue.link import Link, Script
from reference_server.settings import Region, Settings

_HERE = Path(__file__).parent
_ACCEPT = Script(_HERE / "accept.lua")
_DELETE = Script(_HERE / "delete.lua")
_GRAPH = Script(_HERE / "graph.lua")
_REPLICATED = Script(_HERE / "replicated.lua")
IDEMPOTENCY_TTL_S = 24 * 3600
RECENT_KEPT = 200
RECENT_TTL_S = 24 * 3600
JOIN_MARK_TTL_S = 24 * 3600
LOSE_EVERY = 50
READ_TIMEOUT_S = 0.25
WRITE_TIMEOUT_S = 3.0
_STREAM_NUMBER = {STREAM_POSTS: 2, STREAM_CELEB: 3, STREAM_GRAPH: 4}


class Accepted(NamedTuple):
    """What the accept script answered."""

    id: bytes
    ts_us: int
    duplicate: bool
    """the Idempotency-Key was used before; id and time are those of the first post"""


class RecentPost(NamedTuple):
    """One of an author's newest posts."""

    ts_us: int
    id: bytes


@dataclass(frozen=True)
class Limits:
    """How many entries a stream may hold before writes are refused."""

    stream: int = 500_000
    outbox: int = 1_000_000


class Queue:
    """redis-queue of one region. Safe for any number of tasks of one event loop."""

    def __init__(self, port: int, limits: Limits | None = None, lose_every: int = 0) -> None:
        self.limits = limits or Limits()
        self.lose_every = lose_every
        self.link = Link(port, WRITE_TIMEOUT_S)
        self._read_link = Link(port, READ_TIMEOUT_S, fail_fast=True)

    @classmethod
    def of(cls, settings: Settings, region: Region) -> Queue:
        """The queue of a region of the stack, with the planted defect if it is switched on."""
        return cls(region.redis_queue_port, lose_every=LOSE_EVERY if settings.has_defect("lose-after-ack") else 0)

    async def accept_post(
        self,
        author: int,
        post_id: bytes,
        text: str,
        reply_to: bytes,
        idempotency_key: str | None,
        celeb: bool,
        now_us: int,
        origin: str,
    ) -> Accepted:
        """Store a post; its time is the later of `now_us` and the author's last post + 1 µs.

        Raises QueueUnavailable (see `definite`), Backpressure.
        """
        event = PostEvent(post_id, author, now_us, text, origin, reply_to, celeb)
        stream = STREAM_CELEB if celeb else STREAM_POSTS
        hexadecimal = post_id.hex()
        keys = [
            f"idem:{author}:{idempotency_key or ''}",
            f"author:{author}",
            f"recent:{author}",
            f"body:{hexadecimal}",
            stream,
            STREAM_OUTBOX,
        ]
        arguments = [
            encode(event),
            _timestamp_offset(author),
            now_us,
            hexadecimal,
            IDEMPOTENCY_TTL_S if idempotency_key else 0,
            self.limits.stream,
            self.limits.outbox,
            RECENT_KEPT,
            RECENT_TTL_S,
            self.lose_every,
        ]
        stored, ts_us, duplicate = await self.link.run(_ACCEPT, keys, arguments)
        return Accepted(bytes.fromhex(stored.decode()), int(ts_us), bool(duplicate))

    async def accept_delete(self, event: DeleteEvent, ts_us: int, celeb: bool) -> bool:
        """Take a post back; False: it was already deleted. Raises QueueUnavailable, Backpressure."""
        stream = STREAM_CELEB if celeb else STREAM_POSTS
        hexadecimal = event.id.hex()
        keys = [f"deleted:{hexadecimal}", f"body:{hexadecimal}", f"recent:{event.author}", stream, STREAM_OUTBOX]
        arguments = [encode(event), f"{ts_us}:{hexadecimal}", self.limits.stream, self.limits.outbox]
        return bool(await self.link.run(_DELETE, keys, arguments))

    async def append_graph(self, event: GraphEvent) -> str:
        """Append a change of the graph; returns its id in the graph stream.

        A "join" also queues the import of the user's follows, and is written once: the second time "" comes back.
        Raises QueueUnavailable, Backpressure.
        """
        job = encode(ImportEvent(event.user)) if event.verb == "join" else b""
        keys = [STREAM_GRAPH, STREAM_OUTBOX, STREAM_JOBS, f"join:{event.user}"]
        arguments = [encode(event), self.limits.stream, self.limits.outbox, job, JOIN_MARK_TTL_S]
        return str((await self.link.run(_GRAPH, keys, arguments)).decode())

    async def apply_replicated(self, origin: str, position: str, events: Sequence[Event]) -> bool:
        """Apply a peer's next events together with its outbox position; False: the position was already reached.

        Events must start right behind `high_water(origin)`; read it again after any error. Raises QueueUnavailable,
        Backpressure.
        """
        arguments: list[Any] = [position, self.limits.stream, JOIN_MARK_TTL_S]
        for event in events:
            arguments += _replicated_arguments(event)
        keys = [f"hwm:{origin}", STREAM_POSTS, STREAM_CELEB, STREAM_GRAPH, STREAM_JOBS]
        return bool(await self.link.run(_REPLICATED, keys, arguments))

    async def high_water(self, origin: str) -> str:
        """Outbox position of a peer up to which its events were applied here ("0-0": none). Raises QueueUnavailable."""
        value = await self.link.call("GET", f"hwm:{origin}")
        return "0-0" if value is None else str(value.decode())

    async def recent(self, author: int) -> list[RecentPost]:
        """The author's newest posts accepted here, newest first, at most 200. Raises QueueUnavailable."""
        found = []
        for member in await self._read_link.call("LRANGE", f"recent:{author}", 0, -1):
            ts_us, _, hexadecimal = member.partition(b":")
            found.append(RecentPost(int(ts_us), bytes.fromhex(hexadecimal.decode())))
        return found

    async def bodies(self, ids: Sequence[bytes]) -> dict[bytes, PostEvent | None]:
        """The posts among `ids` that are still here; None: it was deleted. Raises QueueUnavailable."""
        if not ids:
            return {}
        names = [post_id.hex() for post_id in ids]
        keys = [f"body:{name}" for name in names] + [f"deleted:{name}" for name in names]
        values = await self._read_link.call("MGET", *keys)
        found: dict[bytes, PostEvent | None] = {}
        for post_id, body, deleted in zip(ids, values, values[len(ids) :], strict=False):
            if deleted is not None:
                found[post_id] = None
            elif body is not None:
                event = decode(body)
                if isinstance(event, PostEvent):
                    found[post_id] = event
        return found

    async def ping(self) -> None:
        """Return when the server answers. Raises QueueUnavailable."""
        await self._read_link.call("PING")

    async def close(self) -> None:
        """Drop the connections."""
        await self.link.close()
        await self._read_link.close()


def _timestamp_offset(author: int) -> int:
    """Where the 8 bytes of the timestamp stand in an encoded PostEvent (array head, tag, id, author, 0xcf)."""
    return 1 + 5 + 18 + len(msgspec.msgpack.encode(author)) + 1


def _replicated_arguments(event: Event) -> Iterable[Any]:
    if isinstance(event, PostEvent):
        stream = STREAM_CELEB if event.celeb else STREAM_POSTS
        return ["p", _STREAM_NUMBER[stream], encode(event), event.id.hex()]
    if isinstance(event, DeleteEvent):
        return ["d", _STREAM_NUMBER[STREAM_POSTS], encode(event), event.id.hex()]
    if isinstance(event, GraphEvent):
        if event.verb == "join":
            job = b"%d|" % event.user + encode(ImportEvent(event.user))
            return ["j", _STREAM_NUMBER[STREAM_GRAPH], encode(event), job]
        return ["g", _STREAM_NUMBER[STREAM_GRAPH], encode(event), ""]
    return []
