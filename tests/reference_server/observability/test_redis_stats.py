"""Figures of a real redis server, also across its restart."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from prometheus_client import REGISTRY
from real_servers import Server, redis_queue

from reference_server.observability.redis_stats import QUEUE_STREAMS, RedisStats, parse_info
from reference_server.queue.link import Link


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[Server]:
    server = redis_queue(tmp_path)
    server.start()
    yield server
    server.kill()


def value(name: str, **labels: str) -> float:
    found = REGISTRY.get_sample_value(name, labels)
    assert found is not None, name
    return found


@pytest.fixture
async def link(redis: Server) -> AsyncIterator[Link]:
    opened = Link(redis.port, 2.0)
    yield opened
    await opened.close()


@pytest.fixture
async def stats(redis: Server) -> AsyncIterator[RedisStats]:
    opened = RedisStats("test", redis.port, QUEUE_STREAMS)
    yield opened
    await opened.close()


async def test_figures_follow_a_server_through_a_restart(redis: Server, link: Link, stats: RedisStats) -> None:
    for _ in range(3):
        await link.call("XADD", "posts", "*", "e", b"x")
    assert await stats.step()
    assert value("feed_queue_depth", stream="posts") == 3
    assert value("feed_queue_depth", stream="dead") == 0
    assert value("feed_redis_up", server="test") == 1
    assert value("feed_redis_memory_bytes", server="test") > 100_000
    assert value("feed_redis_log_bytes", server="test") > 0
    await link.call("GET", "nobody")
    assert await stats.step()
    commands = value("feed_redis_commands_total", server="test")
    assert value("feed_redis_misses_total", server="test") >= 1
    redis.kill()
    assert not await stats.step()
    assert value("feed_redis_up", server="test") == 0
    redis.start()
    while not await stats.step():
        pass
    assert value("feed_redis_commands_total", server="test") > commands
    assert value("feed_queue_depth", stream="posts") == 3


def test_info_is_parsed() -> None:
    text = b"# Memory\r\nused_memory:12\r\n\r\n# Keyspace\r\ndb0:keys=1,expires=0,avg_ttl=0\r\n"
    assert parse_info(text) == {"used_memory": "12", "db0": "keys=1,expires=0,avg_ttl=0"}
