"""A server that stops now and then: `python -m benchmarks._stalling_server PORT`. Answers all with an empty page.

At once, and from each tenth second on, it does nothing for a second, as in a long garbage collection: what comes
meanwhile waits in its sockets. Between stalls an answer costs next to nothing. Ends with its standard input.
"""

from __future__ import annotations

import asyncio
import sys
import time
from typing import cast

import uvloop

PERIOD_S, STALL_S = 10.0, 1.0
BACKLOG = 1024
_BODY = b'{"items":[],"next_cursor":null}'
_ANSWER = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b" % (len(_BODY), _BODY)


class Connection(asyncio.Protocol):
    """One client; requests arrive whole."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep it."""
        self.transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        """One request."""
        self.transport.write(_ANSWER)


async def stall(first_s: float) -> None:
    """Stop for a second each period, by a clock that knows nothing of how long it took to go on."""
    number = 0
    while True:
        begin_s = first_s + number * PERIOD_S
        await asyncio.sleep(max(0.0, begin_s - time.monotonic()))
        time.sleep(max(0.0, begin_s + STALL_S - time.monotonic()))  # noqa: ASYNC251
        number += 1


async def main(port: int) -> None:
    """Serve until standard input ends."""
    loop = asyncio.get_running_loop()
    await loop.create_server(Connection, "127.0.0.1", port, backlog=BACKLOG)
    stalling = asyncio.create_task(stall(time.monotonic()))
    reader = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    await reader.read()
    stalling.cancel()


if __name__ == "__main__":
    uvloop.run(main(int(sys.argv[1])))
