"""The gate of a real api: kill switch, rates, and clients that send slowly or too much."""

from __future__ import annotations

import asyncio
import json
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest
from api_region import SECRET, ApiRegion, User, eventually, problem
from real_servers import Server

from reference_server.api.overload.body import MAX_AWAITED
from reference_server.events import FlagEvent
from reference_server.queue import Queue
from reference_server.security import make_operator_token, make_token

pytestmark = [pytest.mark.slow, pytest.mark.stack]

EFFECT_LIMIT_S = 5.0


async def set_flags(region: ApiRegion, **flags: Any) -> None:
    """Set flags as the operator does, at run time."""
    queue = Queue.of(region.settings, region.region)
    for name, value in flags.items():
        await queue.set_flag(FlagEvent(name, json.dumps(value).encode(), time.time_ns() // 1000, "us-east"))
    await queue.close()


async def measured(region: ApiRegion, name: str) -> float:
    """The sum of a metric's samples."""
    text = await region.metrics()
    lines = [line for line in text.splitlines() if line.startswith((f"{name}{{", f"{name} "))]
    return sum(float(line.rpartition(" ")[2]) for line in lines)


REQUESTS = [
    ("GET", "/v1/feed", None),
    ("POST", "/v1/feed", {}),
    ("GET", "/v1/feed/new?since=x", None),
    ("POST", "/v1/posts", {"text": "while it is off"}),
    ("POST", "/v1/posts", {"text": "x" * 70_000}),
    ("DELETE", "/v1/posts/x", None),
    ("PUT", "/v1/follows/2", None),
    ("POST", "/v1/users", {"identity": "9"}),
    ("GET", "/v1/users/me", None),
    ("GET", "/v1/nothing", None),
]


async def test_the_kill_switch_stops_the_product_and_nothing_else(region: ApiRegion) -> None:
    alice = region.user(1)
    post = await alice.post()
    before = await region.stored()
    await set_flags(region, kill_switch=True)

    async def is_off() -> bool:
        return (await alice.call("GET", "/v1/feed")).status_code == 503

    await eventually(is_off, "the product is off", EFFECT_LIMIT_S)
    for method, path, body in REQUESTS:
        for user in (alice.headers, {}):
            answer = await region.http.request(method, path, headers=user, json=body)
            assert (answer.status_code, problem(answer)) == (503, "unavailable"), path
            assert answer.json()["detail"] == "the product is switched off"
            assert answer.headers["retry-after"] == "5"
    for path in ("/healthz", "/readyz", "/metrics"):
        assert (await region.http.get(path)).status_code == 200
    operator = {"Authorization": f"Bearer {make_operator_token(bytes.fromhex(SECRET))}"}
    for headers in (operator, {}):
        assert (await region.http.get("/v1/operator/flags", headers=headers)).status_code != 503
    assert await region.stored() == before | {"outbox": before["outbox"] + 1}  # the flag itself
    assert await measured(region, "feed_overload_rejected_total") >= 2 * len(REQUESTS)
    await set_flags(region, kill_switch=False)

    async def is_on() -> bool:
        return not await is_off()

    await eventually(is_on, "the product is back", EFFECT_LIMIT_S)
    assert await alice.feed() == [post["id"]]


async def asked(user: User, times: int, method: str = "GET", path: str = "/v1/feed", **options: Any) -> list[int]:
    """The statuses of so many requests."""
    return [(await user.call(method, path, **options)).status_code for _ in range(times)]


@pytest.fixture
async def throttled(tmp_path: Path, redis: Server, cache: Server) -> AsyncIterator[ApiRegion]:
    """A region that allows a user two reads and one write a second."""
    with tempfile.TemporaryDirectory(prefix="fs") as sockets:
        opened = ApiRegion(tmp_path, Path(sockets), redis, cache)
        opened.settings = msgspec.structs.replace(
            opened.settings, flags={"user_reads_per_s": 2, "user_writes_per_s": 1}
        )
        await opened.serve_graph()
        await opened.serve_lanes()
        try:
            await opened.start()
            yield opened
        finally:
            await opened.close()


async def test_a_greedy_user_is_slowed_down_and_nobody_else(throttled: ApiRegion) -> None:
    greedy, twin, other = throttled.user(1), throttled.user(1), throttled.user(2)
    secret = bytes.fromhex(SECRET)
    twin.headers = {"Authorization": f"Bearer {make_token(secret, 1, time.time() - 60)[0]}"}
    forged = {"Authorization": f"Bearer {make_token(b'x' * 32, 1)[0]}"}
    for _ in range(30):  # whoever makes up a token does not get at its user's bucket
        assert (await throttled.http.get("/v1/feed", headers=forged)).status_code == 401
    started = time.monotonic()
    statuses = [status for _ in range(20) for user in (greedy, twin) for status in await asked(user, 1)]
    assert 10 <= statuses.count(200) <= 10 + 2 * (time.monotonic() - started) + 1  # two tokens, one bucket
    assert statuses.count(429) == 40 - statuses.count(200)
    refused = [answer for answer in [await greedy.call("GET", "/v1/feed") for _ in range(5)] if answer.is_error]
    assert problem(refused[0]) == "too-many-requests"
    assert refused[0].status_code == 429
    assert 1 <= int(refused[0].headers["retry-after"]) <= 2
    assert await asked(other, 10) == [200] * 10
    writes = await asked(greedy, 12, "POST", "/v1/posts", json={"text": "x"})  # a bucket of their own
    assert 5 <= writes.count(201) < 12
    assert (await throttled.stored())["posts"] == writes.count(201)
    await set_flags(throttled, auto_throttle=False)
    await eventually(lambda: _all_read(greedy, 30), "nothing is throttled", EFFECT_LIMIT_S)
    await set_flags(throttled, user_reads_per_s=500, auto_throttle=True)
    await eventually(lambda: _is_limiting(throttled), "rates are kept again", EFFECT_LIMIT_S)
    assert await _all_read(greedy, 100)


async def _all_read(user: User, times: int) -> bool:
    return await asked(user, times) == [200] * times


async def _is_limiting(region: ApiRegion) -> bool:
    """Whether reads take tokens: those of one user who never read before leave a trace."""
    before = await measured(region, "feed_overload_users")
    await asked(region.user(int(before) + 100), 1)
    return await measured(region, "feed_overload_users") > before


async def test_sign_ups_are_limited_by_identity(region: ApiRegion) -> None:
    async def sign_up(identity: int) -> httpx.Response:
        return await region.http.post("/v1/users", json={"identity": str(identity)})

    statuses = [(await sign_up(1)).status_code for _ in range(200)]
    assert statuses[:50].count(429) == 0
    assert statuses.count(429) > 0
    refused = next(answer for answer in [await sign_up(1) for _ in range(50)] if answer.status_code == 429)
    assert problem(refused) == "too-many-requests"
    assert [(await sign_up(n)).status_code for n in range(2, 100)] == [201] * 98


async def slow_request(region: ApiRegion, data: bytes) -> asyncio.StreamWriter:
    _, writer = await asyncio.open_connection("127.0.0.1", region.region.api_ports[0])
    writer.write(data)
    return writer


async def test_those_who_send_slowly_keep_nobody_waiting(region: ApiRegion) -> None:
    alice = region.user(1)
    await alice.feed()
    head = f"POST /v1/posts HTTP/1.1\r\nHost: x\r\nAuthorization: {alice.headers['Authorization']}\r\n"
    slow_bodies = [f'{head}Content-Length: 100\r\n\r\n{{"te'.encode()] * 150
    slow_heads = [head.encode(), b"GET /v1/feed HT", b""] * 400  # more than granian's usual limit
    writers = [await slow_request(region, data) for data in (*slow_bodies, *slow_heads)]

    async def all_read() -> bool:
        return await measured(region, "feed_overload_bodies") == len(slow_bodies)

    await eventually(all_read, "the bodies are awaited")
    assert await measured(region, "feed_overload_in_flight") == 0
    before = await region.stored()
    started = time.monotonic()
    assert await asked(alice, 20) == [200] * 20
    assert (time.monotonic() - started) / 20 < 0.5
    assert await region.stored() == before
    for writer in writers:
        writer.close()

    async def none_left() -> bool:
        return await measured(region, "feed_overload_bodies") == 0

    await eventually(none_left, "those who left are forgotten")
    await alice.post()
    await refuse_large_heads(alice)


@pytest.mark.parametrize("by_strangers", [True, False])
async def test_those_who_send_slowly_keep_nobody_from_sending(region: ApiRegion, by_strangers: bool) -> None:
    alice, bob = region.user(1), region.user(2)
    half = b'Content-Length: 16\r\n\r\n{"text":'
    patient = await slow_request(region, post_head(alice) + half)

    async def awaited() -> float:
        return await measured(region, "feed_overload_bodies")

    await eventually(lambda: _is(awaited, 1), "the first body is awaited")
    sign_up = b"POST /v1/users HTTP/1.1\r\nHost: x\r\n"
    heads = [sign_up] * 700 if by_strangers else [post_head(region.user(9 + n % 2)) for n in range(700)]
    writers = [await slow_request(region, head + half) for head in heads]
    await eventually(lambda: _is(awaited, MAX_AWAITED), "as many bodies are awaited as may be")
    await bob.post("while others trickle")
    for number in range(20, 60):
        assert (await region.http.post("/v1/users", json={"identity": str(number)})).status_code == 201
    assert await measured(region, "feed_overload_level") == 0
    assert await measured(region, "feed_overload_pressure") == 0
    patient.write(b'"worth"}')
    await eventually(lambda: _is_posted(region, 2), "the body begun before them has arrived")
    for writer in (patient, *writers):
        writer.close()


async def _is(value: Callable[[], Awaitable[float]], expected: float) -> bool:
    return await value() == expected


async def _is_posted(region: ApiRegion, count: int) -> bool:
    return (await region.stored())["posts"] == count


def post_head(user: User) -> bytes:
    return f"POST /v1/posts HTTP/1.1\r\nHost: x\r\nAuthorization: {user.headers['Authorization']}\r\n".encode()


async def refuse_large_heads(user: User) -> None:
    answer = await user.call("GET", "/v1/feed", headers={"X-Large": "x" * 12_000})
    assert answer.status_code == 200
    for headers in ({"X-Large": "x" * 40_000}, {f"X-{n}": "x" for n in range(200)}):
        answer = await user.call("GET", "/v1/feed", headers=headers)
        assert answer.status_code == 431
    assert (await user.call("GET", "/v1/feed")).status_code == 200
