"""Making a lost log again: the archive's posts over the present graph, then the queue from the archive's position.

    restoring 1   the log is new: the history (see `history`), then all that the archive has of the retention
    restoring 2   the log is older than the queue begins: only posts that the log does not know
Whoever follows an author now gets the author's posts, hot and cold alike, so nothing of it is owed to anybody, and all
count as active for as long as an earlier session may be known to readers. What the archive does not have yet is in the
queue, which is trimmed below the archive's position only. A replay that is cut off goes on where it stood. Until it is
done nobody is served: reads get what the durable store has, marked stale.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

from reference_server.durable.archive_pages import is_lacking
from reference_server.durable.protocol import DurableUnavailable
from reference_server.durable.replay import ArchivedPost, DurableDamaged, DurableReplay
from reference_server.durable.sqlite_replay import SqliteReplay, first_id
from reference_server.fanout.lane_feed import parse_position
from reference_server.fanout.whole_lists import WholeLists
from reference_server.queue.errors import Backpressure, QueueUnavailable
from reference_server.queue.link import Link
from reference_server.timeline.entry import Status, make_seq, pack_entry
from reference_server.timeline.index import StatusMark, Users
from reference_server.timeline.measures import RESTORE_SECONDS, RESTORED_POSTS
from reference_server.timeline.owner import LaneOwner
from reference_server.timeline.reader import HOT_MARK_S
from reference_server.timeline.takeover import STREAMS
from reference_server.timeline.wal import Kind, LogBatch

_log = logging.getLogger(__name__)
NOTHING, EVERYTHING, GAP = 0, 1, 2
"""what of a log is missing: its number "restoring" """
BATCH = 1000
SLICE_FOLLOWERS = 4000
RECORD_FOLLOWERS = 10_000
PATIENCE_S = 10.0
"""how long an archive that is locked is waited for"""
_RETRY_S = 0.2
_PLACE = "archive"
"""the replay's place, kept like the position in a stream: "-" before the first post, then the last post's id in hex"""
_START = "-"
T = TypeVar("T")


async def missing_entries(queue: Link, owner: LaneOwner) -> bool:
    """Whether entries that the lane has not seen are no longer in the queue; False when the queue does not answer.

    Streams are trimmed below the position of the slowest lane, so a lane that is in order finds its own position there.
    """
    for stream in STREAMS:
        try:
            about: dict[bytes, Any] = await queue.call("XINFO", "STREAM", stream)
        except (QueueUnavailable, Backpressure):
            continue  # away, or no such stream yet
        first = parse_position(about[b"recorded-first-entry-id"].decode())
        was_trimmed = about[b"entries-added"] > about[b"length"]
        if was_trimmed and first > parse_position(owner.wal.position(stream)[0]):
            return True
    return False


class Replay:
    """Makes one lane's log again."""

    def __init__(
        self,
        owner: LaneOwner,
        archive: Path,
        lists: WholeLists,
        *,
        retention_s: float,
        not_before_us: int,
    ) -> None:
        """`archive`: file of the durable store; `not_before_us`: posts from before are in the log already."""
        self._owner, self._path, self._lists = owner, archive, lists
        self._not_before_us = not_before_us
        self._since_us = int((time.time() - retention_s) * 1e6)
        self._archive: DurableReplay | None = None
        self._is_abandoned = False
        self._kind = owner.wal.number("restoring")
        self.posts = self.entries = 0

    async def begin(self, kind: int, *, is_queue_whole: bool = True) -> bool:
        """Note what is missing and where the queue takes over; returns whether there is anything to replay.

        When there is not, the log is as complete as can be now. `is_queue_whole`: all that the lane has not seen is in
        the queue.
        """
        self._kind = kind
        try:
            self._archive = await self._patiently(lambda: SqliteReplay(self._path))
            archive = self._archive
            archived = await self._patiently(archive.positions)
            if is_lacking(archived):
                self._note_horizon()
            if self._owner.wal.position(_PLACE)[0] in ("0-0", ""):
                self._note_start(archived)
            place = self._place()
            found = await self._patiently(lambda: archive.has_posts(place, self._not_before_us))
        except FileNotFoundError as error:
            if not is_queue_whole:
                self._do_without(error)
            found = False
        except (DurableUnavailable, DurableDamaged) as error:
            self._do_without(error)
            found = False
        if not found:
            await self._finish()
        return found

    async def run(self) -> None:
        """Replay, for as long as it takes; afterwards the log is complete and cached timelines may be filled."""
        started, archive = time.perf_counter(), self._archive
        assert archive is not None
        try:
            while rows := await self._rows(archive, self._place()):
                await self._write(rows)
        except (DurableUnavailable, DurableDamaged) as error:
            self._do_without(error)
        await self._finish()
        took_s = time.perf_counter() - started
        RESTORE_SECONDS.observe(took_s)
        _log.warning(
            "lane %d: log made again from the archive, %d posts, %d entries, %.2f s",
            self._owner.lane,
            self.posts,
            self.entries,
            took_s,
        )

    def close(self) -> None:
        """Release the archive; one that is still being asked, as the process is told to end, goes with it."""
        if self._archive is not None and not self._is_abandoned:
            self._archive.close()
        self._archive = None

    # --- the archive

    async def _patiently(self, ask: Callable[[], T]) -> T:
        """The archive's answer; a store that is locked is asked again for a while."""
        deadline_s = time.monotonic() + PATIENCE_S
        while True:
            try:
                return await asyncio.to_thread(ask)
            except asyncio.CancelledError:
                self._is_abandoned = True
                raise
            except DurableUnavailable as error:
                if time.monotonic() > deadline_s:
                    raise
                _log.info("lane %d: restoring waits for the archive: %s", self._owner.lane, error)
                await asyncio.sleep(_RETRY_S)

    async def _rows(self, archive: DurableReplay, place: bytes) -> Sequence[ArchivedPost]:
        return await self._patiently(lambda: archive.posts(place, self._not_before_us, BATCH))

    def _place(self) -> bytes:
        place = self._owner.wal.position(_PLACE)[0]
        return first_id(self._since_us) if place == _START else bytes.fromhex(place)

    def _note_horizon(self) -> None:
        """The archive is being filled anew: rows may come to it behind the replay's place."""
        owner, batch = self._owner, self._owner.wal.batch()
        owner.index.horizon_us = time.time_ns() // 1000
        batch.number("horizon", owner.index.horizon_us)
        owner.wal.write(batch)
        _log.warning("lane %d: the archive is being filled anew, older posts are left to it", owner.lane)

    def _do_without(self, error: Exception) -> None:
        """The archive cannot be read: whatever is older than now may be missing."""
        self._owner.index.horizon_us = time.time_ns() // 1000
        _log.error("lane %d: goes on without the archive: %s", self._owner.lane, error)

    # --- the log

    def _note_start(self, archived: Any) -> None:
        wal = self._owner.wal
        batch = wal.batch()
        batch.number("restoring", self._kind)
        batch.position(_PLACE, _START)
        for stream in STREAMS:
            position = archived.get(stream, "0-0")
            if self._kind == GAP:
                position = max(position, wal.position(stream)[0], key=parse_position)
            batch.position(stream, position)
        wal.write(batch)

    async def _write(self, rows: Sequence[ArchivedPost]) -> None:
        wanted = [row for row in rows if row.author >= 0 and row.status != Status.DELETED and not self._holds(row.id)]
        followers = await self._lists.of_lane(self._owner.lane, {row.author for row in wanted})
        kept = {row.id for row in wanted}
        batch, size = self._owner.wal.batch(), 0
        for row in rows:
            self._mark(batch, row)
            if row.id in kept:
                size += self._add(batch, row, followers[row.author])
            if size >= SLICE_FOLLOWERS or row is rows[-1]:
                batch.position(_PLACE, row.id.hex())
                self._commit(batch)
                await asyncio.sleep(0)  # this worker's other lanes go on meanwhile
                batch, size = self._owner.wal.batch(), 0

    def _holds(self, post_id: bytes) -> bool:
        return self._owner.wal.seen(post_id) is not None and post_id not in self._owner.reached

    def _mark(self, batch: LogBatch, row: ArchivedPost) -> None:
        if row.status or row.status_hlc:
            mark = StatusMark(Status(row.status), row.status_hlc, int(time.time()))
            if self._owner.index.set_status(row.id, mark):
                batch.status(row.id, mark)

    def _add(self, batch: LogBatch, row: ArchivedPost, users: Users) -> int:
        owner = self._owner
        reached = owner.reached.pop(row.id, None)
        kind = Kind.POST if reached is None else Kind.CONTINUED
        if reached is not None:
            users = reached.lacking(users)
        if not len(users):
            return 0
        entry = pack_entry(row.id, row.ts_us, row.author, 0.0, Status(row.status), row.labels)
        for start in range(0, len(users), RECORD_FOLLOWERS):
            some = users[start : start + RECORD_FOLLOWERS]
            number = owner.index.put_slot(make_seq(owner.index.epoch, owner.index.next).to_bytes(8, "big") + entry)
            batch.record(number, entry, kind, some.astype("<u4", copy=False).tobytes())
            if kind is Kind.POST:
                batch.seen(row.id, b"archive")
                owner.index.note_author(row.author, number)
            owner.index.append(number, some.tolist())
            kind = Kind.CONTINUED
        self.posts += 1
        self.entries += len(users)
        RESTORED_POSTS.inc()
        return len(users)

    def _commit(self, batch: LogBatch) -> None:
        owner = self._owner
        owner.applied = owner.index.next - 1  # nobody can have cached anything of it
        batch.number("applied", owner.applied)
        owner.wal.write(batch)
        owner.index.sweep(SLICE_FOLLOWERS)

    def _mark_all_hot(self, batch: LogBatch) -> None:
        """Who has a session went with the log; the marks in memcached that spare readers a merge may still be there.

        Not in a region that begins: nobody can have had a session, and cold followers would be hot for minutes.
        """
        owner = self._owner
        if not owner.wal.number("former") and owner.wal.position(_PLACE)[0] in (_START, "0-0", ""):
            return
        if owner.index.next > 1:
            owner.mark_all_hot(time.time() + HOT_MARK_S, batch)

    async def _finish(self) -> None:
        owner, batch = self._owner, self._owner.wal.batch()
        if self._kind == EVERYTHING:
            owner.history = owner.index.next - 1
            batch.number("history", owner.history)
        archive = self._archive
        if archive is not None:
            try:
                first = first_id(self._since_us)
                if await self._patiently(lambda: archive.has_older(first, self._not_before_us)):
                    owner.index.horizon_us = max(owner.index.horizon_us, self._since_us)
            except (DurableUnavailable, DurableDamaged) as error:
                self._do_without(error)
        self._mark_all_hot(batch)
        batch.number("horizon", owner.index.horizon_us)
        batch.number("restoring", NOTHING)
        batch.position(_PLACE, "0-0")
        self._commit(batch)
        self.close()
