from __future__ import annotations

import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "queue"))

from api_region import ApiRegion
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
async def region(tmp_path: Path, redis: Server, cache: Server) -> AsyncIterator[ApiRegion]:
    """One api behind granian, with real stores; graph and fan-out are stubs in the test's process."""
    with tempfile.TemporaryDirectory(prefix="fs") as sockets:
        opened = ApiRegion(tmp_path, Path(sockets), redis, cache)
        await opened.serve_graph()
        await opened.serve_lanes()
        try:
            await opened.start()
            yield opened
        finally:
            await opened.close()
