"""Another region's servers behind an edge's door: all serve, nothing is sent twice, silence and crowds are borne.

A real HAProxy, configured as in a region whose own servers are gone, in front of servers that do what a test says.
"""

from __future__ import annotations

import asyncio
import resource
import socket
import ssl
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import httpx
import pytest
from edge_client import until
from real_servers import Server, free_port

from reference_server.settings import Region, Settings
from reference_server.supervisor import edge_proxy
from reference_server.supervisor.certificates import write_certificates
from reference_server.supervisor.edge_proxy import configuration, make_room
from reference_server.supervisor.programs import find_haproxy

pytestmark = pytest.mark.slow
LIMIT_S = 10.0
EVENT = b"event: new_post\ndata: {}\n\n"


class Far:
    """A server of another region: counts what it gets, and answers, breaks off, or streams."""

    def __init__(self) -> None:
        self.port = free_port()
        self.seen: Counter[str] = Counter()
        self.breaks = False
        self.streams: list[asyncio.StreamWriter] = []
        self._server: asyncio.Server | None = None
        self._open: set[asyncio.StreamWriter] = set()

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)

    async def stop(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None
            for writer in self._open:
                writer.close()
            async with asyncio.timeout(LIMIT_S):
                while self._open:  # noqa: ASYNC110 - each leaves by itself
                    await asyncio.sleep(0.001)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._open.add(writer)
        try:
            while await self._one(reader, writer):
                pass
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            self._open.discard(writer)
            writer.close()

    async def _one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Serve one request; whether the connection stays."""
        head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
        method, path = head.split(" ")[:2]
        length = next((int(line[15:]) for line in head.split("\r\n") if line.startswith("content-length:")), 0)
        await reader.readexactly(length)
        if path == "/readyz":
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
            return True
        self.seen[method] += 1
        if path == "/v1/stream":
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n" + EVENT)
            self.streams.append(writer)
            await reader.read()
            return False
        if self.breaks:
            return False
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")
        return True


class Doors:
    """The edge of "eu", whose own servers are gone; two servers of each kind in "us" and in "ap"."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.apis = {name: [Far(), Far()] for name in ("us", "ap")}
        self.feps = {name: [Far(), Far()] for name in ("us", "ap")}
        regions = (self._region(0, "eu"), self._region(1, "us"), self._region(2, "ap"))
        self.settings = Settings(directory=str(folder), sockets=str(folder), secret="00", regions=regions)
        self.edge_port, self.control_port = regions[0].edge_port, regions[0].metrics_ports["edge"]
        self.trusted: ssl.SSLContext

    def _region(self, index: int, name: str) -> Region:
        return Region(
            name=name,
            index=index,
            api_ports=tuple(far.port for far in self.apis[name]) if index else (free_port(), free_port()),
            fep_ports=tuple(far.port for far in self.feps[name]) if index else (free_port(), free_port()),
            memcached_ports=(),
            redis_queue_port=1,
            redis_cache_port=2,
            replicator_port=3,
            edge_port=free_port(),
            metrics_ports={"edge": free_port()},
        )

    def servers(self, *regions: str) -> list[Far]:
        return [far for name in regions for far in (*self.apis[name], *self.feps[name])]

    def configuration(self) -> str:
        write_certificates(self.folder, self.folder / "ca.pem", ["eu"])
        self.trusted = ssl.create_default_context(cafile=self.folder / "ca.pem")
        return configuration(self.settings, self.settings.regions[0], self.folder)

    def client(self, user: str = "one", *, http2: bool = True) -> httpx.AsyncClient:
        return httpx.AsyncClient(
            base_url=f"https://127.0.0.1:{self.edge_port}",
            verify=self.trusted,
            http2=http2,
            trust_env=False,
            timeout=LIMIT_S,
            headers={"Authorization": user},
        )

    async def ready(self) -> bool:
        """Whether the proxy can serve, as it says itself."""
        async with httpx.AsyncClient(trust_env=False) as client:
            answer = await client.get(f"http://127.0.0.1:{self.control_port}/readyz")
            return answer.status_code == 200


@pytest.fixture
def started() -> Iterator[Callable[[Doors, str], None]]:
    """Starts proxies, ended with the test."""
    proxies: list[Server] = []

    def start(doors: Doors, text: str) -> None:
        program = find_haproxy()
        assert program is not None
        path = doors.folder / "edge.cfg"
        path.write_text(text)
        proxies.append(Server([program, "-db", "-f", str(path)], doors.edge_port))
        proxies[-1].start()

    yield start
    for proxy in proxies:
        proxy.kill()


@asynccontextmanager
async def served(doors: Doors) -> AsyncIterator[None]:
    for far in doors.servers("us", "ap"):
        await far.start()
    try:
        yield
    finally:
        for far in doors.servers("us", "ap"):
            await far.stop()


@pytest.fixture
async def doors(tmp_path: Path, started: Callable[[Doors, str], None]) -> AsyncIterator[Doors]:
    """The proxy runs, and knows who serves."""
    made = Doors(tmp_path)
    async with served(made):
        started(made, made.configuration())
        await until(made.ready, "the edge serves through a door")
        yield made


async def test_all_servers_of_the_next_region_serve_and_none_of_the_one_after(doors: Doors) -> None:
    for user in range(16):
        async with doors.client(str(user), http2=bool(user % 2)) as client:
            assert {(await client.get("/v1/feed")).status_code for _ in range(3)} == {200}
            assert (await client.post("/v1/posts", json={})).status_code == 200
            async with client.stream("GET", "/v1/stream") as response:
                assert await anext(response.aiter_raw()) == EVENT
    assert [far.seen["post"] > 0 for far in doors.apis["us"]] == [True, True]
    assert [far.seen["get"] > 0 for far in doors.servers("us")] == [True] * 4
    assert not any(far.seen for far in doors.servers("ap"))


async def test_a_user_stays_with_one_server_behind_the_door(doors: Doors) -> None:
    for user in ("a", "b", "c"):
        before = [far.seen["get"] for far in doors.apis["us"]]
        for _ in range(4):
            async with doors.client(user) as client:
                await client.get("/v1/feed")
        assert sorted(far.seen["get"] - b for far, b in zip(doors.apis["us"], before, strict=True)) == [0, 4]


@pytest.mark.parametrize("http2", [True, False])
async def test_a_write_through_a_door_is_never_repeated(doors: Doors, http2: bool) -> None:
    """The server breaks off after it has read the request: of a connection's first and of any later."""
    async with doors.client(http2=http2) as client:
        assert (await client.post("/v1/posts", json={})).status_code == 200
        served = next(far for far in doors.apis["us"] if far.seen["post"])
        served.breaks = True
        for count in range(2, 12):
            answer = await client.post("/v1/posts", json={"text": "once"})
            assert (answer.status_code, answer.headers["content-type"]) == (502, "application/problem+json")
            assert sum(far.seen["post"] for far in doors.servers("us", "ap")) == count
        for far in doors.apis["us"]:
            far.breaks = True
        before = sum(far.seen["get"] for far in doors.apis["us"])
        assert (await client.get("/v1/feed")).status_code == 502
        assert sum(far.seen["get"] for far in doors.apis["us"]) > before + 1, "a read is sent again"


async def test_the_region_after_the_next_and_nobody(doors: Doors) -> None:
    async with doors.client() as client:

        async def answers(status: int) -> httpx.Response | None:
            answer = await client.get("/v1/feed")
            assert answer.status_code in (200, 503), answer.text
            return answer if answer.status_code == status else None

        assert await answers(200)
        for far in doors.servers("us"):
            await far.stop()
        await until(lambda: answers(200), "the region after the next serves")
        assert any(far.seen["get"] for far in doors.apis["ap"])
        async with client.stream("GET", "/v1/stream") as response:
            assert await anext(response.aiter_raw()) == EVENT
        for far in doors.servers("ap"):
            await far.stop()
        answer = await until(lambda: answers(503), "nobody is left")
        assert (answer.headers["content-type"], answer.headers["retry-after"]) == ("application/problem+json", "1")
        assert not await doors.ready()
        for far in doors.servers("us"):
            await far.start()
        await until(lambda: answers(200), "the next region is back")
        await until(doors.ready, "the edge can serve")


async def test_a_server_behind_a_door_that_ends_fails_no_request(doors: Doors) -> None:
    async with AsyncExitStack() as undo:
        clients = [await undo.enter_async_context(doors.client(str(user))) for user in range(16)]
        for client in clients:
            await client.get("/v1/feed")
        await doors.apis["us"][0].stop()
        assert {(await client.get("/v1/feed")).status_code for client in clients} == {200}
        assert {(await client.post("/v1/posts", json={})).status_code for client in clients} == {200}


@pytest.mark.parametrize("http2", [True, False])
async def test_a_silent_stream_through_a_door_stays(
    tmp_path: Path, started: Callable[[Doors, str], None], http2: bool
) -> None:
    """Client and server time-outs of 30 s become half a second; the stream is silent for three of them."""
    doors = Doors(tmp_path)
    text = doors.configuration()
    for name in ("timeout client", "timeout server"):
        assert f" {name} 30s\n" in text
        text = text.replace(f" {name} 30s\n", f" {name} 500ms\n")
    async with served(doors):
        started(doors, text)
        await until(doors.ready, "the edge serves through a door")
        async with doors.client(http2=http2) as client, client.stream("GET", "/v1/stream") as response:
            chunks = response.aiter_raw()
            assert await anext(chunks) == EVENT
            waiting = asyncio.ensure_future(anext(chunks))
            assert not (await asyncio.wait([waiting], timeout=1.6))[0], "the stream has ended"
            sent_s = time.monotonic()
            next(writer for far in doors.feps["us"] for writer in far.streams).write(EVENT)
            assert await waiting == EVENT
            assert time.monotonic() - sent_s < 5, "the event was held back"


async def test_clients_that_fill_the_edge_leave_room_inside(
    tmp_path: Path, started: Callable[[Doors, str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As many streams as fit, and then more clients than fit: the doors stay open, and those inside are served."""
    monkeypatch.setattr(edge_proxy, "_MAX_CONNECTIONS", 220)
    room = make_room()
    assert room == edge_proxy.Room(220, 55, 10, 5, 10, 40)
    doors = Doors(tmp_path)
    async with served(doors), AsyncExitStack() as undo:
        started(doors, doors.configuration())
        await until(doors.ready, "the edge serves through a door")
        clients = [await undo.enter_async_context(doors.client(str(user))) for user in range(room.clients)]
        for client in clients:
            assert (await client.get("/v1/feed")).status_code == 200
        for _ in range(room.connections):  # without waiting: most stay in the kernel's queue, or outside it
            one = undo.enter_context(socket.socket())
            one.setblocking(False)
            one.connect_ex(("127.0.0.1", doors.edge_port))
        for client in clients[: room.streams]:
            stream = await undo.enter_async_context(client.stream("GET", "/v1/stream"))
            assert stream.status_code == 200
        one_more = await clients[-1].get("/v1/stream")
        assert (one_more.status_code, one_more.headers["retry-after"]) == (503, "1")
        for client in clients:
            assert (await client.post("/v1/posts", json={})).status_code == 200
        assert await doors.ready()


def test_descriptors_suffice_for_all_frontends() -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    assert 2 * make_room().connections < hard
