"""Follower pages from a graph that fails: what is worth asking again is asked again, the rest is not waited for."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from lane_servers import end_server
from real_servers import Server, redis_cache, redis_queue, until
from redis.asyncio import Redis

from reference_server.events import GraphEvent
from reference_server.fanout.graph_changes import GraphChanges
from reference_server.fanout.pages import WALKED_AT_ONCE, FollowerPages
from reference_server.flags import Flags
from reference_server.queue import START, Queue
from reference_server.rpc import RpcClient, RpcError, serve

LANES = 2
NOBODY = [[0, 0, 0], b""]


class Graph:
    """Answers `followers` with what it is told, in order; the last one for ever."""

    def __init__(self) -> None:
        self.answers: list[Any] = []
        self.under_way = self.most_at_once = 0

    async def followers(self, author: int, page: int) -> Any:
        self.under_way += 1
        self.most_at_once = max(self.most_at_once, self.under_way)
        await asyncio.sleep(0)
        self.under_way -= 1
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
    pages = FollowerPages(client, GraphChanges(client, 0), 0, LANES, lambda: Flags(follower_cache=False))
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


async def test_a_walk_asks_for_some_pages_at_a_time(graph: tuple[Graph, FollowerPages]) -> None:
    stub, pages = graph
    stub.answers = [*[[NOBODY, NOBODY, False, 3]] * 99, [NOBODY, NOBODY, True, 3]]
    async with asyncio.timeout(5):
        assert len(await pages.walk(7, 100)) == 100
    assert 1 < stub.most_at_once <= WALKED_AT_ONCE < 100


async def test_other_errors_are_waited_out(graph: tuple[Graph, FollowerPages]) -> None:
    stub, pages = graph
    followers = [[0, 1, 1], (9).to_bytes(4, "little")]
    stub.answers = [RpcError("internal", "a bug"), RpcError("unavailable"), [followers, NOBODY, True, 3]]
    (requested,) = await pages.request_many([(7, 0)])
    async with asyncio.timeout(5):
        assert (await requested).hot_of(0).tolist() == [9]


class Changing:
    """A graph that applies changes when it is let go, and says whether pages that they made stale are gone."""

    def __init__(self) -> None:
        self.is_clean = True
        self.follower = 9
        self.asked = 0
        self.synced: list[str] = []
        self.applied = asyncio.Event()

    async def followers(self, author: int, page: int) -> Any:
        self.asked += 1
        return [[[0, 1, 1], self.follower.to_bytes(4, "little")], NOBODY, True, 3]

    async def sync(self, stream_id: str) -> bool:
        self.synced.append(stream_id)
        await self.applied.wait()
        return self.is_clean


class Changed(NamedTuple):
    """Pages over a graph that lags, with the graph stream looked at while it was empty."""

    graph: Changing
    pages: FollowerPages
    queue: Queue
    changes: GraphChanges
    """of another worker, which has not looked"""


@pytest.fixture
async def changing(tmp_path: Path) -> AsyncIterator[Changed]:
    server = redis_queue(tmp_path)
    server.start()
    folder = tempfile.mkdtemp(prefix="fs-")
    graph = Changing()
    socket = await serve(f"{folder}/graph.sock", {"followers": graph.followers, "sync": graph.sync})
    client, queue = RpcClient(f"{folder}/graph.sock"), Queue(server.port)
    changes, others = GraphChanges(client, server.port), GraphChanges(client, server.port)
    pages = FollowerPages(client, changes, server.port, LANES, Flags)
    await pages.look()
    yield Changed(graph, pages, queue, others)
    for one in (pages, changes, others, queue):
        await one.close()
    client.close()
    await end_server(socket)
    server.kill()
    shutil.rmtree(folder)


async def follower_of(pages: FollowerPages, author: int) -> list[int]:
    async with asyncio.timeout(5):
        (requested,) = await pages.request_many([(author, 0)])
        found: list[int] = (await requested).hot_of(0).tolist()
        return found


@pytest.mark.parametrize(
    ("verb", "waiting"), [("follow", {8}), ("join", {7}), ("unblock", {7, 8}), ("unfollow", set()), ("like", set())]
)
async def test_pages_of_who_may_have_got_a_follower_wait_for_the_graph(
    changing: Changed, verb: str, waiting: set[int]
) -> None:
    graph, pages, queue, _ = changing
    for author in (6, 7, 8):
        assert await follower_of(pages, author) == [9]
    place = await queue.append_graph(GraphEvent(verb, 7, 256, "test", 8))
    await pages.look()
    wanted = [(6, 0), (7, 0), (8, 0)]
    requested = await pages.request_many(wanted)
    assert {author for (author, _), page in zip(wanted, requested, strict=True) if not page.done()} == waiting
    graph.applied.set()
    async with asyncio.timeout(5):
        await asyncio.gather(*requested)
    assert set(graph.synced) == ({place} if waiting else set())
    assert all(page.done() for page in await pages.request_many(wanted))


async def test_a_page_that_the_graph_could_not_delete_is_not_used(changing: Changed) -> None:
    graph, pages, queue, _ = changing
    graph.applied.set()
    assert await follower_of(pages, 8) == [9]
    graph.is_clean, graph.follower = False, 10
    await queue.append_graph(GraphEvent("follow", 10, 256, "test", 8))
    await pages.look()
    assert [await follower_of(pages, 8) for _ in range(2)] == [[10], [10]]
    assert graph.asked == 3  # straight from the graph, as long as it says so
    graph.is_clean = True
    await queue.link.call("DEL", "followers:8:0")
    assert [await follower_of(pages, 8) for _ in range(2)] == [[10], [10]]
    assert graph.asked == 4


async def test_a_page_from_before_a_change_is_not_used_although_the_graph_is_level_meanwhile(
    changing: Changed, monkeypatch: pytest.MonkeyPatch
) -> None:
    graph, pages, queue, _ = changing
    assert await follower_of(pages, 8) == [9]
    graph.follower = 10
    await queue.append_graph(GraphEvent("follow", 10, 256, "test", 8))
    await pages.look()
    (waiting,) = await pages.request_many([(8, 0)])
    from_cache = pages._from_cache

    async def slow(wanted: Sequence[tuple[int, int]]) -> list[bytes | None]:
        """The answer is on its way for as long as the graph needs to become level."""
        values = await from_cache(wanted)
        await queue.link.call("DEL", "followers:8:0")
        graph.applied.set()
        await waiting
        return values

    monkeypatch.setattr(pages, "_from_cache", slow)
    assert await follower_of(pages, 8) == [10]


async def test_who_begins_behind_changes_waits_for_all_of_them(changing: Changed) -> None:
    graph, _, queue, changes = changing
    place = await queue.append_graph(GraphEvent("follow", 10, 256, "test", 8))
    await changes.look()
    assert (changes.awaited(8), changes.awaited(6)) == (place, place)
    graph.applied.set()
    tidying = asyncio.ensure_future(changes.run())
    async with asyncio.timeout(5):
        while changes.awaited(6) != START:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    tidying.cancel()
    await asyncio.wait([tidying])


class SlowGraph:
    """Gives the same page to everybody, once it is let go."""

    def __init__(self) -> None:
        self.asked = 0
        self.go = asyncio.Event()

    async def followers(self, author: int, page: int) -> Any:
        self.asked += 1
        await self.go.wait()
        return [[[0, 1, 1], (9).to_bytes(4, "little")], NOBODY, True, 3]


@pytest.fixture
async def workers(tmp_path: Path) -> AsyncIterator[tuple[SlowGraph, list[FollowerPages], dict[str, Any], Server]]:
    """Two workers' pages over one redis-cache and one graph; the flags, which may be changed."""
    cache = redis_cache(tmp_path)
    cache.start()
    folder = tempfile.mkdtemp(prefix="fs-")
    stub, flags = SlowGraph(), {"now": Flags()}
    server = await serve(f"{folder}/graph.sock", {"followers": stub.followers})
    clients = [RpcClient(f"{folder}/graph.sock") for _ in range(2)]
    pages = [
        FollowerPages(client, GraphChanges(client, 0), cache.port, LANES, lambda: flags["now"]) for client in clients
    ]
    yield stub, pages, flags, cache
    for one, client in zip(pages, clients, strict=True):
        await one.close()
        client.close()
    await end_server(server)
    cache.kill()
    shutil.rmtree(folder)


