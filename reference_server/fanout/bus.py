"""The bus to the edges: one message a record and edge, through a bounded stream of redis-cache.

A message may be lost (redis-cache away, stream trimmed): its number is counted all the same, so the edge notices the
gap, and asks the lane for what it missed. Never waits, never retries: messages go out in the order they were counted.

    message  [lane, session, count, seq, post id, users (u32 LE each), accepted_us]      msgpack, in the field `m`
`accepted_us` is when the post was accepted, in Unix µs; 0 for posts of other regions and for those that were owed.
Users are those with a stream at the edge; all that the record reached when the flag presence_gated_notify is off.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any, NamedTuple

import msgspec
import numpy as np
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from reference_server.fanout.stage_times import StageTimes
from reference_server.flags import Flags
from reference_server.timeline.activity import Activity
from reference_server.timeline.entry import make_seq
from reference_server.timeline.index import Users
from reference_server.timeline.measures import NOTICES
from reference_server.timeline.owner import LaneOwner, Notice

_log = logging.getLogger(__name__)
FIELD = b"m"
KEPT = 20_000
UNGATED_KEPT = 2_000
"""messages kept in an edge's stream while they name all followers: up to 4 kB each"""
SKIP_EVERY, STRAY_EVERY = 20, 20
_BURST = 500
_GATHER_S = 0.001
"""lanes finish a post one after the other: their messages share a round trip"""
_MAX_WAITING = 50_000
_UNGATED_MAX_WAITING = 5_000
_TIMEOUT_S = 0.25


class _Message(NamedTuple):
    """One message on its way."""

    stream: str
    data: bytes
    timed: bytes
    """the post whose time to this stage counts; empty: none"""


class Bus:
    """Sends notices of this worker's lanes."""

    def __init__(
        self,
        region: str,
        redis_port: int,
        flags: Callable[[], Flags],
        times: StageTimes,
        *,
        skips: Callable[[], bool] = lambda: False,
        strays: Callable[[], bool] = lambda: False,
    ) -> None:
        """`skips` and `strays` are the planted defects "skip-notify" and "event-unfollowed"."""
        self._region, self._flags, self._times = region, flags, times
        self._skips, self._strays = skips, strays
        self._redis: Any = Redis(
            host="127.0.0.1",
            port=redis_port,
            protocol=2,
            socket_timeout=_TIMEOUT_S,
            socket_connect_timeout=_TIMEOUT_S,
            retry=Retry(NoBackoff(), 0),
        )
        self._waiting: list[_Message] = []
        self._wake = asyncio.Event()
        self._encode: Callable[[Any], bytes] = msgspec.msgpack.Encoder().encode

    def notify(self, owner: LaneOwner, notices: list[Notice]) -> None:
        """Queue the messages about these records."""
        activity = owner.activity
        edges_of = activity.edges_of if self._flags().presence_gated_notify else activity.everywhere
        for notice in notices:
            edges = edges_of(notice.users)
            if not edges:
                continue
            if self._skips():
                continue
            if self._strays():
                edges = [(edge, users + _stranger(activity, edge, notice.users)) for edge, users in edges]
            seq = make_seq(owner.index.epoch, notice.number)
            accepted_us = 0 if notice.owed else self._times.accepted_us(notice.post_id)
            timed = notice.post_id if accepted_us else b""
            for edge, users in edges:
                count = activity.counts[edge] = activity.count(edge) + 1
                message = [owner.lane, activity.session, count, seq, notice.post_id, users, accepted_us]
                self._waiting.append(_Message(f"bus:{self._region}.{edge}", self._encode(message), timed))
        if self._waiting:
            self._wake.set()

    async def run(self) -> None:
        """Send, for ever."""
        try:
            while True:
                await self._wake.wait()
                await asyncio.sleep(_GATHER_S)
                self._wake.clear()
                gated = self._flags().presence_gated_notify
                most = _MAX_WAITING if gated else _UNGATED_MAX_WAITING
                while self._waiting:
                    dropped = self._waiting[: max(0, len(self._waiting) - most)]
                    NOTICES.labels("dropped").inc(len(dropped))
                    burst = self._waiting[len(dropped) : len(dropped) + _BURST]
                    del self._waiting[: len(dropped) + len(burst)]
                    await self._send(burst, KEPT if gated else UNGATED_KEPT)
        finally:
            await self._redis.aclose()

    async def _send(self, burst: list[_Message], kept: int) -> None:
        pipeline = self._redis.pipeline(transaction=False)
        for message in burst:
            pipeline.xadd(message.stream, {FIELD: message.data}, maxlen=kept, approximate=True)
        try:
            await pipeline.execute()
            NOTICES.labels("sent").inc(len(burst))
            self._times.notified({message.timed for message in burst if message.timed})
        except (RedisError, OSError) as error:
            _log.warning("%d notices lost: %s", len(burst), error)
            NOTICES.labels("lost").inc(len(burst))


def _stranger(activity: Activity, edge: str, users: Users) -> bytes:
    """A listener of the edge who is not among the users, as the bus names him; nothing when there is none."""
    there = np.flatnonzero(activity.presence).astype(np.uint32)
    others = [packed for name, packed in activity.edges_of(np.setdiff1d(there, users)) if name == edge]
    return others[0][:4] if others else b""
