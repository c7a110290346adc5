"""Listeners that keep a stream through whatever happens: they come back with Last-Event-ID and read after a resync."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Awaitable, Callable

import httpx

from harness.contract.sse_parser import SseParser

BACK_S = 0.2
"""pause before a listener comes back"""
HEARTBEAT_LIMIT_S = 25.0

Walk = Callable[[int, str], Awaitable[list[str] | None]]
"""all ids of a user's feed in a region; None when they cannot be had now"""


class Listener:
    """One user's stream at one address, and what came of it."""

    def __init__(self, user: int, url: str, headers: dict[str, str], trusted: ssl.SSLContext, walk: Walk) -> None:
        self.user, self.url = user, url
        self.announced: set[str] = set()
        self.read: set[str] = set()
        """posts that the reads after resyncs showed"""
        self.twice: list[str] = []
        """posts with a second event under another id, no resync in between"""
        self.connections = self.resyncs = 0
        self.connected = asyncio.Event()
        self._ids: set[str] = set()
        self._since_resync: set[str] = set()
        self._parser = SseParser()
        self._walk = walk
        self._reading: list[asyncio.Task[None]] = []
        timeout = httpx.Timeout(5, read=HEARTBEAT_LIMIT_S)
        self._http = httpx.AsyncClient(headers=headers, verify=trusted, trust_env=False, timeout=timeout)

    async def listen(self) -> None:
        """Keep the stream until cancelled."""
        async with self._http:
            while True:
                try:
                    await self._connection()
                except httpx.HTTPError:
                    pass
                await asyncio.sleep(BACK_S)

    async def caught_up(self) -> None:
        """Return when all reads that resyncs asked for are done."""
        await asyncio.gather(*self._reading)

    def lacks(self, posts: set[str]) -> set[str]:
        """Those it was neither told of nor read after a resync."""
        return posts - self.announced - self.read

    async def _connection(self) -> None:
        since = self._parser.last_event_id
        headers = {"Last-Event-ID": since} if since else {}
        async with self._http.stream("GET", f"{self.url}/v1/stream", headers=headers) as response:
            if response.status_code != 200:
                return
            self.connections += 1
            self._parser = SseParser(since)
            async for piece in response.aiter_raw():
                for event in self._parser.feed(piece):
                    self._take(event.type, event.last_event_id, event.data)
                self.connected.set()

    def _take(self, kind: str, event_id: str, data: str) -> None:
        if kind == "resync":
            self.resyncs += 1
            self._since_resync.clear()
            self._reading.append(asyncio.ensure_future(self._read_feed(event_id.partition(".")[0])))
        elif kind == "new_post" and event_id not in self._ids:
            self._ids.add(event_id)
            post = data.split('"')[-2]
            if post in self._since_resync:
                self.twice.append(f"user {self.user}: post {post}, again as {event_id}")
            self._since_resync.add(post)
            self.announced.add(post)

    async def _read_feed(self, region: str) -> None:
        """Read the whole feed of the region that asked for it, as soon as it can be read."""
        while (ids := await self._walk(self.user, region)) is None:  # noqa: ASYNC110 - it is asked, and tells nobody
            await asyncio.sleep(BACK_S)
        self.read.update(ids)
