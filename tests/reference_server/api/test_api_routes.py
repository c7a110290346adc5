from __future__ import annotations

import asyncio
import time

import pytest
from api_region import ApiRegion, problem

from reference_server import rpc
from reference_server.api.metrics_texts import KEPT_S

pytestmark = [pytest.mark.slow, pytest.mark.stack]


async def test_a_post_is_in_the_feeds_of_author_and_follower(region: ApiRegion) -> None:
    alice, bob = region.user(1), region.user(2)
    await bob.follow(1)
    post = await alice.post("hello, wörld \U0001f30a")
    assert post["author"] == "1"
    assert post["text"] == "hello, wörld \U0001f30a"
    assert post["reply_to"] is None
    assert await alice.feed() == [post["id"]]
    assert await bob.feed() == [post["id"]]
    answer = await region.user(3).call("POST", "/v1/posts/batch", json={"ids": ["unknown", post["id"], post["id"]]})
    assert answer.json() == {"posts": [post]}
    assert "feed-degraded" not in answer.headers


async def test_sign_up_is_idempotent(region: ApiRegion) -> None:
    answers = await asyncio.gather(*(region.http.post("/v1/users", json={"identity": "42"}) for _ in range(10)))
    assert sorted(answer.status_code for answer in answers) == [200] * 9 + [201]
    answer = next(answer for answer in answers if answer.status_code == 201).json()
    assert answer["user"] == {"id": "42"}
    assert answer["import"] == {"state": "pending", "done": 0, "total": 0}
    assert await region.stored() == {"posts": 0, "celeb": 0, "graph": 1, "jobs": 1, "outbox": 1}
    headers = {"Authorization": f"Bearer {answer['token']}"}
    await region._sync("")
    me = await region.http.get("/v1/users/me", headers=headers)
    counts = {"id": "42", "followers": 0, "following": 0}
    assert me.json() == counts | {"joined": True, "minor": False, "safe_mode": False}
    imported = await region.http.get("/v1/users/me/import", headers=headers)
    assert imported.json() == {"state": "done", "done": 0, "total": 0}
    again = await region.http.post("/v1/users", json={"identity": "42"})
    assert (again.status_code, again.json()["import"]["state"]) == (200, "done")


async def test_an_idempotency_key_gives_one_post(region: ApiRegion) -> None:
    alice = region.user(1)
    headers = {"Idempotency-Key": "k-1"}
    calls = [alice.call("POST", "/v1/posts", json={"text": f"take {n}"}, headers=headers) for n in range(8)]
    answers = await asyncio.gather(*calls)
    assert sorted(answer.status_code for answer in answers) == [200] * 7 + [201]
    assert len({answer.text for answer in answers}) == 1
    assert (await region.stored())["posts"] == 1


async def test_paging_is_complete_and_goes_on_past_deleted_posts(region: ApiRegion) -> None:
    alice, bob = region.user(1), region.user(2)
    await bob.follow(1)
    ids = [(await alice.post(str(n)))["id"] for n in range(30)][::-1]
    for limit in (1, 7, 30, 100):
        pages = await bob.walk(limit)
        assert [post for page in pages for post in page] == ids
        assert all(len(page) == limit for page in pages[:-1])
    for gone in ids[3:15]:
        assert (await alice.call("DELETE", f"/v1/posts/{gone}")).status_code == 204
    rest = ids[:3] + ids[15:]
    pages = await bob.walk(5)
    assert [post for page in pages for post in page] == rest
    assert [len(page) for page in pages] == [5, 5, 5, 3]


async def test_new_posts_do_not_disturb_a_walk(region: ApiRegion) -> None:
    alice = region.user(1)
    ids = [(await alice.post(str(n)))["id"] for n in range(10)][::-1]
    first = (await alice.call("GET", "/v1/feed?limit=4")).json()
    await alice.post("later")
    second = (await alice.call("GET", "/v1/feed", params={"limit": 10, "cursor": first["next_cursor"]})).json()
    assert [item["id"] for item in first["items"] + second["items"]] == ids
    assert second["next_cursor"] is None


