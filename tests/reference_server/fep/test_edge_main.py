"""An edge that lost one of its loops does not stay up as if nothing were wrong."""

from __future__ import annotations

import asyncio

import pytest
from edge_stubs import DEADLINE_S, context
from real_servers import Server

from reference_server.fep import edge
from reference_server.fep.heartbeat import Heartbeat


async def test_an_edge_ends_with_the_error_that_ended_one_of_its_loops(
    sockets: str, redis_server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(_: Heartbeat) -> None:
        raise LookupError("a bug")

    monkeypatch.setattr(Heartbeat, "run", fail)
    async with asyncio.timeout(DEADLINE_S):
        with pytest.raises(LookupError, match="a bug"):
            await edge.main(context(sockets, redis_server.port))


async def test_an_edge_that_is_told_to_stop_ends_without_an_error(sockets: str, redis_server: Server) -> None:
    ctx = context(sockets, redis_server.port)
    ctx.stopping.set()
    async with asyncio.timeout(DEADLINE_S):
        await edge.main(ctx)
