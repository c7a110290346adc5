from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from real_servers import Server, redis_queue

from reference_server.queue import Queue


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[Server]:
    server = redis_queue(tmp_path)
    server.start()
    yield server
    server.kill()


@pytest.fixture
async def queue(redis: Server) -> AsyncIterator[Queue]:
    opened = Queue(redis.port)
    yield opened
    await opened.close()
