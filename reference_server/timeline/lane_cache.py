"""The owner's hand on all memcached nodes of a region: each holds the timelines of some of the lane's users.

    owner -> LaneCache -> CacheWriter of node 0: connection, state, generation, outstanding batches
                       -> CacheWriter of node 1 ...
Which node is decided by rendezvous hashing of the user number over a fixed list; nothing moves when a node is lost: its
users are served by the owner until it is back, everybody else does not notice. A batch has been applied when every node
has said so, or is gone.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from functools import partial

import numpy as np

from reference_server.partition_arrays import nodes_of
from reference_server.timeline.cache_writer import TIMEOUT_S, Cached, CacheWriter
from reference_server.timeline.cached import CachedTimeline, make_value, timeline_key
from reference_server.timeline.index import Users, picker
from reference_server.timeline.memcached import Reply

_BULK_BYTES = 1 << 20


def gen_name(node: int) -> str:
    """The name under which a node's key generation stands among the numbers of the lane's log."""
    return f"gen:{node}" if node else "gen"


class Appends:
    """What one batch appends, being put together; a part for each node."""

    def __init__(self, cache: LaneCache) -> None:
        self._cache = cache
        self.parts: list[list[bytes]] = [[] for _ in cache.nodes]
        self.slots_sent = [0] * len(cache.nodes)

    def slot(self, slot: bytes, users: Users) -> None:
        """One slot to many users."""
        may_be = self._cache.cached.may_be[users]
        targets = users if may_be.all() else users[may_be]
        line = slot + b"\r\n"
        if len(self.parts) == 1:
            self._add(0, line, targets)
            return
        node_of = self._cache.node_of[targets]
        for node in range(len(self.parts)):
            self._add(node, line, targets[node_of == node])

    def _add(self, node: int, line: bytes, targets: Users) -> None:
        if len(targets):
            prefixes = picker(targets.tolist())(self._cache.cached.prefixes)
            self.parts[node].append(line.join((*prefixes, b"")))
            self.slots_sent[node] += len(targets)

    def slots(self, slots: bytes, user: int) -> None:
        """Many slots to one user."""
        cache = self._cache
        if cache.cached.may_be[user]:
            node = cache.node_of[user]
            head = b"ms %b %d MA q k\r\n" % (timeline_key(cache.nodes[node].gen, user).encode(), len(slots))
            self.parts[node].append(head + slots + b"\r\n")
            self.slots_sent[node] += 1

    def curb(self, user: int) -> None:
        """Drop a user's cached timeline if it grew beyond all bounds."""
        cache = self._cache
        if cache.cached.may_be[user]:
            node = cache.node_of[user]
            self.parts[node].append(b"mg %b s k q\r\n" % timeline_key(cache.nodes[node].gen, user).encode())


class LaneCache:
    """One lane's timelines in memcached."""

    def __init__(
        self,
        lane: int,
        users: Sequence[int],
        population: int,
        ports: Sequence[int],
        gens: Sequence[int],
        store_gen: Callable[[int, int], None],
        on_applied: Callable[[int], None],
        timeout_s: float = TIMEOUT_S,
    ) -> None:
        """`gens`: the nodes' key generations as last stored; `store_gen(node, gen)` makes one durable.

        `on_applied` learns, ascending, up to which record everything has been applied.
        """
        self.cached = Cached(np.zeros(population, bool), [b""] * population)
        self.node_of = nodes_of(np.arange(population, dtype=np.uint32), len(ports))
        """user -> node, of every user of the population"""
        self._on_applied = on_applied
        self._marks = [0] * len(ports)
        mine = np.array(users, np.uint32)
        self.nodes = [
            CacheWriter(
                lane,
                node,
                port,
                mine[self.node_of[mine] == node],
                self.cached,
                gens[node],
                partial(store_gen, node),
                partial(self._note_applied, node),
                timeout_s,
            )
            for node, port in enumerate(ports)
        ]

    async def join(self) -> None:
        """Connect; returns when each node is known to be there or gone."""
        await asyncio.gather(*(node.join() for node in self.nodes))

    async def wait_up(self, limit_s: float) -> bool:
        """Whether all nodes are there, or come within the limit."""
        return all(await asyncio.gather(*(node.wait_up(limit_s) for node in self.nodes)))

    async def close(self) -> None:
        """Disconnect."""
        await asyncio.gather(*(node.close() for node in self.nodes))

    async def wait_room(self) -> None:
        """Return when every node can take another batch. Always lets the event loop send what waits."""
        await asyncio.sleep(0)
        for node in self.nodes:
            await node.wait_room()

    def appends(self) -> Appends:
        """A new batch."""
        return Appends(self)

    def send(self, appends: Appends, last: int) -> None:
        """Send a batch, whose newest record is `last`; `on_applied(last)` follows."""
        for node, parts, slots in zip(self.nodes, appends.parts, appends.slots_sent, strict=True):
            node.send(b"".join(parts), slots, last)

    def lend(self, user: int) -> int:
        """The generation under which the user's timeline may be published; from now on appends go there. Or NO_GEN."""
        return self.writer_of(user).lend(user)

    def gen_of(self, user: int) -> int:
        """The present generation of the user's key."""
        return self.writer_of(user).gen

    def stand_by(self, user: int) -> int:
        """The same while the user's node is there and what is cached counts; NO_GEN otherwise."""
        return self.writer_of(user).stand_by()

    def drop(self, user: int) -> asyncio.Future[list[Reply]] | None:
        """Delete the user's cached timeline; done when nobody can read it any more, None: nobody can."""
        return self.writer_of(user).drop(user)

    async def end_sessions(self) -> None:
        """Have all users' next first pages open sessions anew."""
        await asyncio.gather(*(node.end_sessions() for node in self.nodes))

    def writer_of(self, user: int) -> CacheWriter:
        """The hand on the user's node."""
        return self.nodes[int(self.node_of[user])]

    async def fill(self, timelines: Iterable[tuple[int, CachedTimeline]]) -> None:
        """Store users' timelines in bulk; those of nodes that go away are given up."""
        waiting: list[list[tuple[int, bytes]]] = [[] for _ in self.nodes]
        sizes = [0] * len(self.nodes)
        for user, timeline in timelines:
            node = self.node_of[user]
            waiting[node].append((user, make_value(*timeline)))
            sizes[node] += len(timeline.slots)
            if sizes[node] >= _BULK_BYTES:
                await self.nodes[node].store(waiting[node])
                waiting[node], sizes[node] = [], 0
        for writer, rest in zip(self.nodes, waiting, strict=True):
            if rest:
                await writer.store(rest)

    def _note_applied(self, node: int, last: int) -> None:
        before = min(self._marks)
        self._marks[node] = last
        if (now := min(self._marks)) > before:
            self._on_applied(now)
