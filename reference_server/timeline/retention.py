"""Retention of one lane: what is older leaves log, index and lists, a slice at a time between the lane's other work.

How old a record is follows from a clock: now and then the time is noted beside the number of the next record, also in
the log. So a record stays up to a thirtieth longer than the retention, never shorter; unless the lane has more than
MAX_RECORDS, which bounds its memory whatever the rate. Not dropped: what the cache has not confirmed.

With a record goes everything that only matters to it: its post's place in `seen`, which tells repeats of a queue entry
(one that comes back after that is a post that nobody has any more, at worst it is written again), watermarks of merges
below it, and marks of statuses as old as it. What a reader misses below `Index.horizon_us` is in the durable store.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable, Sequence

from reference_server.timeline.measures import DROPPED_RECORDS, LOG_BYTES, LOG_MEMORY, LOG_RECORDS
from reference_server.timeline.owner import LaneOwner

_log = logging.getLogger(__name__)
MAX_RECORDS = 4_000_000
STEP_S = 1.0
_STEPS = 10
"""at least so many steps within the retention"""
_TICKS = 32
_SLICE_RECORDS = 1000
_SLICE_USERS = 500
_ROUND_S = 5.0
"""lists are gone through at most this often"""
_COMPACT_EVERY_S = 10.0
_COMPACT_BYTES = 16 << 20
_COMPACT_SHARE = 0.25


class Retention:
    """Keeps one lane within bounds."""

    def __init__(self, owner: LaneOwner, retention_s: Callable[[], float], max_records: int = MAX_RECORDS) -> None:
        """`retention_s` is asked at each step."""
        self._owner, self._retention_s, self._max_records = owner, retention_s, max_records
        self._clock: deque[tuple[float, int]] = deque(owner.wal.clock())
        self._upto, self._cut_s = owner.index.first, 0.0
        """records before that number, learnt of before that time, are too old"""
        self._pruned, self._pruned_s = owner.index.first, 0.0
        self._uncompacted, self._compacted_s = 0, 0.0
        self._compaction: asyncio.Future[None] | None = None

    async def run(self) -> None:
        """Keep at it, for ever."""
        while True:
            await self.step(time.time())
            await asyncio.sleep(min(STEP_S, self._retention_s() / _STEPS))

    async def close(self) -> None:
        """Wait for a compaction under way; call before the log is closed."""
        if self._compaction is not None:
            await asyncio.wait([self._compaction])

    async def step(self, now_s: float) -> None:
        """Let go of what is too old by now."""
        index = self._owner.index
        self._look_at_clock(now_s)
        upto = min(self._upto, self._owner.applied + 1)
        while index.first < upto:
            self._drop(min(upto, index.first + _SLICE_RECORDS))
            await asyncio.sleep(0)
        if index.first >= self._upto:
            self._drop_statuses()
        if index.first > self._pruned and now_s - self._pruned_s >= max(_ROUND_S, self._retention_s() / _STEPS):
            self._pruned, self._pruned_s = index.first, now_s
            await self._prune(now_s)
        log_bytes = self._owner.wal.size_bytes()
        LOG_BYTES.labels(str(self._owner.lane)).set(log_bytes)
        LOG_MEMORY.labels(str(self._owner.lane)).set(self._owner.wal.memory_bytes())
        LOG_RECORDS.labels(str(self._owner.lane)).set(index.next - index.first)
        self._compact(now_s, log_bytes)

    def _look_at_clock(self, now_s: float) -> None:
        clock, retention_s, index = self._clock, self._retention_s(), self._owner.index
        while clock and clock[0][0] <= now_s - retention_s:
            self._cut_s, upto = clock.popleft()
            self._upto = max(self._upto, upto)
        self._upto = max(self._upto, index.next - self._max_records)
        if not clock or now_s - clock[-1][0] >= retention_s / _TICKS:
            clock.append((now_s, index.next))
            batch = self._owner.wal.batch()
            batch.clock(list(clock))
            self._owner.wal.write(batch)

    def _drop(self, upto: int) -> None:
        owner, first = self._owner, self._owner.index.first
        posts = set(owner.index.drop(upto)).difference(owner.reached)
        batch = owner.wal.batch()
        batch.records_dropped(first, upto)
        batch.posts_dropped(posts)
        batch.number("horizon", owner.index.horizon_us)
        owner.wal.write(batch)
        self._uncompacted += upto - first
        DROPPED_RECORDS.inc(upto - first)

    def _drop_statuses(self) -> None:
        # Marks are timed in whole seconds: one of the cut's own second may be younger than a record still there.
        gone = self._owner.index.drop_statuses(int(self._cut_s))
        if gone:
            batch = self._owner.wal.batch()
            batch.statuses_dropped(gone)
            self._owner.wal.write(batch)

    async def _prune(self, now_s: float) -> None:
        users = self._owner.index.users
        for start in range(0, len(users), _SLICE_USERS):
            some = users[start : start + _SLICE_USERS]
            self._owner.index.prune(some)
            self._forget(some, now_s)
            await asyncio.sleep(0)

    def _forget(self, users: Sequence[int], now_s: float) -> None:
        owner, batch = self._owner, self._owner.wal.batch()
        settled = [user for user in users if owner.merged.get(user, owner.index.first) < owner.index.first]
        for user in settled:
            del owner.merged[user]
            batch.user_dropped(user, "merged")
        hot_until = owner.activity.hot_until
        for user in [user for user in users if 0 < hot_until[user] < now_s]:
            hot_until[user] = 0
            batch.user_dropped(user, "hot")
        owner.wal.write(batch)

    def _compact(self, now_s: float, log_bytes: int) -> None:
        """Have disk space freed once enough was dropped for it to be worth rewriting the rest."""
        if self._compaction is not None and not self._compaction.done():
            return
        index = self._owner.index
        enough = self._uncompacted > _COMPACT_SHARE * (index.next - index.first) and log_bytes > _COMPACT_BYTES
        if enough and now_s - self._compacted_s >= _COMPACT_EVERY_S:
            self._uncompacted, self._compacted_s = 0, now_s
            self._compaction = asyncio.ensure_future(asyncio.to_thread(self._owner.wal.compact, index.first))
            self._compaction.add_done_callback(self._compacted)

    def _compacted(self, done: asyncio.Future[None]) -> None:
        if not done.cancelled() and (error := done.exception()):
            _log.warning("lane %d: the log could not be compacted: %s", self._owner.lane, error)
