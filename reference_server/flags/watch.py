"""The flags as a process sees them: looked up in redis-queue once a second; the last known ones when it is away.

flags            hash: name -> "{hlc, 20 digits}:{value as JSON}"; null: back to what the stack was started with
flags:version    rises with every change
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping

import msgspec
from prometheus_client import Gauge

from reference_server.flags.registry import FlagInvalid, Flags, make_flags
from reference_server.queue.errors import Backpressure, QueueUnavailable
from reference_server.queue.link import Link
from reference_server.settings import Region, Settings

_log = logging.getLogger(__name__)
POLL_S = 1.0
TIMEOUT_S = 0.5
HLC_DIGITS = 20
VERSION = Gauge("feed_flags_version", "Changes of flags in the region, up to the last one that this process follows")


class FlagWatch:
    """Holds the flags of one process; `now` is replaced as a whole when anything changed."""

    def __init__(self, settings: Settings, region: Region) -> None:
        """Raises FlagInvalid when the stack's settings name flags that do not exist."""
        self._start = dict(settings.flags)
        self._link = Link(region.redis_queue_port, TIMEOUT_S, fail_fast=True)
        self._version: bytes | None = None
        self.known = False
        """whether they were ever looked up; until then `now` is what the stack was started with"""
        self._callbacks: list[Callable[[Flags], None]] = []
        self.now: Flags = make_flags(self._start)

    def on_change(self, callback: Callable[[Flags], None]) -> None:
        """Have `callback` called with the new flags after each change."""
        self._callbacks.append(callback)

    def forget(self, callback: Callable[[Flags], None]) -> None:
        """Call it no more."""
        self._callbacks.remove(callback)

    @property
    def version(self) -> int:
        """How many changes of flags the region had when this process last looked."""
        return int(self._version or 0)

    async def run(self) -> None:
        """Follow the changes, for ever."""
        try:
            while True:
                await self.look()
                await asyncio.sleep(POLL_S)
        finally:
            await self.close()

    async def close(self) -> None:
        """Drop the connection."""
        await self._link.close()

    async def look(self) -> None:
        """Look once; nothing changes while redis-queue is away."""
        try:
            version = await self._link.call("GET", "flags:version")
            if self.known and version == self._version:
                return
            stored = await self._link.call("HGETALL", "flags")
        except (QueueUnavailable, Backpressure):
            return
        self._version = version
        self.known = True
        self._apply(stored)
        VERSION.set(self.version)

    def _apply(self, stored: Mapping[bytes, bytes]) -> None:
        values = dict(self._start)
        for name, data in stored.items():
            try:
                value = msgspec.json.decode(data[HLC_DIGITS + 1 :])
                if value is None:
                    continue
                make_flags({name.decode(): value})
            except (FlagInvalid, msgspec.MsgspecError) as error:
                _log.error("flag %s: %s", name.decode(), error)  # set by a newer or older version of the stack
                continue
            values[name.decode()] = value
        flags = make_flags(values)
        if flags == self.now:
            return
        changed = [name for name in Flags.__struct_fields__ if getattr(flags, name) != getattr(self.now, name)]
        _log.info("flags: %s", ", ".join(f"{name}={getattr(flags, name)}" for name in changed))
        self.now = flags
        for callback in list(self._callbacks):
            callback(flags)
