"""Steady load through HTTP, as lean as it gets: one connection a worker, one request at a time, on a schedule."""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter, deque
from urllib.parse import urlsplit

import msgspec

from reference_server.security import make_token

TIMEOUT_S = 10.0
CHURN_S = 10.0
"""a stream is closed and opened again after about this time"""
READS, POSTS, LIKES, FOLLOWS, DELETES = 0.70, 0.20, 0.05, 0.04, 0.01
KEPT_POSTS = 500
CHANGED_FOLLOWS = 500
"""pairs of users who follow and unfollow: few, so that how many follow soon stays about the same"""


class Connection:
    """A kept-alive connection to one server."""

    def __init__(self, base: str) -> None:
        url = urlsplit(base)
        self._host, self._port = str(url.hostname), url.port or 80
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def request(self, method: str, path: str, token: str, body: object = None) -> tuple[int, bytes]:
        """(status, body) of the answer. Raises OSError, EOFError, TimeoutError; the next request connects again."""
        data = b"" if body is None else msgspec.json.encode(body)
        head = f"{method} {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n"
        head += f"Content-Type: application/json\r\nContent-Length: {len(data)}\r\n\r\n"
        try:
            async with asyncio.timeout(TIMEOUT_S):
                if self._streams is None:
                    self._streams = await asyncio.open_connection(self._host, self._port)
                reader, writer = self._streams
                writer.write(head.encode() + data)
                return await _answer(reader)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Drop the connection."""
        if self._streams is not None:
            self._streams[1].close()
            self._streams = None


async def _answer(reader: asyncio.StreamReader) -> tuple[int, bytes]:
    head = (await reader.readuntil(b"\r\n\r\n")).lower()
    _, _, length = head.partition(b"content-length:")
    size = int(length.partition(b"\r\n")[0]) if length else 0
    return int(head.split(b" ", 2)[1]), await reader.readexactly(size)


class Load:
    """All workers and streams; `counts` tells what came back."""

    def __init__(self, secret: bytes, users: int) -> None:
        self.counts: Counter[str] = Counter()
        self._tokens = [make_token(secret, user)[0] for user in range(users)]
        self._posts: deque[tuple[int, str]] = deque(maxlen=KEPT_POSTS)
        self._pairs = [random.Random(pair).sample(range(users), 2) for pair in range(CHANGED_FOLLOWS)]

    async def work(self, base: str, per_s: float, seed: int) -> None:
        """Requests at that rate, for ever; a late worker goes on with what is due now."""
        dice, connection = random.Random(seed), Connection(base)
        due_s = time.monotonic()
        try:
            while True:
                due_s = max(due_s + 1 / per_s, time.monotonic() - 1.0)
                await asyncio.sleep(max(0.0, due_s - time.monotonic()))
                try:
                    await self._one(dice, connection)
                except (OSError, EOFError, TimeoutError):
                    self.counts["broken"] += 1
        finally:
            connection.close()

    async def _one(self, dice: random.Random, connection: Connection) -> None:
        user = dice.randrange(len(self._tokens))
        token, draw = self._tokens[user], dice.random()
        if draw < READS:
            await self._ask(connection, "read", "GET", "/v1/feed", token)
        elif draw < READS + POSTS:
            body = await self._ask(connection, "post", "POST", "/v1/posts", token, {"text": "soak " * 20})
            if body:
                self._posts.append((user, msgspec.json.decode(body)["post"]["id"]))
        elif draw < READS + POSTS + LIKES and self._posts:
            await self._ask(connection, "like", "PUT", f"/v1/posts/{dice.choice(self._posts)[1]}/like", token)
        elif draw < 1 - DELETES or not self._posts:
            follower, followed = dice.choice(self._pairs)
            method = dice.choice(("PUT", "DELETE"))
            await self._ask(connection, "follow", method, f"/v1/follows/{followed}", self._tokens[follower])
        else:
            author, post = self._posts.popleft()
            await self._ask(connection, "delete", "DELETE", f"/v1/posts/{post}", self._tokens[author])

    async def _ask(
        self, connection: Connection, kind: str, method: str, path: str, token: str, body: object = None
    ) -> bytes:
        status, answer = await connection.request(method, path, token, body)
        if 200 <= status < 300:
            self.counts[kind] += 1
            return answer
        self.counts[f"{kind} {status}"] += 1
        return b""

    async def listen(self, base: str, seed: int) -> None:
        """Streams of one user after the other, for ever."""
        dice, url = random.Random(seed), urlsplit(base)
        while True:
            token = dice.choice(self._tokens)
            try:
                reader, writer = await asyncio.open_connection(url.hostname, url.port)
                try:
                    writer.write(
                        f"GET /v1/stream HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n\r\n".encode()
                    )
                    await self._events(reader, dice.uniform(0.5, 1.5) * CHURN_S)
                finally:
                    writer.close()
            except OSError:
                self.counts["stream broken"] += 1
                await asyncio.sleep(1)

    async def _events(self, reader: asyncio.StreamReader, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                while data := await reader.read(1 << 16):
                    self.counts["event"] += data.count(b"event: new_post")
        except TimeoutError:
            self.counts["stream"] += 1
