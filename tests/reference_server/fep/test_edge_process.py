"""The edge as the process it is: uvloop, signals, kernel buffers."""

from __future__ import annotations

import asyncio
import signal
import uuid

import pytest
from edge_stubs import DEADLINE_S, EdgeProcess, StubOwner
from real_servers import until

pytestmark = pytest.mark.slow


async def test_a_slow_listener_is_dropped_after_a_bounded_backlog(edge: EdgeProcess, owner: StubOwner) -> None:
    slow, quick = await edge.listen(1), await edge.listen(2)
    slow.writer.transport.pause_reading()  # type: ignore[attr-defined]

    async def count() -> int:
        blocks = 0
        while block := await quick.reader.read(65536):
            blocks += block.count(b"event: new_post")
        return blocks

    counting = asyncio.create_task(count())
    posts = 0
    while owner.listening["fep-0"] == {1, 2}:
        assert posts < 100_000
        await owner.publish(uuid.UUID(int=posts).bytes, [1, 2])
        posts += 1
    assert await edge.metric("feed_stream_slow_drops_total") == 1
    assert await edge.metric("feed_streams_open") == 1
    edge.process.send_signal(signal.SIGTERM)
    assert await counting == posts


async def test_sigterm_ends_streams_cleanly_and_the_process_with_status_0(edge: EdgeProcess, owner: StubOwner) -> None:
    listeners = [await edge.listen(user) for user in range(50)]
    for listener in listeners:
        await listener.block()
    edge.process.send_signal(signal.SIGTERM)
    for listener in listeners:
        assert (await listener.rest()).replace(b": hb\n\n", b"") == b""
    async with asyncio.timeout(DEADLINE_S):
        assert await edge.process.wait() == 0
    await until(lambda: not owner.listening["fep-0"], "everybody has left")
