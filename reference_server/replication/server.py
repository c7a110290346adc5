"""Serves this region's outbox to the peers that pull it. Stateless: the puller says where it stands.

Peers' acknowledgements decide how far the outbox may be trimmed: below the slowest of all of them.
"""

from __future__ import annotations

import asyncio
import logging
import time

from prometheus_client import Counter, Gauge
from redis.exceptions import RedisError

from reference_server.replication.outbox import BATCH, Outbox
from reference_server.replication.wire import (
    HEARTBEAT_S,
    SILENCE_S,
    Applied,
    Batch,
    Heartbeat,
    Hello,
    ProtocolViolation,
    Welcome,
    check_hello,
    frame,
    parse_position,
    receive,
)

log = logging.getLogger(__name__)
TRIM_EVERY_S = 5.0
SEND_BUFFER_BYTES = 256 << 10
SENT = Counter("feed_replication_sent_events", "Events sent to a peer", ["target"])
PULLERS = Gauge("feed_replication_pullers", "Peers that pull this region's outbox now")


class OutboxServer:
    """One region's serving side. `peers` are all regions that must have applied an entry before it may go."""

    def __init__(self, region: str, peers: frozenset[str], secret: bytes, queue_port: int) -> None:
        self.region = region
        self.peers = peers
        self.secret = secret
        self.queue_port = queue_port
        self.applied: dict[str, str] = {}
        """peer -> position it acknowledged in this life of the process"""

    async def serve(self, port: int) -> asyncio.Server:
        """Listen on 127.0.0.1."""
        return await asyncio.start_server(self._connection, "127.0.0.1", port)

    async def _connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        outbox = Outbox(self.queue_port)
        PULLERS.inc()
        try:
            hello = await receive(reader)
            await self._check(hello)
            assert isinstance(hello, Hello)
            log.info("%s pulls from %s", hello.target, hello.position)
            writer.transport.set_write_buffer_limits(high=SEND_BUFFER_BYTES)
            async with asyncio.TaskGroup() as group:
                group.create_task(self._listen(hello.target, reader))
                group.create_task(self._send(hello, outbox, writer))
        except* ProtocolViolation as errors:
            log.info("hung up: %s", errors.exceptions[0])
        except* (OSError, EOFError, TimeoutError) as errors:
            log.info("peer gone: %r", errors.exceptions[0])
        finally:
            PULLERS.dec()
            writer.transport.abort()
            await outbox.close()

    async def _check(self, hello: object) -> None:
        if not isinstance(hello, Hello):
            raise ProtocolViolation("the first message must be a hello")
        check_hello(self.secret, hello)
        parse_position(hello.position)
        if hello.source != self.region or hello.target not in self.peers:
            raise ProtocolViolation(f"{hello.target} asks for the outbox of {hello.source}; this is {self.region}")

    async def _listen(self, target: str, reader: asyncio.StreamReader) -> None:
        """Note acknowledgements until the peer is silent or gone."""
        while True:
            message = await receive(reader)
            if not isinstance(message, Applied):
                raise ProtocolViolation(f"unexpected {type(message).__name__}")
            parse_position(message.position)
            self.applied[target] = message.position

    async def _send(self, hello: Hello, outbox: Outbox, writer: asyncio.StreamWriter) -> None:
        """Everything behind the wanted position, for ever."""
        position, welcomed = hello.position, False
        while True:
            try:
                if not welcomed:
                    writer.write(frame(Welcome(await outbox.has_gap(position))))
                    welcomed = True
                now_us = time.time_ns() // 1000
                position, events = await outbox.read(position, HEARTBEAT_S)
                if not events:
                    writer.write(frame(Heartbeat(now_us, current=True)))
                else:
                    writer.write(frame(Batch(position, now_us, events, last=len(events) < BATCH)))
                    SENT.labels(hello.target).inc(len(events))
            except (RedisError, OSError, TimeoutError) as error:
                log.info("outbox: %s", error)
                writer.write(frame(Heartbeat(time.time_ns() // 1000, current=False)))
                await asyncio.sleep(HEARTBEAT_S)
            async with asyncio.timeout(SILENCE_S):
                await writer.drain()

    async def trim(self) -> None:
        """Drop what every peer has applied, for ever."""
        outbox = Outbox(self.queue_port)
        try:
            while True:
                await asyncio.sleep(TRIM_EVERY_S)
                if self.peers and self.peers <= self.applied.keys():
                    await _trim(outbox, min(self.applied.values(), key=parse_position))
        finally:
            await outbox.close()


async def _trim(outbox: Outbox, position: str) -> None:
    try:
        await outbox.trim(position)
    except (RedisError, OSError, TimeoutError) as error:
        log.info("outbox not trimmed: %s", error)
