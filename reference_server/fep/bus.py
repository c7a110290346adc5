"""The tail of this edge's stream on redis-cache: every message once, in order, and word of every interruption."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Annotated, Any

import msgspec
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from reference_server.fep import measures

log = logging.getLogger(__name__)

BLOCK_MS = 1000
READ_COUNT = 500
TIMEOUT_S = 2.5
RETRY_S = 0.1
FIELD = b"m"


class BusMessage(msgspec.Struct, array_like=True):
    """What a lane's owner writes: one message a record and edge."""

    lane: Annotated[int, msgspec.Meta(ge=0)]
    session: int
    count: int
    seq: int
    post: Annotated[bytes, msgspec.Meta(min_length=16, max_length=16)]
    users: bytes
    """u32 little-endian each"""
    accepted_us: Annotated[int, msgspec.Meta(ge=0)] = 0
    """when the post was accepted, Unix µs; 0: not told"""

    def __post_init__(self) -> None:
        """Raises ValueError, a ValidationError when decoding."""
        if len(self.users) % 4:
            raise ValueError(f"users: {len(self.users)} bytes are no whole numbers")


class Bus:
    """Reads the stream from its end onwards."""

    def __init__(
        self, port: int, stream: str, on_message: Callable[[BusMessage], None], on_joined: Callable[[], None]
    ) -> None:
        """`on_joined` is called whenever reading starts anew: what came before is not read."""
        self._redis = Redis(
            host="127.0.0.1",
            port=port,
            protocol=2,
            socket_timeout=TIMEOUT_S,
            socket_connect_timeout=1.0,
            retry=Retry(NoBackoff(), 0),
            single_connection_client=True,
        )
        self._stream = stream
        self._on_message = on_message
        self._on_joined = on_joined
        self._decoder = msgspec.msgpack.Decoder(BusMessage)

    async def run(self) -> None:
        """Tail for ever; every loss of the connection ends in `on_joined` once it is back."""
        try:
            while True:
                try:
                    await self._tail()
                except (RedisError, OSError) as error:
                    log.warning("bus lost: %s", error)
                await self._redis.aclose()
                await asyncio.sleep(RETRY_S)
        finally:
            await self._redis.aclose()

    async def _tail(self) -> None:
        newest: Any = await self._redis.xrevrange(self._stream, count=1)
        position = newest[0][0] if newest else b"0-0"
        self._on_joined()
        while True:
            reply: Any = await self._redis.xread({self._stream: position}, count=READ_COUNT, block=BLOCK_MS)
            for _, entries in reply or ():
                for position, fields in entries:  # noqa: B007
                    self._take(fields)

    def _take(self, fields: dict[bytes, bytes]) -> None:
        try:
            message = self._decoder.decode(fields[FIELD])
        except (KeyError, msgspec.DecodeError) as error:
            log.error("a message of the bus cannot be read: %r", error)  # shows as a gap, and is caught up
            measures.UNREADABLE.inc()
            return
        self._on_message(message)
