"""Keeps idle streams alive: one comment a stream each 15 s, the streams spread evenly over the round."""

from __future__ import annotations

import asyncio
import contextlib

from reference_server.fep import wire
from reference_server.fep.stream import Stream

PERIOD_S = 15.0
BUCKETS = 150
_LEAST_PAUSE_S = 0.0005
"""everything else must get its turn, also when the round is short"""


class Heartbeat:
    """A wheel of buckets; by default one bucket is served each tenth of a second."""

    def __init__(self, period_s: float = PERIOD_S) -> None:
        self._step_s = period_s / BUCKETS
        self._changed = asyncio.Event()
        self._buckets: list[set[Stream]] = [set() for _ in range(BUCKETS)]
        self._next = 0

    def set_period(self, period_s: float) -> None:
        """Change the length of the round; the next bucket follows at the new pace."""
        self._step_s = period_s / BUCKETS
        self._changed.set()

    def add(self, stream: Stream) -> None:
        """Give a stream its place in the round."""
        stream.bucket = self._next
        self._buckets[self._next].add(stream)
        self._next = (self._next + 1) % BUCKETS

    def remove(self, stream: Stream) -> None:
        """Take a stream out; one that was never in is ignored."""
        if stream.bucket >= 0:
            self._buckets[stream.bucket].discard(stream)
            stream.bucket = -1

    async def run(self) -> None:
        """Go round for ever, without drift."""
        loop = asyncio.get_running_loop()
        due_s, bucket = loop.time(), 0
        while True:
            for stream in list(self._buckets[bucket]):
                stream.transport.write(wire.HEARTBEAT)
            bucket = (bucket + 1) % BUCKETS
            if self._changed.is_set():
                self._changed.clear()
                due_s = loop.time()
            due_s += self._step_s
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout_at(max(due_s, loop.time() + _LEAST_PAUSE_S)):
                    await self._changed.wait()
