"""The edge of a region in front of real apis and feps: TLS, both HTTPs, streams, fail over, drain, limits."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import ssl
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from pathlib import Path

import httpx
import pytest
from edge_client import EdgeClient, client_of, until
from real_servers import wait_until
from stack_process import StackProcess

pytestmark = [pytest.mark.stack, pytest.mark.slow]
SHAPE = ["--apis", "2", "--feps", "2", "--users", "90", "--link-latency-ms", "0"]
HEAD_LIMIT_S = 10
SERVERS = 10
"""that an edge checks: two apis and two feps here, a door for each kind, as many behind the doors"""


class Edge:
    """The stack, and the edge of us-east."""

    def __init__(self, stack: StackProcess) -> None:
        self.stack = stack
        self.region = stack.endpoints["regions"]["us-east"]
        self.url: str = self.region["edge"]
        self.slow = self.connect()
        self.slow_since_s = time.monotonic()
        self.slow.send(b"GET /readyz HTTP/1.1\r\nHost: x\r\nX-Slow: ")

    def connect(self) -> ssl.SSLSocket:
        """A connection that has sent nothing yet."""
        trusted = ssl.create_default_context(cafile=self.stack.endpoints["ca_file"])
        plain = socket.create_connection(("127.0.0.1", int(self.url.rpartition(":")[2])), timeout=20)
        return trusted.wrap_socket(plain, server_hostname="localhost")

    def hold(self, handle: str) -> Path:
        """Keep a part down once it has ended."""
        hold = Path(self.stack.endpoints["handles"][handle]["hold_file"])
        hold.touch()
        return hold

    def ready(self, handle: str) -> bool:
        url = self.stack.endpoints["handles"][handle]["ready"]
        try:
            return httpx.get(url, trust_env=False).status_code == 200
        except httpx.HTTPError:
            return False

    @contextmanager
    def down(self, *handles: str, sig: signal.Signals = signal.SIGKILL) -> Iterator[None]:
        """End parts and keep them down; afterwards they are back, and the edge knows it."""
        holds = [self.hold(handle) for handle in handles]
        leaders = {handle: self.stack.pid(handle) for handle in handles}
        assert all(leaders.values()), leaders
        for leader in leaders.values():
            os.killpg(leader, sig)
        for handle in handles:
            wait_until(lambda h=handle: not self.stack.pid(h), f"{handle} has ended")
        try:
            yield
        finally:
            for hold in holds:
                hold.unlink()
            for handle, leader in leaders.items():
                wait_until(lambda h=handle, old=leader: self.stack.pid(h) not in (0, old), f"{handle} restarted")
                wait_until(lambda h=handle: self.ready(h), f"{handle} serves")
            if "us-east.api" not in self.held():
                wait_until(lambda: self.state().count("UP") == SERVERS, "the edge sees all servers")

    def held(self) -> set[str]:
        return {path.name for path in (self.stack.stack.path / "holds").iterdir()}

    def state(self) -> list[str]:
        """UP or DOWN of each server, from the proxy's own socket."""
        with socket.socket(socket.AF_UNIX) as control:
            control.settimeout(5)
            control.connect(self.stack.settings.socket("us-east", "edge"))
            control.sendall(b"show stat -1 4 -1\n")
            text = b"".join(iter(lambda: control.recv(65536), b"")).decode()
        return [line.split(",")[17].split(" ")[0] for line in text.splitlines()[1:] if line]


@pytest.fixture(scope="module")
def edge(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Edge]:
    parts = ["--only", "graph,fanout,api,fep,edge"]
    stack = StackProcess(tmp_path_factory.mktemp("edge") / "stack", *SHAPE, *parts)
    try:
        edge = Edge(stack.await_ready())
        wait_until(lambda: edge.state().count("UP") == SERVERS, "the edge sees all servers")
        yield edge
        edge.slow.close()
    finally:
        stack.end()
        for stream in (stack.process.stdin, stack.process.stdout, stack.process.stderr):
            if stream is not None:
                stream.close()


