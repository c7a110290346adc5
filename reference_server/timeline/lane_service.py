"""What a lane's socket answers: timelines for the api, presence for the edges, positions for the archiver.

rebuild(user) -> [gen, epoch, floor, upto, slots, horizon_us]  gen -1: do not publish; posts from before horizon_us may
                                                             be missing (0: none is)
generation(user) -> gen                                      -1: what is cached does not count
materialise(user, hot_ttl_s[, everything]) -> added           session mark, then what is owed, applied, whoever had it
                                                             written; what is cached may be another now
subscribe(edge, [[user, since | null], ...]) -> [session, count, [[head, missed | null], ...]]
unsubscribe(edge, [user, ...]) -> null                       bus_head(edge) -> [session, count]
position() -> {"posts": id, "celeb": id}                     ping, metrics, stats
"""

from __future__ import annotations

import asyncio
import time
from typing import Any

from reference_server import process
from reference_server.rpc import Handler, RpcError
from reference_server.timeline.activity import TooManyEdges
from reference_server.timeline.cache_writer import NO_GEN
from reference_server.timeline.measures import REBUILD
from reference_server.timeline.merge import GRAPH_FAILED, ColdMerge
from reference_server.timeline.owner import LaneOwner, Lost
from reference_server.timeline.takeover import STREAMS

MERGE_LIMIT_S = 0.4
"""an edge waits at most so long for merges; later ones are notified like any arrival"""
MARK_EVERY_S = 30
"""a session mark is moved by at least so much: with fanout at pull every first page opens the session again"""


class LaneService:
    """The handlers of one lane."""

    def __init__(self, owner: LaneOwner, merge: ColdMerge) -> None:
        self.owner = owner
        self.merge = merge

    def handlers(self) -> dict[str, Handler]:
        """By method name."""
        return {
            "rebuild": self.rebuild,
            "generation": self.generation,
            "materialise": self.materialise,
            "subscribe": self.subscribe,
            "unsubscribe": self.unsubscribe,
            "bus_head": self.bus_head,
            "position": self.position,
            "stats": self.stats,
            "ping": self.ping,
            "metrics": process.metrics,
        }

    async def rebuild(self, user: int) -> list[Any]:
        """The user's timeline. RpcError "lost" under the planted defect no-wal."""
        started = time.perf_counter()
        self._check(user)
        try:
            reply = list(self.owner.rebuild(user))
        except Lost as error:
            raise RpcError("lost", str(error)) from error
        REBUILD.observe(time.perf_counter() - started)
        return reply

    async def generation(self, user: int) -> int:
        """The key generation under which the user's cached timeline counts; -1: none does."""
        self._check(user)
        return NO_GEN if self.owner.cache is None else self.owner.cache.stand_by(user)

    async def materialise(self, user: int, hot_ttl_s: float, everything: bool = False) -> int:
        """Mark a session, then write what is owed; how many posts. What others handed over meanwhile is waited for too.

        RpcError "unavailable" when the graph is away (the mark stays).
        """
        self._check(user)
        fresh = self.merge.is_fresh(user)
        until_s = time.time() + hot_ttl_s
        if until_s - self.owner.activity.hot_until[user] > MARK_EVERY_S:
            self.owner.mark_hot(user, until_s)
        added = 0
        if everything or not fresh:
            try:
                added = await self.merge.settle(user, everything=everything)
            except GRAPH_FAILED as error:
                raise RpcError("unavailable", f"graph: {error}") from error
        await self.owner.wait_applied(self.owner.handed_over.get(user, 0))
        return added

    async def subscribe(self, edge: str, wanted: list[tuple[int, int | None]]) -> list[Any]:
        """Presence, then what is owed, then head and what was missed: nothing falls between."""
        users = [user for user, _ in wanted]
        for user in users:
            self._check(user)
        activity, now_s = self.owner.activity, time.time()
        try:
            uncovered = [user for user in users if not activity.is_covered(user, now_s)]
            activity.join(edge, users, now_s)
        except TooManyEdges as error:
            raise RpcError("bad-request", str(error)) from error
        before = self.owner.index.next
        await self.merge.settle_all(uncovered, MERGE_LIMIT_S)
        if self.owner.index.next > before:
            await self.owner.wait_applied(self.owner.index.next - 1)
        head = self.owner.head
        answers = [[head, [] if since is None else self.owner.missed(user, since)] for user, since in wanted]
        return [activity.session, activity.count(edge), answers]

    async def unsubscribe(self, edge: str, users: list[int]) -> None:
        """These users have no stream at the edge any more."""
        self.owner.activity.leave(edge, [user for user in users if self.owner.index.owns(user)], time.time())

    async def bus_head(self, edge: str) -> list[int]:
        """This incarnation, and how many messages it sent to the edge."""
        return [self.owner.activity.session, self.owner.activity.count(edge)]

    async def position(self) -> dict[str, str]:
        """Queue entries up to these are in the log and on disk: the queue may let go of them."""
        positions = self._positions()
        if not self.owner.wal.is_synced:
            await asyncio.to_thread(self.owner.wal.sync)
        return positions

    def _positions(self) -> dict[str, str]:
        return {stream: self.owner.wal.position(stream)[0] for stream in STREAMS}

    async def ping(self) -> str:
        """Readiness."""
        return "pong"

    async def stats(self) -> dict[str, Any]:
        """For people and tests."""
        owner = self.owner
        return {
            "lane": owner.lane,
            "epoch": owner.index.epoch,
            "logged": not owner.wal.is_volatile,
            "gens": [] if owner.cache is None else [node.gen for node in owner.cache.nodes],
            "cache": [] if owner.cache is None else [node.state.name for node in owner.cache.nodes],
            "records": owner.index.next - 1,
            "applied": owner.applied,
            "history": owner.history,
            "positions": self._positions(),
            "first": owner.index.first,
            "horizon_us": owner.index.horizon_us,
        }

    def _check(self, user: int) -> None:
        if not self.owner.index.owns(user):
            raise RpcError("not-found", f"user {user} is not in lane {self.owner.lane}")
