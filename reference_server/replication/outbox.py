"""Reads this region's outbox stream for one peer, and says when entries a peer still wants are gone."""

from __future__ import annotations

from typing import Any

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ResponseError

from reference_server.events import FIELD, STREAM_OUTBOX
from reference_server.replication.wire import parse_position

BATCH = 500
"""events read at once, and applied by one script at the peer, whose redis-queue serves nobody else meanwhile"""
ANSWER_LIMIT_S = 2.0


class Outbox:
    """One connection to redis-queue. Calls raise RedisError, OSError or TimeoutError while it is away."""

    def __init__(self, port: int) -> None:
        self._redis = Redis(
            host="127.0.0.1",
            port=port,
            socket_timeout=ANSWER_LIMIT_S,
            socket_connect_timeout=ANSWER_LIMIT_S,
            retry=Retry(NoBackoff(), 0),
            driver_info=None,
        )

    async def read(self, position: str, block_s: float) -> tuple[str, list[bytes]]:
        """Up to 500 events behind `position` and the position of the last; waits up to `block_s` for the first."""
        answer: Any = await self._redis.xread({STREAM_OUTBOX: position}, count=BATCH, block=int(block_s * 1000))
        if not answer:
            return position, []
        rows = answer[0][1] if isinstance(answer, list) else next(iter(answer.values()))[0]
        return rows[-1][0].decode(), [fields.get(FIELD.encode(), b"") for _, fields in rows]

    async def has_gap(self, position: str) -> bool:
        """Whether entries behind `position` were trimmed, or the outbox does not reach up to it (its data was lost)."""
        wanted = parse_position(position)
        try:
            about: Any = await self._redis.xinfo_stream(STREAM_OUTBOX)
        except ResponseError:  # no such stream: nothing was ever written, or all is lost
            return wanted > (0, 0)
        if parse_position(_text(about["last-generated-id"])) < wanted:
            return True
        if about["entries-added"] == about["length"]:
            return False
        first = about["first-entry"]
        return first is None or parse_position(_text(first[0])) > wanted

    async def trim(self, position: str) -> None:
        """Drop entries before `position` (which stays)."""
        await self._redis.xtrim(STREAM_OUTBOX, minid=position, approximate=True)

    async def close(self) -> None:
        """Drop the connection."""
        await self._redis.aclose()


def _text(value: bytes | str) -> str:
    return value.decode() if isinstance(value, bytes) else value
