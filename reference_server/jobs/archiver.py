"""posts and celeb streams -> durable store, in batches; a batch and its positions are one transaction.

A crash anywhere is harmless: before the commit the batch is read again, after it the positions say so. Only the keys of
the last batch may then keep their bodies in redis-queue; `start` lets go of those. `positions` moves once that is
done: a batch that redis-queue could not let go of is read, archived (to the same effect) and let go of again.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable

from prometheus_client import Counter, Gauge, Histogram

from reference_server.durable import ArchiveBatch, PostRow
from reference_server.events import STREAM_CELEB, STREAM_POSTS, DeleteEvent, PostEvent
from reference_server.jobs.store import Store
from reference_server.jobs.tombstones import Tombstones
from reference_server.queue import START, Entry, StreamKeeper
from reference_server.timeline.entry import Status

STREAMS = (STREAM_POSTS, STREAM_CELEB)
BATCH = 500
_log = logging.getLogger(__name__)
_ARCHIVED = Counter("jobs_archived", "Events archived", ["kind"])
_COMMIT_SECONDS = Histogram("jobs_archive_commit_seconds", "Time of an archive transaction")
_LAG_SECONDS = Gauge("jobs_archive_lag_seconds", "Age of the newest event when it was archived")


class Archiver:
    """Moves accepted posts into the durable store."""

    def __init__(self, keeper: StreamKeeper, store: Store, tombstones: Tombstones, delay_s: float = 0.0) -> None:
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
            full |= len(entries[stream]) == BATCH
        batch = _batch_of(entry for found in entries.values() for entry in found)
        batch.positions = {stream: found[-1].id for stream, found in entries.items() if found}
        if not batch.positions:
            return False
        with _COMMIT_SECONDS.time():
            await self._store.archive(batch)
        self._tombstones.add(
            (entry.event.id, entry.event.author)
            for found in entries.values()
            for entry in found
            if isinstance(entry.event, DeleteEvent)
        )
        await self._let_go(batch)
        self.positions |= batch.positions
        _ARCHIVED.labels("post").inc(len(batch.posts))
        _ARCHIVED.labels("status").inc(len(batch.statuses))
        _LAG_SECONDS.set(time.time() - max(found[-1].accepted_ms for found in entries.values() if found) / 1000)
        return full

    def _due(self, entries: list[Entry]) -> list[Entry]:
        """The entries old enough to be archived (planted defect no-wal: the archive lags)."""
        if not self._delay_s:
            return entries
        latest_ms = (time.time() - self._delay_s) * 1000
        return [entry for entry in entries if entry.accepted_ms <= latest_ms]

    async def _let_go(self, batch: ArchiveBatch) -> None:
        await self._keeper.archived(
            (row.id for row in batch.posts),
            (post_id for post_id, _ in batch.statuses),
        )


def _batch_of(entries: Iterable[Entry]) -> ArchiveBatch:
    batch = ArchiveBatch()
    for entry in entries:
        event = entry.event
        if isinstance(event, PostEvent):
            batch.posts.append(PostRow(event.id, event.author, event.ts_us, event.text, event.reply_to))
        elif isinstance(event, DeleteEvent):
            batch.statuses.append((event.id, Status.DELETED))
        else:
            _log.error("entry %s is neither post nor delete: skipped", entry.id)
    return batch
