"""Feeds the graph stream of redis-queue into the service, batch by batch, from the position the store has."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from reference_server.events import FIELD, STREAM_GRAPH

log = logging.getLogger(__name__)
BATCH = 1000
BLOCK_MS = 500
ANSWER_LIMIT_S = 3.0
BACKOFF_S = (0.05, 0.5)
TRIM_EVERY = 2000
"""entries applied between two trims of the stream; only this service reads it"""


async def follow_stream(port: int, position: str, apply: Callable[[list[tuple[str, bytes]]], None]) -> None:
    """Hand entries (id, encoded event) behind `position` to `apply`, for ever; reconnects by itself."""
    redis = Redis(
        host="127.0.0.1",
        port=port,
        socket_timeout=ANSWER_LIMIT_S,
        socket_connect_timeout=ANSWER_LIMIT_S,
        retry=Retry(NoBackoff(), 0),
        driver_info=None,
    )
    pause_s, untrimmed = BACKOFF_S[0], 0
    try:
        while True:
            try:
                entries = await _read(redis, position)
                if entries:
                    apply(entries)
                    position = entries[-1][0]
                    untrimmed += len(entries)
                if untrimmed >= TRIM_EVERY:
                    await redis.xtrim(STREAM_GRAPH, minid=position, approximate=True)
                    untrimmed = 0
                pause_s = BACKOFF_S[0]
            except (RedisError, OSError, TimeoutError) as error:
                log.warning("graph stream: %s; again in %g s", error, pause_s)
                await asyncio.sleep(pause_s)
                pause_s = min(pause_s * 2, BACKOFF_S[1])
    finally:
        await redis.aclose()


async def _read(redis: Redis, position: str) -> list[tuple[str, bytes]]:
    answer: Any = await redis.xread({STREAM_GRAPH: position}, count=BATCH, block=BLOCK_MS)
    if not answer:
        return []
    rows = answer[0][1] if isinstance(answer, list) else next(iter(answer.values()))[0]
    return [(entry_id.decode(), fields.get(FIELD.encode(), b"")) for entry_id, fields in rows]
