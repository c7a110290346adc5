"""Serves this region's outbox to the peers that pull it. Stateless: the puller says where it stands.

Peers' acknowledgements decide how far the outbox may be trimmed: below the slowest of all of them.
"""

from __future__ import annotations

import asyncio
import logging
import sqlite3
import time
from pathlib import Path

from prometheus_client import Counter, Gauge
from redis.exceptions import RedisError

from reference_server.durable.archive_pages import ArchivePages
from reference_server.replication.outbox import BATCH, Outbox
from reference_server.replication.wire import (
    HEARTBEAT_S,
    PATIENCE_S,
    SILENCE_S,
    Applied,
    ArchiveHello,
    ArchivePage,
    Batch,
    Heartbeat,
    Hello,
    Message,
    Ping,
    Pong,
    ProtocolViolation,
    Welcome,
    check_archive_hello,
    check_hello,
    frame,
    parse_position,
    receive,
)

log = logging.getLogger(__name__)
TRIM_EVERY_S = 5.0
SEND_BUFFER_BYTES = 256 << 10
ARCHIVE_PAGE = 500
"""posts of the archive handed over at once"""
SENT = Counter("feed_replication_sent_events", "Events sent to a peer", ["target"])
HANDED_OVER = Counter("feed_replication_archive_posts", "Posts of the archive handed to a peer", ["target"])
PULLERS = Gauge("feed_replication_pullers", "Peers that pull this region's outbox now")


class OutboxServer:
    """One region's serving side. `peers` are all regions that must have applied an entry before it may go."""

    def __init__(
        self, region: str, peers: frozenset[str], secret: bytes, queue_port: int, archive: Path | None = None
    ) -> None:
        """`archive`: file of this region's durable store, for peers that lost theirs."""
        self.region = region
        self.peers = peers
        self.secret = secret
        self.queue_port = queue_port
        self._archive = archive
        self.applied: dict[str, str] = {}
        """peer -> position it acknowledged in this life of the process"""

    async def serve(self, port: int) -> asyncio.Server:
        """Listen on 127.0.0.1."""
        return await asyncio.start_server(self._connection, "127.0.0.1", port)

    async def _connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        outbox = Outbox(self.queue_port)
        PULLERS.inc()
        try:
            hello = await _after_pings(reader, writer)
            if isinstance(hello, ArchiveHello):
                await self._hand_over(hello, writer)
                return
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

    async def _hand_over(self, hello: ArchiveHello, writer: asyncio.StreamWriter) -> None:
        """The archive behind the wanted id, page by page."""
        check_archive_hello(self.secret, hello)
        if hello.source != self.region or hello.target not in self.peers or self._archive is None:
            raise ProtocolViolation(f"{hello.target} asks for the archive of {hello.source}; this is {self.region}")
        log.info("%s gets the archive from %s on", hello.target, hello.after.hex() or "the beginning")
        writer.transport.set_write_buffer_limits(high=SEND_BUFFER_BYTES)
        try:
            pages = await asyncio.to_thread(ArchivePages, self._archive)
        except sqlite3.Error as error:
            raise ProtocolViolation(f"archive: {error}") from error
        try:
            if not await asyncio.to_thread(pages.is_whole):
                raise ProtocolViolation("the archive is being filled itself")
            after, last = hello.after, False
            while not last:
                rows = await asyncio.to_thread(pages.page, after, ARCHIVE_PAGE)
                last = len(rows) < ARCHIVE_PAGE
                writer.write(frame(ArchivePage(rows, last)))
                async with asyncio.timeout(PATIENCE_S):
                    await writer.drain()
                after = rows[-1].id if rows else after
                HANDED_OVER.labels(hello.target).inc(len(rows))
            writer.close()
            async with asyncio.timeout(PATIENCE_S):
                await writer.wait_closed()
        except sqlite3.Error as error:
            raise ProtocolViolation(f"archive: {error}") from error
        finally:
            pages.close()

    async def _listen(self, target: str, reader: asyncio.StreamReader) -> None:
        """Note acknowledgements until the peer is silent or gone."""
        limit_s = PATIENCE_S
        while True:
            message = await receive(reader, limit_s)
            if not isinstance(message, Applied):
                raise ProtocolViolation(f"unexpected {type(message).__name__}")
            parse_position(message.position)
            self.applied[target] = message.position
            limit_s = SILENCE_S

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
            await writer.drain()  # as long as the link takes: `_listen` notices a peer that is gone

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


async def _after_pings(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> Message:
    """The first message that is no ping; pings are answered."""
    while isinstance(message := await receive(reader, PATIENCE_S), Ping):
        writer.write(frame(Pong(message.payload)))
        async with asyncio.timeout(PATIENCE_S):
            await writer.drain()
    return message


async def _trim(outbox: Outbox, position: str) -> None:
    try:
        await outbox.trim(position)
    except (RedisError, OSError, TimeoutError) as error:
        log.info("outbox not trimmed: %s", error)
