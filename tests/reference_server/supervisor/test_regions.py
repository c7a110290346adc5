"""Whole stacks of other shapes: three regions with several of each part, cut and healed; the preset x-early."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import msgspec
import numpy as np
import pytest
from edge_client import EdgeClient, client_of, until
from stack_process import StackProcess

from reference_server.supervisor.readiness import is_ready

pytestmark = [pytest.mark.stack, pytest.mark.slow]
REGIONS = ("eu", "us", "ap")
SHAPE = ["--regions", ",".join(REGIONS), "--apis", "2", "--feps", "2", "--memcacheds", "3", "--fanout-workers", "3"]
AUTHOR, FOLLOWER = 3, 4
UNFOLLOWED, BLOCKED = 5, 6
EVERY_KIND = {"api", "fep", "fanout", "graph", "jobs", "replicator", "memcached", "redis-queue", "redis-cache", "edge"}


@pytest.fixture(scope="module")
def wide(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StackProcess]:
    """Three regions."""
    stack = StackProcess(tmp_path_factory.mktemp("wide") / "s", *SHAPE, "--users", "50", "--link-latency-ms", "20")
    try:
        yield stack.await_ready()
    finally:
        stack.end()
        for stream in (stack.process.stdin, stack.process.stdout, stack.process.stderr):
            if stream is not None:
                stream.close()


class Reader:
    """One user, with a client for each region."""

    def __init__(self, clients: dict[str, EdgeClient]) -> None:
        self.at = clients

    async def sees(self, region: str, texts: set[str]) -> bool:
        return texts <= set(await self.at[region].texts())

    async def sees_none(self, region: str, texts: set[str]) -> bool:
        return not texts & set(await self.at[region].texts())


@asynccontextmanager
async def everywhere(stack: StackProcess, user: int, through: str = "edge") -> AsyncIterator[Reader]:
    """The user joins in the first region and has its token used in all of them.

    `through`: "edge", which takes a request to the next region when its own looks too slow; "api", which is of its own.
    """
    async with AsyncExitStack() as undo:
        clients = {}
        for name, urls in stack.endpoints["regions"].items():
            clients[name] = await undo.enter_async_context(client_of(stack, urls[through]))
        first, *others = clients.values()
        await first.sign_up(user)
        for client in others:
            client.http.headers["Authorization"] = first.http.headers["Authorization"]
        yield Reader(clients)


async def links(stack: StackProcess, one: str, other: str, *, enabled: bool) -> None:
    """Cut or heal the links of a pair of regions."""
    async with httpx.AsyncClient(trust_env=False, timeout=10) as client:
        for source, target in ((one, other), (other, one)):
            handle = stack.endpoints["handles"][f"link.{source}.{target}"]
            url = f"{handle['api']}/proxies/{handle['proxy']}"
            (await client.post(url, json={"enabled": enabled})).raise_for_status()


async def joined(reader: Reader, regions: tuple[str, ...]) -> None:
    """The user is known in these regions."""
    for region in regions:

        async def known(region: str = region) -> bool:
            return (await reader.at[region].http.get("/v1/users/me")).status_code == 200

        await until(known, f"known in {region}")


async def test_a_region_cut_from_another_serves_and_converges(wide: StackProcess) -> None:
    users = (AUTHOR, FOLLOWER, UNFOLLOWED, BLOCKED)
    async with AsyncExitStack() as undo:
        author, follower, unfollowed, blocked = [
            await undo.enter_async_context(everywhere(wide, user, "api")) for user in users
        ]
        for other in (AUTHOR, UNFOLLOWED, BLOCKED):
            assert (await follower.at["eu"].http.put(f"/v1/follows/{other}")).is_success
        assert (await blocked.at["eu"].http.put(f"/v1/follows/{FOLLOWER}")).is_success
        await author.at["eu"].post("before")
        deleted = await author.at["eu"].post("to be deleted")
        await unfollowed.at["eu"].post("of an unfollowed one")
        await blocked.at["eu"].post("of a blocked one")
        await follower.at["eu"].post("of who blocked")
        gone, hidden = {"to be deleted", "of an unfollowed one", "of a blocked one"}, {"of who blocked"}
        for region in REGIONS:
            await until(lambda region=region: follower.sees(region, {"before"} | gone), f"seen in {region}")
            await until(lambda region=region: blocked.sees(region, hidden), f"seen in {region}")
        for reader in (author, unfollowed, blocked):
            await joined(reader, REGIONS)

        await links(wide, "eu", "ap", enabled=False)
        for region in REGIONS:
            await author.at[region].post(f"cut, at {region}")
        assert (await author.at["eu"].http.delete(f"/v1/posts/{deleted}")).is_success
        assert (await follower.at["eu"].http.delete(f"/v1/follows/{UNFOLLOWED}")).is_success
        assert (await follower.at["eu"].http.put(f"/v1/blocks/{BLOCKED}")).is_success
        await until(lambda: follower.sees("us", {f"cut, at {region}" for region in REGIONS}), "us hears both")
        for here, there in (("eu", "ap"), ("ap", "eu")):
            await until(lambda here=here: follower.sees(here, {f"cut, at {here}", "cut, at us"}), f"{here} serves")
            assert not await follower.sees(here, {f"cut, at {there}"})
        for region in ("eu", "us"):
            await until(lambda region=region: follower.sees_none(region, gone), f"{region} knows what was taken back")
            await until(lambda region=region: blocked.sees_none(region, hidden), f"{region} knows of the block")
        assert await follower.sees("ap", gone), "ap is cut off from what was taken back in eu"
        assert await blocked.sees("ap", hidden)

        await links(wide, "eu", "ap", enabled=True)
        every = {"before"} | {f"cut, at {region}" for region in REGIONS}
        for region in REGIONS:
            await until(lambda region=region: follower.sees(region, every), f"{region} has all")
            await until(lambda region=region: follower.sees_none(region, gone), f"{region} has nothing taken back")
            await until(lambda region=region: blocked.sees_none(region, hidden), f"{region} has the block")
        await assert_same_everywhere(follower, every | hidden, (0, 1))
        await assert_same_everywhere(blocked, {"of a blocked one"}, (0, 0))


async def assert_same_everywhere(reader: Reader, texts: set[str], counts: tuple[int, int]) -> None:
    """All regions come to show one feed, of these texts, and count the same edges: followers, following."""

    async def agree() -> bool:
        feeds = [await reader.at[region].texts() for region in REGIONS]
        told = [(await reader.at[region].http.get("/v1/users/me")).json() for region in REGIONS]
        same = feeds[0] == feeds[1] == feeds[2] and set(feeds[0]) == texts
        return same and all((me["followers"], me["following"]) == counts for me in told)

    await until(agree, "all regions agree")


@asynccontextmanager
async def dead(stack: StackProcess, handles: list[str]) -> AsyncIterator[None]:
    """All these parts are killed at once and held down; afterwards each is there again and serves."""
    known = stack.endpoints["handles"]
    leaders = {handle: stack.pid(handle) for handle in handles}
    assert all(leaders.values()), leaders
    try:
        for handle in handles:
            Path(known[handle]["hold_file"]).touch()
        for leader in leaders.values():
            os.killpg(leader, signal.SIGKILL)
        await until_true(lambda: not any(map(stack.pid, handles)), "all have ended")
        yield
    finally:
        for handle in handles:
            Path(known[handle]["hold_file"]).unlink(missing_ok=True)
    for handle, leader in leaders.items():
        await until_true(lambda h=handle, old=leader: stack.pid(h) not in (0, old), f"{handle} is there again")
        await until(lambda h=handle: is_ready(known[h]["ready"]), f"{handle} serves")


async def served(urls: list[str], metric: str) -> list[float]:
    """The metric's sum at each of these servers."""
    async with httpx.AsyncClient(trust_env=False, timeout=10) as client:
        texts = [(await client.get(url)).text for url in urls]
    lines = [[line for line in text.splitlines() if line.partition("{")[0].split()[0:1] == [metric]] for text in texts]
    return [sum(float(line.rpartition(" ")[2]) for line in found) for found in lines]


