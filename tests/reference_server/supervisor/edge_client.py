"""A client of the edge proxies: requests and streams over TLS, HTTP/2 or HTTP/1.1."""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import httpx
from stack_process import StackProcess

LIMIT_S = 20.0


async def until(condition: Callable[[], Awaitable[Any]], what: str, limit_s: float = LIMIT_S) -> Any:
    """The condition's first true value."""
    deadline = time.monotonic() + limit_s
    while not (value := await condition()):
        assert time.monotonic() < deadline, f"not within {limit_s:g} s: {what}"
        await asyncio.sleep(0.02)
    return value


class Events:
    """One open stream."""

    def __init__(self, response: httpx.Response) -> None:
        self.response = response
        self.last_id = ""
        self.posts: list[str] = []
        self._chunks = response.aiter_raw()
        self._rest = b""

    async def block(self) -> dict[str, str]:
        """Fields of the next block; empty when the stream has ended in order."""
        while b"\n\n" not in self._rest:
            try:
                self._rest += await anext(self._chunks)
            except StopAsyncIteration:
                return {}
        raw, _, self._rest = self._rest.partition(b"\n\n")
        lines = [line for line in raw.decode().splitlines() if not line.startswith(":")]
        fields = dict(line.split(": ", 1) for line in lines)
        self.last_id = fields.get("id", self.last_id)
        if fields.get("event") == "new_post":
            self.posts.append(fields["data"].split('"')[-2])
        return fields or await self.block()

    async def until_posts(self, count: int) -> list[str]:
        """The first `count` posts announced."""
        async with asyncio.timeout(LIMIT_S):
            while len(self.posts) < count:
                assert await self.block(), f"the stream ended after {len(self.posts)} posts"
        return self.posts

    async def until_post(self, post_id: str) -> None:
        """Read on until this post is announced, whatever is before."""
        async with asyncio.timeout(LIMIT_S):
            while post_id not in self.posts:
                assert await self.block(), f"the stream ended after {len(self.posts)} posts"

    async def until_end(self) -> None:
        """Read on to the end, which must come in order."""
        async with asyncio.timeout(LIMIT_S):
            while await self.block():
                pass


class EdgeClient:
    """Talks to one base URL as one user."""

    def __init__(self, stack: StackProcess, url: str, http2: bool = True) -> None:
        trusted = ssl.create_default_context(cafile=stack.endpoints["ca_file"])
        self.http = httpx.AsyncClient(base_url=url, verify=trusted, http2=http2, trust_env=False, timeout=LIMIT_S)

    async def sign_up(self, user: int) -> EdgeClient:
        answer = await self.http.post("/v1/users", json={"identity": str(user)})
        assert answer.status_code in (200, 201), answer.text
        self.http.headers["Authorization"] = f"Bearer {answer.json()['token']}"
        return self

    async def post(self, text: str) -> str:
        answer = await self.http.post("/v1/posts", json={"text": text})
        assert answer.status_code == 201, answer.text
        post_id: str = answer.json()["post"]["id"]
        return post_id

    async def texts(self) -> list[str]:
        answer = await self.http.get("/v1/feed")
        assert answer.status_code == 200, answer.text
        return [item["text"] for item in answer.json()["items"]]

    @asynccontextmanager
    async def listening(self, since: str = "") -> AsyncIterator[Events]:
        """The user's stream; its first block is read."""
        headers = {"Last-Event-ID": since} if since else {}
        async with self.http.stream("GET", "/v1/stream", headers=headers) as response:
            assert response.status_code == 200, (await response.aread()).decode()
            events = Events(response)
            await events.block()
            yield events


@asynccontextmanager
async def client_of(stack: StackProcess, url: str, user: int = -1, http2: bool = True) -> AsyncIterator[EdgeClient]:
    """A client, signed up as `user` unless that is negative."""
    client = EdgeClient(stack, url, http2)
    async with client.http:
        yield await client.sign_up(user) if user >= 0 else client
