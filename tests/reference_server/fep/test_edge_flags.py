"""Flags of the edge take effect while it runs: kill switch, heartbeat, admission, buffers, slow listeners."""

from __future__ import annotations

import asyncio
import socket
import uuid
from collections.abc import Awaitable, Callable

import msgspec
import pytest
from edge_stubs import DEADLINE_S, Stack, StubOwner, stream_request
from real_servers import Server, until

from reference_server import stages

USER = 7
POST = uuid.UUID(int=1).bytes
SetFlags = Callable[..., Awaitable[None]]


@pytest.fixture
def set_flags(stack: Stack, owner: StubOwner) -> SetFlags:
    """Set flags where every process looks for them, and have the edge of the test look."""

    async def change(**flags: object) -> None:
        for name, value in flags.items():
            await owner.redis.hset("flags", name, b"%020d:%b" % (1, msgspec.json.encode(value)))
            await owner.redis.incr("flags:version")

    return change


async def test_the_kill_switch_ends_streams_and_refuses_new_ones(
    stack: Stack, owner: StubOwner, set_flags: SetFlags
) -> None:
    edge = await stack()
    listener = await edge.listen(USER)
    await listener.block()
    await set_flags(kill_switch=True)
    await edge.look()
    assert await listener.rest() == b""
    refused = (await (await edge.send(stream_request(USER))).rest()).decode()
    assert refused.startswith("HTTP/1.1 503 ")
    assert "\r\nRetry-After: 5\r\n" in refused
    assert "application/problem+json" in refused
    assert "the product is switched off" in refused
    for path in ("/healthz", "/readyz", "/metrics"):
        answer = await (await edge.send(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())).rest()
        assert answer.startswith(b"HTTP/1.1 200 ")
    await set_flags(kill_switch=False)
    await edge.look()
    listener = await edge.listen(USER)
    await listener.block()
    await owner.publish(POST, [USER])
    assert (await listener.block())["event"] == "new_post"


async def test_streams_are_opened_at_the_rate_allowed(stack: Stack, owner: StubOwner, set_flags: SetFlags) -> None:
    edge = await stack()
    await set_flags(sse_opens_per_s=1)
    await edge.look()
    await edge.listen(USER)
    refused = (await (await edge.send(stream_request(USER + 1))).rest()).decode()
    assert refused.startswith("HTTP/1.1 503 ")
    assert "\r\nRetry-After: " in refused
    assert {user for batch in owner.subscribes for user, _ in batch} == {USER}
    await set_flags(sse_opens_per_s=1000)
    await edge.look()

    async def opened() -> bool:
        return (await edge.listen(USER + 1)).head.startswith("HTTP/1.1 200 ")

    async with asyncio.timeout(DEADLINE_S):
        while not await opened():  # noqa: ASYNC110 - tokens come with time
            await asyncio.sleep(0.005)


async def test_a_shorter_heartbeat_comes_at_once(stack: Stack, set_flags: SetFlags) -> None:
    edge = await stack(flags={"sse_heartbeat_s": 3000})
    listener = await edge.listen(USER)
    await listener.block()
    await set_flags(sse_heartbeat_s=0.1)
    await edge.look()
    async with asyncio.timeout(DEADLINE_S):
        assert await listener.reader.readuntil(b"\n\n") == b": hb\n\n"


async def test_buffers_of_streams_that_open_later(stack: Stack, set_flags: SetFlags) -> None:
    edge = await stack()
    await edge.listen(USER)
    await set_flags(sse_buffer_bytes=65536)
    await edge.look()
    await edge.listen(USER + 1)
    lane = edge.edge.lanes[0]
    limits = [lane.streams[user].transport.get_write_buffer_limits()[1] for user in (USER, USER + 1)]
    assert limits == [4096, 65536]
    kernel = [
        lane.streams[user].transport.get_extra_info("socket").getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF)
        for user in (USER, USER + 1)
    ]
    assert kernel[1] == 16 * kernel[0]


@pytest.mark.slow
async def test_slow_listeners_are_waited_for_when_told_so(stack: Stack, owner: StubOwner, set_flags: SetFlags) -> None:
    edge = await stack(flags={"drop_slow_listeners": False})
    slow = await edge.listen(USER)
    await slow.block()
    slow.writer.transport.pause_reading()  # type: ignore[attr-defined]
    stream = edge.edge.lanes[0].streams[USER]

    async def fill(until_bytes: int) -> None:
        number = 0
        while edge.open_streams and stream.transport.get_write_buffer_size() < until_bytes:
            number += 1
            await owner.publish(uuid.UUID(int=number).bytes, [USER])

    async with asyncio.timeout(DEADLINE_S):
        await fill(20_000)
    assert edge.open_streams == 1
    slow.writer.transport.resume_reading()  # type: ignore[attr-defined]
    await until(lambda: not stream.transport.get_write_buffer_size(), "everything was taken")
    await set_flags(drop_slow_listeners=True)
    await edge.look()
    slow.writer.transport.pause_reading()  # type: ignore[attr-defined]
    async with asyncio.timeout(DEADLINE_S):
        await fill(1 << 30)
    assert edge.open_streams == 0


async def test_the_stage_event_is_counted_once_a_message(stack: Stack, owner: StubOwner, redis_server: Server) -> None:
    def counted() -> float:
        samples = stages.SECONDS.labels("event").collect()[0].samples
        return next(sample.value for sample in samples if sample.name.endswith("_count"))

    edge = await stack()
    listeners = [await edge.listen(user) for user in (USER, USER, USER + 1)]
    for listener in listeners:
        await listener.block()
    before = counted()
    await owner.publish(POST, [USER, USER + 1], accepted_us=1)
    await owner.publish(uuid.UUID(int=2).bytes, [USER, USER + 1])
    for listener in listeners:
        assert (await listener.block())["event"] == "new_post"
        assert (await listener.block())["event"] == "new_post"
    assert counted() == before + 1