async def test_users_of_a_dead_region_are_served_by_the_next(wide: StackProcess) -> None:
    """All of eu ends except its edge, then that too."""
    us = wide.endpoints["regions"]["us"]["metrics"]
    apis, feps = ([us[f"{kind}-{k}"] for k in (0, 1)] for kind in ("api", "fep"))
    members = [handle for handle in wide.endpoints["handles"] if handle.startswith("eu.")]
    assert {handle.split(".")[1].rstrip("-0123456789") for handle in members} == EVERY_KIND
    author_id = AUTHOR + 10
    async with AsyncExitStack() as undo:
        author, *followers = [
            await undo.enter_async_context(everywhere(wide, user)) for user in range(author_id, author_id + 9)
        ]
        for follower in followers:
            assert (await follower.at["eu"].http.put(f"/v1/follows/{author_id}")).is_success
        await author.at["eu"].post("while eu lived")
        for reader in (author, *followers):
            for region in REGIONS:
                await until(lambda r=reader, at=region: r.sees(at, {"while eu lived"}), f"known in {region}")
        own = httpx.AsyncClient(base_url=wide.endpoints["regions"]["eu"]["api"], headers=author.at["eu"].http.headers)
        await undo.enter_async_context(own)
        acknowledged = {"while eu lived"}
        for number in range(5):  # perhaps none of them has left the region yet
            text = f"just before {number}"
            assert (await own.post("/v1/posts", json={"text": text})).status_code == 201
            acknowledged.add(text)

        written, read = await served(apis, "api_posts_total"), await served(apis, "api_feed_read_seconds_count")
        async with dead(wide, [handle for handle in members if handle != "eu.edge"]):
            async with AsyncExitStack() as streams:
                opened = [await streams.enter_async_context(one.at["eu"].listening()) for one in followers]
                assert await served(feps, "feed_streams_open") == [4, 4]
                post_id = await author.at["eu"].post("eu is down")
                for events in opened:
                    await events.until_post(post_id)  # those from just before may come from eu meanwhile
                    assert events.last_id.startswith("us.")
            acknowledged.add("eu is down")
            for number, follower in enumerate(followers):
                await until(lambda f=follower: f.sees("eu", {"while eu lived", "eu is down"}), "read through eu's edge")
                await follower.at["eu"].post(f"follower {number}")
            for before, metric in ((written, "api_posts_total"), (read, "api_feed_read_seconds_count")):
                await until_more(apis, metric, before)

            async with dead(wide, ["eu.edge"]):
                with pytest.raises(httpx.TransportError):
                    await followers[0].at["eu"].texts()
                reader = followers[0].at["us"]
                async with reader.listening() as events:
                    await events.until_post(await author.at["us"].post("eu's edge is down, too"))
                acknowledged.add("eu's edge is down, too")
                assert {"eu is down", "eu's edge is down, too"} <= set(await reader.texts())
        await assert_agreed(wide, followers, acknowledged)