@asynccontextmanager
async def clients_of(edge: Edge, users: range) -> AsyncIterator[list[EdgeClient]]:
    """Clients with connections of their own, so that they are spread over the apis."""
    async with AsyncExitStack() as stack:
        yield [await stack.enter_async_context(client_of(edge.stack, edge.url, user, bool(user % 2))) for user in users]


async def refused(client: EdgeClient) -> httpx.Response | None:
    """The answer to a post, once it is 503."""
    answer = await client.http.post("/v1/posts", json={"text": "lost?"})
    return answer if answer.status_code == 503 else None


def streams_of(fep: str) -> int:
    """Streams a fep holds."""
    text = httpx.get(f"{fep}/metrics", trust_env=False).text
    return next(int(float(line.split()[1])) for line in text.splitlines() if line.startswith("feed_streams_open "))


def test_the_metrics_of_a_region_tell_of_each_of_its_feps(edge: Edge) -> None:
    text = httpx.get(f"{edge.region['api']}/metrics", trust_env=False).text
    for number in range(len(edge.region["streams"])):
        assert f'feed_streams_open{{part="fep-{number}"}}' in text


@pytest.mark.parametrize("http2", [True, False])
async def test_requests_and_streams(edge: Edge, http2: bool) -> None:
    async with client_of(edge.stack, edge.url, 1 + http2, http2) as client:
        answer = await client.http.get("/v1/users/me")
        assert (answer.status_code, answer.http_version) == (200, "HTTP/2" if http2 else "HTTP/1.1")
        async with client.listening() as events:
            assert events.response.headers["content-type"] == "text/event-stream"
            for number in range(5):
                began_s = time.monotonic()
                post_id = await client.post(f"number {number}")
                assert (await events.until_posts(number + 1))[-1] == post_id
                assert time.monotonic() - began_s < 5.0, "the event was held back"
            assert await client.texts() == [f"number {number}" for number in reversed(range(5))]


async def test_an_api_killed_fails_no_read(edge: Edge) -> None:
    async with clients_of(edge, range(10, 26)) as clients:

        async def read(client: EdgeClient) -> list[int]:
            return [(await client.http.get("/v1/feed")).status_code for _ in range(25)]

        reading = [asyncio.create_task(read(client)) for client in clients]
        await asyncio.sleep(0)
        with edge.down("us-east.api"):
            statuses = [status for task in reading for status in await task]
            assert statuses == [200] * (25 * 16)
            assert [(await client.http.get("/v1/feed")).status_code for client in clients] == [200] * 16


async def test_a_write_is_never_carried_out_twice(edge: Edge) -> None:
    async with clients_of(edge, range(30, 46)) as clients:

        async def write(client: EdgeClient, user: int) -> list[str]:
            acknowledged = []
            for number in range(12):
                answer = await client.http.post("/v1/posts", json={"text": f"{user}/{number}"})
                assert answer.status_code in (201, 502, 503), answer.text
                acknowledged += [f"{user}/{number}"] if answer.status_code == 201 else []
            return acknowledged

        writing = [asyncio.create_task(write(client, user)) for user, client in enumerate(clients)]
        await asyncio.sleep(0)
        with edge.down("us-east.api-1"):
            acknowledged = [await task for task in writing]
            for client, texts in zip(clients, acknowledged, strict=True):
                page = await client.texts()
                assert len(page) == len(set(page))
                assert set(texts) <= set(page)


async def test_the_next_region_serves_when_all_of_a_kind_are_down(edge: Edge) -> None:
    async with client_of(edge.stack, edge.url, 50) as client:
        with edge.down("us-east.api", "us-east.api-1", "us-east.fep", "us-east.fep-1"):

            async def served() -> bool:
                return (await client.http.get("/readyz")).status_code == 200

            await until(served, "an api of the other region answers", 3)
            await client.sign_up(51)
            async with client.listening("us-east.1.1") as events:
                post_id = await client.post("from the other side")
                assert (await events.until_posts(1))[-1] == post_id
                assert events.last_id.startswith("ap-tokyo.")
            with edge.down("ap-tokyo.api", "ap-tokyo.api-1"):
                answer = await until(lambda: refused(client), "503 when no region is left")
                assert answer.headers["content-type"] == "application/problem+json"
                assert answer.headers["retry-after"] == "1"
                assert not edge.ready("us-east.edge")


