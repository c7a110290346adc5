"""The region's post queue as the api, the replicator and the jobs see it.

A write that returned (`accept_post`, `accept_delete`, `set_status`, `append_graph`, `apply_replicated`) is durable:
redis-queue writes its log before it replies (appendfsync always). Each is one script: it happens as a whole or not
at all.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from reference_server.events import (
    FIELD,
    STREAM_CELEB,
    STREAM_GRAPH,
    STREAM_JOBS,
    STREAM_OUTBOX,
    STREAM_POSTS,
    DeleteEvent,
    Event,
    FlagEvent,
    GraphEvent,
    ImportEvent,
    PostEvent,
    StatusEvent,
    decode,
    encode,
)
from reference_server.queue.clocks import (
    CLOCK_DIGITS,
    GRAPH_CLOCK,
    REGION_BITS,
    clock_offset,
    clock_text,
    encode_clocked,
)
from reference_server.queue.link import Link, Script
from reference_server.queue.post_status import Gone, Standing, StatusAnswer, read_status
from reference_server.settings import Every, Region, Settings
from reference_server.timeline.entry import Status

_HERE = Path(__file__).parent
_ACCEPT = Script(_HERE / "accept.lua")
_DELETE = Script(_HERE / "delete.lua")
_GRAPH = Script(_HERE / "graph.lua")
_STATUS = Script(_HERE / "status.lua")
_REPLICATED = Script(_HERE / "replicated.lua")
_FLAGS = Script(_HERE / "flags.lua")
IDEMPOTENCY_TTL_S = 24 * 3600
IMPORTS_AT_ONCE = 500
RECENT_KEPT = 200
RECENT_TTL_S = 24 * 3600
JOIN_MARK_TTL_S = 24 * 3600
LOSE_EVERY = 50
OVERTAKE_EVERY, OVERTAKEN_US = 5, 20_000_000
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
        self.forgets_keys = False
        """the planted defect "key-forgotten" """
        self.overtakes = Every()
        """the planted defect "author-overtaken" """
        self.link = Link(port, WRITE_TIMEOUT_S)
        self._read_link = Link(port, READ_TIMEOUT_S, fail_fast=True)

    @classmethod
    def of(cls, settings: Settings, region: Region) -> Queue:
        """The queue of a region of the stack, with the planted defects that are switched on."""
        queue = cls(region.redis_queue_port, lose_every=LOSE_EVERY if settings.has_defect("lose-after-ack") else 0)
        queue.forgets_keys = settings.has_defect("key-forgotten")
        queue.overtakes = settings.every(OVERTAKE_EVERY, "author-overtaken")
        return queue

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
        labels: int = 0,
    ) -> Accepted:
        """Store a post; its time is the later of `now_us` and the author's last post + 1 µs.

        Raises QueueUnavailable (see `definite`), Backpressure.
        """
        stream = STREAM_CELEB if celeb else STREAM_POSTS
        hexadecimal, clock = post_id.hex(), f"author:{author}"
        if self.overtakes():
            now_us, clock = now_us - OVERTAKEN_US, f"author:{hexadecimal}"
        event = PostEvent(post_id, author, now_us, text, origin, reply_to, celeb, labels)
        keys = [
            f"idem:{author}:{idempotency_key or ''}",
            clock,
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
            IDEMPOTENCY_TTL_S if idempotency_key and not self.forgets_keys else 0,
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

    async def set_status(self, event: StatusEvent, celeb: bool, *, by_author: bool) -> StatusAnswer:
        """Hide, moderate or show a post; its author may not change a moderation.

        Raises QueueUnavailable, Backpressure.
        """
        stream = STREAM_CELEB if celeb else STREAM_POSTS
        hexadecimal = event.id.hex()
        keys = [f"status:{hexadecimal}", f"deleted:{hexadecimal}", stream, STREAM_OUTBOX]
        fixed = int(Status.MODERATED) if by_author else ""
        limits = [self.limits.stream, self.limits.outbox]
        arguments = [encode(event), clock_text(event.hlc), int(event.status), *limits, fixed]
        outcome, known = await self.link.run(_STATUS, keys, arguments)
        return StatusAnswer(outcome.decode(), int(known) if outcome == b"late" else 0)

    async def append_graph(self, event: GraphEvent) -> str:
        """Append a change of the graph; returns its id in the graph stream.

        A "join" also queues the import of the user's follows, and is written once: the second time "" comes back.
        The event's clock is raised above all that this region knows of: the later of two changes wins, whatever the
        wall clocks of other regions say. Raises QueueUnavailable, Backpressure.
        """
        job = encode(ImportEvent(event.user)) if event.verb == "join" else b""
        keys = [STREAM_GRAPH, STREAM_OUTBOX, STREAM_JOBS, f"join:{event.user}", GRAPH_CLOCK]
        limits = [self.limits.stream, self.limits.outbox, job, JOIN_MARK_TTL_S]
        encoded, time_us = encode_clocked(event), event.hlc >> REGION_BITS
        stream_id, given_us = await self.link.run(_GRAPH, keys, [encoded, *limits, clock_offset(event), time_us])
        event.hlc += int(given_us) - time_us << REGION_BITS
        return str(stream_id.decode())

    async def append_imports(self, users: Sequence[int]) -> None:
        """Have the follows of these users imported (again). Raises QueueUnavailable."""
        for start in range(0, len(users), IMPORTS_AT_ONCE):
            some = users[start : start + IMPORTS_AT_ONCE]
            calls = [self.link.call("XADD", STREAM_JOBS, "*", FIELD, encode(ImportEvent(user))) for user in some]
            await asyncio.gather(*calls)

    async def last_graph_id(self) -> str:
        """Id of the newest change of the graph ("0-0": there is none). Raises QueueUnavailable."""
        rows = await self.link.call("XREVRANGE", STREAM_GRAPH, "+", "-", "COUNT", 1)
        return str(rows[0][0].decode()) if rows else "0-0"

    async def set_flag(self, event: FlagEvent, *, replicate: bool = True) -> bool:
        """Set a flag in this region; False: a later setting is known. Raises QueueUnavailable."""
        encoded = encode(event) if replicate else b""
        arguments = [event.name, clock_text(event.hlc), event.value, encoded]
        return bool(await self.link.run(_FLAGS, ["flags", "flags:version", STREAM_OUTBOX], arguments))

    async def flag_clock(self, name: str) -> int:
        """Clock of a flag's last setting known here; 0: it was never set. Raises QueueUnavailable."""
        value = await self._read_link.call("HGET", "flags", name)
        return 0 if value is None else int(value[:CLOCK_DIGITS])

    async def apply_replicated(self, origin: str, position: str, events: Sequence[Event]) -> bool:
        """Apply a peer's next events together with its outbox position; False: the position was already reached.

        Events must start right behind `high_water(origin)`; read it again after any error. Raises QueueUnavailable,
        Backpressure.
        """
        arguments: list[Any] = [position, self.limits.stream, JOIN_MARK_TTL_S]
        for event in events:
            arguments += _replicated_arguments(event)
        keys = [f"hwm:{origin}", STREAM_POSTS, STREAM_CELEB, STREAM_GRAPH, STREAM_JOBS, GRAPH_CLOCK]
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

    async def bodies(self, ids: Sequence[bytes]) -> dict[bytes, PostEvent | Gone]:
        """The posts among `ids` that are still here, and those known to be deleted or hidden.

        Raises QueueUnavailable.
        """
        found: dict[bytes, PostEvent | Gone] = {}
        for post_id, (event, status, _, _) in zip(ids, await self.standings(ids), strict=True):
            if status is not None and status is not Status.VISIBLE:
                found[post_id] = Gone(-1 if event is None else event.author, status)
            elif event is not None:
                found[post_id] = event
        return found

    async def standings(self, ids: Sequence[bytes]) -> list[Standing]:
        """All that is known here about each of the posts. Raises QueueUnavailable."""
        if not ids:
            return []
        keys = [f"{kind}:{post_id.hex()}" for kind in ("body", "deleted", "status") for post_id in ids]
        values = await self._read_link.call("MGET", *keys)
        count = len(ids)
        return [_standing(*values[place::count]) for place in range(count)]

    async def ping(self) -> None:
        """Return when the server answers. Raises QueueUnavailable."""
        await self._read_link.call("PING")

    async def close(self) -> None:
        """Drop the connections."""
        await self.link.close()
        await self._read_link.close()


def _standing(body: bytes | None, deleted: bytes | None, status: bytes | None) -> Standing:
    event = None if body is None else decode(body)
    post = event if isinstance(event, PostEvent) else None
    if deleted is not None:
        return Standing(post, Status.DELETED)
    if status is None:
        return Standing(post)
    hlc, known, hidden = read_status(status)
    return Standing(post, known, hlc, hidden)


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
            job = b"%d|%d|%b" % (event.hlc >> REGION_BITS, event.user, encode(ImportEvent(event.user)))
            return ["j", _STREAM_NUMBER[STREAM_GRAPH], encode(event), job]
        return ["g", _STREAM_NUMBER[STREAM_GRAPH], encode(event), event.hlc >> REGION_BITS]
    if isinstance(event, StatusEvent):
        detail = f"{clock_text(event.hlc)}:{int(event.status)}:{event.id.hex()}"
        return ["s", _STREAM_NUMBER[STREAM_POSTS], encode(event), detail]
    if isinstance(event, FlagEvent):
        return ["f", 0, event.value, clock_text(event.hlc) + event.name]
    return []
