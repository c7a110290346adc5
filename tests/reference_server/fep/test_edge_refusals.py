"""What the edge refuses, and how: problem+json, no effect, nothing left behind."""

from __future__ import annotations

import asyncio
import contextlib
import uuid

import msgspec
import pytest
from edge_stubs import SECRET, EdgeUnderTest, Listener, Stack, StubOwner
from real_servers import until

from reference_server.fep import edge as edge_module
from reference_server.security import make_token, sign


async def answer(edge: EdgeUnderTest, request: bytes) -> tuple[int, dict[str, str], bytes]:
    """Status, headers and body of one request."""
    raw = await (await edge.send(request)).rest()
    head, _, body = raw.partition(b"\r\n\r\n")
    status_line, *lines = head.decode().split("\r\n")
    headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in lines)}
    assert int(headers["content-length"]) == len(body)
    return int(status_line.split(" ")[1]), headers, body


async def problem(edge: EdgeUnderTest, request: bytes) -> tuple[int, str]:
    status, headers, body = await answer(edge, request)
    assert headers["content-type"] == "application/problem+json"
    document = msgspec.json.decode(body)
    assert document["status"] == status
    assert document["title"]
    slug: str = document["type"].removeprefix("urn:feedstorm:problem:")
    return status, slug


def stream_request(authorization: str) -> bytes:
    return f"GET /v1/stream HTTP/1.1\r\nHost: x\r\nAuthorization: {authorization}\r\n\r\n".encode()


async def test_tokens_that_are_not_ours(stack: Stack, owner: StubOwner) -> None:
    edge = await stack()
    good, _ = make_token(SECRET, 7)
    payload, _, mac = good.partition(".")
    wrong = [
        "Bearer " + make_token(b"another secret", 7)[0],
        "Bearer " + make_token(SECRET, 7, now_s=0)[0],
        "Bearer " + sign(SECRET, "cursor", b"7:99999999999"),
        "Bearer " + payload[:-1] + "A." + mac,
        "Bearer " + payload,
        "Bearer",
        "Basic " + good,
        "Bearer ünïcode.x",
    ]
    for authorization in wrong:
        assert await problem(edge, stream_request(authorization)) == (401, "unauthorized"), authorization
    no_header = b"GET /v1/stream HTTP/1.1\r\nHost: x\r\n\r\n"
    status, headers, _ = await answer(edge, no_header)
    assert (status, headers["www-authenticate"]) == (401, "Bearer")
    assert owner.subscribes == []


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"\r\n\r\n",
        b"nonsense\r\n\r\n",
        b"GET /v1/stream\r\n\r\n",
        b"GET  /v1/stream HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /v1/stream HTTP/2.0\r\nHost: x\r\n\r\n",
        b"GET v1/stream HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /v1/stream HTTP/1.1\r\n\r\n",
        b"GET /v1/stream HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n",
        b"GET /v1/stream HTTP/1.1\r\nHost : x\r\n\r\n",
        b"GET /v1/stream HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
        b"GET /v1/stream HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\n",
        b"GET /v1/stream HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"GET /v1/stream HTTP/1.1\r\nHost: x\r\n folded\r\n\r\n",
        b"GET /v1/stream HTTP/1.1\r\nHost: x\r\nNo colon\r\n\r\n",
        b"GET /v1/stream HTTP/1.1\r\nHost: a\x00b\r\n\r\n",
        b"GET /v1/stream HTTP/1.1\nHost: x\n\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\n",
    ],
)
async def test_malformed_heads(stack: Stack, request_bytes: bytes) -> None:
    edge = await stack()
    assert await problem(edge, request_bytes) == (400, "bad-request")


async def test_a_head_that_is_too_long(stack: Stack) -> None:
    edge = await stack()
    long = b"GET /v1/stream HTTP/1.1\r\nHost: x\r\nX: " + b"a" * 9000
    assert await problem(edge, long) == (431, "too-large")


