"""Bodies at an edge, which wants none: huge, without end, in chunks. Memory is bounded, the others go on."""

from __future__ import annotations

import asyncio
import contextlib
import uuid
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from edge_stubs import DEADLINE_S, EdgeProcess, Listener, StubOwner, connect, stream_request
from real_servers import until

from reference_server.fep.stream import MAX_BODY_BYTES

pytestmark = pytest.mark.slow
PIECE = bytes(1 << 16)
CHUNK = b"%x\r\n%b\r\n" % (len(PIECE), PIECE)
MOST_BYTES = 32 << 20
"""that a flood may send before it is cut: what kernels hold, and what was under way"""
GROWTH_BYTES = 24 << 20
FLOODS = 20
EVENT_LIMIT_S = 2.0
"""for an event to get through a crowd of floods, on a busy machine"""
STREAM = stream_request(7)
LENGTH = b"Content-Length: %d\r\n\r\n" % (10 << 30)
CHUNKED = b"Transfer-Encoding: chunked\r\n\r\n"
OPENED = b"HTTP/1.1 200 "
REQUESTS = {
    "get-huge": (STREAM[:-2] + LENGTH, PIECE, b"HTTP/1.1 413 "),
    "get-chunked": (STREAM[:-2] + CHUNKED, CHUNK, OPENED),
    "get-endless": (STREAM, PIECE, OPENED),
    "post-huge": (STREAM[:-2].replace(b"GET", b"POST") + LENGTH, PIECE, b"HTTP/1.1 405 "),
    "post-chunked": (STREAM[:-2].replace(b"GET", b"POST") + CHUNKED, CHUNK, b"HTTP/1.1 405 "),
    "elsewhere": (b"POST /v1/feed HTTP/1.1\r\nHost: x\r\n" + LENGTH, PIECE, b"HTTP/1.1 404 "),
}
"""a head, what follows for ever, and how the answer begins"""


def resident_bytes(edge: EdgeProcess) -> int:
    """Memory of the edge's process."""
    return int(Path(f"/proc/{edge.process.pid}/statm").read_text().split()[1]) * 4096


async def flood(port: int, head: bytes, piece: bytes) -> int:
    """Send until the edge breaks off; the bytes it took. It may be told why, or only be cut."""
    listener = await connect(port)
    listener.writer.write(head)
    sent = 0
    with contextlib.suppress(ConnectionError):
        async with asyncio.timeout(DEADLINE_S):
            while not listener.writer.transport.is_closing():
                listener.writer.write(piece)
                await listener.writer.drain()
                sent += len(piece)
                assert sent <= MOST_BYTES, "the edge goes on reading"
    await listener.closed()
    return sent


@contextlib.asynccontextmanager
async def unmoved(edge: EdgeProcess, owner: StubOwner) -> AsyncIterator[list[int]]:
    """A listener gets each event in time, all the while; how many it got."""
    quick = await edge.listen(2)
    await quick.block()
    got, going = [0], True

    async def events() -> None:
        while going:
            await owner.publish(uuid.UUID(int=got[0]).bytes, [2])
            async with asyncio.timeout(EVENT_LIMIT_S):
                assert (await quick.block())["data"].split('"')[-2] == str(uuid.UUID(int=got[0]))
            got[0] += 1

    task = asyncio.create_task(events())
    try:
        yield got
    finally:
        going = False
        await task


@pytest.mark.parametrize("name", REQUESTS)
async def test_bodies_are_cut_off_and_nobody_else_notices(edge: EdgeProcess, owner: StubOwner, name: str) -> None:
    head, piece, begins = REQUESTS[name]
    before = resident_bytes(edge)
    async with unmoved(edge, owner) as got:
        taken = await asyncio.gather(*(flood(edge.port, head, piece) for _ in range(FLOODS)))
        assert resident_bytes(edge) - before < GROWTH_BYTES
        await until(lambda: got[0] >= 10, "events come")
    assert all(taken)
    await until(lambda: owner.listening["fep-0"] == {2}, "the floods have left their lane")
    assert await edge.metric("feed_streams_open") == 1
    floods = FLOODS if begins == OPENED else 0
    assert await edge.metric("feed_stream_floods_total") == floods


async def test_the_answer_is_clear_to_whoever_waits_for_it_before_the_body(edge: EdgeProcess) -> None:
    for head, _, begins in REQUESTS.values():
        listener = await connect(edge.port)
        edge.listeners.append(listener)
        listener.writer.write(head)
        async with asyncio.timeout(DEADLINE_S):
            assert (await listener.reader.readuntil(b"\r\n")).startswith(begins), head
        if begins != OPENED:
            assert await listener.rest()


async def test_what_may_follow_a_head_is_ignored(edge: EdgeProcess, owner: StubOwner) -> None:
    listener = await connect(edge.port)
    edge.listeners.append(listener)
    listener.writer.write(STREAM[:-2] + b"Content-Length: %d\r\n\r\n" % MAX_BODY_BYTES + bytes(MAX_BODY_BYTES))
    await listener.reader.readuntil(b"\r\n\r\n")
    await listener.block()
    await owner.publish(uuid.UUID(int=1).bytes, [7])
    assert (await listener.block())["event"] == "new_post"
    listener.writer.write(b"x")
    assert await end_of(listener) == b""


async def end_of(listener: Listener) -> bytes:
    """What still comes until the connection ends, however it ends."""
    try:
        return await listener.rest()
    except ConnectionError:
        return b""