async def until_true(condition: Callable[[], bool], what: str) -> None:
    async def asked() -> bool:
        return condition()

    await until(asked, what)


async def until_more(urls: list[str], metric: str, before: list[float]) -> None:
    """Each of these servers has served more (what they tell is a second old at most)."""

    async def all_more() -> bool:
        return all(now > then for now, then in zip(await served(urls, metric), before, strict=True))

    await until(all_more, f"{metric} has grown at each of {urls}")


async def assert_agreed(stack: StackProcess, readers: list[Reader], acknowledged: set[str]) -> None:
    """Every region's own apis come to show these readers all that was acknowledged, once each, in the same order."""
    async with httpx.AsyncClient(trust_env=False, timeout=10) as client:
        for reader in readers:

            async def feeds(one: Reader = reader) -> list[list[str]]:
                urls = [url for region in stack.endpoints["regions"].values() for url in region["apis"]]
                headers = {"Authorization": one.at["eu"].http.headers["Authorization"]}
                answers = [await client.get(f"{url}/v1/feed", headers=headers) for url in urls]
                return [[post["text"] for post in answer.json().get("items", [])] for answer in answers]

            async def agreed(feeds: Callable[[], Awaitable[list[list[str]]]] = feeds) -> bool:
                found = await feeds()
                return all(acknowledged <= set(feed) and feed == found[0] for feed in found)

            await until(agreed, "all regions agree", 60)
            assert all(len(feed) == len(set(feed)) for feed in await feeds())


