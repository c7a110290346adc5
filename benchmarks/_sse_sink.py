"""Listeners for benchmarks/edge.py: many streams in one process that do nothing but count what arrives.

Commands on standard input, one JSON line each; each is answered by one JSON line:
    {"cmd": "open", "port", "secret", "first", "streams", "slow"}   open streams of users first, first+1, ...; the first
                                                                    `slow` of them never read
    {"cmd": "bytes", "until": N}   answer once that many bytes of events have arrived in all (or after 20 s)
    {"cmd": "latencies"}           milliseconds since the time in each post's id: [p50, p99, count], and forget them
    {"cmd": "close"}
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Callable
from typing import Any, cast

import msgspec
import uvloop

from reference_server.security import make_token

WAIT_S = 20.0
MARK = b'"id":"'


class Sink(asyncio.Protocol):
    """One stream."""

    def __init__(self, request: bytes, reads: bool, counts: Counts) -> None:
        self.request, self.reads, self.counts = request, reads, counts
        self.is_open = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Ask for the stream."""
        self.transport = cast(asyncio.Transport, transport)
        self.transport.write(self.request)

    def data_received(self, data: bytes) -> None:
        """Count; the first data is the response's head."""
        if not self.is_open:
            self.is_open = True
            self.counts.open += 1
            if not self.reads:
                self.transport.pause_reading()
            return
        self.counts.bytes += len(data)
        if self.counts.timed:
            self.counts.time(data)


class Counts:
    """What all streams of this process saw."""

    def __init__(self) -> None:
        self.open = 0
        self.bytes = 0
        self.timed = False
        self.latencies_ms: list[float] = []

    def time(self, data: bytes) -> None:
        """Note how old each event in `data` is: its post's id begins with the time, in µs."""
        now_us = time.time_ns() // 1000
        place = data.find(MARK)
        while place >= 0:
            digits = data[place + 6 : place + 24].replace(b"-", b"")
            self.latencies_ms.append((now_us - int(digits, 16)) / 1000)
            place = data.find(MARK, place + 24)

    def summary(self) -> list[float]:
        """p50, p99 and number of latencies."""
        times = sorted(self.latencies_ms)
        self.latencies_ms = []
        if not times:
            return [0.0, 0.0, 0]
        return [times[len(times) // 2], times[min(len(times) - 1, len(times) * 99 // 100)], len(times)]


class Listeners:
    """All streams of this process."""

    def __init__(self) -> None:
        self.counts = Counts()
        self.sinks: list[Sink] = []

    async def open(self, port: int, secret: str, first: int, streams: int, slow: int = 0) -> None:
        """Open the streams, some at a time, and wait until each has its head."""
        loop = asyncio.get_running_loop()
        key = bytes.fromhex(secret)
        wanted = self.counts.open + streams
        for number in range(streams):
            token = make_token(key, first + number)[0]
            request = f"GET /v1/stream HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n\r\n".encode()
            sink = Sink(request, number >= slow, self.counts)
            await loop.create_connection(lambda sink=sink: sink, "127.0.0.1", port)  # type: ignore[misc]
            self.sinks.append(sink)
        await self._until(lambda: self.counts.open >= wanted)

    async def _until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(WAIT_S):
            while not condition():  # noqa: ASYNC110 - callbacks of many transports make it true
                await asyncio.sleep(0.002)

    async def command(self, cmd: str, until: int = 0, **options: Any) -> Any:
        """Carry out one command; its answer."""
        if cmd == "open":
            await self.open(**options)
        elif cmd == "bytes":
            self.counts.timed = bool(options.get("timed"))
            await self._until(lambda: self.counts.bytes >= until)
            return self.counts.bytes
        elif cmd == "latencies":
            return self.counts.summary()
        return self.counts.bytes


async def main() -> None:
    """Serve commands until standard input ends."""
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    listeners = Listeners()
    while line := await reader.readline():
        try:
            answer = await listeners.command(**msgspec.json.decode(line))
        except TimeoutError:
            answer = None
        sys.stdout.write(msgspec.json.encode(answer).decode() + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    uvloop.run(main())
