"""The ceiling for benchmarks/edge.py: a bare uvloop server that writes the same bytes to every connection.

    python -m benchmarks._raw_writer PORT     commands on standard input: {"event": text, "rounds": N, "together": K}
N rounds; in each, every connection is written the event K times and the loop gets its turn. The answer is the CPU time
of this process over the rounds, in s.
"""

from __future__ import annotations

import asyncio
import sys
import time
from typing import cast

import msgspec
import uvloop

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n"


class Connection(asyncio.Protocol):
    """One listener."""

    def __init__(self, transports: list[asyncio.Transport]) -> None:
        self.transports = transports

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep it."""
        self.transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        """The request: answer its head."""
        self.transport.write(HEAD)
        self.transports.append(self.transport)


async def write(transports: list[asyncio.Transport], event: bytes, rounds: int, together: int) -> float:
    """CPU seconds that the rounds took."""
    began_s = time.process_time()
    for _ in range(rounds):
        for transport in transports:
            for _ in range(together):
                transport.write(event)
        await asyncio.sleep(0)
        while any(transport.get_write_buffer_size() for transport in transports[:1]):  # noqa: ASYNC110 - uvloop writes
            await asyncio.sleep(0)
    return time.process_time() - began_s


async def main(port: int) -> None:
    """Serve until standard input ends."""
    loop = asyncio.get_running_loop()
    transports: list[asyncio.Transport] = []
    server = await loop.create_server(lambda: Connection(transports), "127.0.0.1", port, backlog=4096)
    reader = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    while line := await reader.readline():
        order = msgspec.json.decode(line)
        taken_s = await write(transports, order["event"].encode(), order["rounds"], order["together"])
        sys.stdout.write(f"{taken_s}\n")
        sys.stdout.flush()
    server.close()


if __name__ == "__main__":
    uvloop.run(main(int(sys.argv[1])))