async def test_seen_posts_do_not_come_back(region: ApiRegion) -> None:
    alice = region.user(1)
    ids = [(await alice.post(str(n)))["id"] for n in range(6)][::-1]
    answer = await alice.call("POST", "/v1/feed", json={"limit": 3, "seen": [ids[0], ids[2], "what"]})
    assert [item["id"] for item in answer.json()["items"]] == [ids[1], ids[3], ids[4]]
    answer = await alice.call("POST", "/v1/feed", json={"cursor": answer.json()["next_cursor"], "seen": ids[:2]})
    assert [item["id"] for item in answer.json()["items"]] == [ids[5]]


async def test_a_cursor_holds_across_a_restart_and_for_its_user_only(region: ApiRegion) -> None:
    alice = region.user(1)
    ids = [(await alice.post(str(n)))["id"] for n in range(4)][::-1]
    cursor = (await alice.call("GET", "/v1/feed?limit=2")).json()["next_cursor"]
    await region.restart()
    assert await alice.feed(cursor=cursor) == ids[2:]
    bad = [("1", cursor[:-2] + "xx"), ("1", "A" + cursor), ("2", cursor), ("1", "x"), ("1", ""), ("1", "A" * 513)]
    for user, text in bad:
        answer = await region.user(int(user)).call("GET", "/v1/feed", params={"cursor": text})
        assert (answer.status_code, problem(answer)) == (400, "bad-cursor")
        assert "items" not in answer.json()
    answer = await region.user(2).call("POST", "/v1/feed", json={"cursor": cursor})
    assert problem(answer) == "bad-cursor"


async def test_feed_new_follows_arrival(region: ApiRegion) -> None:
    alice, bob, carol = region.user(1), region.user(2), region.user(3)
    await carol.follow(1)
    await carol.follow(2)
    ids = [(await author.post("x"))["id"] for author in (alice, bob, alice, bob)]

    async def new(since: str, **parameters: int) -> tuple[list[str], bool]:
        answer = (await carol.call("GET", "/v1/feed/new", params={"since": since} | parameters)).json()
        return [item["id"] for item in answer["items"]], answer["complete"]

    assert await new(ids[0]) == (ids[:0:-1], True)
    assert await new(ids[3]) == ([], True)
    assert await new(ids[0], limit=2) == ([ids[2], ids[1]], False)
    for since in ("unknown", "0190a8f2-3c51-7d1e-8a44-5b0c9de1f203"):
        assert problem(await carol.call("GET", "/v1/feed/new", params={"since": since})) == "gone"
    assert problem(await carol.call("GET", "/v1/feed/new")) == "bad-request"
    assert problem(await carol.call("GET", "/v1/feed/new?since=x&limit=801")) == "bad-request"


async def test_unfollow_and_block_hide_at_once(region: ApiRegion) -> None:
    alice, bob = region.user(1), region.user(2)
    await bob.follow(1)
    post = await alice.post()
    assert await bob.feed() == [post["id"]]
    assert (await bob.call("DELETE", "/v1/follows/1")).status_code == 204
    assert await bob.feed() == []
    await bob.follow(1)
    assert await bob.feed() == [post["id"]]
    assert (await alice.call("PUT", "/v1/blocks/2")).status_code == 204  # either way
    assert await bob.feed() == []
    assert (await alice.call("DELETE", "/v1/blocks/2")).status_code == 204
    assert await bob.feed() == [post["id"]]


async def test_the_graph_is_asked_once_a_second_at_most(region: ApiRegion) -> None:
    alice = region.user(1)
    for _ in range(20):
        await alice.feed()
    assert region.calls.count("excluded") <= 3


