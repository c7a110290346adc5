"""What is dead or silent: reads go on and say so, writes refuse quickly."""

from __future__ import annotations

import asyncio
import signal
import time

import httpx
import pytest
from api_region import ApiRegion, User, eventually, problem

from reference_server.api.graph_view import READ_TIMEOUT_S
from reference_server.durable.sqlite_writer import FILE_NAME
from reference_server.queue import RecentPost

pytestmark = [pytest.mark.slow, pytest.mark.stack]


async def read(user: User, limit_s: float = 2.0) -> tuple[list[str], str | None]:
    started = time.monotonic()
    answer = await user.call("GET", "/v1/feed")
    assert time.monotonic() - started < limit_s
    assert answer.status_code == 200, answer.text
    return [item["id"] for item in answer.json()["items"]], answer.headers.get("feed-degraded")


async def timed(user: User, method: str, path: str, limit_s: float = 3.0, **options: object) -> httpx.Response:
    started = time.monotonic()
    answer = await user.call(method, path, **options)
    assert time.monotonic() - started < limit_s, path
    return answer


async def test_reads_survive_a_dead_memcached_whole_and_undegraded(region: ApiRegion) -> None:
    alice = region.user(1)
    ids = [(await alice.post(str(n)))["id"] for n in range(5)][::-1]
    region.cache.kill()
    assert await read(alice) == (ids, None)  # bodies from redis-queue
    await region.archive()
    assert await read(alice) == (ids, None)  # bodies from the durable store
    newest = (await alice.post())["id"]
    assert await read(alice) == ([newest, *ids], None)
    region.cache.start()
    before = await source_counts(region)

    async def refilled() -> bool:
        await alice.feed()
        after = await source_counts(region)
        return after["cache"] - before["cache"] >= 6

    await eventually(refilled, "bodies are cached again")


async def source_counts(region: ApiRegion) -> dict[str, float]:
    text = await region.metrics()
    lines = [line for line in text.splitlines() if line.startswith("api_bodies_total")]
    counts = {line.split('source="')[1].split('"')[0]: float(line.split()[-1]) for line in lines}
    return {"cache": 0.0} | counts


async def test_a_paused_memcached_delays_reads_a_little_once(region: ApiRegion) -> None:
    alice = region.user(1)
    ids = [(await alice.post(str(n)))["id"] for n in range(3)][::-1]
    region.cache.signal(signal.SIGSTOP)
    try:
        assert (await read(alice, 2.0))[0] == ids
        assert (await read(alice, 0.5))[0] == ids
    finally:
        region.cache.signal(signal.SIGCONT)


async def test_reads_survive_a_dead_queue_and_say_so_and_writes_refuse(region: ApiRegion) -> None:
    alice, bob = region.user(1), region.user(2)
    await bob.follow(1)
    post = await alice.post()
    await region.archive()
    region.follows[3, 1] = True
    region.lanes_hang.set()  # the stub owners read the queue themselves
    region.redis.kill()
    assert await read(bob) == ([post["id"]], "stale")
    for method, path, body in (
        ("POST", "/v1/posts", {"text": "x"}),
        ("PUT", "/v1/follows/5", None),
        ("PUT", "/v1/blocks/5", None),
        ("PUT", f"/v1/posts/{post['id']}/like", None),
        ("POST", "/v1/users", {"identity": "7"}),
    ):
        for _ in range(3):
            answer = await timed(bob, method, path, json=body)
            # the first to notice the loss cannot tell whether its command arrived
            assert (answer.status_code, problem(answer)) == (503, "unavailable"), path
    answer = await timed(alice, "DELETE", f"/v1/posts/{post['id']}")
    assert answer.status_code == 503
    region.redis.start()
    region.lanes_hang.clear()

    async def works() -> bool:
        return (await alice.call("POST", "/v1/posts", json={"text": "back"})).status_code == 201

    await eventually(works, "writes work again")
    assert (await region.stored())["posts"] == 2

    async def fresh() -> bool:
        found, degraded = await read(bob)
        return len(found) == 2 and degraded is None

    await eventually(fresh, "reads are fresh again")


