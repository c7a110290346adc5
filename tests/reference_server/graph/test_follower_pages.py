"""Stale follower pages go from the cache: at once, not too often, once more later, and when the cache is back."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from real_servers import redis_cache
from redis.asyncio import Redis

from reference_server.graph import follower_pages
from reference_server.graph.follower_pages import FollowerPages


@pytest.fixture
def port(tmp_path: Path) -> Iterator[int]:
    server = redis_cache(tmp_path)
    server.start()
    yield server.port
    server.kill()


@pytest.fixture
async def cache(port: int) -> AsyncIterator[Redis]:
    async with Redis(host="127.0.0.1", port=port) as opened:
        yield opened


@asynccontextmanager
async def running(port: int, *, earlier_life: bool = False) -> AsyncIterator[FollowerPages]:
    pages = FollowerPages(port, lambda author: 2, earlier_life=earlier_life)
    task = asyncio.create_task(pages.run())
    try:
        yield pages
    finally:
        task.cancel()
        await asyncio.wait([task])
        await pages.close()


async def gone(cache: Redis, key: str, limit_s: float = 5.0) -> None:
    async with asyncio.timeout(limit_s):
        while await cache.exists(key):  # noqa: ASYNC110 - redis tells nobody
            await asyncio.sleep(0.005)


async def until_clean(pages: FollowerPages) -> None:
    async with asyncio.timeout(5):
        while not pages.is_clean:  # noqa: ASYNC110
            await asyncio.sleep(0.005)


async def test_served_pages_are_deleted_before_sync_returns(port: int, cache: Redis) -> None:
    async with running(port) as pages:
        for page in (0, 1):
            pages.served(7, page)
            await cache.set(f"followers:7:{page}", b"old")
        await cache.set("followers:8:0", b"other author")
        flushed = pages.changed([7])
        assert flushed is not None
        async with asyncio.timeout(2):
            await flushed
        assert await cache.exists("followers:7:0", "followers:7:1") == 0
        assert await cache.exists("followers:8:0") == 1


async def test_pages_nobody_was_given_cost_nothing(port: int) -> None:
    async with running(port) as pages:
        assert pages.changed([7]) is None


async def test_after_a_restart_any_page_may_be_cached(port: int, cache: Redis) -> None:
    async with running(port, earlier_life=True) as pages:
        await until_clean(pages)
        await cache.set("followers:7:2", b"old")
        assert pages.changed([7]) is not None
        await gone(cache, "followers:7:2")


async def test_a_new_life_begins_without_the_pages_of_an_earlier_one(port: int, cache: Redis) -> None:
    await cache.mset({f"followers:{author}:0": b"old" for author in range(1200)} | {"presence": b"kept"})
    async with running(port, earlier_life=True) as pages:
        assert not pages.is_clean
        deleted = pages.begin()
        assert deleted is not None
        async with asyncio.timeout(5):
            await deleted
        assert pages.is_clean
        assert await cache.keys() == [b"presence"]


async def test_a_first_life_deletes_nothing(port: int) -> None:
    async with running(port) as pages:
        assert pages.is_clean
        assert pages.begin() is None


async def test_page_stored_just_after_the_deletion_goes_a_second_later(
    port: int, cache: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(follower_pages, "AGAIN_AFTER_S", 0.1)
    async with running(port) as pages:
        pages.served(7, 0)
        flushed = pages.changed([7])
        assert flushed is not None
        await flushed
        await cache.set("followers:7:0", b"computed before the change")
        await gone(cache, "followers:7:0")


async def test_at_most_once_in_100_ms(port: int, cache: Redis) -> None:
    async with running(port) as pages:
        pages.served(7, 0)
        times = []
        for _ in range(4):
            flushed = pages.changed([7])
            assert flushed is not None
            await flushed
            times.append(time.monotonic())
        assert min(later - earlier for earlier, later in itertools.pairwise(times)) > 0.09


async def test_a_change_while_pages_are_being_deleted_waits_for_the_next_deletion(port: int, cache: Redis) -> None:
    async with running(port) as pages:
        pages.served(7, 0)
        await cache.execute_command("CLIENT", "PAUSE", 100, "ALL")
        first = pages.changed([7])
        async with asyncio.timeout(2):
            while pages._due:  # noqa: ASYNC110 - until its deletion is under way
                await asyncio.sleep(0)
            second = pages.changed([7])
            assert first is not None
            assert second is not None
            await first
            assert not second.done(), "a page served before the second change may have been stored since"
            await second


async def test_cache_that_is_away_holds_nobody_up_and_is_cleaned_when_back(tmp_path: Path) -> None:
    server = redis_cache(tmp_path)
    async with running(server.port) as pages:
        pages.served(7, 0)
        flushed = pages.changed([7])
        assert flushed is not None
        async with asyncio.timeout(2):
            await flushed
        assert not pages.is_clean
        server.start()
        try:
            async with Redis(host="127.0.0.1", port=server.port) as cache:
                await cache.set("followers:7:0", b"old")
                await gone(cache, "followers:7:0")
                await until_clean(pages)
        finally:
            server.kill()


async def test_pages_kept_under_another_ttl_are_deleted_too(
    port: int, cache: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(follower_pages, "LATE_S", 0.0)
    pages = FollowerPages(port, lambda author: 2, earlier_life=False, ttl_s=0.0)
    pages.served(7, 0)
    assert pages.changed([7]) is None
    pages.set_ttl(300.0)
    assert pages.changed([7]) is not None  # fan-out may have learnt of the flag first
    await pages.close()