async def test_deletes(region: ApiRegion) -> None:
    alice, bob = region.user(1), region.user(2)
    post = await alice.post()
    path = f"/v1/posts/{post['id']}"
    assert problem(await bob.call("DELETE", path)) == "forbidden"
    assert problem(await alice.call("DELETE", "/v1/posts/0190a8f2-3c51-7d1e-8a44-5b0c9de1f203")) == "not-found"
    assert problem(await alice.call("DELETE", "/v1/posts/x")) == "not-found"
    assert [(await alice.call("DELETE", path)).status_code for _ in range(2)] == [204, 204]
    assert (await region.stored())["posts"] == 2
    assert await alice.feed() == []
    assert problem(await alice.call("PUT", path + "/like")) == "not-found"
    assert problem(await alice.call("POST", "/v1/posts", json={"text": "re", "reply_to": post["id"]})) == "not-found"
    region.cache.kill()
    region.cache.start()
    assert await alice.feed() == []
    await region.archive()
    region.cache.kill()
    region.cache.start()
    assert await alice.feed() == []
    assert (await alice.call("DELETE", path)).status_code == 204
    assert problem(await bob.call("DELETE", path)) == "forbidden"


async def test_likes_and_replies(region: ApiRegion) -> None:
    alice, bob = region.user(1), region.user(2)
    post = await alice.post()
    assert (await bob.call("PUT", f"/v1/posts/{post['id']}/like")).status_code == 204
    assert region.calls[-1] == "like"
    assert (await alice.call("PUT", f"/v1/posts/{post['id']}/like")).status_code == 204
    reply = await bob.post("re", reply_to=post["id"])
    assert reply["reply_to"] == post["id"]
    for unknown in ("x", "0190a8f2-3c51-7d1e-8a44-5b0c9de1f203"):
        answer = await bob.call("POST", "/v1/posts", json={"text": "re", "reply_to": unknown})
        assert problem(answer) == "not-found"
    assert (await region.stored())["posts"] == 2


async def test_celebrities_take_their_own_stream(region: ApiRegion) -> None:
    region.celebrities.add(9)
    post = await region.user(9).post()
    assert (await region.stored())["celeb"] == 1
    assert await region.user(9).feed() == [post["id"]]


async def test_times_of_an_author_rise_and_order_the_feed(region: ApiRegion) -> None:
    alice = region.user(1)
    posts = await asyncio.gather(*(alice.post(str(n)) for n in range(50)))
    times = [post["created_at_us"] for post in posts]
    assert len(set(times)) == 50
    expected = [post["id"] for post in sorted(posts, key=lambda post: -post["created_at_us"])]
    assert await alice.feed() == expected


async def test_health_and_metrics(region: ApiRegion) -> None:
    await region.user(1).feed()
    for path in ("/healthz", "/readyz"):
        assert (await region.http.get(path)).json() == {"status": "ok"}
    text = await region.metrics()
    assert 'api_feed_reads_total{part="api-0",source="owner"} 1.0' in text
    families = [line.split()[2] for line in text.splitlines() if line.startswith("# TYPE")]
    assert len(families) == len(set(families))


async def test_metrics_are_made_once_a_second_however_often_they_are_asked_for(region: ApiRegion) -> None:
    made = 0

    async def metrics() -> bytes:
        nonlocal made
        made += 1
        return b""

    jobs = await rpc.serve(region.settings.socket("us-east", "jobs"), {"metrics": metrics})
    started_s = time.monotonic()
    for path in ("/metrics", "/metrics?own"):
        answers = await asyncio.gather(*(region.http.get(path) for _ in range(60)))
        assert {answer.status_code for answer in answers} == {200}
        most = int((time.monotonic() - started_s) / KEPT_S) + 1
        assert 1 <= len({answer.text for answer in answers}) <= most
    assert 1 <= made <= most
    before = made
    await region.metrics()
    assert made == before + 1
    jobs.close()
