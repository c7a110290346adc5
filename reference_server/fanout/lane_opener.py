"""From a lane's directory to an owner that can be served: log, index, history, cache; archive where the log is new.

load (in a thread): take up the log, or begin a new one; index; history of the time before the run
join: memcached gets the lane's key generation, so timelines of a lost log count no more
restore: only where records are missing (see `replay`); takes as long as it takes, other lanes are opened meanwhile
A lane that keeps no records is not restored: it only reads the queue again from where the archive ends.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass

from reference_server.durable.sqlite_writer import FILE_NAME
from reference_server.fanout.history import HistoryLoader, prewarm
from reference_server.fanout.pages import FollowerPages
from reference_server.fanout.reading_again import read_again
from reference_server.fanout.replay import EVERYTHING, GAP, Replay, missing_entries
from reference_server.fanout.whole_lists import WholeLists
from reference_server.process import Context
from reference_server.queue.link import Link
from reference_server.seeding import Population
from reference_server.timeline.defects import LaneDefects
from reference_server.timeline.index import Index
from reference_server.timeline.measures import LANE_LOGGED, LANE_STATE
from reference_server.timeline.owner import LaneOwner, Notice
from reference_server.timeline.retention import Retention
from reference_server.timeline.takeover import join_cache, lane_users, restore, take_up
from reference_server.timeline.wal import Wal

_log = logging.getLogger(__name__)
QUEUE_TIMEOUT_S = 0.5
STATES = ("loading", "restoring", "serving")


@dataclass
class OpenLane:
    """A lane of this worker. `replay`: what must run before anybody is served."""

    owner: LaneOwner
    retention: Retention
    keeping: asyncio.Task[None]
    replay: Replay | None = None

    async def close(self) -> None:
        """Let go of everything but the lane's lock."""
        self.keeping.cancel()
        await asyncio.wait([self.keeping])
        await self.retention.close()
        if self.replay is not None:
            self.replay.close()
        await self.owner.close()
        note_state(self.owner.lane, "")
        LANE_LOGGED.labels(str(self.owner.lane)).set(0)


def note_state(lane: int, state: str) -> None:
    """Tell Prometheus which of STATES the lane is in; empty: none, it is not this worker's."""
    for one in STATES:
        LANE_STATE.labels(str(lane), one).set(one == state)


class LaneOpener:
    """Opens lanes of one region, one after the other."""

    def __init__(
        self,
        context: Context,
        population: Population,
        pages: FollowerPages,
        notify: Callable[[LaneOwner, list[Notice]], None],
        *,
        keeps_records: bool,
    ) -> None:
        """`notify` gets the notices of all lanes; `keeps_records`: whether they log what they write."""
        self._context, self._population, self._notify = context, population, notify
        self._keeps_records = keeps_records
        settings, region = context.settings, context.region
        self._folder = settings.data(region.name, "lanes")
        self._archive = settings.data(region.name) / FILE_NAME
        self._history = HistoryLoader(population, settings.lanes)
        self._lists = WholeLists(pages, settings.lanes)
        self._queue = Link(region.redis_queue_port, QUEUE_TIMEOUT_S)
        self._restoring = asyncio.Lock()
        self._to_restore = 0

    async def open(self, lane: int) -> OpenLane:
        """The lane, in step with memcached. Raises OSError, LogDamaged."""
        note_state(lane, "loading")
        started = time.perf_counter()
        owner, has_new_history = await asyncio.to_thread(self._load, lane)
        retention = Retention(owner, lambda: float(self._context.flags.now.retention_s))
        opened = OpenLane(owner, retention, asyncio.ensure_future(retention.run()))
        try:
            await join_cache(owner, self._context.region.memcached_ports)
            opened.replay = await self._replay(owner)
            if has_new_history and opened.replay is None:
                await prewarm(owner, self._context.flags.now.cached_entries)
        except BaseException:
            await asyncio.shield(opened.close())
            raise
        note_state(lane, "serving" if opened.replay is None else "restoring")
        LANE_LOGGED.labels(str(lane)).set(self._keeps_records)
        _log.info("lane %d: %d records, %.2f s", lane, owner.index.next - 1, time.perf_counter() - started)
        return opened

    async def restore(self, opened: OpenLane) -> None:
        """Run the lane's replay; lanes take turns."""
        assert opened.replay is not None
        self._to_restore += 1
        try:
            async with self._restoring:
                await opened.replay.run()
        finally:
            self._to_restore -= 1
            if not self._to_restore:
                self._lists.clear()
        opened.replay = None
        note_state(opened.owner.lane, "serving")

    def rest(self) -> None:
        """All lanes that were free have been opened: let go of what they shared."""
        self._history.release()

    async def close(self) -> None:
        """Drop the connection to the queue."""
        await self._queue.close()

    def _load(self, lane: int) -> tuple[LaneOwner, bool]:
        """The lane's owner, and whether its history was written just now."""
        settings = self._context.settings
        users = lane_users(lane, settings.lanes, self._population.users)

        def make_owner(wal: Wal) -> LaneOwner:
            index = Index(wal.epoch, users, self._population.users, settings.depth)
            return LaneOwner(lane, wal, index, self._notify, defects=LaneDefects.of(settings))

        buffer_mb = self._context.flags.now.log_buffer_mb
        folder = self._folder / str(lane)
        owner = take_up(folder, make_owner, keeps_records=self._keeps_records, buffer_mb=buffer_mb)
        if not self._history.is_needed(owner.wal):
            return owner, False
        if owner.index.next > 1:  # a load was cut off
            owner.wal.clear_records()
            owner = make_owner(owner.wal)
            restore(owner)
        self._history.load(owner)
        return owner, True

    async def _replay(self, owner: LaneOwner) -> Replay | None:
        """What has to be run before the lane is served."""
        if owner.wal.is_volatile:
            await read_again(owner, self._archive)
            return None
        kind = owner.wal.number("restoring")
        is_missing = await missing_entries(self._queue, owner)
        if is_missing and not kind:
            _log.error("lane %d: the log ends before the queue begins", owner.lane)
            kind = GAP
        if not kind:
            return None
        population = self._population
        has_history = population.all_joined and population.history > 0
        replay = Replay(
            owner,
            self._archive,
            self._lists,
            retention_s=float(self._context.flags.now.retention_s),
            not_before_us=population.history_end_us if has_history and kind == EVERYTHING else 0,
        )
        try:
            return replay if await replay.begin(kind, is_queue_whole=not is_missing) else None
        except BaseException:
            replay.close()
            raise
