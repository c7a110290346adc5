from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from reference_server.api import graph_view
from reference_server.api.graph_view import GraphUnavailable, GraphView
from reference_server.rpc import RpcUnavailable


class Graph:
    """Answers `excluded`, `follower_count` and `sync` as told, or is away."""

    def __init__(self) -> None:
        self.away = False
        self.unfollowed: dict[int, list[int]] = {}
        self.followers = 0

    async def call(self, method: str, *arguments: Any, timeout_s: float) -> Any:
        if self.away:
            raise RpcUnavailable("away")
        if method == "excluded":
            return [np.array(self.unfollowed.get(arguments[0], []), "<u4").tobytes(), b""]
        return self.followers if method == "follower_count" else None


@pytest.fixture
def graph() -> Graph:
    return Graph()


@pytest.fixture
def view(graph: Graph, monkeypatch: pytest.MonkeyPatch) -> GraphView:
    monkeypatch.setattr(graph_view, "EXCLUDED_TTL_S", -1.0)  # whatever is cached is too old
    monkeypatch.setattr(graph_view, "COUNT_TTL_S", -1.0)
    return GraphView(graph, celebrity_threshold=5)  # type: ignore[arg-type]


async def test_an_old_entry_stands_in_while_the_graph_is_away(graph: Graph, view: GraphView) -> None:
    graph.unfollowed = {1: [7]}
    assert await view.excluded(1) == graph_view.Excluded(frozenset({7}))
    graph.away = True
    for _ in range(2):
        assert await view.excluded(1) == graph_view.Excluded(frozenset({7}), degraded=True)


async def test_without_an_entry_nobody_is_taken_for_visible(graph: Graph, view: GraphView) -> None:
    graph.away = True
    with pytest.raises(GraphUnavailable):
        await view.excluded(1)


@pytest.mark.parametrize("applied", [True, False])
async def test_the_last_known_entry_holds_the_users_own_changes(graph: Graph, view: GraphView, applied: bool) -> None:
    await view.excluded(1)
    graph.away = not applied
    assert await view.changed(1, 9, "5-0", excludes=True) == applied
    graph.away = True
    assert (await view.excluded(1)).authors == {9}


async def test_the_oldest_entry_makes_room(graph: Graph, view: GraphView, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(graph_view, "_MAX_CACHED", 2)
    for user in (1, 2, 1, 3):  # 1 was refreshed after 2
        await view.excluded(user)
    graph.away = True
    for user in (1, 3):
        assert (await view.excluded(user)).degraded
    with pytest.raises(GraphUnavailable):
        await view.excluded(2)


async def test_the_last_known_celebrity_stays_one_while_the_graph_is_away(graph: Graph, view: GraphView) -> None:
    graph.followers = 5
    assert await view.is_celebrity(1)
    graph.away = True
    for _ in range(2):
        assert await view.is_celebrity(1)


async def test_a_failure_is_not_taken_for_few_followers(graph: Graph, view: GraphView) -> None:
    graph.away = True
    with pytest.raises(GraphUnavailable):
        await view.is_celebrity(1)
    graph.away, graph.followers = False, 5
    assert await view.is_celebrity(1)
