"""An answer that comes before its request's body, over a raw connection: what becomes of the next request on it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import msgspec
import pytest
from api_region import ApiRegion, eventually
from test_overload_gate import set_flags

from reference_server.api.requests import MAX_DRAINED_BYTES

pytestmark = [pytest.mark.slow, pytest.mark.stack]
LIMIT_S = 20.0
SMALL = b'{"text": "hello"}'
LENGTH = b"Content-Length: %d\r\n"


@dataclass
class Answer:
    status: int
    closes: bool


class Connection:
    """One kept-alive connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def answer(self) -> Answer:
        async with asyncio.timeout(LIMIT_S):
            head = (await self.reader.readuntil(b"\r\n\r\n")).lower()
            length = int(head.partition(b"content-length:")[2].partition(b"\r\n")[0])
            await self.reader.readexactly(length)
        return Answer(int(head.split()[1]), b"connection: close" in head)

    async def is_ended(self) -> bool:
        """Whether the other side sends nothing more."""
        async with asyncio.timeout(LIMIT_S):
            try:
                return await self.reader.read(1) == b""
            except ConnectionError:
                return True


@asynccontextmanager
async def connected(region: ApiRegion) -> AsyncIterator[Connection]:
    reader, writer = await asyncio.open_connection("127.0.0.1", region.region.api_ports[0])
    try:
        yield Connection(reader, writer)
    finally:
        writer.close()


def head_of(line: bytes, length: bytes, *more: str) -> bytes:
    return line + b" HTTP/1.1\r\nHost: x\r\n" + length + "".join(f"{one}\r\n" for one in more).encode() + b"\r\n"


async def switch_off(region: ApiRegion) -> None:
    await set_flags(region, kill_switch=True)

    async def is_off() -> bool:
        return (await region.user(1).call("GET", "/v1/feed")).status_code == 503

    await eventually(is_off, "the product is off")


async def use_up(region: ApiRegion, authorization: str) -> None:
    """The user's writes, until one is refused."""
    headers = {"Authorization": authorization}

    async def is_refused() -> bool:
        answers = [await region.http.post("/v1/posts", json={"text": "x"}, headers=headers) for _ in range(10)]
        return answers[-1].status_code == 429

    await eventually(is_refused, "the user's writes are used up")


async def ask_twice(region: ApiRegion, line: bytes, *more: str) -> list[Answer]:
    """Two requests over one connection: the body of the first is sent when its answer has come."""
    async with connected(region) as connection:
        await connection.send(head_of(line, LENGTH % len(SMALL), *more))
        first = await connection.answer()
        await connection.send(SMALL)
        await connection.send(head_of(b"GET /healthz", b""))
        second = await connection.answer()
    return [first, second]


@pytest.mark.parametrize(
    ("line", "status"),
    [(b"POST /v1/posts", 401), (b"POST /v1/nothing", 404), (b"PUT /v1/feed", 405), (b"PATCH /v1/users/me", 401)],
)
async def test_a_body_that_comes_behind_its_answer_costs_no_request(
    region: ApiRegion, line: bytes, status: int
) -> None:
    assert await ask_twice(region, line) == [Answer(status, False), Answer(200, False)]


async def test_nor_behind_a_refusal_of_the_gate(region: ApiRegion) -> None:
    authorization = region.user(1).headers["Authorization"]
    region.settings = msgspec.structs.replace(region.settings, flags={"user_writes_per_s": 1})
    await region.restart()
    await use_up(region, authorization)
    line = b"POST /v1/posts"
    assert await ask_twice(region, line, f"Authorization: {authorization}") == [Answer(429, False), Answer(200, False)]
    await switch_off(region)
    for more in ([f"Authorization: {authorization}"], []):
        assert await ask_twice(region, line, *more) == [Answer(503, False), Answer(200, False)]


@pytest.mark.parametrize("length", [LENGTH % (MAX_DRAINED_BYTES + 1), b"Transfer-Encoding: chunked\r\n"])
async def test_of_a_body_too_long_to_read_the_answer_says_that_it_ends_the_connection(
    region: ApiRegion, length: bytes
) -> None:
    await switch_off(region)
    async with connected(region) as connection:
        await connection.send(head_of(b"POST /v1/posts", length))
        assert await connection.answer() == Answer(503, True)
        assert await connection.is_ended()


async def test_a_body_too_large_that_was_read_keeps_the_connection_and_a_larger_one_does_not(
    region: ApiRegion,
) -> None:
    alice = f"Authorization: {region.user(1).headers['Authorization']}"
    async with connected(region) as connection:
        for size, answer in ((70_000, Answer(413, False)), (MAX_DRAINED_BYTES + 100_000, Answer(413, True))):
            await connection.send(head_of(b"POST /v1/posts", LENGTH % size, alice) + b" " * size)
            assert await connection.answer() == answer
        assert await connection.is_ended()


async def test_what_comes_in_chunks_and_is_read_keeps_the_connection(region: ApiRegion) -> None:
    alice = f"Authorization: {region.user(1).headers['Authorization']}"
    async with connected(region) as connection:
        for _ in range(2):
            await connection.send(head_of(b"POST /v1/posts", b"Transfer-Encoding: chunked\r\n", alice))
            await connection.send(b"%x\r\n%s\r\n0\r\n\r\n" % (len(SMALL), SMALL))
            assert await connection.answer() == Answer(201, False)
