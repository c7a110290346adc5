"""The small HTTP server of parts that serve no HTTP otherwise."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from real_servers import free_port

from reference_server.fep.request_head import MAX_HEAD_BYTES
from reference_server.observability import endpoint, scrapes
from reference_server.observability.process_metrics import LOOP_LAG, PROBE_EVERY_S, observed


@pytest.fixture
async def port() -> AsyncIterator[int]:
    chosen = free_port()
    server = await endpoint.serve_metrics(chosen)
    yield chosen
    server.close()
    await server.wait_closed()


async def exchange(port: int, request: bytes) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(request)
        async with asyncio.timeout(5):
            return await reader.read()
    except ConnectionResetError:
        return b""
    finally:
        writer.close()


@pytest.mark.parametrize(
    ("request_", "status", "part"),
    [
        (b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n", 200, b"# TYPE process_cpu_seconds_total counter"),
        (b"GET /metrics?x=1 HTTP/1.0\r\n\r\n", 200, b"feed_loop_lag_seconds_bucket"),
        (b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n", 200, b'{"status":"ok"}'),
        (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", 404, b"problem:not-found"),
        (b"POST /metrics HTTP/1.1\r\nHost: x\r\n\r\n", 405, b"Allow: GET"),
        (b"GET /metrics HTTP/1.1\r\n\r\n", 400, b"Host"),
        (b"GET /metrics HTTP/1.1\nHost: x", 400, b"problem:bad-request"),
        (b"GET /metrics HTTP/1.1\r\nHost: x\r\nA: " + b"a" * MAX_HEAD_BYTES, 431, b"too-large"),
    ],
)
async def test_answers(port: int, request_: bytes, status: int, part: bytes) -> None:
    answer = await exchange(port, request_)
    assert answer.startswith(b"HTTP/1.1 %d " % status)
    assert part in answer


async def test_who_says_nothing_is_cut_and_connections_are_few(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(endpoint, "EXCHANGE_LIMIT_S", 0.1)
    silent = [asyncio.create_task(exchange(port, b"GET")) for _ in range(endpoint.MAX_CONNECTIONS + 1)]
    done, rest = await asyncio.wait(silent, return_when=asyncio.FIRST_COMPLETED)
    assert len(done) == 1, "one more than allowed is closed at once"
    assert rest
    assert await asyncio.gather(*silent) == [b""] * len(silent)
    assert (await exchange(port, b"GET /healthz HTTP/1.0\r\n\r\n")).startswith(b"HTTP/1.1 200")


async def test_a_process_is_observed_and_does_without_a_port_that_is_taken(
    port: int, caplog: pytest.LogCaptureFixture
) -> None:
    def probes() -> float:
        (family,) = LOOP_LAG.collect()
        return next(sample.value for sample in family.samples if sample.name.endswith("_count"))

    before = probes()
    async with observed(port):
        async with asyncio.timeout(20 * PROBE_EVERY_S):
            while probes() < before + 2:  # noqa: ASYNC110 - a counter tells nobody that it moved
                await asyncio.sleep(PROBE_EVERY_S / 5)
    assert f"no /metrics on port {port}" in caplog.text


SAID = b'queue_depth 3\nreads_total{source="a b",x="1"} 2.5\nreads_total{source="c"} 1\n'
CHUNKED = b"%x\r\n%b\r\n%x;x=y\r\n%b\r\n0\r\n\r\n" % (20, SAID[:20], len(SAID) - 20, SAID[20:])


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.0 200 OK\r\n\r\n" + SAID,
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + CHUNKED,
    ],
)
async def test_what_others_say_is_read(answer: bytes) -> None:
    async def say(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        writer.close()

    server = await asyncio.start_server(say, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    series = await scrapes.scrape_all([f"http://127.0.0.1:{port}/metrics?own", "http://127.0.0.1:1/metrics"])
    server.close()
    assert series.total("reads_total") == 3.5
    assert series.values("reads_total", source="a b") == [2.5]
    assert series.by_label("reads_total", "source") == {"a b": 2.5, "c": 1.0}
    assert series.largest("queue_depth") == 3
    assert series.largest("nothing") is None
