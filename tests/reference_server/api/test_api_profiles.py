"""Profiles: what one says about oneself, and the cache that may not hide a change."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from api_region import ApiRegion, User, eventually, problem

from reference_server.events import Label

pytestmark = [pytest.mark.slow, pytest.mark.stack]


async def me(user: User) -> dict[str, Any]:
    answer = await user.call("GET", "/v1/users/me")
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


async def test_a_profile_says_what_was_said_last(region: ApiRegion) -> None:
    alice = region.user(1)
    assert (await me(alice))["minor"] is False
    answer = await alice.call("PATCH", "/v1/users/me", json={"minor": True})
    assert (answer.status_code, answer.json()["minor"], answer.json()["safe_mode"]) == (200, True, False)
    answer = await alice.call("PATCH", "/v1/users/me", json={"safe_mode": True, "unknown": 1})
    assert answer.json() == await me(alice)
    assert (answer.json()["minor"], answer.json()["safe_mode"]) == (True, True)
    assert region.labels[1] == Label.ADULT | Label.SENSITIVE
    assert (await alice.call("PATCH", "/v1/users/me", json={})).json() == await me(alice)
    assert (await region.stored())["graph"] == 2
    for body in ({"minor": 1}, {"minor": None}, {"safe_mode": "yes"}, []):
        assert problem(await alice.call("PATCH", "/v1/users/me", json=body)) == "bad-request"
    answer = await alice.call("POST", "/v1/users/me")
    assert (answer.status_code, set(answer.headers["Allow"].split(", "))) == (405, {"GET", "HEAD", "PATCH"})


async def test_what_is_said_while_the_graph_lags_holds(region: ApiRegion) -> None:
    alice, bob = region.user(1), region.user(2)
    await alice.follow(2)
    posts = [await bob.post(label, labels=[label]) for label in ("adult", "sensitive")]
    assert len(await alice.feed()) == 2
    region.graph_applies.clear()
    for body in ({"minor": True}, {"safe_mode": True}, {"safe_mode": False}):
        answer = await alice.call("PATCH", "/v1/users/me", json=body)
        assert (answer.status_code, answer.headers["feed-degraded"]) == (200, "stale")
        assert answer.json() | body == answer.json()
    assert await alice.feed() == [posts[1]["id"]]  # the graph answers, and has not heard of it
    region.graph_applies.set()
    await region._sync("")
    assert ((await me(alice))["minor"], (await me(alice))["safe_mode"]) == (True, False)
    assert await alice.feed() == [posts[1]["id"]]


async def test_two_who_say_different_things_at_once_are_both_heard(region: ApiRegion) -> None:
    alice = region.user(1)
    answers = await asyncio.gather(
        *(alice.call("PATCH", "/v1/users/me", json=body) for body in ({"minor": True}, {"safe_mode": True}))
    )
    assert [answer.status_code for answer in answers] == [200, 200]
    assert ((await me(alice))["minor"], (await me(alice))["safe_mode"]) == (True, True)


async def test_a_profile_is_asked_for_once_and_again_after_each_change(region: ApiRegion) -> None:
    alice, bob = region.user(1), region.user(2)
    for user in (1, 2):
        await region.http.post("/v1/users", json={"identity": str(user)})
    await region._sync("")

    async def is_cached() -> bool:
        asked = region.calls.count("counts")
        assert (await me(alice))["following"] == 0
        return region.calls.count("counts") == asked

    await eventually(is_cached, "the profile is cached (the sign-up's mark is gone)")
    assert await is_cached()
    await bob.follow(1)
    assert (await me(alice))["followers"] == 1
    await alice.follow(2)
    assert [(await me(user))["following"] for user in (alice, bob)] == [1, 1]
    assert (await bob.call("PUT", "/v1/blocks/1")).status_code == 204
    await alice.call("PATCH", "/v1/users/me", json={"safe_mode": True})
    assert (await me(alice))["safe_mode"] is True


async def test_without_the_cache_the_graph_is_asked_each_time(region: ApiRegion) -> None:
    alice = region.user(1)
    region.cache.kill()
    assert [(await me(alice))["minor"] for _ in range(2)] == [False, False]
    await alice.call("PATCH", "/v1/users/me", json={"minor": True})
    assert (await me(alice))["minor"] is True