async def test_a_paused_queue_is_no_promise_that_nothing_happened(region: ApiRegion) -> None:
    alice = region.user(1)
    await alice.post()
    region.lanes_hang.set()
    region.redis.signal(signal.SIGSTOP)
    try:
        first, _ = await asyncio.gather(timed(alice, "POST", "/v1/posts", 4.0, json={"text": "x"}), read(alice, 2.0))
        assert (first.status_code, problem(first)) == (504, "unavailable")
        assert problem(await timed(alice, "POST", "/v1/posts", json={"text": "x"})) == "unavailable"
        assert (await read(alice))[1] == "stale"
    finally:
        region.redis.signal(signal.SIGCONT)


async def test_reads_come_from_the_durable_store_while_fan_out_is_away(region: ApiRegion) -> None:
    alice, bob = region.user(1), region.user(2)
    await bob.follow(1)
    posts = [(await author.post())["id"] for author in (alice, bob, alice)]
    await region.archive()
    unarchived = await bob.post("own, not archived")
    region.lanes_hang.set()
    assert await read(bob) == ([unarchived["id"], *posts[::-1]], "stale")
    answer = await timed(bob, "GET", f"/v1/feed/new?since={posts[0]}")
    assert [item["id"] for item in answer.json()["items"]] == posts[:0:-1]
    assert answer.headers["feed-degraded"] == "stale"
    region.cache.kill()
    region.graph_hangs.set()
    answer = await timed(bob, "GET", "/v1/feed")
    assert (answer.status_code, problem(answer)) == (503, "unavailable"), "nobody knows whom bob follows"
    assert 'source="durable"' in await region.metrics()


async def test_a_feed_that_nobody_knows_is_no_empty_page(region: ApiRegion) -> None:
    alice, bob = region.user(1), region.user(2)
    await bob.follow(1)
    post = await alice.post()
    assert await read(bob) == ([post["id"]], None)
    await region.archive()
    region.lanes_hang.set()
    region.cache.kill()
    assert await read(bob) == ([post["id"]], "stale")
    archive = region.settings.data("us-east") / FILE_NAME
    archive.rename(archive.with_suffix(".away"))
    for path in ("/v1/feed", f"/v1/feed/new?since={post['id']}"):

        async def refuses(path: str = path) -> bool:
            answer = await timed(bob, "GET", path)
            assert answer.status_code == 503 or answer.json()["items"]
            return answer.status_code == 503 and problem(answer) == "unavailable"

        await eventually(refuses, "the api has noticed that the archive is away", 5)


async def test_a_silent_graph_degrades_reads_and_keeps_changes_in_mind(region: ApiRegion) -> None:
    alice, bob = region.user(1), region.user(2)
    await bob.follow(1)
    post = await alice.post()
    assert await read(bob) == ([post["id"]], None)
    region.graph_hangs.set()
    answer = await timed(bob, "PUT", "/v1/blocks/1", 4.0)
    assert (answer.status_code, answer.headers["feed-degraded"]) == (204, "stale")
    assert await read(bob) == ([], "stale")
    for path in ("/v1/users/me", "/v1/users/me/import"):
        assert (await timed(bob, "GET", path, 4.0)).status_code == 503
    assert (await bob.call("POST", "/v1/users", json={"identity": "7"})).status_code == 201
    assert await alice.post()
    assert (await region.http.get("/readyz")).status_code == 200
    region.graph_hangs.clear()
    await region._sync("")
    assert (await read(bob))[0] == []


async def test_a_follow_during_an_outage_of_the_graph_shows_nobody_who_is_blocked(region: ApiRegion) -> None:
    alice, bob, carol = region.user(1), region.user(2), region.user(3)
    await bob.follow(1)
    await bob.follow(3)
    post, other = (await alice.post())["id"], (await carol.post())["id"]
    assert (await alice.call("PUT", "/v1/blocks/2")).status_code == 204
    assert (await bob.call("DELETE", "/v1/follows/3")).status_code == 204
    assert await read(bob) == ([], None)
    region.graph_hangs.set()
    for user in (1, 3):
        assert (await timed(bob, "PUT", f"/v1/follows/{user}", 4.0)).headers["feed-degraded"] == "stale"
    assert await read(bob) == ([other], "stale")
    region.graph_hangs.clear()

    async def is_fresh() -> bool:
        found, degraded = await read(bob)
        assert post not in found
        return degraded is None

    await eventually(is_fresh, "the graph is asked again")
    assert await read(bob) == ([other], None)


