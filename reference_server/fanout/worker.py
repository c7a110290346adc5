"""One fan-out worker: takes lanes by file lock, opens them, serves their sockets, feeds them from the queue.

The kernel frees a lock when its process dies, so survivors take over by trying again: every 250 ms, a worker's own
lanes (lane mod workers) at once, others once they stood free for a while, the longer the further the rank. A paused
worker keeps its locks: its lanes stall, they do not split.
"""

from __future__ import annotations

import asyncio
import fcntl
import gc
import logging
import os
import time
from typing import Any

import numpy as np

from reference_server import process, rpc
from reference_server.fanout.bus import Bus
from reference_server.fanout.feeder import Feeder
from reference_server.fanout.history import HistoryLoader, prewarm
from reference_server.fanout.pages import FollowerPages
from reference_server.process import Context
from reference_server.rpc import RpcClient
from reference_server.seeding import Population, open_population
from reference_server.timeline.index import Index
from reference_server.timeline.lane_service import LaneService
from reference_server.timeline.measures import LANE_RECORD
from reference_server.timeline.merge import ColdMerge
from reference_server.timeline.owner import LaneOwner
from reference_server.timeline.takeover import join_cache, lane_users, restore
from reference_server.timeline.wal import Wal

_log = logging.getLogger(__name__)
POLL_S = 0.25
START_GRACE_S = 3.0
"""how long other workers have to take their own lanes at first"""
_REPORT_S = 1.0


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
        self._history = HistoryLoader(self._population, settings.lanes)
        self._graph = RpcClient(context.socket("graph"))
        self._bus = Bus(region.name, region.redis_cache_port, skips=settings.has_defect("skip-notify"))
        cached = bool(settings.flags.get("follower_cache", True))
        one_tier = not settings.flags.get("two_tier", True)
        self._pages = FollowerPages(self._graph, region.redis_cache_port, settings.lanes, cached=cached)
        self.lanes: dict[int, LaneOwner] = {}
        self._feeders = [
            Feeder("posts", region.redis_queue_port, self._pages, self.lanes, one_tier=one_tier),
            Feeder("celeb", region.redis_queue_port, self._pages, self.lanes, sliced=True, one_tier=one_tier),
        ]
        self._locks: dict[int, LaneLock] = {}
        self._merges: list[ColdMerge] = []
        self._servers: list[asyncio.Server] = []

    async def run(self) -> None:
        """Work until told to stop."""
        work = [self._bus.run(), *(feeder.run() for feeder in self._feeders), self._take_lanes(), self._report()]
        tasks: list[asyncio.Task[None]] = [asyncio.ensure_future(one) for one in work]
        stopping: asyncio.Task[Any] = asyncio.ensure_future(self._context.stopping.wait())
        try:
            await asyncio.wait([*tasks, stopping], return_when=asyncio.FIRST_COMPLETED)
            for task in tasks:
                if task.done():
                    task.result()  # a bug: end with its traceback; the supervisor starts us again
        finally:
            for task in [*tasks, stopping]:
                task.cancel()
            await asyncio.gather(*tasks, stopping, return_exceptions=True)
            await self._close()

    async def _close(self) -> None:
        for server in self._servers:
            server.close()
        for merge in self._merges:
            await merge.close()
        await self._pages.close()
        self._graph.close()
        for lane, owner in self.lanes.items():
            await owner.close()
            self._locks[lane].free()

    # --- lanes

    async def _take_lanes(self) -> None:
        settings = self._context.settings
        workers = max(1, self._context.region.fanout_workers)
        free_since: dict[int, float] = {}
        started = time.monotonic()
        served = False
        while True:
            for lane in range(settings.lanes):
                distance = (self._rank - lane) % workers
                lock = LaneLock(str(self._folder / f"{lane}.lock"))
                if lane in self.lanes or not lock.try_take():
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
                self._servers.append(await rpc.serve(self._context.socket(self._context.name), self._handlers()))
                served = True
            await asyncio.sleep(POLL_S)

    async def _open(self, lane: int, lock: LaneLock) -> None:
        started = time.perf_counter()
        settings, region, population = self._context.settings, self._context.region, self._population.users
        users = lane_users(lane, settings.lanes, population)
        owner, is_new = await asyncio.to_thread(self._load, lane, users)
        await join_cache(owner, region.memcached_ports[0])
        if is_new:
            await prewarm(owner, settings.depth)
        self._locks[lane] = lock
        merge = ColdMerge(owner, self._followees, settings.depth)
        self._merges.append(merge)
        handlers = LaneService(owner, merge).handlers()
        self._servers.append(await rpc.serve(self._context.socket(f"lane-{lane}"), handlers))
        self.lanes[lane] = owner
        gc.collect()
        gc.freeze()
        _log.info("lane %d: %d records, %.2f s", lane, owner.index.next - 1, time.perf_counter() - started)

    def _load(self, lane: int, users: list[int]) -> tuple[LaneOwner, bool]:
        """The lane's owner, and whether its history was written just now."""
        settings = self._context.settings
        wal = Wal(self._folder / str(lane))
        lacks_history = self._history.is_needed(wal)
        if lacks_history:
            wal.clear_records()  # of a load that was cut off
        index = Index(wal.epoch, users, self._population.users, settings.depth)
        owner = LaneOwner(lane, wal, index, self._bus.notify, forgets=settings.has_defect("no-wal"))
        restore(owner)
        if lacks_history:
            self._history.load(owner)
        return owner, lacks_history

    async def _followees(self, user: int) -> list[int]:
        followees, _ = await self._graph.call("followees", user)
        users: list[int] = np.frombuffer(followees, "<u4").tolist()
        return users

    # --- what is asked of a worker

    def _handlers(self) -> dict[str, rpc.Handler]:
        return {"ping": self._ping, "metrics": process.metrics, "stats": self._stats}

    async def _ping(self) -> str:
        return "pong"

    async def _stats(self) -> dict[str, Any]:
        return {"lanes": sorted(self.lanes)}

    async def _report(self) -> None:
        while True:
            for lane, owner in self.lanes.items():
                LANE_RECORD.labels(str(lane), "written").set(owner.index.next - 1)
                LANE_RECORD.labels(str(lane), "applied").set(owner.applied)
            await asyncio.sleep(_REPORT_S)
