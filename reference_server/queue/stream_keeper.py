"""redis-queue as the jobs process sees it: entries behind a position, trimming, keys that are no longer needed."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

from reference_server.events import FIELD, Event
from reference_server.queue.dead_letters import DEAD_KEPT, DeadLetter, Unusable, read_event
from reference_server.queue.link import Link, Script

START = "0-0"
"""position before the first entry of a stream"""
KEEP_ARCHIVED_S = 10
"""body: keys, for readers that looked into the durable store too early"""
KEEP_DELETED_S = 24 * 3600
"""deleted: and status: keys, for posts that arrive after their delete or hide: from a peer that was cut off"""
TIMEOUT_S = 5.0
_ARCHIVED = Script(Path(__file__).parent / "archived.lua")


class Entry(NamedTuple):
    """One entry of a stream; `event` is None when it cannot be used, and `error` tells why."""

    id: str
    event: Event | None
    data: bytes = b""
    error: str = ""

    @property
    def accepted_ms(self) -> int:
        """When redis-queue appended it (Unix milliseconds)."""
        return int(self.id.partition("-")[0])


def position_key(position: str) -> tuple[int, int]:
    """A stream id as something that compares."""
    ms, _, seq = position.partition("-")
    return int(ms), int(seq or 0)


class StreamKeeper:
    """Reads and trims the streams of one region. Every call raises QueueUnavailable."""

    def __init__(self, port: int) -> None:
        self._link = Link(port, TIMEOUT_S)
        self._buried: dict[tuple[str, str], None] = {}
        """(stream, id) of the newest entries put aside"""

    async def entries(self, stream: str, after: str, count: int) -> list[Entry]:
        """Up to `count` entries behind the id `after`, oldest first."""
        return _entries(stream, await self._link.call("XRANGE", stream, f"({after}", "+", "COUNT", count))

    async def last(self, stream: str, up_to: str = "+", count: int = 1) -> list[Entry]:
        """The newest `count` entries not behind `up_to`, newest first."""
        return _entries(stream, await self._link.call("XREVRANGE", stream, up_to, "-", "COUNT", count))

    async def bury(self, stream: str, entry: Entry, error: str, part: str) -> None:
        """Put an entry aside that cannot be used; once, however often it is read."""
        if (stream, entry.id) not in self._buried:
            await self._link.call(*DeadLetter(stream, entry.id, entry.data, error).command(part))
            self._buried[stream, entry.id] = None
            if len(self._buried) > DEAD_KEPT:
                del self._buried[next(iter(self._buried))]

    async def trim_below(self, stream: str, position: str) -> None:
        """Drop entries older than `position`."""
        await self._link.call("XTRIM", stream, "MINID", "~", position)

    async def trim_to(self, stream: str, length: int) -> None:
        """Drop the oldest entries of a stream that is longer than about `length`."""
        await self._link.call("XTRIM", stream, "MAXLEN", "~", length)

    async def archived(
        self,
        posts: Iterable[bytes],
        deleted: Iterable[bytes],
        changed: Iterable[bytes] = (),
        keep_s: int = KEEP_ARCHIVED_S,
    ) -> None:
        """These posts, deletes and changes of status are in the durable store: let go of their keys after a while.

        `keep_s`: how long the posts are kept.
        """
        arguments: list[int | str] = []
        for post_id in posts:
            arguments += [keep_s, f"body:{post_id.hex()}"]
        for post_id in deleted:
            arguments += [KEEP_DELETED_S, f"deleted:{post_id.hex()}"]
        for post_id in changed:
            arguments += [KEEP_DELETED_S, f"status:{post_id.hex()}"]
        if arguments:
            await self._link.run(_ARCHIVED, [], arguments)

    async def close(self) -> None:
        """Drop the connection."""
        await self._link.close()


def _entries(stream: str, rows: list[Any]) -> list[Entry]:
    return [_entry(stream, entry_id.decode(), fields) for entry_id, fields in rows]


def _entry(stream: str, entry_id: str, fields: list[bytes]) -> Entry:
    data = dict(zip(fields[::2], fields[1::2], strict=True)).get(FIELD.encode())
    try:
        return Entry(entry_id, read_event(stream, data), data or b"")
    except Unusable as error:
        return Entry(entry_id, None, data or b"", str(error))