async def test_a_silent_graph_is_not_waited_for_by_everybody(region: ApiRegion) -> None:
    alice = region.user(1)
    post = (await alice.post())["id"]
    assert await alice.feed() == [post]
    region.graph_hangs.set()

    async def is_noticed() -> bool:
        return await read(alice) == ([post], "stale")

    await eventually(is_noticed, "the graph is silent")
    started_s = time.monotonic()
    for _ in range(20):
        assert await read(alice) == ([post], "stale")
    for _ in range(5):
        assert (await timed(alice, "PUT", "/v1/follows/2")).headers["feed-degraded"] == "stale"
    assert time.monotonic() - started_s < 20 * READ_TIMEOUT_S / 2


async def test_what_a_silent_graph_never_told_is_not_guessed(region: ApiRegion) -> None:
    alice, bob, carol = region.user(1), region.user(2), region.user(3)
    await bob.follow(1)
    region.celebrities.add(1)
    post = await alice.post()
    assert await read(bob) == ([post["id"]], None)
    region.graph_hangs.set()
    for method, path, body in (
        ("GET", "/v1/feed", None),
        ("POST", "/v1/feed", {}),
        ("POST", "/v1/posts", {"text": "x"}),
    ):
        answer = await timed(carol, method, path, json=body)
        assert (answer.status_code, problem(answer)) == (503, "unavailable"), path
    answer = await timed(alice, "GET", f"/v1/feed/new?since={post['id']}")
    assert (answer.status_code, problem(answer)) == (503, "unavailable")
    before = await region.stored()
    assert await read(bob) == ([post["id"]], "stale")  # whoever was seen before reads on
    second = await alice.post()
    assert (await region.stored())["celeb"] == before["celeb"] + 1
    assert (await region.stored())["posts"] == before["posts"]
    assert (await timed(alice, "DELETE", f"/v1/posts/{second['id']}")).status_code == 204
    region.graph_hangs.clear()

    async def answers() -> bool:
        return (await carol.call("GET", "/v1/feed")).status_code == 200

    await eventually(answers, "a new reader is served")
    assert await carol.post()


async def test_a_delete_does_not_wait_for_the_graph(region: ApiRegion) -> None:
    alice = region.user(1)
    post = await alice.post()
    await region.restart()  # the new process has never asked for her followers
    region.graph_hangs.set()
    assert (await timed(alice, "DELETE", f"/v1/posts/{post['id']}")).status_code == 204
    assert await region.stored() == {"posts": 2, "celeb": 0, "graph": 0, "jobs": 0, "outbox": 2}


async def test_the_acknowledged_post_survives_the_api(region: ApiRegion) -> None:
    alice = region.user(1)
    post = await alice.post()
    await region.restart()
    assert await alice.feed() == [post["id"]]


async def test_own_posts_show_before_fan_out_brings_them(region: ApiRegion) -> None:
    alice = region.user(1)
    post = await alice.post()
    await region.keeper._link.call("DEL", "posts")  # the owners have nothing
    assert await read(alice) == ([post["id"]], None)
    assert problem(await alice.call("GET", f"/v1/feed/new?since={post['id']}")) == "gone"


async def test_sigterm_ends_the_api_at_once(region: ApiRegion) -> None:
    assert region.api is not None
    assert region.api.process is not None
    await region.user(1).feed()
    region.api.process.send_signal(signal.SIGTERM)
    assert await asyncio.to_thread(region.api.process.wait, 5) == 0


@pytest.mark.parametrize(
    "defect", ["duplicate-entry", "phantom-post", "cursor-skip", "unordered-page", "lose-after-ack"]
)
async def test_planted_defects_show(region: ApiRegion, defect: str) -> None:
    await region.restart(defect)
    alice = region.user(1)
    posted = [(await alice.post(str(n)))["id"] for n in range(55)][::-1]
    pages = [await alice.feed(limit=10) for _ in range(20)]
    spoilt = {
        "duplicate-entry": lambda: any(len(set(page)) < len(page) for page in pages),
        "phantom-post": lambda: any(set(page) - set(posted) for page in pages),
        "unordered-page": lambda: any(page != posted[:10] and set(page) == set(posted[:10]) for page in pages),
        "cursor-skip": lambda: True,
        "lose-after-ack": lambda: any(page != posted[:10] for page in pages),
    }
    assert spoilt[defect]()
    walked = [post for page in await alice.walk(9) for post in page]
    assert (walked == posted) == (defect in ("duplicate-entry", "phantom-post", "unordered-page"))


def test_recent_post_is_a_key() -> None:
    assert sorted([RecentPost(2, b"a"), RecentPost(1, b"b")])[0].ts_us == 1
