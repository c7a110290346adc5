"""Pulls one peer's outbox and applies it here: in order, each event once, whatever happens to the link.

The high-water mark is committed by the same script as the events (`Queue.apply_replicated`), so a restart at any
moment goes on exactly behind what was applied. Reading, applying and acknowledging overlap: throughput does not
depend on the link's latency.

While replication rests (flag multi_region, or the flags are not known yet) what arrives is set aside, neither applied
nor acknowledged, except settings of flags: who switched replication off in one region can switch it on again
everywhere. Afterwards the puller begins again behind what it last applied. What rests too long fills the peer's outbox,
which then refuses writes (429).
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from typing import Protocol

from prometheus_client import Counter, Gauge

from reference_server.events import STREAM_OUTBOX, Event, FlagEvent
from reference_server.queue import Backpressure, QueueUnavailable
from reference_server.queue.dead_letters import Unusable, read_event
from reference_server.replication.defects import ReplicaDefects
from reference_server.replication.wire import (
    HEARTBEAT_S,
    PATIENCE_S,
    SILENCE_S,
    Applied,
    Batch,
    Heartbeat,
    ProtocolViolation,
    Welcome,
    frame,
    make_hello,
    parse_position,
    receive,
)

log = logging.getLogger(__name__)
BACKOFF_S = (0.05, 0.5)
BATCHES_AHEAD = 8
LAG = Gauge("feed_replication_lag_seconds", "Age of the newest moment up to which all is applied here", ["origin"])
POSITION = Gauge("feed_replication_position_seconds", "Unix time of the outbox position applied here", ["origin"])
EVENTS = Counter("feed_replication_applied_events", "Events applied here", ["origin"])
SET_ASIDE = Counter("feed_replication_set_aside_events", "Events not applied, as replication rests", ["origin"])
GAPS = Counter("feed_replication_gaps", "Times a peer no longer had what was wanted: events are missing", ["origin"])
RECONNECTS = Counter("feed_replication_connects", "Connections made to a peer", ["origin"])


class Applier(Protocol):
    """The part of `Queue` that is needed."""

    async def high_water(self, origin: str) -> str:
        """Position up to which the origin's events were applied."""

    async def apply_replicated(self, origin: str, position: str, events: Sequence[Event]) -> bool:
        """Apply the next events together with their position."""

    async def set_flag(self, event: FlagEvent, *, replicate: bool = True) -> bool:
        """Set a flag unless a later setting is known."""


class Resumed(ConnectionError):
    """Replication no longer rests: what was set aside must be asked for again."""


class Puller:
    """Follows one peer."""

    def __init__(
        self,
        origin: str,
        region: str,
        port: int,
        secret: bytes,
        queue: Applier,
        rests: Callable[[], bool] = lambda: False,
        defects: ReplicaDefects | None = None,
    ) -> None:
        """`rests` tells whether replication rests now."""
        self._defects = defects
        self.rests = rests
        self.origin = origin
        self.region = region
        self.port = port
        self.secret = secret
        self.queue = queue
        self.position = ""
        self.connected = False
        self._caught_up_us = time.time_ns() // 1000
        LAG.labels(origin).set_function(self.lag_s)

    def lag_s(self) -> float:
        """How long ago everything that existed at the peer then was applied here."""
        return max(time.time_ns() / 1e9 - self._caught_up_us / 1e6, 0.0)

    async def run(self) -> None:
        """Pull for ever; after a loss again within half a second."""
        pause_s = BACKOFF_S[0]
        while True:
            try:
                await self._connection()
            except* (OSError, EOFError, TimeoutError, QueueUnavailable, Backpressure) as errors:
                log.info("%s: %r", self.origin, _first(errors))
            pause_s = BACKOFF_S[0] if self.connected else min(pause_s * 2, BACKOFF_S[1])
            self.connected = False
            await asyncio.sleep(pause_s)

    async def _connection(self) -> None:
        """One connection, until it fails."""
        await self._look_up_position()
        async with asyncio.timeout(PATIENCE_S):
            reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        RECONNECTS.labels(self.origin).inc()
        try:
            writer.write(frame(make_hello(self.secret, self.origin, self.region, self.position)))
            self._welcomed(await receive(reader, PATIENCE_S))
            inbox: asyncio.Queue[Batch | Heartbeat] = asyncio.Queue(BATCHES_AHEAD)
            async with asyncio.TaskGroup() as group:
                group.create_task(_read(reader, inbox))
                group.create_task(self._apply(inbox, writer))
                group.create_task(self._beat(writer))
        finally:
            writer.transport.abort()

    async def _look_up_position(self) -> None:
        """Where to go on; in a process that just began also how far behind that is."""
        began = not self.position
        self.position = await self.queue.high_water(self.origin)
        applied_ms, _ = parse_position(self.position)
        if began and applied_ms:
            self._caught_up_us = applied_ms * 1000

    def _welcomed(self, message: object) -> None:
        if not isinstance(message, Welcome):
            raise ProtocolViolation("no welcome")
        self.connected = True
        log.info("%s: connected, from %s", self.origin, self.position)
        if message.gap:
            log.error("%s no longer has what follows %s: events are missing here for good", self.origin, self.position)
            GAPS.labels(self.origin).inc()

    async def _apply(self, inbox: asyncio.Queue[Batch | Heartbeat], writer: asyncio.StreamWriter) -> None:
        set_aside = False
        while True:
            message = await inbox.get()
            if set_aside and not self.rests():
                raise Resumed(f"from {self.position}")
            if isinstance(message, Heartbeat):
                if message.current and not set_aside:
                    self._caught_up_us = message.now_us
                continue
            events = _decoded(message, self.origin)
            if self._defects is not None:
                await self._defects.delay(message.now_us)
                events = self._defects.spoil(events)
            if self.rests():
                set_aside = True
                await self._set_aside(events)
                continue
            await self.queue.apply_replicated(self.origin, message.position, events)
            self._advanced(message, len(events))
            writer.write(frame(Applied(self.position)))

    async def _set_aside(self, events: list[Event]) -> None:
        SET_ASIDE.labels(self.origin).inc(len(events))
        for event in events:
            if isinstance(event, FlagEvent):
                await self.queue.set_flag(event, replicate=False)

    def _advanced(self, batch: Batch, count: int) -> None:
        self.position = batch.position
        POSITION.labels(self.origin).set(int(batch.position.partition("-")[0]) / 1000)
        EVENTS.labels(self.origin).inc(count)
        if batch.last:
            self._caught_up_us = batch.now_us

    async def _beat(self, writer: asyncio.StreamWriter) -> None:
        while True:
            await asyncio.sleep(HEARTBEAT_S)
            writer.write(frame(Applied(self.position)))
            async with asyncio.timeout(SILENCE_S):
                await writer.drain()


async def _read(reader: asyncio.StreamReader, inbox: asyncio.Queue[Batch | Heartbeat]) -> None:
    while True:
        message = await receive(reader)
        if not isinstance(message, Batch | Heartbeat):
            raise ProtocolViolation(f"unexpected {type(message).__name__}")
        await inbox.put(message)


def _decoded(batch: Batch, origin: str) -> list[Event]:
    events = []
    for data in batch.events:
        try:
            events.append(read_event(STREAM_OUTBOX, data))
        except Unusable as error:
            log.error("%s, batch to %s: an event left out: %s", origin, batch.position, error)
    return events


def _first(error: BaseException) -> BaseException:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
