"""Hide, show and moderation through one api, and what they leave in redis-queue, memcached and the durable store."""

from __future__ import annotations

import signal
import time

import pytest
from api_region import ApiRegion, User, problem

from reference_server.api.body_cache import MemcachedBodies
from reference_server.api.post_ids import from_text
from reference_server.events import StatusEvent
from reference_server.queue import Queue
from reference_server.timeline.entry import Status

pytestmark = [pytest.mark.slow, pytest.mark.stack]
UNKNOWN = "0190a8f2-3c51-7d1e-8a44-5b0c9de1f203"


async def hide(user: User, post: str, method: str = "PUT") -> int:
    return (await user.call(method, f"/v1/posts/{post}/hide")).status_code


async def moderate(region: ApiRegion, post: str, method: str = "PUT") -> int:
    return (await region.operate(method, f"posts/{post}/moderation")).status_code


async def lose_cache(region: ApiRegion) -> None:
    region.cache.kill()
    region.cache.start()


async def test_a_hidden_post_is_nowhere_until_it_is_shown(region: ApiRegion) -> None:
    alice, bob = region.user(1), region.user(2)
    await bob.follow(1)
    post, other = (await alice.post())["id"], (await alice.post())["id"]
    assert [await hide(alice, post) for _ in range(2)] == [204, 204]
    for user in (alice, bob):
        assert await user.feed() == [other]
    answer = await bob.call("POST", "/v1/posts/batch", json={"ids": [post, other]})
    assert [found["id"] for found in answer.json()["posts"]] == [other]
    assert problem(await bob.call("PUT", f"/v1/posts/{post}/like")) == "not-found"
    assert problem(await bob.call("POST", "/v1/posts", json={"text": "re", "reply_to": post})) == "not-found"
    assert (await region.stored())["outbox"] == 4  # one follow, two posts, one change
    assert [await hide(alice, post, "DELETE") for _ in range(2)] == [204, 204]
    assert await alice.feed() == [other, post]
    assert await bob.feed() == [other, post]


@pytest.mark.parametrize("archived", [False, True])
async def test_it_stays_so_when_the_cache_is_lost(region: ApiRegion, archived: bool) -> None:
    alice = region.user(1)
    post = (await alice.post())["id"]
    for method, expected in (("PUT", []), ("DELETE", [post])):
        assert await hide(alice, post, method) == 204
        if archived:
            await region.archive()
        await lose_cache(region)
        assert await alice.feed() == expected


@pytest.mark.parametrize("archived", [False, True])
async def test_a_memcached_that_was_paused_does_not_bring_it_back(region: ApiRegion, archived: bool) -> None:
    alice, bob = region.user(1), region.user(2)
    await bob.follow(1)
    post, other = (await alice.post())["id"], (await alice.post())["id"]
    assert await bob.feed() == [other, post]
    region.cache.signal(signal.SIGSTOP)
    try:
        assert await hide(alice, other) == 204  # the api finds out, and from now on sends nothing
        assert await hide(alice, post) == 204
    finally:
        region.cache.signal(signal.SIGCONT)
    if archived:
        await region.archive()
    started_s, counted = time.monotonic(), await cache_hits(region)
    while time.monotonic() < started_s + 2 or await cache_hits(region) == counted:
        assert await bob.feed() == []
        assert time.monotonic() < started_s + 10
    assert await hide(alice, post, "DELETE") == 204
    assert await bob.feed() == [post]


async def cache_hits(region: ApiRegion) -> float:
    """How many bodies memcached had."""
    lines = (await region.metrics()).splitlines()
    return sum(float(line.split()[-1]) for line in lines if line.startswith("api_bodies_total") and '"cache"' in line)


async def test_only_the_author_hides_and_only_what_there_is(region: ApiRegion) -> None:
    alice, bob = region.user(1), region.user(2)
    post = (await alice.post())["id"]
    for method in ("PUT", "DELETE"):
        assert problem(await bob.call(method, f"/v1/posts/{post}/hide")) == "forbidden"
        for unknown in (UNKNOWN, "x"):
            assert problem(await alice.call(method, f"/v1/posts/{unknown}/hide")) == "not-found"
            assert problem(await region.operate(method, f"posts/{unknown}/moderation")) == "not-found"
    assert (await alice.call("DELETE", f"/v1/posts/{post}")).status_code == 204
    assert await hide(alice, post) == 404
    assert await moderate(region, post) == 404
    assert await alice.feed() == []


