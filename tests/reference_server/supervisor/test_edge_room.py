"""How many streams an edge takes: as many as it has room for, whichever of the region's feps serve.

A real HAProxy in front of the region's own servers, which do what a test says.
"""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack
from pathlib import Path

import httpx
import pytest
from edge_client import until
from real_servers import Server, free_port
from test_edge_doors import EVENT, LIMIT_S, Far

from reference_server.settings import Region, Settings
from reference_server.supervisor import edge_proxy
from reference_server.supervisor.certificates import write_certificates
from reference_server.supervisor.edge_proxy import configuration
from reference_server.supervisor.programs import find_haproxy

pytestmark = pytest.mark.slow
STREAMS = 8


class Own:
    """The edge of a region that stands alone, with an api and two feps."""

    def __init__(self, folder: Path) -> None:
        self.api, self.feps = Far(), (Far(), Far())
        self.region = Region(
            name="eu",
            index=0,
            api_ports=(self.api.port,),
            fep_ports=tuple(fep.port for fep in self.feps),
            memcached_ports=(),
            redis_queue_port=1,
            redis_cache_port=2,
            replicator_port=3,
            edge_port=free_port(),
            metrics_ports={"edge": free_port()},
        )
        settings = Settings(directory=str(folder), sockets=str(folder), secret="00", regions=(self.region,))
        write_certificates(folder, folder / "ca.pem", ["eu"])
        self.text = configuration(settings, self.region, folder)
        trusted = ssl.create_default_context(cafile=folder / "ca.pem")
        address = f"https://127.0.0.1:{self.region.edge_port}"
        self.client = httpx.AsyncClient(base_url=address, verify=trusted, http2=True, trust_env=False, timeout=LIMIT_S)

    async def control(self, path: str) -> httpx.Response:
        async with httpx.AsyncClient(trust_env=False) as client:
            return await client.get(f"http://127.0.0.1:{self.region.metrics_ports['edge']}{path}")

    async def ready(self) -> bool:
        return (await self.control("/readyz")).status_code == 200

    async def gauge(self, name: str) -> float:
        lines = (await self.control("/metrics")).text.splitlines()
        return next(float(line.rpartition(" ")[2]) for line in lines if line.startswith(f'{name}{{proxy="streams"}} '))

    async def open(self, undo: AsyncExitStack) -> int:
        """The status of one more stream, which stays open."""
        stream = await undo.enter_async_context(self.client.stream("GET", "/v1/stream"))
        if stream.status_code == 200:
            assert await anext(stream.aiter_raw()) == EVENT
        return stream.status_code


@pytest.fixture
def proxy() -> Iterator[Callable[[Own, Path], None]]:
    """Starts a proxy, ended with the test."""
    running: list[Server] = []

    def start(own: Own, path: Path) -> None:
        program = find_haproxy()
        assert program is not None
        path.write_text(own.text)
        running.append(Server([program, "-db", "-f", str(path)], own.region.edge_port))
        running[-1].start()

    yield start
    for server in running:
        server.kill()


@pytest.fixture
async def own(
    tmp_path: Path, proxy: Callable[[Own, Path], None], monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Own]:
    monkeypatch.setattr(edge_proxy, "STREAMS", STREAMS)
    own = Own(tmp_path)
    servers = (own.api, *own.feps)
    for server in servers:
        await server.start()
    try:
        proxy(own, tmp_path / "edge.cfg")
        await until(own.ready, "the edge serves")
        yield own
    finally:
        await own.client.aclose()
        for server in servers:
            await server.stop()


async def test_one_fep_takes_the_streams_of_another_that_ended(own: Own) -> None:
    async with AsyncExitStack() as undo:
        assert [await own.open(undo) for _ in range(STREAMS)] == [200] * STREAMS
        assert [len(fep.streams) for fep in own.feps] == [STREAMS // 2] * 2
        await own.feps[0].stop()

        async def half_is_left() -> bool:
            return await own.gauge("haproxy_backend_current_sessions") == STREAMS // 2

        await until(half_is_left, "the edge has let go of the ended fep's streams")
        assert [await own.open(undo) for _ in range(STREAMS // 2)] == [200] * (STREAMS // 2)
        assert await own.gauge("haproxy_backend_current_sessions") == STREAMS


async def test_streams_that_find_no_room_are_refused_at_once_and_requests_are_served(own: Own) -> None:
    async with AsyncExitStack() as undo:
        for _ in range(STREAMS):
            await own.open(undo)
        refused = await own.client.get("/v1/stream")
        assert (refused.status_code, refused.headers["retry-after"]) == (503, "1")
        assert sum(len(fep.streams) for fep in own.feps) == STREAMS
        assert (await own.client.get("/v1/feed")).status_code == 200
        assert await own.gauge("haproxy_backend_current_sessions") == STREAMS
        assert await own.gauge("haproxy_backend_limit_sessions") == STREAMS
