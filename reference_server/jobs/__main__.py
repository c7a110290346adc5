"""`python -m reference_server.jobs`: history, then archiver, imports, trimming and tombstones until told to stop."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

from reference_server import rpc
from reference_server.api.body_cache import MemcachedBodies
from reference_server.durable.sqlite_writer import FILE_NAME
from reference_server.jobs.archiver import Archiver
from reference_server.jobs.imports import KINDS, Imports
from reference_server.jobs.prefill import history_rows
from reference_server.jobs.pressure import Pressure
from reference_server.jobs.refill import Refill, open_archive
from reference_server.jobs.rounds import for_ever, until_done
from reference_server.jobs.scheduler import Scheduler
from reference_server.jobs.store import Store
from reference_server.jobs.tombstones import Tombstones
from reference_server.jobs.trimming import Trimmer
from reference_server.observability import redis_stats
from reference_server.process import Context, metrics, run
from reference_server.queue import StreamKeeper
from reference_server.settings import Every, Region, Settings
from reference_server.timeline import node_stats

ARCHIVE_EVERY_S = 0.2
IMPORT_EVERY_S = 0.1
TRIM_EVERY_S = 1.0
BURY_EVERY_S = 0.05
LAG_S, HOLE_EVERY = 6.0, 10
CHANGED_AT_START = 10_000
"""posts that were hidden or deleted, and as many that were shown again, about which memcached is told at start"""
_log = logging.getLogger(__name__)


async def main(context: Context) -> None:
    """The jobs of one region."""
    settings, region = context.settings, context.region
    store = Store(open_archive(settings.data(region.name) / FILE_NAME))
    keeper, cache = StreamKeeper(region.redis_queue_port), MemcachedBodies(region.memcached_ports)
    clients = [rpc.RpcClient(context.socket(f"lane-{lane}")) for lane in range(settings.lanes)]
    graph = rpc.RpcClient(context.socket("graph"))
    tombstones = Tombstones(cache)
    archiver = _archiver(settings, region, keeper, store, tombstones)
    pressure = Pressure(keeper, clients, lambda: archiver.positions)
    scheduler = Scheduler(KINDS, pressure.is_high)
    imports = Imports(keeper, store, graph, clients, scheduler)
    trimmer = Trimmer(keeper, clients, has_peers=len(settings.regions) > 1)
    try:
        inserted = await store.prefill(history_rows(settings))
        _log.info("history: %d posts inserted", inserted)
        tombstones.add(await store.hidden(CHANGED_AT_START))
        tombstones.lift(await store.shown(CHANGED_AT_START))
        work = [
            asyncio.create_task(_archive(archiver)),
            asyncio.create_task(_import(imports)),
            asyncio.create_task(scheduler.run()),
            asyncio.create_task(pressure.run()),
            asyncio.create_task(_trim(trimmer, archiver, imports)),
            asyncio.create_task(_bury(tombstones)),
            asyncio.create_task(redis_stats.watch(region)),
            asyncio.create_task(node_stats.watch(region.memcached_ports)),
            asyncio.create_task(_refill(Refill(store, region.name, region.peers, context.secret))),
        ]
        server = await rpc.serve(context.socket("jobs"), {"ping": _ping, "metrics": metrics})
        try:
            await _until_stopped(work, context.stopping)
        finally:
            server.close()
    finally:
        for client in (*clients, graph):
            client.close()
        await keeper.close()
        await cache.close()
        await store.close()


def _archiver(
    settings: Settings, region: Region, keeper: StreamKeeper, store: Store, tombstones: Tombstones
) -> Archiver:
    """With the planted defects that are switched on: an archive that lags, or one that lacks posts."""
    lags = settings.has_defect("no-wal") or settings.has_defect("stale-unmarked")
    loses = Every() if region.index else settings.every(HOLE_EVERY, "archive-hole")
    return Archiver(keeper, store, tombstones, LAG_S if lags else 0.0, loses)


async def _until_stopped(work: list[asyncio.Task[None]], stopping: asyncio.Event) -> None:
    """Return when told to stop; a task that ends before that ends the process (the supervisor starts it anew)."""
    stopped = asyncio.create_task(stopping.wait())
    tasks: list[asyncio.Task[Any]] = [*work, stopped]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
    for task in done:
        task.result()


async def _ping() -> str:
    return "pong"


async def _archive(archiver: Archiver) -> None:
    await until_done("archiver", archiver.start)
    await for_ever("archiver", archiver.step, ARCHIVE_EVERY_S)


async def _import(imports: Imports) -> None:
    await until_done("imports", imports.start)
    await for_ever("imports", imports.step, IMPORT_EVERY_S)


async def _trim(trimmer: Trimmer, archiver: Archiver, imports: Imports) -> None:
    async def step() -> bool:
        await trimmer.step(archiver.positions, imports.position)
        return False

    await for_ever("trimming", step, TRIM_EVERY_S)


async def _refill(refill: Refill) -> None:
    await refill.run()
    await asyncio.Event().wait()  # that nothing is lacking any more does not end the process


async def _bury(tombstones: Tombstones) -> None:
    async def step() -> bool:
        await tombstones.flush()
        return False

    await for_ever("tombstones", step, BURY_EVERY_S)


if __name__ == "__main__":
    run(main)
