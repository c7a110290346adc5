"""Everything the handlers of one api share, opened when the server starts and closed when it ends."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from prometheus_client import Counter
from starlette.requests import Request

from reference_server.api import measures
from reference_server.api.bodies import Bodies
from reference_server.api.body_cache import MemcachedBodies
from reference_server.api.defects import PageDefects
from reference_server.api.durable_pull import DurablePull
from reference_server.api.graph_view import GraphView
from reference_server.api.hybrid_clock import HybridClock
from reference_server.api.problems import Problem, UnknownEffect
from reference_server.durable import DurableReader, SqliteReader
from reference_server.durable.sqlite_writer import FILE_NAME
from reference_server.queue import Backpressure, Queue, QueueUnavailable
from reference_server.rpc import RpcClient
from reference_server.settings import Region, Settings, read_settings
from reference_server.timeline.reader import TimelineReader, TimelineView


class Timelines(Protocol):
    """What is asked of the timeline reader."""

    async def read(self, user: int, first_page: bool) -> TimelineView:
        """The user's timeline in display order."""

    async def close(self) -> None:
        """Drop all connections."""


@dataclass
class Parts:
    """The parts of one api process."""

    settings: Settings
    region: Region
    name: str
    secret: bytes
    users: int
    """number of identities: 0 .. users - 1"""
    queue: Queue
    graph: GraphView
    bodies: Bodies
    timelines: Timelines
    durable: DurableReader
    cache: MemcachedBodies
    clock: HybridClock
    defects: PageDefects
    clients: dict[str, RpcClient]
    """sockets of the region's parts, for their metrics"""
    feed_reads: dict[str, Counter]
    ready: bool = False

    async def check_ready(self) -> bool:
        """Whether all that is needed has answered once; stays true, so that a fault does not end degraded service."""
        if not self.ready:
            try:
                await self.queue.ping()
            except QueueUnavailable:
                return False
            self.ready = await self.graph.ping()
        return self.ready

    async def close(self) -> None:
        """Drop all connections."""
        await self.timelines.close()
        await self.queue.close()
        await self.durable.close()
        await self.cache.close()
        for client in self.clients.values():
            client.close()


def parts_of(request: Request) -> Parts:
    """The parts of the process that serves this request."""
    parts: Parts = request.app.state.parts
    return parts


def open_parts() -> Parts:
    """Read the settings named in the environment (FEEDSTORM_SETTINGS, _REGION, _NAME) and open everything lazily."""
    settings = read_settings(os.environ["FEEDSTORM_SETTINGS"])
    region = settings.region(os.environ["FEEDSTORM_REGION"])
    users = population_size(settings)
    sockets = ["graph", "jobs", "replicator", *(f"fanout-{k}" for k in range(region.fanout_workers))]
    clients = {name: RpcClient(settings.socket(region.name, name)) for name in sockets}
    queue = Queue.of(settings, region)
    durable = SqliteReader(settings.data(region.name) / FILE_NAME)
    graph = GraphView(clients["graph"], settings.celebrity_threshold or max(1, users // 10))
    cache = MemcachedBodies(region.memcached_ports)
    return Parts(
        settings=settings,
        region=region,
        name=os.environ["FEEDSTORM_NAME"],
        secret=bytes.fromhex(settings.secret),
        users=users,
        queue=queue,
        graph=graph,
        bodies=Bodies(cache, queue, durable),
        timelines=TimelineReader(settings, region, DurablePull(graph, durable, settings.depth)),
        durable=durable,
        cache=cache,
        clock=HybridClock(region.index),
        defects=PageDefects(settings),
        clients=clients,
        feed_reads={source: measures.FEED_READS.labels(source) for source in ("cache", "owner", "durable")},
    )


def population_size(settings: Settings) -> int:
    """Number of identities."""
    if not settings.population:
        return settings.users
    return int(json.loads(Path(settings.population, "population.json").read_bytes())["users"])


@contextmanager
def queue_failures() -> Iterator[None]:
    """Turn failures of a write into answers: 429 and 503 promise no effect, UnknownEffect does not."""
    try:
        yield
    except Backpressure as error:
        raise Problem("too-many-requests", "the post queue is full") from error
    except QueueUnavailable as error:
        if error.definite:
            raise Problem("unavailable", "the post queue does not answer") from error
        raise UnknownEffect(str(error)) from error
