"""The graph service of a region: applies the graph stream, answers questions at the socket "graph".

Truth is the population under graph.db; graph.db is fed by the graph stream alone (and by import batches, which
only say how much of a user's inherited list counts). Neither writes posts nor knows timelines.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from prometheus_client import Counter, Gauge, Histogram

from reference_server.events import GraphEvent, decode
from reference_server.graph.base import open_inverse
from reference_server.graph.changes import Applied, Changes
from reference_server.graph.follower_pages import FollowerPages
from reference_server.graph.store import GraphStore, checkpoint
from reference_server.graph.stream import follow_stream
from reference_server.graph.view import PAGE, GraphView
from reference_server.process import Context, metrics
from reference_server.rpc import Handler, RpcError, serve
from reference_server.seeding import Population, open_population
from reference_server.settings import Settings

log = logging.getLogger(__name__)
SYNC_LIMIT_S = 5.0
CHECKPOINT_EVERY_S = 10.0
EVENTS = Counter("feed_graph_events", "Events of the graph stream applied", ["verb"])
REJECTED = Counter("feed_graph_events_rejected", "Entries of the graph stream that make no sense")
APPLY_SECONDS = Histogram("feed_graph_apply_seconds", "Time to apply and commit one batch of the graph stream")
JOINED = Gauge("feed_graph_joined_users", "Users who signed up")
Position = tuple[int, int]


class GraphService:
    """State and calls of the graph service."""

    def __init__(self, settings: Settings, store: GraphStore, pages: Callable[[GraphView], FollowerPages]) -> None:
        population = open_population(settings)
        folder = Path(settings.directory, "graph-base")
        self.store = store
        self.changes = Changes(population)
        store.load(self.changes)
        inverse = open_inverse(population, _identity(settings, population), folder)
        self.view = GraphView(population, inverse, self.changes, settings.lanes)
        self.pages = pages(self.view)
        self.position = store.position()
        self._visible = parse_id(self.position)
        self._flushing: asyncio.Queue[tuple[Position, asyncio.Future[None] | None]] = asyncio.Queue()
        self._waiting: list[tuple[Position, int, asyncio.Future[None]]] = []
        self._tickets = itertools.count()
        JOINED.set(int(np.count_nonzero(self.changes.joined)))

    def apply(self, entries: list[tuple[str, bytes]]) -> None:
        """Apply a batch of the stream and commit it with its position."""
        began = time.perf_counter()
        applied = Applied()
        for entry_id, data in entries:
            self._apply_one(entry_id, data, applied)
        self.position = entries[-1][0]
        self._commit(applied, self.position)
        APPLY_SECONDS.observe(time.perf_counter() - began)

    def _apply_one(self, entry_id: str, data: bytes, applied: Applied) -> None:
        try:
            event = decode(data)
        except msgspec.MsgspecError as error:
            log.error("graph stream %s: %s", entry_id, error)
            REJECTED.inc()
            return
        if isinstance(event, GraphEvent) and self.changes.apply(event, applied):
            EVENTS.labels(event.verb).inc()
        else:
            log.error("graph stream %s: rejected %r", entry_id, event)
            REJECTED.inc()

    def _commit(self, applied: Applied, position: str | None) -> None:
        self.store.commit(self.changes, applied, position)
        self.view.forget(applied.authors)
        flushed = self.pages.changed(applied.authors)
        if position is not None:
            JOINED.inc(len(applied.users))
            self._flushing.put_nowait((parse_id(position), flushed))

    async def announce_positions(self) -> None:
        """Let `sync` return once a batch is applied and its stale follower pages are gone, for ever."""
        while True:
            position, flushed = await self._flushing.get()
            if flushed is not None:
                await asyncio.wait({flushed}, timeout=SYNC_LIMIT_S)
            self._visible = position
            while self._waiting and self._waiting[0][0] <= position:
                _, _, future = heapq.heappop(self._waiting)
                if not future.done():
                    future.set_result(None)

    def handlers(self) -> dict[str, Handler]:
        """The calls of the socket "graph"."""
        names = ("followers", "follower_count", "counts", "followees", "excluded", "user", "sync", "import_batch")
        return {"ping": _ping, "metrics": metrics, **{name: getattr(self, name) for name in (*names, "stats")}}

    async def followers(self, author: int, page: int) -> list[Any]:
        """[hot page, cold page, last, version]: each page [lane offsets, user numbers by lane, u32 little-endian].

        Pages of one version fit together; between two versions followers may have moved to another page.
        """
        self._check(author)
        if page < 0:
            raise RpcError("bad-request", f"page must be >= 0, got {page}")
        hot, cold, last = self.view.page(author, page)
        self.pages.served(author, page)
        return [hot, cold, last, self.view.version(author)]

    async def follower_count(self, author: int) -> int:
        """How many active followers the author has, itself not counted."""
        self._check(author)
        return len(self.view.followers(author).users)

    async def counts(self, user: int) -> list[int]:
        """[followers, following]."""
        self._check(user)
        return [len(self.view.followers(user).users), len(self.view.followees(user).users)]

    async def followees(self, user: int) -> list[bytes]:
        """[user numbers ascending, u32 little-endian; hot flag of each, u8]."""
        self._check(user)
        edges = self.view.followees(user)
        return [edges.users.astype("<u4").tobytes(), edges.hot.astype(np.uint8).tobytes()]

    async def excluded(self, user: int) -> list[bytes]:
        """[unfollowed, blocked either way]: authors whose entries must not show, u32 little-endian."""
        self._check(user)
        return [_packed(self.view.unfollowed(user)), _packed(sorted(self.view.blocked(user)))]

    async def user(self, user: int) -> dict[str, Any]:
        """Whether there is such an identity, whether it joined, and how far its import is."""
        if not self.changes.knows(user):
            return {"exists": False, "joined": False, "import": "none", "done": 0, "total": 0}
        total = len(self.changes.population.follows(user))
        done = min(int(self.changes.covered[user]), total)
        joined = bool(self.changes.joined[user])
        return {"exists": True, "joined": joined, "import": _state(joined, done, total), "done": done, "total": total}

    async def sync(self, stream_id: str) -> None:
        """Return once the graph stream is applied up to this id. Error "timeout" after 5 s."""
        wanted = parse_id(stream_id)
        if wanted <= self._visible:
            return
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        heapq.heappush(self._waiting, (wanted, next(self._tickets), future))
        try:
            async with asyncio.timeout(SYNC_LIMIT_S):
                await future
        except TimeoutError:
            raise RpcError("timeout", f"stands at {self.position}, before {stream_id}") from None

    async def import_batch(self, user: int, start: int, count: int) -> list[int]:
        """Import the user's inherited follows start .. start+count; [imported in all, total], durable."""
        self._check(user)
        if start < 0 or count < 0:
            raise RpcError("bad-request", "start and count must be >= 0")
        applied = Applied()
        covered, total = self.changes.cover(user, start, count, applied)
        if applied.users:
            self._commit(applied, None)
        return [covered, total]

    async def stats(self) -> dict[str, Any]:
        """Where the service stands."""
        joined = int(np.count_nonzero(self.changes.joined))
        return {"position": self.position, "users": self.changes.population.users, "joined": joined}

    def _check(self, user: int) -> None:
        if not self.changes.knows(user):
            raise RpcError("not-found", f"no user {user}")


