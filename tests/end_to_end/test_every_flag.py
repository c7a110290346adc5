"""Each flag of a whole running stack is flipped, and its effect seen from outside: by HTTP, streams, or metrics.

One stack for all; every test uses people of its own, and sets its flags back.
"""

from __future__ import annotations

import asyncio
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from flag_stack import (
    COLD_AUTHOR,
    COLD_FOLLOWERS,
    FAR,
    HOME,
    IN_FORCE_S,
    THRESHOLD,
    FlagStack,
    log_lines,
    read_for,
    read_to_end,
    read_until,
    write_population,
)
from real_servers import wait_until
from stack_process import StackProcess

from reference_server.flags import FLAGS, START_ONLY

pytestmark = [pytest.mark.slow, pytest.mark.stack, pytest.mark.timeout(180)]
NOT_FLIPPED = {
    "cache_mb": "memcached takes its memory when it starts; refused at run time (test_flags_at_run_time.py)",
    "log_buffer_mb": "RocksDB is told when a log is opened; refused at run time alike (timeline/test_wal.py)",
}
CASES: dict[str, Callable[[FlagStack], None]] = {}
"""flag -> the test that flips it"""


def flips(*names: str) -> Callable[[Callable[[FlagStack], None]], Callable[[FlagStack], None]]:
    """The decorated test is the case of these flags; they are set back when it ends."""

    def registered(case: Callable[[FlagStack], None]) -> Callable[[FlagStack], None]:
        for name in names:
            CASES[name] = case
        return pytest.mark.usefixtures("unchanged")(case)

    return registered


@pytest.fixture(scope="module")
def region(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FlagStack]:
    folder: Path = tmp_path_factory.mktemp("flags")
    population = write_population(folder / "population")
    stack = StackProcess(folder / "stack", "--population", str(population), "--link-latency-ms", "5")
    opened = None
    try:
        opened = FlagStack(stack.await_ready())
        yield opened
    finally:
        if opened is not None:
            opened.http.close()
        stack.end()
        for pipe in (stack.process.stdin, stack.process.stdout, stack.process.stderr):
            if pipe is not None:
                pipe.close()


@pytest.fixture
def unchanged(region: FlagStack) -> Iterator[None]:
    """Whatever the test set is set back."""
    yield
    answer = region.http.get(f"{region.regions[HOME]['api']}/v1/operator/flags", headers=region.operator)
    for flag in answer.json()["flags"]:
        if flag["value"] != flag["default"]:
            region.reset(flag["name"])


def test_each_flag_has_its_case_or_a_reason() -> None:
    assert set(CASES) | set(NOT_FLIPPED) == set(FLAGS)
    assert set(NOT_FLIPPED) == START_ONLY
    assert not set(CASES) & set(NOT_FLIPPED)


@pytest.mark.usefixtures("unchanged")
def test_a_change_is_in_force_in_every_process_of_both_regions_within_5_s(region: FlagStack) -> None:
    assert region.set("trace_one_in", 3) <= IN_FORCE_S
    assert region.set("trace_one_in", 4) <= IN_FORCE_S


# --- the product


@flips("kill_switch")
def test_kill_switch(region: FlagStack) -> None:
    (user,) = region.joined()
    post = region.post(user)
    with region.stream(user) as stream:
        region.set("kill_switch", True)
        answer = region.call(user, "GET", "/v1/feed")
        assert (answer.status_code, answer.headers["content-type"]) == (503, "application/problem+json")
        read_to_end(stream)
        refused = region.ask_stream(user)
        assert b" 503 " in read_until(refused, b"\r\n")
        refused.close()
        assert region.call(user, "GET", "/v1/feed", FAR).status_code == 503
    region.reset("kill_switch")
    assert region.feed(user) == [post]


@flips("follow_cap")
def test_follow_cap(region: FlagStack) -> None:
    user, *others = region.joined(4)
    region.set("follow_cap", 1)
    assert [region.call(user, "PUT", f"/v1/follows/{other}").status_code for other in others[:2]] == [204, 403]
    region.set("follow_cap", 2)
    assert [region.call(user, "PUT", f"/v1/follows/{other}").status_code for other in others[1:]] == [204, 403]


@flips("async_import")
def test_async_import(region: FlagStack) -> None:
    first, second = COLD_FOLLOWERS[:2]
    assert region.join(first) == "pending"
    region.set("async_import", False)
    assert region.join(second) == "done"


