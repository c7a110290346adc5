"""Listeners with the usual asyncio libraries, for benchmarks/streams.py: `python -m benchmarks._sse_clients KIND`.

The first line of standard input is the job {"port", "tokens": {user: token}}; each user gets a stream, flat out. Ten
status lines a second tell how many are open and how many events came, and when the last of them did: {"open", "events",
"open_ns", "event_ns"}. Ends with its input. An event is parsed and counted; ours writes each into a history as well.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import AsyncExitStack

import aiohttp
import httpx
import msgspec
import uvloop
from aiohttp_sse_client.client import EventSource

from harness.core.clock import now_ns

CONNECTING = 256
"""most attempts at once, as ours"""
STATUS_S = 0.1


class Tally:
    """What has happened so far."""

    def __init__(self) -> None:
        self.open = self.events = self.open_ns = self.event_ns = 0

    def opened(self) -> None:
        """One more stream is open."""
        self.open += 1
        self.open_ns = now_ns()

    def event(self, data: str) -> None:
        """One more event came."""
        msgspec.json.decode(data)
        self.events += 1
        self.event_ns = now_ns()

    def line(self) -> str:
        """As a status line."""
        return msgspec.json.encode(vars(self)).decode() + "\n"


Listen = Callable[[str, asyncio.Semaphore, Tally], Coroutine[None, None, None]]


async def aiohttp_sse_client(undo: AsyncExitStack, url: str) -> Listen:
    """EventSource over one aiohttp session."""
    session = aiohttp.ClientSession(
        timeout=aiohttp.ClientTimeout(total=None),
        connector=aiohttp.TCPConnector(limit=0),
        cookie_jar=aiohttp.DummyCookieJar(),
    )
    await undo.enter_async_context(session)

    async def listen(token: str, gate: asyncio.Semaphore, tally: Tally) -> None:
        source = EventSource(url, session=session, headers={"Authorization": f"Bearer {token}"})
        async with gate:
            await source.connect()
        tally.opened()
        async for event in source:
            tally.event(event.data)

    return listen


async def httpx_lines(undo: AsyncExitStack, url: str) -> Listen:
    """httpx, whose lines are put together to events here."""
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=None)
    client = await undo.enter_async_context(httpx.AsyncClient(timeout=None, limits=limits, trust_env=False))

    async def listen(token: str, gate: asyncio.Semaphore, tally: Tally) -> None:
        headers = {"Authorization": f"Bearer {token}", "Accept": "text/event-stream"}
        async with AsyncExitStack() as stack:
            async with gate:
                response = await stack.enter_async_context(client.stream("GET", url, headers=headers))
                response.raise_for_status()
            tally.opened()
            async for data in events_of(response.aiter_lines()):
                tally.event(data)

    return listen


async def events_of(lines: AsyncIterator[str]) -> AsyncIterator[str]:
    """The data of each event."""
    data: list[str] = []
    async for line in lines:
        if line.startswith("data:"):
            data.append(line[5:].removeprefix(" "))
        elif not line and data:
            yield "\n".join(data)
            data = []


KINDS = {"aiohttp-sse-client": aiohttp_sse_client, "httpx": httpx_lines}


async def main(kind: str) -> None:
    """Listen until standard input ends."""
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader(limit=1 << 26)
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    tally, gate = Tally(), asyncio.Semaphore(CONNECTING)
    sys.stdout.write(tally.line())
    sys.stdout.flush()
    job = msgspec.json.decode(await reader.readline())
    async with AsyncExitStack() as undo:
        listen = await KINDS[kind](undo, f"http://127.0.0.1:{job['port']}/v1/stream")
        tasks = [asyncio.create_task(listen(token, gate, tally)) for token in job["tokens"].values()]
        for task in tasks:
            undo.callback(task.cancel)
        while not reader.at_eof():
            sys.stdout.write(tally.line())
            sys.stdout.flush()
            await asyncio.sleep(STATUS_S)


if __name__ == "__main__":
    uvloop.run(main(sys.argv[1]))
