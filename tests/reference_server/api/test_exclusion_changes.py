"""What the graph told about a user is kept until the graph says that it changed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from api_region import eventually

from reference_server import rpc
from reference_server.api import exclusion_changes, graph_view
from reference_server.api.exclusion_changes import ExclusionChanges
from reference_server.api.graph_view import Excluded, GraphView
from reference_server.graph.changes import Applied
from reference_server.graph.exclusions import KEPT, Exclusions
from reference_server.rpc import RpcClient


class Graph:
    """Unfollowed authors by user, at a real socket."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.exclusions = Exclusions()
        self.unfollowed: dict[int, list[int]] = {}
        self.asked = 0
        self.server: asyncio.Server | None = None

    async def start(self) -> None:
        self.server = await rpc.serve(self.path, {"excluded": self.excluded, "excluded_changes": self.changes})

    async def excluded(self, user: int) -> list[Any]:
        self.asked += 1
        return [np.array(self.unfollowed.get(user, []), "<u4").tobytes(), b"", 0]

    async def changes(self, life: int, count: int) -> list[Any]:
        return self.exclusions.since(life, count)

    def unfollow(self, user: int, other: int) -> None:
        self.unfollowed.setdefault(user, []).append(other)
        self.exclusions.note(Applied(follows={(user, other)}))


@pytest.fixture
async def graph(tmp_path: Path) -> AsyncIterator[Graph]:
    opened = Graph(str(tmp_path / "g"))
    await opened.start()
    yield opened
    assert opened.server is not None
    opened.server.close()


@pytest.fixture
async def view(graph: Graph, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[GraphView]:
    monkeypatch.setattr(graph_view, "EXCLUDED_TTL_S", 0.0)  # by itself an answer holds for one read
    monkeypatch.setattr(exclusion_changes, "PAUSE_S", 0.02)
    client = RpcClient(graph.path)
    opened = GraphView(client, 5)
    yield opened
    client.close()


async def keep(graph: Graph, view: GraphView, *users: int) -> None:
    """Have what is known about the users kept."""

    async def is_kept() -> bool:
        before = graph.asked
        for user in users:
            await view.excluded(user)
        return graph.asked == before

    await eventually(is_kept, "answers are kept")


async def test_an_answer_is_kept_until_it_changes(graph: Graph, view: GraphView) -> None:
    await keep(graph, view, 1, 2)
    graph.unfollow(1, 7)
    before = graph.asked

    async def is_seen() -> bool:
        return (await view.excluded(1)).authors == {7}

    await eventually(is_seen, "the change is told", 1.0)
    assert (await view.excluded(2)).authors == frozenset()
    assert graph.asked - before <= 2
    await keep(graph, view, 1, 2)


async def test_a_graph_that_lives_anew_is_asked_for_everything_again(graph: Graph, view: GraphView) -> None:
    await keep(graph, view, 1, 2)
    graph.exclusions = Exclusions()
    before = graph.asked

    async def both_asked() -> bool:
        await view.excluded(1)
        await view.excluded(2)
        return graph.asked >= before + 2

    await eventually(both_asked, "both are asked for again", 2.0)


async def test_while_the_graph_is_away_the_last_known_is_marked(graph: Graph, view: GraphView) -> None:
    graph.unfollow(1, 7)
    await keep(graph, view, 1)
    assert graph.server is not None
    graph.server.close()
    Path(graph.path).unlink()
    view._client.close()

    async def is_marked() -> bool:
        return await view.excluded(1) == Excluded(frozenset({7}), degraded=True)

    await eventually(is_marked, "the last known is marked", 3.0)
    await graph.start()
    await keep(graph, view, 1)
    assert await view.excluded(1) == Excluded(frozenset({7}))


async def test_what_is_told_while_an_answer_is_on_its_way_is_not_missed(graph: Graph, view: GraphView) -> None:
    """The answer is from before the change, and arrives after it was told."""
    await keep(graph, view, 2)
    release, inside = asyncio.Event(), asyncio.Event()

    async def slow(user: int) -> list[Any]:
        answer = await Graph.excluded(graph, user)
        inside.set()
        await release.wait()
        return answer

    assert graph.server is not None
    graph.server.close()
    view._client.close()
    graph.server = await rpc.serve(graph.path, {"excluded": slow, "excluded_changes": graph.changes})
    asking = asyncio.create_task(view.excluded(1))
    await inside.wait()
    graph.unfollow(1, 7)
    looks = view._following.looks

    async def is_told() -> bool:
        view._following.is_current(asyncio.get_running_loop().time())
        return view._following.looks > looks + 1

    await eventually(is_told, "the change was told", 0.7)
    release.set()
    await asking
    assert (await view.excluded(1)).authors == {7}


def test_changes_are_numbered_and_some_are_kept() -> None:
    exclusions = Exclusions()
    life, count, users = exclusions.since(0, 0)
    assert (count, users) == (0, None)
    exclusions.note(Applied(follows={(1, 2)}, blocks={(3, 4)}, readers={(5, 1)}))
    _, count, users = exclusions.since(life, 0)
    assert (count, np.frombuffer(users, "<u4").tolist()) == (4, [1, 3, 4, 5])
    assert exclusions.since(life, count) == [life, 4, b""]
    for user in range(KEPT):
        exclusions.note(Applied(readers={(user, 1)}))
    assert exclusions.since(life, count)[2] is not None
    assert exclusions.since(life, count - 1)[2] is None
    assert exclusions.since(life, count + KEPT + 1)[2] is None


async def test_nobody_asks_while_nobody_reads(graph: Graph) -> None:
    told: list[object] = []
    client = RpcClient(graph.path)
    changes = ExclusionChanges(client, told.append)
    assert not changes.is_current(1.0)
    assert changes._asking is not None
    await changes._asking
    assert (told, changes._asking) == ([None], None)
    client.close()
