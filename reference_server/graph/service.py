"""The graph service of a region: applies the graph stream, answers questions at the socket "graph".

Truth is the population under graph.db; graph.db is fed by the graph stream alone (and by import batches, which
only say how much of a user's inherited list counts). Neither writes posts nor knows timelines.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
import logging
import sqlite3
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import numpy as np
from prometheus_client import Counter, Gauge, Histogram

from reference_server.events import STREAM_GRAPH, GraphEvent, hidden_labels
from reference_server.graph.backup import Backup, open_store
from reference_server.graph.base import open_inverse
from reference_server.graph.changes import Applied, Changes
from reference_server.graph.exclusions import Exclusions
from reference_server.graph.follower_pages import FollowerPages
from reference_server.graph.store import START, GraphStore, checkpoint
from reference_server.graph.stream import follow_stream
from reference_server.graph.view import PAGE, GraphView
from reference_server.observability.tallies import CountMetric
from reference_server.process import Context, metrics
from reference_server.queue import Queue, QueueUnavailable
from reference_server.queue.dead_letters import DeadLetter, Unusable, read_event
from reference_server.rpc import Handler, RpcError, serve
from reference_server.seeding import Population, open_population
from reference_server.settings import Settings

log = logging.getLogger(__name__)
SYNC_LIMIT_S = 5.0
LEVEL_LIMIT_S = 5.0
"""how long the stream is waited for at start: without redis-queue what is known is told all the same"""
CHECKPOINT_EVERY_S = 10.0
RETRY_S = 0.5
EVENTS = Counter("feed_graph_events", "Events of the graph stream applied", ["verb"])
REJECTED = Counter("feed_graph_events_rejected", "Entries of the graph stream that make no sense")
APPLY_SECONDS = Histogram("feed_graph_apply_seconds", "Time to apply and commit one batch of the graph stream")
JOINED = Gauge("feed_graph_joined_users", "Users who signed up")
READS = CountMetric(
    "feed_graph_reads",
    "Questions to the graph service, by call",
    "call",
    ("followers", "follower_count", "counts", "followees", "following", "excluded", "excluded_changes", "user"),
)
ENDED = Counter("feed_graph_interactions_ended", "Pairs whose last interaction was 30 days ago")
INTERACTIONS = Gauge("feed_graph_interactions", "Pairs of a user and an author with an interaction in the last 30 days")
END_EVERY_S = 10.0
"""how often interactions that are over are looked for; with their slots of 20 s, half a minute late at most"""
END_AT_ONCE = 1000
Position = tuple[int, int]


class GraphService:
    """State and calls of the graph service."""

    def __init__(self, settings: Settings, store: GraphStore, pages: Callable[[GraphView], FollowerPages]) -> None:
        population = open_population(settings)
        folder = Path(settings.directory, "graph-base")
        self.store = store
        self.changes = Changes(population)
        store.load(self.changes, forgets_blocks=settings.has_defect("block-lost-at-restart"))
        inverse = open_inverse(population, _identity(settings, population), folder)
        loses_pending = settings.has_defect("pending-follows-lost")
        self.view = GraphView(population, inverse, self.changes, settings.lanes, loses_pending=loses_pending)
        self.pages = pages(self.view)
        self.position = store.position()
        self._visible = parse_id(START)
        self._flushing: asyncio.Queue[tuple[Position, asyncio.Future[None] | None]] = asyncio.Queue()
        self._flushing.put_nowait((parse_id(self.position), self.pages.begin()))
        self.level = asyncio.Event()
        """set once the graph stream was applied to its end"""
        self._waiting: list[tuple[Position, int, asyncio.Future[None]]] = []
        self._tickets = itertools.count()
        self._failures: asyncio.Queue[sqlite3.Error] = asyncio.Queue()
        self.backup = Backup(store.path)
        self.exclusions = Exclusions()
        INTERACTIONS.set(self.changes.interactions.count)
        JOINED.set(int(np.count_nonzero(self.changes.joined)))

    def apply(self, entries: list[tuple[str, bytes]]) -> list[DeadLetter]:
        """Apply a batch of the stream and commit it with its position; returns what cannot be applied."""
        began = time.perf_counter()
        applied, dead = Applied(), []
        for entry_id, data in entries:
            error = self._apply_one(data, applied)
            if error:
                log.error("graph stream %s: %s", entry_id, error)
                REJECTED.inc()
                dead.append(DeadLetter(STREAM_GRAPH, entry_id, data, error))
        self.position = entries[-1][0]
        self._commit(applied, self.position)
        self.backup.applied(len(entries))
        APPLY_SECONDS.observe(time.perf_counter() - began)
        return dead

    def _apply_one(self, data: bytes, applied: Applied) -> str:
        """What is wrong with it; "" when it was applied."""
        try:
            event = read_event(STREAM_GRAPH, data)
        except Unusable as error:
            return str(error)
        if not isinstance(event, GraphEvent) or not self.changes.apply(event, applied):
            return f"rejected {event!r}"
        EVENTS.labels(event.verb).inc()
        return ""

    def _commit(self, applied: Applied, position: str | None) -> None:
        self.store.commit(self.changes, applied, position)
        self.exclusions.note(applied)
        self.view.changed(applied)
        flushed = self.pages.changed(applied.authors)
        INTERACTIONS.set(self.changes.interactions.count)
        if position is not None:
            JOINED.inc(len(applied.users))
            self._flushing.put_nowait((parse_id(position), flushed))

    async def follow(self, queue_port: int) -> None:
        """Apply the graph stream, for ever."""
        await follow_stream(queue_port, self.position, self.apply, lambda: self.backup.position, self.level)

    async def end_interactions(self) -> None:
        """Have edges cool down whose last interaction was 30 days ago, for ever."""
        while True:
            await asyncio.sleep(END_EVERY_S)
            more = True
            while more:
                applied = Applied()
                more = self.changes.end_interactions(END_AT_ONCE, applied)
                if applied.ended:
                    ENDED.inc(len(applied.ended))
                    self._commit(applied, None)
                    self.backup.applied(1)
                await asyncio.sleep(0)

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
        reads = {call: _counted(call, getattr(self, call)) for call in READS.counts}
        others = {name: getattr(self, name) for name in ("sync", "import_batch", "copy", "stats")}
        return {"ping": _ping, "metrics": metrics, **reads, **others}

    async def followers(self, author: int, page: int) -> list[Any]:
        """[hot page, cold page, last, version]: each page [lane offsets, user numbers by lane, u32 little-endian].

        Pages of one version fit together; between two versions followers may have moved to another page.
        """
        self._check(author)
        if page < 0:
            raise RpcError("bad-request", f"page must be >= 0, got {page}")
        await self.view.prepare(author)
        hot, cold, last = self.view.page(author, page)
        self.pages.served(author, page)
        return [hot, cold, last, self.view.version(author)]

    async def follower_count(self, author: int) -> int:
        """How many active followers the author has, itself not counted."""
        self._check(author)
        await self.view.prepare(author)
        return len(self.view.followers(author).users)

    async def counts(self, user: int) -> list[int]:
        """[followers, following]."""
        self._check(user)
        await self.view.prepare(user)
        return [len(self.view.followers(user).users), len(self.view.followees(user))]

    async def followees(self, user: int, start: int = 0) -> list[Any]:
        """[at most 1,000 user numbers from `start` on, ascending, u32 little-endian; `start` of the next page | null].

        Whoever is followed all the while is met once, whatever else changes between two pages.
        """
        self._check(user)
        if not 0 <= start <= self.changes.population.users:
            raise RpcError("bad-request", f"start must be a user number, got {start}")
        users, following = self.view.followees_page(user, start)
        return [users.astype("<u4").tobytes(), following]

    async def following(self, user: int, other: int) -> list[int]:
        """[how many the user actively follows, 1 when `other` is among them]."""
        self._check(user)
        users = self.view.followees(user)
        place = int(np.searchsorted(users, other))
        return [len(users), int(place < len(users) and users[place] == other)]

    async def excluded(self, user: int) -> list[Any]:
        """[unfollowed, blocked either way, labels]: what must not be shown to the user.

        Authors as u32 little-endian, labels as bits of `events.Label`.
        """
        self._check(user)
        labels = int(hidden_labels(self.changes.reader(user)))
        return [_packed(self.view.unfollowed(user)), _packed(sorted(self.view.blocked(user))), labels]

    async def excluded_changes(self, life: int, count: int) -> list[Any]:
        """[life, count, users whose `excluded` changed since then | null]; the first two are for the next call."""
        return self.exclusions.since(life, count)

    async def user(self, user: int) -> dict[str, Any]:
        """Whether there is such an identity, whether it joined, and how far its import is."""
        if not self.changes.knows(user):
            return {"exists": False, "joined": False, "import": "none", "done": 0, "total": 0, "reader": 0}
        total = len(self.changes.population.follows(user))
        done = min(int(self.changes.covered[user]), total)
        joined = bool(self.changes.joined[user])
        reader = int(self.changes.reader(user))
        state = {"exists": True, "joined": joined, "import": _state(joined, done, total), "done": done, "total": total}
        return state | {"reader": reader}

    async def sync(self, stream_id: str) -> bool:
        """Return once the graph stream is applied up to this id. Error "timeout" after 5 s.

        False: redis-cache did not let pages of followers be deleted that are out of date.
        """
        wanted = parse_id(stream_id)
        if wanted <= self._visible:
            return self.pages.is_clean
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        heapq.heappush(self._waiting, (wanted, next(self._tickets), future))
        try:
            async with asyncio.timeout(SYNC_LIMIT_S):
                await future
        except TimeoutError:
            raise RpcError("timeout", f"stands at {self.position}, before {stream_id}") from None
        return self.pages.is_clean

    async def import_batch(self, user: int, start: int, count: int) -> list[int]:
        """Import the user's inherited follows start .. start+count; [imported in all, total], durable."""
        self._check(user)
        if start < 0 or count < 0:
            raise RpcError("bad-request", "start and count must be >= 0")
        applied = Applied()
        covered, total = self.changes.cover(user, start, count, applied)
        if applied.users:
            try:
                self._commit(applied, None)
            except sqlite3.Error as error:
                self._failures.put_nowait(error)
                raise RpcError("unavailable", str(error)) from error
            self.backup.applied(1)
        return [covered, total]

    async def fail(self) -> None:
        """Raise what an import met in the store: memory is ahead of it now, only a new process is in step again."""
        raise await self._failures.get()

    async def copy(self) -> str:
        """Copy graph.db now; the position in the newest copy."""
        await self.backup.make()
        return self.backup.position

    async def ask_for_imports(self, queue: Queue) -> None:
        """After a loss: once the stream is applied, have unfinished imports done again; waits for the queue."""
        while self.store.imports_lost:
            try:
                await self.sync(await queue.last_graph_id())
                await queue.append_imports(self.changes.unfinished())
                self.store.imports_lost = False
            except (QueueUnavailable, RpcError) as error:
                log.warning("imports cannot be asked for yet: %s", error)
                await asyncio.sleep(RETRY_S)

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


