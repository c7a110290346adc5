from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import numpy as np
import pytest
from api_region import eventually

from reference_server.api import graph_view, pending_changes
from reference_server.api.graph_view import GraphUnavailable, GraphView
from reference_server.api.pending_changes import Overlay, PendingChanges
from reference_server.events import Label, Reader
from reference_server.rpc import RpcError, RpcTimeout, RpcUnavailable


class Graph:
    """Answers `excluded`, `follower_count` and `sync` as told, or is away."""

    def __init__(self) -> None:
        self.away = False
        self.unfollowed: dict[int, list[int]] = {}
        self.blocked: dict[int, list[int]] = {}
        self.labels = 0
        self.followers = 0
        self.position = "5-9"
        """up to where it has applied its stream"""
        self.is_silent = False
        self.calls: list[str] = []

    async def call(self, method: str, *arguments: Any, timeout_s: float) -> Any:
        self.calls.append(method)
        if self.away:
            raise RpcUnavailable("away")
        if self.is_silent or (method == "sync" and arguments[0] > self.position):
            await asyncio.sleep(0.01)
            raise RpcTimeout("silent")
        if method == "excluded_changes":
            raise RpcError("no-such-method")
        if method == "excluded":
            return [
                *(np.array(of.get(arguments[0], []), "<u4").tobytes() for of in (self.unfollowed, self.blocked)),
                self.labels,
            ]
        return self.followers if method == "follower_count" else None


@pytest.fixture
def graph() -> Graph:
    return Graph()


@pytest.fixture
async def view(graph: Graph, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[GraphView]:
    monkeypatch.setattr(graph_view, "EXCLUDED_TTL_S", -1.0)  # whatever is cached is too old
    monkeypatch.setattr(graph_view, "COUNT_TTL_S", -1.0)
    monkeypatch.setattr(pending_changes, "PAUSE_S", 0.01)
    opened = GraphView(graph, celebrity_threshold=5)  # type: ignore[arg-type]
    yield opened
    await opened.close()


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
    assert await view.changed("unfollow", 1, 9, "5-0") == applied
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


@pytest.mark.parametrize("blocked_before", [True, False])
async def test_a_follow_shows_nobody_whom_a_block_hides(graph: Graph, view: GraphView, blocked_before: bool) -> None:
    graph.unfollowed, graph.blocked = {1: [7, 8]}, {1: [7]} if blocked_before else {}
    await view.excluded(1)
    graph.away = True
    if not blocked_before:
        assert not await view.changed("block", 7, 1, "6-0")
    for author in (7, 8):
        assert not await view.changed("follow", 1, author, "6-1")
    assert (await view.excluded(1)).authors == {7}
    graph.away = False  # back, and behind
    graph.blocked = {1: [7], 2: [1]}
    assert await view.excluded(1) == graph_view.Excluded(frozenset({7}), blocked=frozenset({7}))
    graph.blocked = {1: [7, 9]}
    assert (await view.excluded(1)).authors == {7, 9}  # blocked since, by somebody else


async def test_what_the_graph_has_applied_is_its_own_to_tell(graph: Graph, view: GraphView) -> None:
    graph.unfollowed, graph.labels = {1: [7]}, Label.SENSITIVE
    await view.excluded(1)
    graph.away = True
    assert not await view.changed("follow", 1, 7, "6-0")
    assert not await view.profile_changed(1, "6-1", Reader.MINOR, Reader.MINOR)
    graph.away = False
    expected = graph_view.Excluded(frozenset(), labels=Label.ADULT | Label.SENSITIVE)
    assert await view.excluded(1) == expected  # it has not applied the changes
    graph.position = "7-0"

    async def is_told_by_the_graph() -> bool:
        return await view.excluded(1) == graph_view.Excluded(frozenset({7}), labels=Label.SENSITIVE)

    await eventually(is_told_by_the_graph, "what others did since shows")


async def test_a_silent_graph_is_waited_for_once(graph: Graph, view: GraphView) -> None:
    for user in range(50):
        await view.excluded(user)
    await view.is_celebrity(1)
    graph.is_silent = True
    assert (await view.excluded(1)).degraded
    graph.calls.clear()
    assert all([(await view.excluded(user)).degraded for user in range(50)])
    assert not await view.is_celebrity(1)
    assert not await view.changed("follow", 1, 7, "5-0")
    for question in (view.user(1), view.counts(1), view.following(1, 2), view.followees(1)):
        with pytest.raises(GraphUnavailable):
            await question
    assert set(graph.calls) <= {"ping", "sync", "excluded_changes"}
    with pytest.raises(GraphUnavailable):
        await view.excluded(50)  # nothing is known of this one: it is worth a try
    assert "excluded" in graph.calls
    graph.is_silent = False

    async def is_fresh() -> bool:
        return not (await view.excluded(1)).degraded

    await eventually(is_fresh, "it is asked again")


async def test_pending_changes_are_bounded(graph: Graph, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pending_changes, "KEPT_USERS", 2)
    monkeypatch.setattr(pending_changes, "KEPT_OTHERS", 2)
    graph.away = True
    pending = PendingChanges(graph, lambda users: None)  # type: ignore[arg-type]
    for user in (1, 2, 3):
        for other in (4, 5, 6):
            pending.add({user: Overlay(follows={other: True})}, f"{user}-{other}")
    assert pending.of(1) is None
    assert [pending.of(user) for user in (2, 3)] == [
        Overlay(follows={5: True, 6: True}, position=(user, 6)) for user in (2, 3)
    ]
    await pending.close()
