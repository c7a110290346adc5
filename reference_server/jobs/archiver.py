"""posts and celeb streams -> durable store, in batches; a batch and its positions are one transaction.

A crash anywhere is harmless: before the commit the batch is read again, after it the positions say so. Only the keys of
the last batch may then keep their bodies in redis-queue; `start` lets go of those. `positions` moves once that is
done: a batch that redis-queue could not let go of is read, archived (to the same effect) and let go of again.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable
from dataclasses import replace

from prometheus_client import Counter, Histogram

from reference_server.durable import ArchiveBatch, PostRow, StatusRow
from reference_server.events import STREAM_CELEB, STREAM_POSTS, DeleteEvent, PostEvent, StatusEvent
from reference_server.jobs.store import Store
from reference_server.jobs.tombstones import Tombstones
from reference_server.queue import START, Entry, StreamKeeper
from reference_server.queue.dead_letters import post_in
from reference_server.timeline.entry import Status

STREAMS = (STREAM_POSTS, STREAM_CELEB)
BATCH = 500
PART = "archiver"
"""how dead letters name it"""
_log = logging.getLogger(__name__)
_ARCHIVED = Counter("jobs_archived", "Events archived", ["kind"])
_COMMIT_SECONDS = Histogram("jobs_archive_commit_seconds", "Time of an archive transaction")


class Archiver:
    """Moves accepted posts into the durable store."""

    def __init__(
        self,
        keeper: StreamKeeper,
        store: Store,
        tombstones: Tombstones,
        delay_s: float = 0.0,
        loses: Callable[[], bool] = lambda: False,
    ) -> None:
        """`delay_s` and `loses` are planted defects: an archive that lags, one that lacks posts."""
        self._loses = loses
        self._keeper = keeper
        self._store = store
        self._tombstones = tombstones
        self._delay_s = delay_s
        self.positions = dict.fromkeys(STREAMS, START)
        """up to where posts are archived and their keys let go of: the streams may be trimmed below"""

    async def start(self) -> None:
        """Take up where the last process stood. Raises QueueUnavailable."""
        stored = await self._store.positions()
        for stream in STREAMS:
            if stream in stored:
                last = await self._keeper.last(stream, stored[stream], BATCH)
                await self._let_go(_batch_of(last))
            self.positions[stream] = stored.get(stream, START)

    async def step(self) -> bool:
        """Archive one batch; True when more is waiting. Raises QueueUnavailable, sqlite3.Error."""
        entries: dict[str, list[Entry]] = {}
        full = False
        for stream in STREAMS:
            found = await self._keeper.entries(stream, self.positions[stream], BATCH)
            entries[stream] = self._due(found)
            await self._bury(stream, entries[stream])
            full |= len(entries[stream]) == BATCH
        batch = _batch_of(entry for found in entries.values() for entry in found)
        batch.positions = {stream: found[-1].id for stream, found in entries.items() if found}
        if not batch.positions:
            return False
        with _COMMIT_SECONDS.time():
            lost = [row for row in batch.posts if self._loses()]
            kept = replace(batch, posts=[row for row in batch.posts if row not in lost]) if lost else batch
            await self._store.archive(kept)
        await self._settle(batch)
        await self._let_go(batch)
        if lost:
            await self._keeper.archived((row.id for row in lost), (), keep_s=0)
        self.positions |= batch.positions
        _ARCHIVED.labels("post").inc(len(batch.posts))
        _ARCHIVED.labels("status").inc(len(batch.statuses))
        return full

    async def _settle(self, batch: ArchiveBatch) -> None:
        """Have memcached show what the store says now about posts whose status was changed."""
        ids = list(dict.fromkeys(row.id for row in batch.statuses))
        held = await self._store.statuses(ids)
        self._tombstones.add((i, s.author) for i, s in held.items() if s.status != Status.VISIBLE)
        self._tombstones.lift(i for i, s in held.items() if s.status == Status.VISIBLE)

    async def _bury(self, stream: str, entries: list[Entry]) -> None:
        """Put aside what cannot be archived; the rest goes on without it."""
        for entry in entries:
            if entry.event is None:
                _log.error("entry %s of %s is put aside: %s", entry.id, stream, entry.error, extra=post_in(entry.data))
                await self._keeper.bury(stream, entry, entry.error, PART)

    def _due(self, entries: list[Entry]) -> list[Entry]:
        """The entries old enough to be archived (planted defect no-wal: the archive lags)."""
        if not self._delay_s:
            return entries
        latest_ms = (time.time() - self._delay_s) * 1000
        return [entry for entry in entries if entry.accepted_ms <= latest_ms]

    async def _let_go(self, batch: ArchiveBatch) -> None:
        await self._keeper.archived(
            (row.id for row in batch.posts),
            (row.id for row in batch.statuses if row.status == Status.DELETED),
            (row.id for row in batch.statuses if row.status != Status.DELETED),
        )


def _batch_of(entries: Iterable[Entry]) -> ArchiveBatch:
    batch = ArchiveBatch()
    for entry in entries:
        event = entry.event
        if isinstance(event, PostEvent):
            row = PostRow(event.id, event.author, event.ts_us, event.text, event.reply_to, labels=event.labels)
            batch.posts.append(row)
        elif isinstance(event, DeleteEvent):
            batch.statuses.append(StatusRow(event.id, Status.DELETED))
        elif isinstance(event, StatusEvent):
            batch.statuses.append(StatusRow(event.id, event.status, event.hlc))
    return batch
