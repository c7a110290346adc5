"""Everything the handlers of one api share, opened when the server starts and closed when it ends."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from starlette.requests import Request

from reference_server.api.bodies import Bodies
from reference_server.api.body_cache import MemcachedBodies
from reference_server.api.defects import CursorDefects, PageDefects, WriteDefects
from reference_server.api.durable_pull import DurablePull
from reference_server.api.graph_view import GraphView
from reference_server.api.hybrid_clock import HybridClock
from reference_server.api.metrics_texts import MetricsTexts
from reference_server.api.overload import Overload
from reference_server.api.own_posts import OwnPosts
from reference_server.api.problems import Problem, UnknownEffect
from reference_server.api.profile_cache import ProfileCache
from reference_server.durable import DurableReader, SqliteReader
from reference_server.durable.sqlite_writer import FILE_NAME
from reference_server.flags.watch import FlagWatch
from reference_server.inner_links import seen_by
from reference_server.queue import Backpressure, Queue, QueueUnavailable
from reference_server.rpc import RpcClient
from reference_server.settings import Region, Settings, read_settings
from reference_server.timeline.display import Key, TimelineView
from reference_server.timeline.entry import Status
from reference_server.timeline.reader import TimelineReader


class Timelines(Protocol):
    """What is asked of the timeline reader."""

    async def read(self, user: int, after: Key | None, *, lean: bool = False) -> TimelineView:
        """The user's timeline, for the page behind `after`; `lean`: without what takes long and may be left out."""

    async def deeper(self, user: int, after: Key | None) -> TimelineView:
        """All that the lane's owner has, or what the durable store has behind the place."""

    async def wait_connected(self, limit_s: float) -> None:
        """Connect to all cache nodes, or give up waiting."""

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
    durable_pull: DurablePull
    own_posts: OwnPosts
    cache: MemcachedBodies
    profiles: ProfileCache
    clock: HybridClock
    defects: PageDefects
    cursors: CursorDefects
    """reads and signs cursors"""
    write_defects: WriteDefects
    clients: dict[str, RpcClient]
    """sockets of the region's parts"""
    metrics: MetricsTexts
    flags: FlagWatch
    overload: Overload
    ready: bool = False

    @property
    def has_siblings(self) -> bool:
        """Whether the region has other apis, which a caller may have written through."""
        return len(self.region.api_ports) > 1

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
        self.overload.close()
        await self.graph.close()
        await self.timelines.close()
        await self.queue.close()
        await self.own_posts.close()
        await self.durable.close()
        await self.bodies.close()
        await self.cache.close()
        await self.profiles.close()
        for client in self.clients.values():
            client.close()


def parts_of(request: Request) -> Parts:
    """The parts of the process that serves this request."""
    parts: Parts = request.app.state.parts
    return parts


def open_parts() -> Parts:
    """Read the settings named in the environment (FEEDSTORM_SETTINGS, _REGION, _NAME) and open everything lazily."""
    settings = read_settings(os.environ["FEEDSTORM_SETTINGS"])
    name = os.environ["FEEDSTORM_NAME"]
    region = seen_by(settings.region(os.environ["FEEDSTORM_REGION"]), name)
    users = population_size(settings)
    several = [f"fanout-{k}" for k in range(region.fanout_workers)] + [f"fep-{k}" for k in range(len(region.fep_ports))]
    sockets = ["graph", "jobs", "replicator", *several]
    clients = {name: RpcClient(settings.socket(region.name, name)) for name in sockets}
    queue = Queue.of(settings, region)
    durable = SqliteReader(settings.data(region.name) / FILE_NAME)
    graph = GraphView(clients["graph"], settings.celebrity_threshold or max(1, users // 10))
    cache = MemcachedBodies(region.memcached_ports)
    flags, secret = FlagWatch(settings, region), bytes.fromhex(settings.secret)
    bodies = Bodies(cache, queue, durable, _revived(settings))
    pull = DurablePull(graph, durable, settings.depth)
    return Parts(
        settings=settings,
        region=region,
        name=name,
        secret=secret,
        users=users,
        queue=queue,
        graph=graph,
        bodies=bodies,
        timelines=TimelineReader(settings, region, pull, flags=lambda: flags.now),
        durable=durable,
        durable_pull=pull,
        own_posts=OwnPosts(region.redis_queue_port, alone=len(region.api_ports) == 1),
        cache=cache,
        profiles=ProfileCache(region.memcached_ports),
        clock=HybridClock(region.index),
        defects=PageDefects(settings),
        cursors=CursorDefects(settings, secret, region.name),
        write_defects=WriteDefects(settings),
        clients=clients,
        metrics=MetricsTexts(name, bodies, clients),
        flags=flags,
        overload=Overload(flags, secret, users),
    )


def _revived(settings: Settings) -> frozenset[Status]:
    """What the planted defects forget when a post is read into an empty cache again."""
    forgotten = {"resurrect-at-refill": Status.DELETED, "hide-lost-at-refill": Status.HIDDEN_BY_AUTHOR}
    return frozenset(status for defect, status in forgotten.items() if settings.has_defect(defect))


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
