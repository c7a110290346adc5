"""Stale follower pages go from the cache: at once, not too often, once more later, and when the cache is back."""

from __future__ import annotations

import asyncio
import itertools
import socket
import subprocess
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import pytest
from redis.asyncio import Redis
from stack_process import wait_until

from reference_server.graph import follower_pages
from reference_server.graph.follower_pages import FollowerPages


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def start_redis(port: int) -> subprocess.Popen[bytes]:
    server = subprocess.Popen(
        ["redis-server", "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", "/tmp"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )

    def listens() -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", port)) == 0

    wait_until(listens, "redis listens")
    return server


@pytest.fixture
def port() -> Iterator[int]:
    number = free_port()
    server = start_redis(number)
    yield number
    server.kill()
    server.wait()


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
        await cache.set("followers:7:2", b"old")
        assert pages.changed([7]) is not None
        await gone(cache, "followers:7:2")


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


async def test_cache_that_is_away_holds_nobody_up_and_is_cleaned_when_back() -> None:
    port = free_port()
    async with running(port) as pages:
        pages.served(7, 0)
        flushed = pages.changed([7])
        assert flushed is not None
        async with asyncio.timeout(2):
            await flushed
        server = start_redis(port)
        try:
            async with Redis(host="127.0.0.1", port=port) as cache:
                await cache.set("followers:7:0", b"old")
                await gone(cache, "followers:7:0")
        finally:
            server.kill()
            server.wait()
