"""Listeners that stop reading when their buffer was full before: what waits for them stays bounded."""

from __future__ import annotations

import asyncio
import socket
import uuid

import pytest
from edge_stubs import DEADLINE_S, REGION, EdgeUnderTest, Listener, Stack, StubOwner, stream_request
from real_servers import until

from reference_server.fep import edge as edge_module
from reference_server.fep import wire
from reference_server.fep.edge import limit_kernel_buffer
from reference_server.fep.stream import Stream

pytestmark = pytest.mark.slow
USER = 7
BUFFER_BYTES = 1 << 20
COMMENT = b":" + b" " * (BUFFER_BYTES // 8) + b"\n\n"


async def read_until_few_wait(listener: Listener, stream: Stream) -> None:
    """Less than the buffer, more than the quarter of it at which the transport would call it drained."""
    transport = listener.writer.transport
    transport.resume_reading()  # type: ignore[attr-defined]
    async with asyncio.timeout(DEADLINE_S):
        while stream.transport.get_write_buffer_size() > BUFFER_BYTES:
            await listener.reader.read(1 << 16)
    transport.pause_reading()  # type: ignore[attr-defined]


async def write_until_dropped(edge: EdgeUnderTest, stream: Stream) -> None:
    """One small write after the other, none of which is a burst."""
    async with asyncio.timeout(DEADLINE_S):
        while edge.open_streams:
            assert stream.transport.get_write_buffer_size() < 8 * BUFFER_BYTES, "held without a bound"
            stream.write(COMMENT)
            await asyncio.sleep(0.005)


async def after_a_burst(edge: EdgeUnderTest, owner: StubOwner) -> tuple[Listener, Stream]:
    """A listener who took most of a long catch-up, and reads no more now that the time for it is over."""
    limit_kernel_buffer(edge.edge.listener, 4096)
    since = owner.write(uuid.UUID(int=0).bytes, [USER])
    for n in range(30_000):  # more than the kernel's buffers hold
        owner.write(uuid.UUID(int=n).bytes, [USER])
    listener = await edge.send(stream_request(USER, wire.token(REGION, since)))
    listener.writer.transport.pause_reading()  # type: ignore[attr-defined]
    listener.writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 16)
    await until(lambda: edge.edge._bursts, "the burst is written")
    stream = edge.edge.lanes[0].streams[USER]
    await read_until_few_wait(listener, stream)
    edge.edge._bursts[stream] = 0.0
    await until(lambda: not edge.edge._bursts, "the time of the burst is over")
    assert edge.open_streams == 1
    assert BUFFER_BYTES // 4 < stream.transport.get_write_buffer_size() <= BUFFER_BYTES
    return listener, stream


async def test_a_listener_who_takes_a_part_of_a_burst_and_then_no_more_is_dropped(
    stack: Stack, owner: StubOwner, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(edge_module, "BURST_S", 60.0)
    edge = await stack(flags={"sse_buffer_bytes": BUFFER_BYTES})
    _, stream = await after_a_burst(edge, owner)
    await write_until_dropped(edge, stream)
    assert not edge.edge._full


async def test_a_listener_who_reads_on_after_a_burst_is_kept(
    stack: Stack, owner: StubOwner, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(edge_module, "BURST_S", 60.0)
    edge = await stack(flags={"sse_buffer_bytes": BUFFER_BYTES})
    listener, stream = await after_a_burst(edge, owner)
    listener.writer.transport.resume_reading()  # type: ignore[attr-defined]
    async with asyncio.timeout(DEADLINE_S):
        while stream.transport.get_write_buffer_size():
            await listener.reader.read(1 << 16)
    assert not edge.edge._full
    seq = await owner.publish(uuid.UUID(int=1 << 20).bytes, [USER])
    async with asyncio.timeout(DEADLINE_S):
        while wire.token(REGION, seq).encode() not in await listener.reader.readuntil(b"\n\n"):
            assert edge.open_streams == 1


async def test_a_listener_who_was_waited_for_is_dropped_when_told_so(stack: Stack, owner: StubOwner) -> None:
    edge = await stack(flags={"drop_slow_listeners": False})
    slow = await edge.listen(USER)
    await slow.block()
    slow.writer.transport.pause_reading()  # type: ignore[attr-defined]
    slow.writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 16)
    stream = edge.edge.lanes[0].streams[USER]
    async with asyncio.timeout(DEADLINE_S):
        while stream.transport.get_write_buffer_size() < BUFFER_BYTES:
            stream.write(b":" + b" " * 2000 + b"\n\n")
            await asyncio.sleep(0)
    assert edge.open_streams == 1
    await owner.redis.hset("flags", "drop_slow_listeners", b"%020d:true" % 1)
    await owner.redis.incr("flags:version")
    await edge.look()
    await until(lambda: not edge.open_streams, "dropped")