async def test_a_hidden_post_can_be_deleted(region: ApiRegion) -> None:
    alice, bob = region.user(1), region.user(2)
    post = (await alice.post())["id"]
    assert await hide(alice, post) == 204
    await region.archive()
    assert problem(await bob.call("DELETE", f"/v1/posts/{post}")) == "forbidden"
    assert [(await alice.call("DELETE", f"/v1/posts/{post}")).status_code for _ in range(2)] == [204, 204]
    assert (await region.stored())["posts"] == 3
    assert await hide(alice, post, "DELETE") == 404
    await lose_cache(region)
    assert await alice.feed() == []


async def test_a_tombstone_without_an_author_lets_nobody_delete(region: ApiRegion) -> None:
    """As the archiver sets it when it stored the change of a post before the post."""
    alice, bob = region.user(1), region.user(2)
    post = (await alice.post())["id"]
    assert await hide(alice, post) == 204
    cache, post_id = MemcachedBodies([region.cache.port]), from_text(post)
    assert post_id is not None
    await cache.wait_connected(5.0)
    assert await cache.bury(post_id, -1)
    await cache.close()
    assert problem(await bob.call("DELETE", f"/v1/posts/{post}")) == "forbidden"
    assert await hide(alice, post, "DELETE") == 204
    assert await alice.feed() == [post]
    assert (await alice.call("DELETE", f"/v1/posts/{post}")).status_code == 204
    assert problem(await bob.call("DELETE", f"/v1/posts/{post}")) == "forbidden"


@pytest.mark.parametrize("archived", [False, True])
async def test_an_author_cannot_undo_a_moderation(region: ApiRegion, archived: bool) -> None:
    alice = region.user(1)
    post, other = (await alice.post())["id"], (await alice.post())["id"]
    assert await moderate(region, post) == 204
    if archived:
        await region.archive()
        await lose_cache(region)
    assert await alice.feed() == [other]
    for method in ("PUT", "DELETE"):
        assert problem(await alice.call(method, f"/v1/posts/{post}/hide")) == "conflict"
    assert await alice.feed() == [other]
    assert [await moderate(region, post, "DELETE") for _ in range(2)] == [204, 204]
    assert await alice.feed() == [other, post]
    assert await hide(alice, post) == 204  # later than the moderation, whose clock was ahead
    assert await alice.feed() == [other]


@pytest.mark.parametrize("archived", [False, True])
async def test_a_lifted_moderation_gives_back_what_the_author_chose(region: ApiRegion, archived: bool) -> None:
    alice = region.user(1)
    post = (await alice.post())["id"]
    assert await hide(alice, post) == 204
    assert await moderate(region, post) == 204
    if archived:
        await region.archive()
    assert await moderate(region, post, "DELETE") == 204
    assert await alice.feed() == []
    assert await hide(alice, post, "DELETE") == 204
    assert await alice.feed() == [post]


async def test_a_moderation_wins_over_an_author_elsewhere_who_does_not_know_of_it(region: ApiRegion) -> None:
    alice = region.user(1)
    post = (await alice.post())["id"]
    assert await hide(alice, post) == 204
    assert await moderate(region, post) == 204
    queue, post_id = Queue(region.redis.port), from_text(post)
    assert post_id is not None
    (moderated,) = await queue.standings([post_id])
    shown_later = StatusEvent(post_id, 1, Status.VISIBLE, moderated.hlc - (300_000_000 << 8), "ap-tokyo")
    await queue.apply_replicated("ap-tokyo", "1-1", [shown_later])
    await queue.close()
    await region.archive()
    await lose_cache(region)
    assert await alice.feed() == []


async def test_labels_go_along_with_a_post(region: ApiRegion) -> None:
    alice = region.user(1)
    plain, post = await alice.post(labels=[]), await alice.post(labels=["sensitive", "adult", "adult"])
    assert "labels" not in plain
    assert post["labels"] == ["adult", "sensitive"]
    for _ in range(2):
        answer = await alice.call("POST", "/v1/posts/batch", json={"ids": [plain["id"], post["id"]]})
        assert answer.json()["posts"] == [plain, post]
        await region.archive()
        await lose_cache(region)
    for labels in (["gory"], "adult", [1], ["adult"] * 9):
        answer = await alice.call("POST", "/v1/posts", json={"text": "x", "labels": labels})
        assert problem(answer) == "bad-request"
