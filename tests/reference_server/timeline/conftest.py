"""Fixtures of the timeline tests: memcached, a graph, lanes that are closed again."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from lane_servers import GraphStub, OpenLane
from real_servers import Server, memcached_server


@pytest.fixture
def memcached() -> Iterator[Server]:
    server = memcached_server()
    server.start()
    yield server
    server.kill()


@pytest.fixture
def sockets() -> Iterator[str]:
    folder = tempfile.mkdtemp(prefix="fs-")
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def graph() -> GraphStub:
    return GraphStub(lanes=1)


@pytest.fixture
async def open_lane(tmp_path: Path, memcached: Server, graph: GraphStub) -> AsyncIterator[Callable[..., OpenLane]]:
    """Opens the lane (again, once it was closed)."""
    lanes: list[OpenLane] = []

    def start(**options: Any) -> OpenLane:
        lanes.append(OpenLane(tmp_path / "lane", memcached.port, graph, **options))
        return lanes[-1]

    yield start
    if lanes:
        await lanes[-1].close()
