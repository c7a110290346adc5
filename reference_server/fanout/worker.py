"""One fan-out worker: takes lanes by file lock, opens them, serves their sockets, feeds them from the queue.

The kernel frees a lock when its process dies, so survivors take over by trying again: every 250 ms, a worker's own
lanes (lane mod workers) at once, others once they stood free for a while, the longer the further the rank. A paused
worker keeps its locks: its lanes stall, they do not split.

A worker opens all its lanes under one value of the flag `wal`. When that changes, it ends in order: what is open is
closed as at the end of the process. The next worker of the process takes the lanes over under the new value.
"""

from __future__ import annotations

import asyncio
import fcntl
import gc
import logging
import os
import time
from collections.abc import Mapping
from typing import Any

import msgspec

from reference_server import process, rpc
from reference_server.events import STREAM_CELEB, STREAM_POSTS
from reference_server.fanout.bus import SKIP_EVERY, STRAY_EVERY, Bus
from reference_server.fanout.celebrities import CelebrityFeeder
from reference_server.fanout.feeder import Feeder
from reference_server.fanout.graph_changes import GraphChanges
from reference_server.fanout.lane_opener import LaneOpener, OpenLane
from reference_server.fanout.pages import FollowerPages
from reference_server.fanout.source import Source
from reference_server.fanout.stage_times import StageTimes
from reference_server.flags import Flags
from reference_server.graph.followees import all_followees
from reference_server.process import Context
from reference_server.rpc import RpcClient
from reference_server.seeding import Population, open_population
from reference_server.timeline.index import Users
from reference_server.timeline.lane_service import LaneService
from reference_server.timeline.measures import LANE_RECORD
from reference_server.timeline.merge import ColdMerge
from reference_server.timeline.owner import LaneOwner

_log = logging.getLogger(__name__)
POLL_S = 0.25
START_GRACE_S = 3.0
"""how long other workers have to take their own lanes at first"""
_REPORT_S = 1.0
CANCEL_AGAIN_S = 1.0
HELD_BACK_S = 4.0
"""of the planted defect "slow-fan-out" """


async def _end(tasks: list[asyncio.Task[Any]]) -> None:
    """Cancel tasks until all are done: redis-py's asyncio.wait_for loses a cancellation that comes as its call ends."""
    waiting = set(tasks)
    while waiting:
        for task in waiting:
            task.cancel()
        _, waiting = await asyncio.wait(waiting, timeout=CANCEL_AGAIN_S)


class LaneLock:
    """The file lock that makes a process the only owner of a lane."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._descriptor: int | None = None

    def try_take(self) -> bool:
        """Whether the lock is ours now."""
        descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(descriptor)
            return False
        self._descriptor = descriptor
        return True

    def free(self) -> None:
        """Give it back."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