async def test_a_drained_fep_ends_its_streams_in_order_and_nothing_is_lost(edge: Edge) -> None:
    async with client_of(edge.stack, edge.url, 60) as client, client.listening() as events:
        sent = [await client.post("before")]
        await events.until_posts(1)
        served_by = next(k for k in (0, 1) if streams_of(edge.region["streams"][k]))
        with edge.down("us-east.fep" if served_by == 0 else "us-east.fep-1", sig=signal.SIGTERM):
            await events.until_end()
            sent += [await client.post(f"while away {number}") for number in range(3)]
            async with client.listening(events.last_id) as resumed:
                sent.append(await client.post("after"))
                assert events.posts + await resumed.until_posts(4) == sent


async def test_a_user_s_streams_on_two_feps_each_get_each_event_once(edge: Edge) -> None:
    one, other = edge.region["streams"]
    async with (
        client_of(edge.stack, edge.url, 70) as author,
        client_of(edge.stack, one) as desk,
        client_of(edge.stack, other) as phone,
    ):
        for client in (desk, phone):
            client.http.headers["Authorization"] = author.http.headers["Authorization"]
        async with desk.listening() as at_desk, phone.listening() as on_phone:
            sent = [await author.post(f"number {number}") for number in range(4)]
            assert await at_desk.until_posts(4) == sent
            assert await on_phone.until_posts(4) == sent
            since = at_desk.last_id
        sent = [await author.post("while away")]
        async with phone.listening(since) as on_phone:
            sent.append(await author.post("back"))
            assert await on_phone.until_posts(2) == sent


async def test_what_clients_must_not_reach_or_send(edge: Edge) -> None:
    async with client_of(edge.stack, edge.url, 80, http2=False) as client:
        for path in ("/v1/operator/flags", "/v1/%6fperator/flags", "/metrics", "/metrics?own", "/%6detrics"):
            answer = await client.http.get(path)
            assert (answer.status_code, answer.json()["type"]) == (404, "urn:feedstorm:problem:not-found")
        assert (await client.http.get("/v1/feed", headers={"X-Large": "x" * 16_000})).status_code == 400


async def test_what_the_proxy_tells_this_host(edge: Edge) -> None:
    async with client_of(edge.stack, edge.region["metrics"]["edge"].removesuffix("/metrics")) as control:
        assert "haproxy_backend_active_servers" in (await control.http.get("/metrics")).text
        assert (await control.http.get("/healthz")).status_code == 200
        assert (await control.http.get("/v1/feed")).status_code == 404


def test_a_body_that_is_too_large_is_refused_before_it_is_there(edge: Edge) -> None:
    with edge.connect() as connection:
        connection.sendall(b"POST /v1/posts HTTP/1.1\r\nHost: x\r\nContent-Length: 1048577\r\n\r\n" + b" " * 20_000)
        assert connection.recv(4096).startswith(b"HTTP/1.1 413 ")


def test_a_head_that_never_ends_is_answered_and_closed(edge: Edge) -> None:
    edge.slow.settimeout(max(0.1, 2 * HEAD_LIMIT_S - (time.monotonic() - edge.slow_since_s)))
    assert edge.slow.recv(4096).startswith(b"HTTP/1.1 408 ")
    while edge.slow.recv(4096):
        pass


def test_a_soft_stop_ends_the_proxy_once_its_streams_have_ended(edge: Edge) -> None:
    leader = edge.stack.pid("us-east.edge")
    os.kill(leader, signal.SIGUSR1)
    wait_until(lambda: edge.stack.pid("us-east.edge") not in (0, leader), "a new proxy")
    wait_until(lambda: edge.ready("us-east.edge"), "the new proxy serves")
