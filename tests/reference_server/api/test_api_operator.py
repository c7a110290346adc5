"""The operator's side of one api: who may, flags, and what some of them do."""

from __future__ import annotations

import asyncio

import pytest
from api_region import OPERATOR_TOKEN, ApiRegion, eventually, problem

from reference_server.flags import FLAGS
from reference_server.security import make_operator_token

pytestmark = [pytest.mark.slow, pytest.mark.stack]


async def flags(region: ApiRegion) -> dict[str, object]:
    answer = await region.operate("GET", "flags")
    assert answer.status_code == 200, answer.text
    return {flag["name"]: flag["value"] for flag in answer.json()["flags"]}


async def test_only_the_operator_on_this_machine_may(region: ApiRegion) -> None:
    foreign = make_operator_token(b"another secret")
    tokens = ["x", OPERATOR_TOKEN[:-2] + "xx", foreign, region.user(1).headers["Authorization"][7:]]
    for token in tokens:
        answer = await region.operate("GET", "flags", headers={"Authorization": f"Bearer {token}"})
        assert (answer.status_code, problem(answer)) == (401, "unauthorized"), token
        assert OPERATOR_TOKEN not in answer.text
    for address in ("10.0.0.1", "127.0.0.1, 10.0.0.1", "who", "::ffff:10.0.0.1"):
        answer = await region.operate("GET", "flags", headers={"X-Forwarded-For": address})
        assert problem(answer) == "forbidden", address
    assert (await region.operate("GET", "flags", headers={"X-Forwarded-For": "127.0.0.1"})).status_code == 200
    assert problem(await region.operate("GET", "flags", headers={"Authorization": "Basic x"})) == "unauthorized"
    answer = await region.user(1).call("PUT", "/v1/operator/flags/kill_switch", json={"value": True})
    assert problem(answer) == "unauthorized"
    assert (await flags(region))["kill_switch"] is False


async def test_a_flag_is_set_and_set_back(region: ApiRegion) -> None:
    answer = await region.operate("GET", "flags")
    described = answer.json()["flags"]
    assert [flag["name"] for flag in described] == list(FLAGS)
    assert all(set(flag) == {"name", "value", "default", "about", "at_run_time"} for flag in described)
    answer = await region.operate("PUT", "flags/sse_heartbeat_s", json={"value": 3})
    assert (answer.status_code, answer.json()["value"]) == (200, 3.0)
    assert (await flags(region))["sse_heartbeat_s"] == 3.0
    answer = await region.operate("DELETE", "flags/sse_heartbeat_s")
    assert (answer.status_code, answer.json()["value"]) == (200, 15.0)
    assert (await region.stored())["outbox"] == 2


async def test_bad_flags_are_refused(region: ApiRegion) -> None:
    for name, body, slug in [
        ("two_teir", {"value": False}, "bad-request"),
        ("two_tier", {"value": "no"}, "bad-request"),
        ("two_tier", {"value": None}, "bad-request"),
        ("two_tier", {}, "bad-request"),
        ("fanout", {"value": "shove"}, "bad-request"),
        ("follow_cap", {"value": 0}, "bad-request"),
        ("follow_cap", {"value": 1 << 70}, "bad-request"),
        ("cache_mb", {"value": 64}, "conflict"),
    ]:
        answer = await region.operate("PUT", f"flags/{name}", json=body)
        assert problem(answer) == slug, (name, body, answer.text)
    answer = await region.operate("DELETE", "flags/two_teir")
    assert "did you mean 'two_tier'?" in answer.json()["detail"]
    assert problem(await region.operate("DELETE", "flags/cache_mb")) == "conflict"
    assert (await region.stored())["outbox"] == 0


async def test_the_kill_switch_leaves_the_operator_in_and_keeps_data(region: ApiRegion) -> None:
    alice = region.user(1)
    post = await alice.post()
    await region.set_flag("kill_switch", True)
    answer = await alice.call("GET", "/v1/feed")
    assert (answer.status_code, problem(answer), answer.headers["Retry-After"]) == (503, "unavailable", "5")
    assert (await region.operate("DELETE", "flags/kill_switch")).status_code == 200
    assert await alice.feed() == [post["id"]]


async def test_one_may_follow_so_many_at_once(region: ApiRegion) -> None:
    alice = region.user(1)
    await region.set_flag("follow_cap", 3)
    for other in (2, 3, 4, 4):
        await alice.follow(other)
    answer = await alice.call("PUT", "/v1/follows/5")
    assert problem(answer) == "forbidden"
    assert "3 accounts" in answer.json()["detail"]
    await alice.follow(4)  # not one more
    assert (await alice.call("DELETE", "/v1/follows/2")).status_code == 204
    await alice.follow(5)
    await region.set_flag("follow_cap", 10)
    await alice.follow(6)


async def test_without_the_warm_list_celebrities_queue_with_all(region: ApiRegion) -> None:
    region.celebrities.add(9)
    await region.user(9).post()
    await region.set_flag("celebrity_warm_list", False)
    await region.user(9).post()
    stored = await region.stored()
    assert (stored["celeb"], stored["posts"]) == (1, 1)


async def test_a_synchronous_sign_up_answers_when_the_import_is_done(region: ApiRegion) -> None:
    await region.set_flag("async_import", False)
    region.imports_wait = True
    call = asyncio.create_task(region.http.post("/v1/users", json={"identity": "42"}))

    async def queued() -> bool:
        return (await region.stored())["jobs"] == 1

    await eventually(queued, "the import is queued")
    await region._sync("")
    assert not call.done()
    region.imports_wait = False
    answer = await call
    assert (answer.status_code, answer.json()["import"]["state"]) == (201, "done")
