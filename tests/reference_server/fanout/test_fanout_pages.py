"""Follower pages from a graph that fails: what is worth asking again is asked again, the rest is not waited for."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import AsyncIterator
from typing import Any

import pytest
from lane_servers import end_server

from reference_server.fanout.pages import FollowerPages
from reference_server.rpc import RpcClient, RpcError, serve

LANES = 2
NOBODY = [[0, 0, 0], b""]


class Graph:
    """Answers `followers` with what it is told, in order; the last one for ever."""

    def __init__(self) -> None:
        self.answers: list[Any] = []

    async def followers(self, author: int, page: int) -> Any:
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer


@pytest.fixture
async def graph() -> AsyncIterator[tuple[Graph, FollowerPages]]:
    folder = tempfile.mkdtemp(prefix="fs-")
    stub = Graph()
    server = await serve(f"{folder}/graph.sock", {"followers": stub.followers})
    client = RpcClient(f"{folder}/graph.sock")
    pages = FollowerPages(client, 0, LANES, cached=False)
    yield stub, pages
    await pages.close()
    client.close()
    await end_server(server)
    shutil.rmtree(folder)


@pytest.mark.parametrize("code", ["not-found", "bad-request"])
async def test_an_author_whom_the_graph_refuses_has_no_followers(graph: tuple[Graph, FollowerPages], code: str) -> None:
    stub, pages = graph
    stub.answers = [RpcError(code, "author 7")]
    (requested,) = await pages.request_many([(7, 0)])
    async with asyncio.timeout(5):
        page = await requested
    assert page.last
    assert [len(part(lane)) for part in (page.hot_of, page.cold_of) for lane in range(LANES)] == [0] * 4


async def test_a_walk_ends_where_the_graph_begins_to_refuse(graph: tuple[Graph, FollowerPages]) -> None:
    stub, pages = graph
    stub.answers = [[NOBODY, NOBODY, False, 3], RpcError("not-found", "author 7")]
    async with asyncio.timeout(5):
        assert [page.last for page in await pages.walk(7, 1)] == [False, True]


async def test_other_errors_are_waited_out(graph: tuple[Graph, FollowerPages]) -> None:
    stub, pages = graph
    followers = [[0, 1, 1], (9).to_bytes(4, "little")]
    stub.answers = [RpcError("internal", "a bug"), RpcError("unavailable"), [followers, NOBODY, True, 3]]
    (requested,) = await pages.request_many([(7, 0)])
    async with asyncio.timeout(5):
        assert (await requested).hot_of(0).tolist() == [9]