Workers = tuple[SlowGraph, list[FollowerPages], dict[str, Any], Server]


async def ask_both(pages: list[FollowerPages], graph: SlowGraph, *, answers_after: int) -> None:
    """Both workers want the page; the graph answers once it was asked so often."""
    tasks = [asyncio.ensure_future(one.request_many([(7, 0)])) for one in pages]
    requested = [(await task)[0] for task in tasks]
    await until(lambda: graph.asked >= answers_after, "the graph is asked")
    graph.go.set()
    async with asyncio.timeout(5):
        for one in requested:
            assert (await one).hot_of(0).tolist() == [9]


async def test_a_page_that_two_workers_want_at_once_is_read_once(workers: Workers) -> None:
    graph, pages, _, _ = workers
    await ask_both(pages, graph, answers_after=1)
    assert graph.asked == 1


async def test_a_worker_does_not_wait_for_long_for_another_ones_page(workers: Workers) -> None:
    graph, pages, _, _ = workers
    await ask_both(pages, graph, answers_after=2)
    assert graph.asked == 2


async def test_the_follower_cache_follows_its_flags(workers: Workers) -> None:
    graph, pages, flags, cache = workers
    graph.go.set()
    redis = Redis(port=cache.port, protocol=2)

    async def ask() -> None:
        (requested,) = await pages[0].request_many([(7, 0)])
        await requested

    flags["now"] = Flags(follower_cache=False)
    await ask()
    await ask()
    assert (graph.asked, await redis.exists("followers:7:0")) == (2, 0)
    flags["now"] = Flags(follower_cache_ttl_s=50)
    await ask()
    await ask()
    assert graph.asked == 3
    assert 0 < await redis.ttl("followers:7:0") <= 50
    await redis.aclose()
