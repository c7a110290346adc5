"""The bus to the edges: one message a record and edge, through a bounded stream of redis-cache.

A message may be lost (redis-cache away, stream trimmed): its number is counted all the same, so the edge notices the
gap, and asks the lane for what it missed. Never waits, never retries: messages go out in the order they were counted.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any

import msgspec
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from reference_server.timeline.entry import make_seq
from reference_server.timeline.measures import NOTICES
from reference_server.timeline.owner import LaneOwner, Notice

_log = logging.getLogger(__name__)
FIELD = b"m"
KEPT = 20_000
SKIP_EVERY = 20
_BURST = 500
_GATHER_S = 0.001
"""lanes finish a post one after the other: their messages share a round trip"""
_MAX_WAITING = 50_000
_TIMEOUT_S = 0.25


class Bus:
    """Sends notices of this worker's lanes."""

    def __init__(self, region: str, redis_port: int, *, skips: bool = False) -> None:
        """`skips` is the planted defect "skip-notify"."""
        self._region = region
        self._skips = skips
        self._records = 0
        self._redis: Any = Redis(
            host="127.0.0.1",
            port=redis_port,
            protocol=2,
            socket_timeout=_TIMEOUT_S,
            socket_connect_timeout=_TIMEOUT_S,
            retry=Retry(NoBackoff(), 0),
        )
        self._waiting: list[tuple[str, bytes]] = []
        self._wake = asyncio.Event()
        self._encode: Callable[[Any], bytes] = msgspec.msgpack.Encoder().encode

    def notify(self, owner: LaneOwner, notices: list[Notice]) -> None:
        """Queue the messages about these records."""
        activity = owner.activity
        for notice in notices:
            edges = activity.edges_of(notice.users)
            if not edges:
                continue
            self._records += 1
            if self._skips and self._records % SKIP_EVERY == 0:
                continue
            seq = make_seq(owner.index.epoch, notice.number)
            for edge, users in edges:
                count = activity.counts[edge] = activity.count(edge) + 1
                message = [owner.lane, activity.session, count, seq, notice.post_id, users]
                self._waiting.append((f"bus:{self._region}.{edge}", self._encode(message)))
        if self._waiting:
            self._wake.set()

    async def run(self) -> None:
        """Send, for ever."""
        try:
            while True:
                await self._wake.wait()
                await asyncio.sleep(_GATHER_S)
                self._wake.clear()
                while self._waiting:
                    dropped = self._waiting[: max(0, len(self._waiting) - _MAX_WAITING)]
                    NOTICES.labels("dropped").inc(len(dropped))
                    burst = self._waiting[len(dropped) : len(dropped) + _BURST]
                    del self._waiting[: len(dropped) + len(burst)]
                    await self._send(burst)
        finally:
            await self._redis.aclose()

    async def _send(self, burst: list[tuple[str, bytes]]) -> None:
        pipeline = self._redis.pipeline(transaction=False)
        for stream, message in burst:
            pipeline.xadd(stream, {FIELD: message}, maxlen=KEPT, approximate=True)
        try:
            await pipeline.execute()
            NOTICES.labels("sent").inc(len(burst))
        except (RedisError, OSError) as error:
            _log.warning("%d notices lost: %s", len(burst), error)
            NOTICES.labels("lost").inc(len(burst))
