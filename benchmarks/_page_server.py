"""A server that costs next to nothing: `python -m benchmarks._page_server PORT`. Answers feed pages and posts.

Pages of 5 and 50 items in turn out of POSTS posts, so that a client sees most of them again and again, as in a run.
Ends with its standard input.
"""

from __future__ import annotations

import asyncio
import itertools
import sys
import uuid
from typing import cast

import msgspec
import uvloop

POSTS = 5_000
PAGES = 400
CURSOR = "c" * 90


def _post(number: int) -> dict[str, object]:
    return {
        "id": str(uuid.UUID(int=(1_700_000_000_000 + number << 80) | 7 << 76 | 2 << 62 | number * 7919)),
        "author": str(number % 700),
        "created_at_us": 1_700_000_000_000_000 + number * 1000,
        "text": f"long run done, legs gone #42.post.{number}",
        "reply_to": None,
    }


def _answer(status: str, body: object) -> bytes:
    data = msgspec.json.encode(body)
    head = f"HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {len(data)}\r\n\r\n"
    return head.encode() + data


def _pages(size: int) -> list[bytes]:
    posts = [_post(number) for number in range(POSTS)]
    step = (POSTS - size * 3) // PAGES
    newest = range(0, step * PAGES, step)
    return [_answer("200 OK", {"items": posts[n : n + 3 * size : 3], "next_cursor": CURSOR}) for n in newest]


class Connection(asyncio.Protocol):
    """One client; requests arrive whole."""

    small = itertools.cycle(_pages(5))
    large = itertools.cycle(_pages(50))
    posted = _answer("201 Created", {"post": _post(1)})

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep it."""
        self.transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        """One request."""
        if data.startswith(b"POST"):
            self.transport.write(self.posted)
        else:
            self.transport.write(next(self.large if b"limit=50" in data else self.small))


async def main(port: int) -> None:
    """Serve until standard input ends."""
    loop = asyncio.get_running_loop()
    await loop.create_server(Connection, "127.0.0.1", port)
    reader = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    await reader.read()


if __name__ == "__main__":
    uvloop.run(main(int(sys.argv[1])))
