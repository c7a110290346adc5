from __future__ import annotations

import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "queue"))

from jobs_stubs import Region
from real_servers import Server, memcached_server, redis_queue


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[Server]:
    folder = tmp_path / "redis"
    folder.mkdir()
    server = redis_queue(folder)
    server.start()
    yield server
    server.kill()


@pytest.fixture
def cache() -> Iterator[Server]:
    server = memcached_server()
    server.start()
    yield server
    server.kill()


@pytest.fixture
async def region(tmp_path: Path, redis: Server, cache: Server) -> AsyncIterator[Region]:
    with tempfile.TemporaryDirectory(prefix="fs") as sockets:
        opened = Region(tmp_path, Path(sockets), redis.port, cache.port)
        await opened.serve()
        yield opened
        await opened.close()