def followers_of_one(folder: Path, users: int) -> Path:
    """A population in which everybody else is to follow the author, and nobody has joined."""
    folder.mkdir()
    counts = [0 if user == AUTHOR else 1 for user in range(users)]
    np.save(folder / "offsets.npy", np.cumsum([0, *counts], dtype=np.int64))
    np.save(folder / "followees.npy", np.full(users - 1, AUTHOR, np.uint32))
    np.save(folder / "hot.npy", np.ones(users - 1, np.uint8))
    facts: dict[str, Any] = {"version": 1, "users": users, "seed": 1, "history": 0, "joined": "none"}
    facts |= {"mean_follows": 1.0, "celebrities": [], "celebrity_threshold": users}
    (folder / "population.json").write_bytes(msgspec.json.encode(facts))
    return folder


async def test_the_preset_x_early_as_a_whole(tmp_path: Path, start_stack: Callable[..., StackProcess]) -> None:
    """One region, a small cache, imports while the user waits, nothing written at posting, no throttle."""
    people = followers_of_one(tmp_path / "people", 20)
    stack = start_stack("--preset", "x-early", "--population", str(people)).await_ready()
    assert list(stack.endpoints["regions"]) == ["us-east"]
    assert not [name for name in stack.endpoints["handles"] if not name.startswith("us-east.")]
    told = stack.endpoints["regions"]["us-east"]
    fanout = told["metrics"]["fanout-0"]
    assert await memcached_limit_bytes(stack.settings.regions[0].memcached_ports[0]) == 16 << 20
    async with AsyncExitStack() as undo:
        readers = []
        for user in (AUTHOR, *range(AUTHOR + 1, AUTHOR + 11)):
            client = await undo.enter_async_context(client_of(stack, told["edge"]))
            answer = await client.http.post("/v1/users", json={"identity": str(user)})
            follows = 0 if user == AUTHOR else 1
            assert answer.json()["import"] == {"state": "done", "done": follows, "total": follows}
            client.http.headers["Authorization"] = f"Bearer {answer.json()['token']}"
            readers.append(client)
        author, listener, *away = readers
        async with listener.listening() as events:
            post_id = await author.post("hello")
            assert await events.until_posts(1) == [post_id]
        await until_more([fanout], "feed_fanout_deferred_entries_total", [len(away) - 1])
        assert await served([fanout], "feed_fanout_entries_total") == [1], "the listener's alone"
        assert await served([fanout], "feed_fanout_owed_entries_total") == [0]
        for client in away:
            assert await client.texts() == ["hello"]
        await until_more([fanout], "feed_fanout_owed_entries_total", [len(away) - 1])
        assert await served([fanout], "feed_fanout_entries_total") == [1]

        await set_flag(stack, "user_reads_per_s", 1)
        assert {(await author.http.get("/v1/feed")).status_code for _ in range(40)} == {200}
        await set_flag(stack, "auto_throttle", True)

        async def throttled() -> bool:
            return (await author.http.get("/v1/feed")).status_code == 429

        await until(throttled, "a throttle that is switched on throttles")


async def memcached_limit_bytes(port: int) -> int:
    """The memory a cache node may use, as it says itself."""
    async with asyncio.timeout(5):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"stats\r\n")
        lines = (await reader.readuntil(b"END\r\n")).decode().splitlines()
        writer.close()
    return int(next(line for line in lines if line.startswith("STAT limit_maxbytes ")).split()[2])


async def set_flag(stack: StackProcess, name: str, value: bool | int) -> None:
    """Through the stack's operator; it is in force when this returns."""
    token = Path(stack.endpoints["operator_token_file"]).read_text().strip()
    url = f"{stack.endpoints['regions']['us-east']['api']}/v1/operator/flags"
    async with httpx.AsyncClient(trust_env=False, headers={"Authorization": f"Bearer {token}"}, timeout=10) as client:
        (await client.put(f"{url}/{name}", json={"value": value})).raise_for_status()

        async def in_force() -> bool:
            found = (await client.get(url)).json()["flags"]
            return {flag["name"]: flag["value"] for flag in found}[name] == value

        await until(in_force, f"{name} is {value}")