@flips("trace_one_in")
def test_trace_one_in(region: FlagStack) -> None:
    (author,) = region.joined()
    region.set("trace_one_in", 1)
    post = region.post_and_wait(author)
    wait_until(lambda: any(line.get("post") == post for line in log_lines(region.stack, "fanout-0")), "it is traced")
    region.set("trace_one_in", 1_000_000_000)
    other = region.post_and_wait(author)
    assert not any(line.get("post") == other for line in log_lines(region.stack, "fanout-0"))


# --- fan-out


class Written:
    """How many entries a post wrote at once, and how many it left for their readers."""

    def __init__(self, region: FlagStack, author: int, *, celebrity: bool = False) -> None:
        names = ("feed_fanout_entries_total", "feed_fanout_deferred_entries_total")
        before = [region.value("fanout-0", name) for name in names]
        self.post = region.post_and_wait(author, celebrity=celebrity)
        wait_until(lambda: [region.value("fanout-0", name) for name in names] != before, "it is written or owed")
        now, owed = (region.value("fanout-0", name) - was for name, was in zip(names, before, strict=True))
        self.counts = (int(now), int(owed))


@flips("two_tier")
def test_two_tier(region: FlagStack) -> None:
    for user in (COLD_AUTHOR, *COLD_FOLLOWERS):
        if user not in region.tokens:
            region.join(user)
    wait_until(lambda: region.call(COLD_AUTHOR, "GET", "/v1/users/me").json()["followers"] == 5, "imports are done")
    first = Written(region, COLD_AUTHOR)
    assert first.counts == (1, 5), "the author at once, cold followers owed"
    region.set("two_tier", False)
    second = Written(region, COLD_AUTHOR)
    assert second.counts == (6, 0)
    assert region.feed(COLD_FOLLOWERS[0]) == [second.post, first.post]


def made_famous(region: FlagStack) -> tuple[int, list[int]]:
    """An author over the celebrity threshold, whom the apis know as one, and the followers."""
    author, *followers = region.joined(THRESHOLD + 1)
    region.follow(followers, author)
    queue = region.redis("queue")
    queue.close()

    def is_celebrity() -> bool:
        before = region.value("fanout-0", "feed_celebrity_lag_seconds_count")
        region.post(author)
        deadline = time.monotonic() + 1
        while time.monotonic() < deadline:
            if region.value("fanout-0", "feed_celebrity_lag_seconds_count") > before:
                return True
        return False

    wait_until(is_celebrity, "posts take the celebrities' path", 30)
    return author, followers


@flips("fanout", "celebrity_warm_list")
def test_fanout_and_celebrity_warm_list(region: FlagStack) -> None:
    region.set("two_tier", False)  # what is not pulled is written at once, to everybody
    author, *followers = region.joined(4)
    region.follow(followers, author)
    famous, fans = made_famous(region)
    everybody = len(fans) + 1
    assert Written(region, author).counts == (4, 0)
    assert Written(region, famous, celebrity=True).counts == (everybody, 0)
    region.set("fanout", "hybrid")
    assert Written(region, author).counts == (4, 0)
    hybrid = Written(region, famous, celebrity=True)
    assert hybrid.counts == (0, everybody)
    region.set("fanout", "pull")
    pulled = Written(region, author)
    assert pulled.counts == (0, 4)
    assert region.feed(followers[0])[0] == pulled.post
    assert hybrid.post in region.feed(fans[0])
    region.reset("fanout")
    region.set("celebrity_warm_list", False)
    assert Written(region, famous).counts == (everybody, 0), "by the way of all posts"


@flips("follower_cache", "follower_cache_ttl_s")
def test_follower_cache(region: FlagStack) -> None:
    author, follower = region.joined(2)
    region.follow([follower], author)

    def source_of_pages() -> str:
        def counts() -> dict[str, float]:
            return {s: region.value("fanout-0", "feed_follower_pages_total", source=s) for s in ("cache", "graph")}

        before = counts()
        region.post_and_wait(author)
        (source,) = [source for source, count in counts().items() if count > before[source]]
        return source

    cache = region.redis("cache")
    try:
        region.set("follower_cache_ttl_s", 1000)
        assert [source_of_pages(), source_of_pages()] == ["graph", "cache"]
        assert 900 < int(cache.ttl(f"followers:{author}:0")) <= 1000
        region.set("follower_cache", False)
        assert [source_of_pages(), source_of_pages()] == ["graph", "graph"]
    finally:
        cache.close()


# --- timelines


