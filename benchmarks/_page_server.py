"""A server that costs next to nothing: `python -m benchmarks._page_server PORT`. Answers feed pages and posts.

A page shows the newest posts, and posts come in between pages as often as a load process sees new ones in a run: 11 %
of a page of 50, one on three pages of 5. Ends with its standard input.
"""

from __future__ import annotations

import asyncio
import itertools
import sys
import uuid
from collections import deque
from typing import cast

import msgspec
import uvloop

CURSOR = "c" * 90
NEW_EACH = {50: itertools.cycle((5, 6)), 5: itertools.cycle((1, 0, 0))}
"""page size -> how many posts come in before each page"""


def _post(number: int) -> bytes:
    post = {
        "id": str(uuid.UUID(int=(1_700_000_000_000 + number << 80) | 7 << 76 | 2 << 62 | number * 7919)),
        "author": str(number % 700),
        "created_at_us": 1_700_000_000_000_000 + number * 1000,
        "text": f"long run done, legs gone #42.post.{number}",
        "reply_to": None,
    }
    return msgspec.json.encode(post)


def _answer(status: str, data: bytes) -> bytes:
    head = f"HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {len(data)}\r\n\r\n"
    return head.encode() + data


class Timeline:
    """The newest posts of all feeds."""

    def __init__(self) -> None:
        self._posts = map(_post, itertools.count())
        self._newest = deque(itertools.islice(self._posts, max(NEW_EACH)), max(NEW_EACH))

    def page(self, size: int) -> bytes:
        """The answer with the next page."""
        self._newest.extendleft(itertools.islice(self._posts, next(NEW_EACH[size])))
        items = b",".join(itertools.islice(self._newest, size))
        return _answer("200 OK", b'{"items":[%b],"next_cursor":"%b"}' % (items, CURSOR.encode()))


class Connection(asyncio.Protocol):
    """One client; requests arrive whole."""

    timeline = Timeline()
    posted = _answer("201 Created", b'{"post":%b}' % _post(1))

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep it."""
        self.transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        """One request."""
        if data.startswith(b"POST"):
            self.transport.write(self.posted)
        else:
            self.transport.write(self.timeline.page(50 if b"limit=50" in data else 5))


async def main(port: int) -> None:
    """Serve until standard input ends."""
    loop = asyncio.get_running_loop()
    await loop.create_server(Connection, "127.0.0.1", port)
    reader = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    await reader.read()


if __name__ == "__main__":
    uvloop.run(main(int(sys.argv[1])))
