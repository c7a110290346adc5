"""The service forgets interactions by itself: hot lists, cached pages, stored rows and metrics follow the time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path

import graph_cases
import numpy as np
import pytest
from graph_cases import DAY_US, days_ago
from real_servers import Server, redis_cache, until
from redis.asyncio import Redis

from reference_server.events import GraphEvent, encode
from reference_server.graph import service as service_module
from reference_server.graph.follower_pages import FollowerPages
from reference_server.graph.interactions import SLOT_US, wall_us
from reference_server.graph.service import END_AT_ONCE, ENDED, INTERACTIONS, GraphService
from reference_server.graph.store import GraphStore
from reference_server.settings import Settings

USERS = 3000
AUTHOR = 0


@pytest.fixture
def cache(tmp_path: Path) -> AsyncIterator[Server]:
    server = redis_cache(tmp_path)
    server.start()
    yield server
    server.kill()


@pytest.fixture
async def service(tmp_path: Path, cache: Server, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[GraphService]:
    """All follow the author; what it does by itself, runs."""
    monkeypatch.setattr(service_module, "END_EVERY_S", 0.02)
    people = graph_cases.write_population(tmp_path / "p", USERS, {u: [AUTHOR] for u in range(1, USERS)})
    settings = Settings(directory=str(tmp_path), sockets="", secret="", regions=(), population=str(people))
    store = GraphStore(tmp_path / "graph.db")
    made = GraphService(
        settings, store, lambda view: FollowerPages(cache.port, view.most_followers, earlier_life=False)
    )
    tasks = [asyncio.create_task(one) for one in (made.end_interactions(), made.pages.run())]
    yield made
    for task in tasks:
        assert not task.done()
        task.cancel()
    for task in tasks:
        with suppress(asyncio.CancelledError):
            await task
    await made.pages.close()
    store.close()


def like(service: GraphService, users: range, hlc: int, entry: str) -> None:
    events = [GraphEvent("like", user, hlc, "us-east", AUTHOR) for user in users]
    assert service.apply([(entry, encode(event)) for event in events]) == []


def stored(service: GraphService) -> int:
    (count,) = service.store._db.execute("SELECT count(*) FROM likes").fetchone()
    return int(count)


async def hot(service: GraphService) -> set[int]:
    found: set[int] = set()
    for page in range(3):
        packed, _, _, _ = await service.followers(AUTHOR, page)
        found.update(np.frombuffer(packed[1], "<u4").tolist())
    return found - {AUTHOR}


async def test_hot_lists_and_their_cached_pages_follow_the_time(service: GraphService, cache: Server) -> None:
    old, lasting = range(1, 2 * END_AT_ONCE + 100), range(2 * END_AT_ONCE + 100, 2 * END_AT_ONCE + 150)
    like(service, old, days_ago(29, wall_us()), "1-0")
    like(service, lasting, days_ago(20, wall_us()), "2-0")
    assert await hot(service) == {*old, *lasting}
    assert INTERACTIONS._value.get() == stored(service) == len(old) + len(lasting)
    versions, ended = service.view.version(AUTHOR), ENDED._value.get()
    async with Redis(host="127.0.0.1", port=cache.port) as redis:
        await redis.set(f"followers:{AUTHOR}:0", b"old")
        service.changes.interactions._now_us = lambda: wall_us() + DAY_US + SLOT_US
        await until(lambda: ENDED._value.get() == ended + len(old), "all that is over was forgotten")
        assert await hot(service) == {*lasting}
        assert service.view.version(AUTHOR) == versions, "nobody came or went, so no list needs to be read again"
        assert INTERACTIONS._value.get() == stored(service) == len(lasting)
        async with asyncio.timeout(5):
            while await redis.exists(f"followers:{AUTHOR}:0"):  # noqa: ASYNC110 - redis tells nobody
                await asyncio.sleep(0.005)
    assert service.position == "2-0"