@pytest.mark.slow
async def test_heads_that_never_end_are_answered_and_keep_nobody_out(
    stack: Stack, owner: StubOwner, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(edge_module, "HEAD_TIMEOUT_S", 0.3)
    edge = await stack()
    slow = [await edge.send(b"GET /v1/stream HTTP/1.1\r\nHost: x\r\nX-Slow: ") for _ in range(100)]
    await (await edge.listen(7)).block()
    for number in range(20):
        for listener in slow[:10]:
            listener.writer.write(b"%d" % number)
        await asyncio.sleep(0)
    for listener in slow[10:]:
        assert (await listener.rest()).startswith(b"HTTP/1.1 408 ")
    for listener in slow[:10]:
        with contextlib.suppress(ConnectionError):  # it was still writing when it was told
            assert (await listener.rest()).startswith(b"HTTP/1.1 408 ")
    assert edge.open_streams == 1


async def test_connections_without_a_request_do_not_take_the_last_descriptors(
    stack: Stack, owner: StubOwner, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(edge_module, "_capacity", lambda: 5)
    edge = await stack()
    waiting = [await edge.send(b"") for _ in range(5)]
    await until(lambda: len(edge.edge._heads) == 5, "all accepted")
    one_more = await edge.send(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
    with contextlib.suppress(ConnectionError):
        assert await one_more.rest() == b""
    for listener in waiting:
        listener.close()
    await until(lambda: not edge.edge._heads, "all gone")
    await (await edge.listen(7)).block()


async def test_other_paths_and_methods(stack: Stack) -> None:
    edge = await stack()
    assert await problem(edge, b"GET /v1/feed HTTP/1.1\r\nHost: x\r\n\r\n") == (404, "not-found")
    assert await problem(edge, b"POST /v1/stream HTTP/1.1\r\nHost: x\r\n\r\n") == (405, "method-not-allowed")


async def test_health_readiness_metrics(stack: Stack) -> None:
    edge = await stack()
    for path in (b"/healthz", b"/readyz?x=1", b"http://x/readyz"):
        status, _, body = await answer(edge, b"GET %b HTTP/1.1\r\nHost: x\r\n\r\n" % path)
        assert (status, body) == (200, b'{"status":"ok"}')
    status, headers, body = await answer(edge, b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
    assert status == 200
    assert headers["content-type"].startswith("text/plain")
    assert b"feed_streams_open" in body


async def test_a_head_in_single_bytes(stack: Stack) -> None:
    edge = await stack()
    listener = await edge.send(b"")
    for byte in stream_request("Bearer " + make_token(SECRET, 7)[0]):
        listener.writer.write(bytes([byte]))
        await asyncio.sleep(0)
    assert (await listener.reader.readuntil(b"\r\n")) == b"HTTP/1.1 200 OK\r\n"


@pytest.mark.slow
@pytest.mark.parametrize("how", ["absent", "hanging"])
async def test_owner_down_gives_503_within_a_second_then_streams_again(
    stack: Stack, owner: StubOwner, how: str
) -> None:
    edge = await stack()
    if how == "absent":
        await owner.stop()
    else:
        owner.answering.clear()
    loop = asyncio.get_running_loop()
    began = loop.time()
    status, headers, _ = await answer(edge, stream_request("Bearer " + make_token(SECRET, 7)[0]))
    assert status == 503
    assert 1 <= int(headers["retry-after"]) <= 3
    assert loop.time() - began < 1.5
    owner.answering.set()
    if how == "absent":
        await owner.start()
    await (await edge.listen(7)).block()
    assert edge.open_streams == 1


@pytest.mark.slow
async def test_a_user_the_owner_refuses_does_not_keep_others_out(stack: Stack, owner: StubOwner) -> None:
    edge = await stack()
    owner.unknown = 99
    request = stream_request("Bearer {}").decode()
    refused = await edge.send(request.format(make_token(SECRET, 99)[0]).encode())
    others = [await edge.send(request.format(make_token(SECRET, user)[0]).encode()) for user in range(8)]
    for listener in others:
        assert await listener.reader.readuntil(b"\r\n") == b"HTTP/1.1 200 OK\r\n"
    assert (await refused.rest()).startswith(b"HTTP/1.1 503 ")


@pytest.mark.slow
async def test_a_listener_that_does_not_read_is_dropped_and_the_others_are_not_held_up(
    stack: Stack, owner: StubOwner
) -> None:
    edge = await stack()
    slow, quick = await edge.listen(1), await edge.listen(2)
    await quick.block()
    slow.writer.transport.pause_reading()  # type: ignore[attr-defined]

    async def swallow(listener: Listener) -> None:
        while await listener.reader.read(65536):
            pass

    reading = asyncio.create_task(swallow(quick))
    posts = 0
    while edge.open_streams == 2:
        assert posts < 100_000
        await owner.publish(uuid.UUID(int=posts).bytes, [1, 2])
        posts += 1
    await until(lambda: owner.listening["fep-0"] == {2}, "the slow one has left the lane")
    assert edge.open_streams == 1
    reading.cancel()