@contextmanager
def posting(region: FlagStack, author: int) -> Iterator[list[str]]:
    """The author posts all the time, at a moderate rate; what was acknowledged is in the list."""
    posts: list[str] = []
    stopping = threading.Event()

    def write() -> None:
        with httpx.Client(base_url=region.regions[HOME]["api"], timeout=15, trust_env=False) as http:
            headers = {"Authorization": f"Bearer {region.tokens[author]}"}
            while not stopping.wait(0.05):
                answer = http.post("/v1/posts", json={"text": "flowing"}, headers=headers)
                if answer.status_code == 201:
                    posts.append(answer.json()["post"]["id"])

    thread = threading.Thread(target=write)
    thread.start()
    try:
        yield posts
    finally:
        stopping.set()
        thread.join()


@flips("wal")
def test_wal(region: FlagStack) -> None:
    author, *followers = region.joined(6)
    region.follow(followers[:4], author)
    lanes, pid = region.stack.settings.lanes, region.stack.pid(f"{HOME}.fanout")

    def all_serve(logged: bool) -> bool:
        serving = region.value("fanout-0", "feed_lane_state", state="serving")
        return serving == lanes and region.value("fanout-0", "feed_lane_logged") == lanes * logged

    def whole(posts: list[str]) -> None:
        """Everybody who follows has every post, once; also who has never looked before."""
        region.flush_cache()
        for user in followers[:4]:
            wait_until(lambda user=user: set(region.walk(user)) == set(posts), f"the posts of user {user}", 20)
            found = region.walk(user)
            assert len(found) == len(set(found))

    with region.stream(followers[0]) as stream, posting(region, author) as posts:
        wait_until(lambda: len(posts) > 10, "posts")
        for value in (False, True, False, True):
            region.set("wal", value)
            wait_until(lambda value=value: all_serve(value), f"all lanes are open with wal {value}", 60)
            count = len(posts)
            wait_until(lambda count=count: len(posts) > count + 5, "posts go on")
            region.flush_cache()
        seen, count = read_until(stream, b"event: resync"), len(posts)

        def is_announced() -> bool:
            nonlocal seen
            seen += read_for(stream, 0.2)
            return any(post.encode() in seen for post in posts[count:])

        wait_until(is_announced, "the stream goes on", 20)
    whole(posts)
    assert region.call(followers[0], "GET", "/v1/feed").headers.get("feed-degraded") is None
    assert region.stack.pid(f"{HOME}.fanout") == pid, "no process was restarted"
    newcomer = followers[4]
    region.follow([newcomer], author)
    last = region.post(author)
    wait_until(lambda: last in region.feed(newcomer), "a later follower has what comes later")


@flips("retention_s")
def test_retention_s(region: FlagStack) -> None:
    author, follower = region.joined(2)
    region.follow([follower], author)
    post = region.post_and_wait(author)
    wait_until(lambda: post in region.feed(follower), "the post")
    before = region.value("fanout-0", "feed_log_dropped_records_total")
    region.set("retention_s", 1)
    region.rises("fanout-0", "feed_log_dropped_records_total", before, "old records are dropped")
    assert post in region.feed(follower), "it comes from the durable store"


@flips("cache_first")
def test_cache_first(region: FlagStack) -> None:
    (user,) = region.joined()
    post = region.post_and_wait(user)

    def read() -> tuple[list[str], str | None]:
        answer = region.call(user, "GET", "/v1/feed")
        return [item["id"] for item in answer.json()["items"]], answer.headers.get("feed-degraded")

    wait_until(lambda: read() == ([post], None), "a fresh page")
    before = region.value("api-0", "api_feed_reads_total", source="durable")
    region.set("cache_first", False)
    assert read() == ([post], "stale")
    region.rises("api-0", "api_feed_reads_total", before, "reads begin at the durable store", source="durable")


@flips("cached_entries")
def test_cached_entries(region: FlagStack) -> None:
    author, follower = region.joined(2)
    region.follow([follower], author)
    posts = [region.post(author) for _ in range(120)][::-1]

    def pages_below_the_cached_part() -> float:
        """How many of a walk's pages had to be asked for elsewhere."""
        region.flush_cache()
        wait_until(lambda: region.feed(follower, limit=50) == posts[:50], "a first page")
        wait_until(lambda: _source_of_a_read(region, follower) == "cache", "it is cached", 20)
        before = _api_figure(region, "api_feed_reads_total", source="owner")
        before += _api_figure(region, "api_feed_deeper_total", source="owner")
        assert region.walk(follower, 50) == posts
        after = _api_figure(region, "api_feed_reads_total", source="owner")
        return after + _api_figure(region, "api_feed_deeper_total", source="owner") - before

    assert pages_below_the_cached_part() == 0
    region.set("cached_entries", 64)
    assert pages_below_the_cached_part() > 0


