"""Tokens: everybody signed up, imports awaited, refusals explained."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from aiohttp import web

from harness.core.errors import UnavailableError
from harness.load.tokens import obtain_tokens


async def test_everybody_of_the_plan_gets_one(small_feed: Any, make_plan_of: Any) -> None:
    plan = make_plan_of(small_feed.url)
    assert await obtain_tokens(plan) == {user: f"t{user}" for user in range(8)}
    assert set(small_feed.imports_seen.values()) == {2}, "imports are awaited"


async def test_away_for_a_moment_is_tried_again(small_feed: Any, make_plan_of: Any) -> None:
    seen: set[str] = set()

    async def slow(request: web.Request) -> web.Response | None:
        body = await request.text()
        if not body or body in seen:
            return None
        seen.add(body)
        return web.json_response({}, status=503)

    small_feed.slow = slow
    assert len(await obtain_tokens(make_plan_of(small_feed.url))) == 8


async def test_a_refusal_is_one_sentence(small_feed: Any, make_plan_of: Any) -> None:
    async def slow(_: web.Request) -> web.Response:
        return web.json_response({"detail": "no such identity"}, status=404)

    small_feed.slow = slow
    with pytest.raises(UnavailableError, match=r"sign-up of user \d at http.*404 .*no such identity"):
        await obtain_tokens(make_plan_of(small_feed.url))


async def test_an_answer_that_breaks_the_contract(small_feed: Any, make_plan_of: Any) -> None:
    async def slow(_: web.Request) -> web.Response:
        return web.json_response({"tok": 1})

    small_feed.slow = slow
    with pytest.raises(UnavailableError, match="does not meet the contract"):
        await obtain_tokens(make_plan_of(small_feed.url))


async def test_a_target_that_hangs_meets_the_deadline(small_feed: Any, make_plan_of: Any) -> None:
    async def slow(_: web.Request) -> None:
        await asyncio.sleep(30)

    small_feed.slow = slow
    with pytest.raises(UnavailableError, match=r"0 of 8 users had joined after 0\.2 s"):
        await obtain_tokens(make_plan_of(small_feed.url), deadline_s=0.2)


async def test_a_target_that_is_down(make_plan_of: Any) -> None:
    with pytest.raises(UnavailableError, match="ClientConnector"):
        await obtain_tokens(make_plan_of("http://127.0.0.1:1"), {1: "here"})
