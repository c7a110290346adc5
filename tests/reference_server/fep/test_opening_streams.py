"""Several streams of one user that open at the same time."""

from __future__ import annotations

import uuid

from edge_stubs import REGION, Stack, StubOwner, stream_request
from real_servers import until

from reference_server.fep import wire

USER = 7
POSTS = [uuid.UUID(int=n).bytes for n in range(1, 3)]


async def test_an_event_that_comes_while_two_streams_of_a_user_open_is_sent_once_to_each(
    stack: Stack, owner: StubOwner
) -> None:
    edge = await stack()
    lane = edge.edge.lanes[0]
    steady = await edge.listen(USER + 1)
    await steady.block()
    answer, early = owner.subscribe, []

    async def slow(fep: str, users: list[list[int | None]]) -> list[object]:
        reply = await answer(fep, users)
        if not early:
            await until(lambda: lane.opening == 2, "both streams are opening")
            early.append(await owner.publish(POSTS[0], [USER, USER + 1]))
            await steady.block()  # so the edge has read the message
        return reply

    await owner.stop()
    owner.subscribe = slow  # type: ignore[method-assign]
    await owner.start()
    devices = [await edge.send(stream_request(USER)) for _ in range(2)]
    await until(lambda: early and not lane.opening, "both streams are open")
    last = await owner.publish(POSTS[1], [USER])
    for device in devices:
        await device.reader.readuntil(b"\r\n\r\n")
        await device.block()
        ids = [(await device.block())["id"]]
        while ids[-1] != wire.token(REGION, last):
            ids.append((await device.block())["id"])
        assert len(ids) == len(set(ids))
    assert early
