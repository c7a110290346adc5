"""A full stream of redis-queue: writes are refused with 429 and without effect, until somebody has drained it."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import pytest
from api_region import ApiRegion, problem

from reference_server.queue.post_queue import Limits

pytestmark = [pytest.mark.slow, pytest.mark.stack]
LIMITS = Limits()
_FILL = "for n = 1, ARGV[1] do redis.call('XADD', KEYS[1], '*', 'f', '') end return redis.call('XLEN', KEYS[1])"


async def fill(region: ApiRegion, stream: str, upto: int) -> None:
    """Have the stream hold so many entries; who reads it has fallen far behind."""
    held = (await region.stored())[stream]
    assert await redis(region, "EVAL", _FILL, 1, stream, upto - held) == upto


async def redis(region: ApiRegion, *command: Any) -> Any:
    return await region.keeper._link.call(*command, timeout_s=30)


async def kept(region: ApiRegion) -> dict[str, Any]:
    """All that a write leaves in redis-queue."""
    keys = sorted(await redis(region, "KEYS", "*"))
    return await region.stored() | {"keys": keys, "recent": await redis(region, "LRANGE", "recent:1", 0, -1)}


def is_refused(answer: httpx.Response) -> bool:
    assert 1 <= int(answer.headers["retry-after"]) <= 60
    return (answer.status_code, problem(answer)) == (429, "too-many-requests")


async def test_posts_are_refused_without_effect_while_their_stream_is_full(region: ApiRegion) -> None:
    alice = region.user(1)
    first = await alice.post("before")
    await fill(region, "posts", LIMITS.stream)
    before = await kept(region)
    body, key = {"text": "too many"}, {"Idempotency-Key": "k"}
    answers = await asyncio.gather(*(alice.call("POST", "/v1/posts", json=body, headers=key) for _ in range(5)))
    assert all(is_refused(answer) for answer in answers)
    assert await kept(region) == before
    await redis(region, "XTRIM", "posts", "MAXLEN", LIMITS.stream - 1)
    accepted = await alice.call("POST", "/v1/posts", json=body, headers=key)
    assert accepted.status_code == 201
    assert is_refused(await alice.call("POST", "/v1/posts", json={"text": "full again"}))
    await redis(region, "XTRIM", "posts", "MAXLEN", 1)
    newest = await alice.post("after")
    assert await alice.feed() == [newest["id"], accepted.json()["post"]["id"], first["id"]]


async def test_a_full_outbox_refuses_posts_too_and_deletes_nothing(region: ApiRegion) -> None:
    alice = region.user(1)
    post = await alice.post()
    await fill(region, "outbox", LIMITS.outbox)
    before = await kept(region)
    assert is_refused(await alice.call("POST", "/v1/posts", json={"text": "too many"}))
    assert is_refused(await alice.call("DELETE", f"/v1/posts/{post['id']}"))
    assert await kept(region) == before
    assert await alice.feed() == [post["id"]]
    await redis(region, "XTRIM", "outbox", "MAXLEN", 0)
    assert (await alice.call("DELETE", f"/v1/posts/{post['id']}")).status_code == 204
    assert await alice.feed() == []


async def test_follows_are_refused_without_effect_while_their_stream_is_full(region: ApiRegion) -> None:
    bob = region.user(2)
    await fill(region, "graph", LIMITS.stream)
    before = await kept(region)
    for method, path in (("PUT", "/v1/follows/1"), ("DELETE", "/v1/follows/1"), ("PUT", "/v1/blocks/1")):
        assert is_refused(await bob.call(method, path)), (method, path)
    assert await kept(region) == before
    assert (region.follows, region.blocks) == ({}, {})
    await bob.post("posting goes on")
    await redis(region, "XTRIM", "graph", "MAXLEN", 0)
    await bob.follow(1)
    assert region.follows == {(2, 1): True}