def parse_id(stream_id: str) -> Position:
    """A stream id "ms-seq" as something that compares. Raises RpcError."""
    ms, _, seq = stream_id.partition("-")
    if not ms.isdigit() or not (seq or "0").isdigit():
        raise RpcError("bad-request", f"no stream id: {stream_id!r}")
    return int(ms), int(seq or 0)


def _state(joined: bool, done: int, total: int) -> str:
    if not joined:
        return "none"
    if done >= total:
        return "done"
    return "running" if done else "pending"


def _packed(users: list[int]) -> bytes:
    return np.array(users, "<u4").tobytes()


def _identity(settings: Settings, population: Population) -> str:
    """Changes when the population does."""
    if not settings.population:
        return f"{population.users} users"
    written_ns = Path(settings.population, "followees.npy").stat().st_mtime_ns
    return f"{settings.population} {written_ns} {population.users} {population.edges}"


async def _ping() -> str:
    return "pong"


async def main(context: Context) -> None:
    """Run the service until told to stop."""
    path = context.settings.data(context.region.name) / "graph.db"
    store = GraphStore(path)

    def pages(view: GraphView) -> FollowerPages:
        return FollowerPages(
            context.region.redis_cache_port,
            lambda author: len(view.followers(author).users) // PAGE + 1,
            earlier_life=store.existed,
        )

    service = GraphService(context.settings, store, pages)
    server = await serve(context.socket("graph"), service.handlers())
    log.info("%d users, graph stream from %s", service.changes.population.users, service.position)
    tasks = [
        asyncio.create_task(service.pages.run()),
        asyncio.create_task(service.announce_positions()),
        asyncio.create_task(_checkpoints(path)),
        asyncio.create_task(follow_stream(context.region.redis_queue_port, service.position, service.apply)),
    ]
    stopping = asyncio.create_task(context.stopping.wait())
    await asyncio.wait({stopping, *tasks}, return_when=asyncio.FIRST_COMPLETED)
    failed = [task for task in tasks if task.done()]
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)
    server.close()
    await service.pages.close()
    store.close()
    for task in failed:
        task.result()


async def _checkpoints(path: Path) -> None:
    while True:
        await asyncio.sleep(CHECKPOINT_EVERY_S)
        await asyncio.to_thread(checkpoint, path)
