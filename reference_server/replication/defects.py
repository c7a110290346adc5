"""Planted defects of replication: what becomes of a peer's events before they are applied (settings.DEFECTS)."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator

from msgspec.structs import replace

from reference_server.events import DeleteEvent, Event, PostEvent, StatusEvent
from reference_server.settings import Settings
from reference_server.timeline.entry import Status

_LATE_S = 6.0
_RETIMED_US = 5_000
_CUT = 10
_NAMES = frozenset(
    {"post-not-replicated", "delete-not-replicated", "moderation-not-replicated", "replica-retimed", "replica-cut"}
)


class ReplicaDefects:
    """Spoils batches of one puller."""

    def __init__(self, settings: Settings) -> None:
        self._is_on = not _NAMES.isdisjoint(settings.defects)
        self._is_late = settings.has_defect("slow-replication")
        self._loses_deletes = settings.has_defect("delete-not-replicated")
        self._loses_moderations = settings.has_defect("moderation-not-replicated")
        self._loses = settings.every(10, "post-not-replicated")
        self._retimes = settings.every(10, "replica-retimed")
        self._cuts = settings.every(10, "replica-cut")

    async def delay(self, read_us: int) -> None:
        """Wait until the batch, read at that moment (Unix µs), is as late as it is to be."""
        if self._is_late:
            await asyncio.sleep(max(0.0, read_us / 1e6 + _LATE_S - time.time()))

    def spoil(self, events: list[Event]) -> list[Event]:
        """What is applied of these."""
        return list(self._spoilt(events)) if self._is_on else events

    def _spoilt(self, events: list[Event]) -> Iterator[Event]:
        for event in events:
            if self._is_lost(event):
                continue
            yield self._changed(event) if isinstance(event, PostEvent) else event

    def _is_lost(self, event: Event) -> bool:
        if isinstance(event, PostEvent):
            return self._loses()
        if isinstance(event, DeleteEvent):
            return self._loses_deletes
        return self._loses_moderations and isinstance(event, StatusEvent) and event.status == Status.MODERATED

    def _changed(self, event: PostEvent) -> PostEvent:
        if self._retimes():
            event = replace(event, ts_us=event.ts_us + _RETIMED_US)
        return replace(event, text=event.text[:_CUT]) if self._cuts() else event
