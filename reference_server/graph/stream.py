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
from reference_server.queue.dead_letters import DeadLetter

log = logging.getLogger(__name__)
PART = "graph"
"""how dead letters name it"""
BATCH = 1000
BLOCK_MS = 500
ANSWER_LIMIT_S = 3.0
BACKOFF_S = (0.05, 0.5)


async def follow_stream(
    port: int,
    position: str,
    apply: Callable[[list[tuple[str, bytes]]], list[DeadLetter]],
    trim_to: Callable[[], str],
    level: asyncio.Event,
) -> None:
    """Hand entries (id, encoded event) behind `position` to `apply`, for ever; reconnects by itself.

    What `apply` returns is put aside. Entries below `trim_to()` ("": none) are not needed any more. `level` is set when
    the stream's end was reached for the first time.
    """
    redis: Any = Redis(
        host="127.0.0.1",
        port=port,
        socket_timeout=ANSWER_LIMIT_S,
        socket_connect_timeout=ANSWER_LIMIT_S,
        retry=Retry(NoBackoff(), 0),
        driver_info=None,
    )
    pause_s, trimmed = BACKOFF_S[0], ""
    try:
        while True:
            try:
                entries = await _read(redis, position, BLOCK_MS if level.is_set() else None)
                if entries:
                    for letter in apply(entries):
                        await redis.execute_command(*letter.command(PART))
                    position = entries[-1][0]
                if len(entries) < BATCH:
                    level.set()
                wanted = trim_to()
                if wanted != trimmed:
                    await redis.xtrim(STREAM_GRAPH, minid=wanted, approximate=True)
                    trimmed = wanted
                pause_s = BACKOFF_S[0]
            except (RedisError, OSError, TimeoutError) as error:
                log.warning("graph stream: %s; again in %g s", error, pause_s)
                await asyncio.sleep(pause_s)
                pause_s = min(pause_s * 2, BACKOFF_S[1])
    finally:
        await redis.aclose()


async def _read(redis: Redis, position: str, block_ms: int | None) -> list[tuple[str, bytes]]:
    answer: Any = await redis.xread({STREAM_GRAPH: position}, count=BATCH, block=block_ms)
    if not answer:
        return []
    rows = answer[0][1] if isinstance(answer, list) else next(iter(answer.values()))[0]
    return [(entry_id.decode(), fields.get(FIELD.encode(), b"")) for entry_id, fields in rows]