def _api_figure(region: FlagStack, name: str, **labels: str) -> float:
    """An api's figure that is not older than this call: its text is made once a second."""
    time_of = region.value("api-0", "process_cpu_seconds_total")
    wait_until(lambda: region.value("api-0", "process_cpu_seconds_total") != time_of, "a new text", 10)
    return region.value("api-0", name, **labels)


def _source_of_a_read(region: FlagStack, user: int) -> str:
    before = {s: _api_figure(region, "api_feed_reads_total", source=s) for s in ("cache", "owner", "durable")}
    region.feed(user)
    after = {s: _api_figure(region, "api_feed_reads_total", source=s) for s in before}
    return max(before, key=lambda source: after[source] - before[source])


# --- reading


@flips("read_filters")
def test_read_filters(region: FlagStack) -> None:
    reader, author = region.joined(2)
    region.follow([reader], author)
    post = region.post(author)
    wait_until(lambda: region.feed(reader) == [post], "the post")
    assert region.call(reader, "PUT", f"/v1/blocks/{author}").status_code == 204
    assert region.feed(reader) == []
    region.set("read_filters", False)
    assert region.feed(reader) == [post]


@flips("soft_dedup")
def test_soft_dedup(region: FlagStack) -> None:
    (user,) = region.joined()
    posts = [region.post(user) for _ in range(2)]

    def unseen() -> list[str]:
        answer = region.call(user, "POST", "/v1/feed", json={"seen": posts[:1]})
        assert answer.status_code == 200, answer.text
        return [item["id"] for item in answer.json()["items"]]

    assert unseen() == posts[1:]
    region.set("soft_dedup", False)
    assert unseen() == posts[::-1]


@flips("multi_region")
def test_multi_region(region: FlagStack) -> None:
    (user,) = region.joined()
    first = region.post(user)
    wait_until(lambda: region.call(user, "GET", "/v1/feed", FAR).status_code == 200, "the user is known far away")
    wait_until(lambda: region.feed(user, FAR) == [first], "the post far away")
    region.set("multi_region", False)
    second = region.post(user)
    assert region.set("trace_one_in", 5) <= IN_FORCE_S, "flags replicate all the same"
    assert region.feed(user, FAR) == [first], "what came before that flag rests"
    assert region.feed(user) == [second, first]
    region.reset("multi_region")
    wait_until(lambda: region.feed(user, FAR) == [second, first], "it catches up", 20)


# --- streams


@flips("presence_gated_notify")
def test_presence_gated_notify(region: FlagStack) -> None:
    author, follower, *listeners = region.joined(12)
    region.follow([follower], author)
    region.set("two_tier", False)

    def told() -> float:
        """Messages that a post sends to edges at which none of its followers has a stream."""
        before = region.value("fanout-0", "feed_bus_messages_total", outcome="sent")
        region.post_and_wait(author)
        deadline = time.monotonic() + 1
        while time.monotonic() < deadline:
            if (now := region.value("fanout-0", "feed_bus_messages_total", outcome="sent")) > before:
                return now - before
        return 0.0

    streams = [region.stream(user) for user in listeners]
    for stream in streams:
        stream.__enter__()
    try:
        assert told() == 0
        region.set("presence_gated_notify", False)
        assert told() > 0
    finally:
        for stream in streams:
            stream.__exit__(None, None, None)


@flips("sse_heartbeat_s")
def test_sse_heartbeat_s(region: FlagStack) -> None:
    (user,) = region.joined()
    with region.stream(user) as stream:
        assert b":" not in read_for(stream, 1)
        region.set("sse_heartbeat_s", 0.1)
        beats = [line for line in read_for(stream, 2).split(b"\n") if line.startswith(b":")]
        assert len(beats) >= 5


@flips("sse_opens_per_s")
def test_sse_opens_per_s(region: FlagStack) -> None:
    users = region.joined(8)

    def statuses() -> set[bytes]:
        asked = [region.ask_stream(user) for user in users]
        try:
            return {read_until(one, b"\r\n").split(b" ")[1] for one in asked}
        finally:
            for one in asked:
                one.close()

    assert statuses() == {b"200"}
    region.set("sse_opens_per_s", 1)
    assert statuses() == {b"200", b"503"}