class Worker:
    """See the module."""

    def __init__(self, context: Context) -> None:
        self._context = context
        settings, region = context.settings, context.region
        self._folder = settings.data(region.name, "lanes")
        self._rank = int(context.name.rpartition("-")[2])
        self._population: Population = open_population(settings)
        self._graph = RpcClient(context.socket("graph"))
        self._times = StageTimes(region.name, self._flags)
        self._bus = Bus(
            region.name,
            region.redis_cache_port,
            self._flags,
            self._times,
            skips=settings.every(SKIP_EVERY, "skip-notify"),
            strays=settings.every(STRAY_EVERY, "event-unfollowed"),
        )
        self._changes = GraphChanges(self._graph, region.redis_queue_port)
        self._pages = FollowerPages(self._graph, self._changes, region.redis_cache_port, settings.lanes, self._flags)
        self.lanes: dict[int, LaneOwner] = {}
        self._feeders = self._make_feeders()
        context.flags.on_change(self._follow_flags)
        self._keeps_records = context.flags.now.wal
        self._opener = LaneOpener(
            context, self._population, self._pages, self._bus.notify, keeps_records=self._keeps_records
        )
        self._locks: dict[int, LaneLock] = {}
        self._open_lanes: list[OpenLane] = []
        self._restores: set[asyncio.Task[None]] = set()
        self._merges: list[ColdMerge] = []
        self._servers: list[asyncio.Server] = []
        self._connections = rpc.Connections()

    def _flags(self) -> Flags:
        return self._context.flags.now

    def _follow_flags(self, flags: Flags) -> None:
        for merge in self._merges:
            merge.set_fanout(flags.fanout)

    def _make_feeders(self) -> tuple[Feeder, CelebrityFeeder]:
        """Ordinary posts go before celebrities', but none overtakes an earlier one of its author."""
        shared = self._pages, self.lanes, self._flags, self._times
        port, name = self._context.region.redis_queue_port, self._context.name
        celebrities = CelebrityFeeder(Source(STREAM_CELEB, port, name), *shared, lambda: ordinary.lag_s)
        held_s = HELD_BACK_S if self._context.settings.has_defect("slow-fan-out") else 0.0
        ordinary = Feeder(Source(STREAM_POSTS, port, name), *shared, celebrities, held_s)
        return ordinary, celebrities

    async def run(self) -> None:
        """Work until told to stop, or until lanes are to keep their records in another way."""
        work = [self._bus.run(), *(feeder.run() for feeder in self._feeders), self._take_lanes(), self._report()]
        work.append(self._changes.run())
        tasks: list[asyncio.Task[None]] = [asyncio.ensure_future(one) for one in work]
        stopping: asyncio.Task[Any] = asyncio.ensure_future(self._context.stopping.wait())
        try:
            await asyncio.wait([*tasks, stopping], return_when=asyncio.FIRST_COMPLETED)
            for task in tasks:
                if task.done():
                    task.result()  # a bug: end with its traceback; the supervisor starts us again
        finally:
            await _end([*tasks, stopping])
            await self._close()

    async def _close(self) -> None:
        self._context.flags.forget(self._follow_flags)
        for server in self._servers:
            server.close()
        await self._connections.break_all()
        for task in self._restores:
            task.cancel()
        await asyncio.gather(*self._restores, return_exceptions=True)
        for merge in self._merges:
            await merge.close()
        await self._times.close()
        await self._pages.close()
        await self._changes.close()
        await self._opener.close()
        self._graph.close()
        for opened in self._open_lanes:
            await opened.close()
            self._locks[opened.owner.lane].free()

    # --- lanes

    @property
    def _is_overtaken(self) -> bool:
        return self._flags().wal != self._keeps_records

    async def _take_lanes(self) -> None:
        """Try for ever; returns when the worker is overtaken, never while a lane is being opened."""
        settings = self._context.settings
        workers = max(1, self._context.region.fanout_workers)
        files = [str(self._folder / f"{lane}.lock") for lane in range(settings.lanes)]
        free_since: dict[int, float] = {}
        started = time.monotonic()
        served = False
        while True:
            for lane in range(settings.lanes):
                if self._is_overtaken:
                    _log.info("the flag wal changed: all lanes are opened anew")
                    return
                distance = (self._rank - lane) % workers
                lock = LaneLock(files[lane])
                if lane in self._locks or not lock.try_take():
                    free_since.pop(lane, None)
                    continue
                now = time.monotonic()
                patience = distance * POLL_S
                if distance and now - started < START_GRACE_S:
                    patience = START_GRACE_S
                if now - free_since.setdefault(lane, now) >= patience:
                    await self._open(lane, lock)
                else:
                    lock.free()
            if not served:
                await self._answer(self._context.name, self._handlers())
                self._opener.rest()
                served = True
            for task in [task for task in self._restores if task.done()]:
                self._restores.discard(task)
                task.result()
            self._check_keepers()
            await asyncio.sleep(POLL_S)

    def _check_keepers(self) -> None:
        for opened in self._open_lanes:
            if opened.keeping.done():
                opened.keeping.result()

    async def _open(self, lane: int, lock: LaneLock) -> None:
        self._locks[lane] = lock
        opened = await self._opener.open(lane)
        self._open_lanes.append(opened)
        if opened.replay is None:
            await self._serve(opened)
        else:
            self._restores.add(asyncio.ensure_future(self._restore(opened)))

    async def _restore(self, opened: OpenLane) -> None:
        await self._opener.restore(opened)
        await self._serve(opened)

    async def _serve(self, opened: OpenLane) -> None:
        owner = opened.owner
        settings = self._context.settings
        never = settings.has_defect("cold-never-merged")
        merge = ColdMerge(owner, self._followees, settings.depth, never=never)
        merge.set_fanout(self._flags().fanout)
        self._merges.append(merge)
        handlers = LaneService(owner, merge).handlers()
        await self._answer(f"lane-{owner.lane}", handlers)
        self.lanes[owner.lane] = owner
        gc.collect()
        gc.freeze()

    async def _answer(self, name: str, handlers: Mapping[str, rpc.Handler]) -> None:
        self._servers.append(await rpc.serve(self._context.socket(name), handlers, self._connections))

    async def _followees(self, user: int) -> Users:
        return await all_followees(self._graph, user, self._graph.timeout_s)

    # --- what is asked of a worker

    def _handlers(self) -> dict[str, rpc.Handler]:
        return {"ping": self._ping, "metrics": process.metrics, "stats": self._stats}

    async def _ping(self) -> str:
        return "pong"

    async def _stats(self) -> dict[str, Any]:
        return {"lanes": sorted(self.lanes), "flags": msgspec.structs.asdict(self._flags())}

    async def _report(self) -> None:
        while True:
            for lane, owner in self.lanes.items():
                LANE_RECORD.labels(str(lane), "written").set(owner.index.next - 1)
                LANE_RECORD.labels(str(lane), "applied").set(owner.applied)
            await asyncio.sleep(_REPORT_S)
