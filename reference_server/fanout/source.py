"""One stream of redis-queue as a feeder reads it: plain reads behind a position, no consumer group.

What cannot be used is put aside as a dead letter before anything behind it is handed out, so no position can pass it
before that; the entry comes along without an event, as its position must be passed.
"""

from __future__ import annotations

import logging
from typing import Any, NamedTuple

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from reference_server.events import FIELD, Event
from reference_server.fanout.lane_feed import Position, format_position, parse_position
from reference_server.queue.dead_letters import DeadLetter, Unusable, post_in, read_event

_log = logging.getLogger(__name__)
_FIELD = FIELD.encode()
_TIMEOUT_S = 2.0


class SourceEntry(NamedTuple):
    """One entry; None: it cannot be used."""

    position: Position
    event: Event | None


class Source:
    """See the module. Calls raise RedisError, OSError; `reset` then."""

    def __init__(self, stream: str, redis_port: int, part: str) -> None:
        """`part`: how dead letters name this process."""
        self.stream = stream
        self._part = part
        self._buried: Position = (0, 0)
        self._redis: Any = Redis(
            host="127.0.0.1",
            port=redis_port,
            protocol=2,
            socket_timeout=_TIMEOUT_S,
            socket_connect_timeout=1.0,
            retry=Retry(NoBackoff(), 0),
            single_connection_client=True,
        )

    async def read(self, after: Position, count: int, block_ms: int | None) -> list[SourceEntry]:
        """Up to `count` entries behind the position; `block_ms`: how long to wait for one (None: not at all)."""
        reply = await self._redis.xread({self.stream: format_position(after)}, count=count, block=block_ms)
        rows = reply[0][1] if reply else []
        return [await self._entry(entry_id.decode(), fields.get(_FIELD)) for entry_id, fields in rows]

    async def reset(self) -> None:
        """Drop the connection; the next read makes a new one."""
        await self._redis.aclose()

    async def _entry(self, entry_id: str, data: bytes | None) -> SourceEntry:
        position = parse_position(entry_id)
        try:
            return SourceEntry(position, read_event(self.stream, data))
        except Unusable as error:
            await self._bury(position, DeadLetter(self.stream, entry_id, data or b"", str(error)))
            return SourceEntry(position, None)

    async def _bury(self, position: Position, letter: DeadLetter) -> None:
        if position <= self._buried:
            return  # read again, as another lane is not as far
        _log.error(
            "entry %s of %s is put aside: %s", letter.id, letter.stream, letter.error, extra=post_in(letter.data)
        )
        await self._redis.execute_command(*letter.command(self._part))
        self._buried = position