@flips("sse_buffer_bytes", "drop_slow_listeners")
def test_sse_buffer_bytes_and_drop_slow_listeners(region: FlagStack) -> None:
    author, patient, slow = region.joined(3)
    region.follow([patient, slow], author)
    region.set("sse_buffer_bytes", 1 << 20)
    with region.stream(patient, receive_bytes=2048):
        region.set("sse_buffer_bytes", 1024)
        with region.stream(slow, receive_bytes=2048):
            region.set("drop_slow_listeners", False)
            before = region.value("fep-0", "feed_stream_slow_drops_total")
            events = region.value("fep-0", "feed_stream_events_total")
            _burst(region, author, 450)
            region.rises("fep-0", "feed_stream_events_total", events + 899, "all events are on their way")
            time_s = time.monotonic() + 2
            while time.monotonic() < time_s:
                assert region.value("fep-0", "feed_stream_slow_drops_total") == before, "they are waited for"
            region.set("drop_slow_listeners", True)
            region.rises("fep-0", "feed_stream_slow_drops_total", before, "the small buffer is full")
            assert region.value("fep-0", "feed_stream_slow_drops_total") == before + 1, "the large one is not"


def _burst(region: FlagStack, author: int, count: int) -> None:
    for _ in range(count):
        region.post(author)


# --- overload


@flips("auto_throttle", "user_reads_per_s")
def test_auto_throttle_and_user_reads_per_s(region: FlagStack) -> None:
    first, second = region.joined(2)

    def statuses(user: int) -> set[int]:
        return {region.call(user, "GET", "/v1/feed").status_code for _ in range(20)}

    assert statuses(first) == {200}
    region.set("user_reads_per_s", 1)
    answers = [region.call(second, "GET", "/v1/feed") for _ in range(20)]
    assert {answer.status_code for answer in answers} == {200, 429}
    assert all(int(a.headers["retry-after"]) >= 1 for a in answers if a.status_code == 429)
    region.set("auto_throttle", False)
    assert statuses(second) == {200}


@flips("user_writes_per_s")
def test_user_writes_per_s(region: FlagStack) -> None:
    (user,) = region.joined()
    region.set("user_writes_per_s", 1)
    answers = [region.call(user, "POST", "/v1/posts", json={"text": "x"}) for _ in range(20)]
    assert {answer.status_code for answer in answers} == {201, 429}
    stored = [answer.json()["post"]["id"] for answer in answers if answer.status_code == 201]
    assert region.feed(user) == stored[::-1], "what was refused has had no effect"


@flips("degrade")
def test_degrade(region: FlagStack) -> None:
    (user,) = region.joined()

    async def offer(count: int) -> list[int]:
        """So many requests at once that wait for a graph which does not answer."""
        limits = httpx.Limits(max_connections=count)
        headers = {"Authorization": f"Bearer {region.tokens[user]}"}
        async with httpx.AsyncClient(timeout=20, limits=limits, trust_env=False, headers=headers) as http:
            url = f"{region.regions[HOME]['api']}/v1/users/me/import"
            return [answer.status_code for answer in await asyncio.gather(*(http.get(url) for _ in range(count)))]

    def levels_under_load(rounds: int) -> tuple[float, float]:
        """The highest degradation level seen, and how many requests there was no room for."""
        full = [_no_room(region)]
        seen = [0.0]
        graph = region.stack.pid(f"{HOME}.graph")
        os.killpg(graph, signal.SIGSTOP)
        try:
            for _ in range(rounds):
                thread = threading.Thread(target=lambda: asyncio.run(offer(300)))
                thread.start()
                while thread.is_alive():
                    seen.append(region.value("api-0", "feed_overload_level"))
                    full.append(_no_room(region))
                if max(seen):
                    break
        finally:
            os.killpg(graph, signal.SIGCONT)
        return max(seen), max(full) - full[0]

    region.set("degrade", False)
    level, refused = levels_under_load(1)
    assert (level, refused > 0) == (0, True)
    region.set("degrade", True)
    level, _ = levels_under_load(5)
    assert level > 0
    wait_until(lambda: region.value("api-0", "feed_overload_level") == 0, "all is as before", 40)


def _no_room(region: FlagStack) -> float:
    rejected: list[Any] = [
        region.value("api-0", "feed_overload_rejected_total", reason=reason) for reason in ("full", "late")
    ]
    return float(sum(rejected))