def _counted(call: str, handler: Handler) -> Handler:
    """The handler of a call that reads; refused ones are counted too."""

    def count(*arguments: Any) -> Awaitable[Any]:
        READS.counts[call] += 1
        return handler(*arguments)

    return count


async def _ping() -> str:
    return "pong"


async def main(context: Context) -> None:
    """Run the service until told to stop."""
    path = context.settings.data(context.region.name) / "graph.db"
    store = open_store(path)

    def pages(view: GraphView) -> FollowerPages:
        return FollowerPages(
            context.region.redis_cache_port,
            lambda author: view.most_followers(author) // PAGE + 1,
            earlier_life=store.existed,
            ttl_s=context.flags.now.follower_cache_ttl_s,
        )

    service = GraphService(context.settings, store, pages)
    context.flags.on_change(lambda flags: service.pages.set_ttl(flags.follower_cache_ttl_s))
    log.info("%d users, graph stream from %s", service.changes.population.users, service.position)
    tasks = [
        asyncio.create_task(service.pages.run()),
        asyncio.create_task(service.announce_positions()),
        asyncio.create_task(service.fail()),
        asyncio.create_task(service.end_interactions()),
        asyncio.create_task(_checkpoints(path)),
        asyncio.create_task(service.backup.run()),
        asyncio.create_task(service.follow(context.region.redis_queue_port)),
    ]
    mending = asyncio.create_task(_mend(service, context))
    stopping = asyncio.create_task(context.stopping.wait())
    await _await_level(service, stopping, *tasks)
    server = await serve(context.socket("graph"), service.handlers())
    await asyncio.wait({stopping, *tasks}, return_when=asyncio.FIRST_COMPLETED)
    failed = [task for task in tasks if task.done()]
    for task in (*tasks, mending):
        task.cancel()
    await asyncio.wait([*tasks, mending])
    server.close()
    await service.pages.close()
    store.close()
    for task in failed:
        task.result()


async def _await_level(service: GraphService, *others: asyncio.Task[Any]) -> None:
    """Nobody is answered from before what was acknowledged while the service was away."""
    level = asyncio.create_task(service.level.wait())
    done, _ = await asyncio.wait({level, *others}, timeout=LEVEL_LIMIT_S, return_when=asyncio.FIRST_COMPLETED)
    if not done:
        log.warning("serves although it could not read the graph stream to its end, from %s", service.position)
    level.cancel()


async def _mend(service: GraphService, context: Context) -> None:
    queue = Queue.of(context.settings, context.region)
    try:
        await service.ask_for_imports(queue)
    finally:
        await queue.close()


async def _checkpoints(path: Path) -> None:
    while True:
        await asyncio.sleep(CHECKPOINT_EVERY_S)
        await asyncio.to_thread(checkpoint, path)
