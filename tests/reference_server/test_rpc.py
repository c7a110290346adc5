"""Calls between processes: answers, refusals, and what becomes of calls whose callers have given up."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
import time
from collections.abc import AsyncIterator

import pytest

from reference_server import rpc
from reference_server.rpc import RpcClient, RpcError, RpcTimeout, RpcUnavailable


class Counting:
    """Handlers that note what they carried out."""

    def __init__(self) -> None:
        self.done: list[int] = []

    async def note(self, number: int) -> int:
        self.done.append(number)
        return number

    async def block(self, seconds: float) -> None:
        """Hold up the whole server, like a pause of its process."""
        time.sleep(seconds)  # noqa: ASYNC251

    async def refuse(self) -> None:
        raise RpcError("not-found", "nobody")


@pytest.fixture
async def path() -> AsyncIterator[str]:
    folder = tempfile.mkdtemp(prefix="fs-")
    yield f"{folder}/a.sock"
    shutil.rmtree(folder)


@pytest.fixture
async def served(path: str) -> AsyncIterator[tuple[Counting, RpcClient]]:
    calls, client = Counting(), RpcClient(path)
    server = await rpc.serve(path, {"note": calls.note, "block": calls.block, "refuse": calls.refuse})
    yield calls, client
    client.close()
    server.close()
    await asyncio.sleep(0)


async def test_calls_are_answered_and_refused(served: tuple[Counting, RpcClient]) -> None:
    _, client = served
    assert await asyncio.gather(*(client.call("note", n) for n in range(5))) == list(range(5))
    with pytest.raises(RpcError, match="not-found: nobody"):
        await client.call("refuse")


async def test_a_call_that_reaches_a_handler_too_late_is_not_carried_out(served: tuple[Counting, RpcClient]) -> None:
    calls, client = served
    await client.call("note", 1)
    blocked = [client.call("block", 0.2, timeout_s=5), client.call("note", 2, timeout_s=0.1), client.call("note", 3)]
    _, late, patient = await asyncio.gather(*blocked, return_exceptions=True)
    assert (type(late), patient) == (RpcTimeout, 3)
    assert calls.done == [1, 3]


@pytest.mark.usefixtures("served")
async def test_a_request_without_a_deadline_is_carried_out(path: str) -> None:
    reader, writer = await asyncio.open_unix_connection(path)
    writer.write(rpc._frame([1, "note", [7]]))
    assert await reader.readexactly(len(rpc._frame([1, None, 7]))) == rpc._frame([1, None, 7])
    writer.close()
    await writer.wait_closed()


async def test_calls_to_a_server_that_does_not_read_fail_at_once_when_enough_wait(path: str) -> None:
    class Deaf(asyncio.Protocol):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            self.transport = transport
            # not at once: Python before 3.11.5 begins to read afterwards all the same
            asyncio.get_running_loop().call_soon(transport.pause_reading)  # type: ignore[attr-defined]

    deaf = Deaf()
    server = await asyncio.get_running_loop().create_unix_server(lambda: deaf, path)
    client = RpcClient(path)
    with pytest.raises(RpcTimeout):
        await client.call("note", bytes(rpc.MAX_UNSENT_BYTES + (1 << 20)), timeout_s=0.05)
    with pytest.raises(RpcUnavailable):
        await client.call("note", 1, timeout_s=0.05)
    client.close()
    deaf.transport.abort()  # type: ignore[attr-defined]
    server.close()
    await asyncio.sleep(0)
