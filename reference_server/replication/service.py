"""The replicator of a region: serves the outbox to peers, and pulls from each of them."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

from reference_server.durable.sqlite_writer import FILE_NAME
from reference_server.process import Context, metrics
from reference_server.queue import Queue
from reference_server.replication.defects import ReplicaDefects
from reference_server.replication.puller import Puller
from reference_server.replication.server import OutboxServer
from reference_server.rpc import serve

log = logging.getLogger(__name__)


async def main(context: Context) -> None:
    """Run the replicator until told to stop."""
    region = context.region
    queue = Queue.of(context.settings, region)
    peers = frozenset(other.name for other in context.settings.regions if other.name != region.name)
    archive = context.settings.data(region.name) / FILE_NAME
    outbox = OutboxServer(region.name, peers, context.secret, region.redis_queue_port, archive)

    def rests() -> bool:
        return not (context.flags.known and context.flags.now.multi_region)

    pullers = [
        Puller(origin, region.name, port, context.secret, queue, rests, ReplicaDefects(context.settings))
        for origin, port in region.peers.items()
    ]
    listener = await outbox.serve(region.replicator_port)

    async def stats() -> dict[str, Any]:
        pulled = {p.origin: {"position": p.position, "connected": p.connected, "lag_s": p.lag_s()} for p in pullers}
        return {"pulled": pulled, "acknowledged": outbox.applied, "resting": rests()}

    control = await serve(context.socket("replicator"), {"ping": _ping, "metrics": metrics, "stats": stats})
    tasks = [asyncio.create_task(puller.run()) for puller in pullers]
    tasks.append(asyncio.create_task(outbox.trim()))
    stopping = asyncio.create_task(context.stopping.wait())
    await asyncio.wait({stopping, *tasks}, return_when=asyncio.FIRST_COMPLETED)
    failed = [task for task in tasks if task.done()]
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)
    listener.close()
    control.close()
    await queue.close()
    for task in failed:
        task.result()


async def _ping() -> str:
    return "pong"
