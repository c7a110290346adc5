"""Any single process may be killed at any moment: nothing acknowledged is lost, nothing shows twice, all is back soon.

Twenty SIGKILLs in seeded random order, of every process of two regions, while authors post, followers read, and
listeners hold streams at feps and at edges.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
import ssl
import time
import uuid
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import msgspec
import numpy as np
import pytest
from kept_streams import Listener
from stack_process import StackProcess

from reference_server.security import make_token
from reference_server.supervisor.readiness import is_ready

USERS, FOLLOWS, SEED = 300, 15, 20
KILLS = int(os.environ.get("FEEDSTORM_KILLS", "20"))
EVERY_KIND = {"api", "fep", "fanout", "graph", "jobs", "replicator", "memcached", "redis-queue", "redis-cache", "edge"}
POSTS_PER_S = 25
BACK_WITHIN_S = 10.0
SETTLED_WITHIN_S = 30.0
LISTENERS = range(0, 6)
PAUSE_S = 1.0
"""between one recovery and the next kill"""


def population(folder: Path) -> Path:
    """A small random graph; everybody has joined."""
    drawn = np.random.default_rng(SEED)
    rows = [np.sort(drawn.choice([v for v in range(USERS) if v != u], FOLLOWS, replace=False)) for u in range(USERS)]
    folder.mkdir()
    np.save(folder / "offsets.npy", np.arange(0, USERS * FOLLOWS + 1, FOLLOWS, dtype=np.int64))
    np.save(folder / "followees.npy", np.concatenate(rows).astype(np.uint32))
    np.save(folder / "hot.npy", (drawn.random(USERS * FOLLOWS) < 0.3).astype(np.uint8))
    facts: dict[str, Any] = {"version": 1, "users": USERS, "seed": SEED, "history": 20, "joined": "all"}
    facts |= {"mean_follows": FOLLOWS, "celebrities": [], "celebrity_threshold": 24}
    (folder / "population.json").write_bytes(msgspec.json.encode(facts))
    return folder


class Clients:
    """Authors and readers of the whole stack, and what they saw."""

    def __init__(self, stack: StackProcess, followees: np.ndarray[Any, Any]) -> None:
        secret = bytes.fromhex(stack.settings.secret)
        self.apis = {name: region["api"] for name, region in stack.endpoints["regions"].items()}
        self.headers = [{"Authorization": f"Bearer {make_token(secret, user)[0]}"} for user in range(USERS)]
        self.followees = followees.reshape(USERS, FOLLOWS)
        self.http = httpx.AsyncClient(timeout=5, limits=httpx.Limits(max_connections=64))
        self.random = random.Random(SEED)
        self.acknowledged: dict[int, set[str]] = defaultdict(set)
        self.repeated: list[str] = []
        self.stopping = False

    async def post(self, author: int, region: str) -> str | None:
        """The id once it is acknowledged; None when the api refused or nothing was heard."""
        key = {"Idempotency-Key": uuid.UUID(int=self.random.getrandbits(128)).hex}
        for _ in range(3):
            try:
                url, headers = f"{self.apis[region]}/v1/posts", self.headers[author] | key
                answer = await self.http.post(url, json={"text": "still here"}, headers=headers)
            except httpx.HTTPError:
                await asyncio.sleep(0.1)
                continue
            if answer.status_code in (200, 201):
                post_id = str(answer.json()["post"]["id"])
                self.acknowledged[author].add(post_id)
                return post_id
            await asyncio.sleep(0.1)
        return None

    async def page(self, user: int, region: str, cursor: str | None = None) -> dict[str, Any] | None:
        """One page; None when there was none to be had."""
        query = {"cursor": cursor} if cursor else {}
        try:
            answer = await self.http.get(f"{self.apis[region]}/v1/feed", params=query, headers=self.headers[user])
        except httpx.HTTPError:
            return None
        if answer.status_code != 200:
            return None
        found: dict[str, Any] = answer.json() | {"degraded": "feed-degraded" in answer.headers}
        ids = [item["id"] for item in found["items"]]
        if len(set(ids)) != len(ids):
            self.repeated.append(f"user {user} in {region}")
        return found

    async def walk(self, user: int, region: str) -> list[str] | None:
        """All ids of the feed, page by page; None when it cannot be read, or not all of it."""
        ids: list[str] = []
        cursor: str | None = None
        while True:
            page = await self.page(user, region, cursor)
            if page is None or page["degraded"]:
                return None
            ids += [item["id"] for item in page["items"]]
            cursor = page["next_cursor"]
            if cursor is None:
                return ids

    async def work(self) -> None:
        """Post and read until told to stop."""
        regions, under_way = list(self.apis), set[asyncio.Task[Any]]()
        while not self.stopping:
            author, reader = self.random.randrange(USERS), self.random.randrange(USERS)
            under_way |= {
                asyncio.ensure_future(self.post(author, self.random.choice(regions))),
                asyncio.ensure_future(self.page(reader, self.random.choice(regions))),
            }
            under_way = {task for task in under_way if not task.done()}
            await asyncio.sleep(1 / POSTS_PER_S)
        await asyncio.gather(*under_way)

    def due(self, user: int) -> set[str]:
        """The acknowledged posts of those the user follows."""
        return set[str]().union(*(self.acknowledged[int(author)] for author in self.followees[user]))

    async def missing(self, region: str) -> list[str]:
        """Acknowledged posts that a follower does not see, and feeds that show something twice."""
        found = []
        for user in range(USERS):
            ids = await self.walk(user, region)
            if ids is None:
                found.append(f"user {user} cannot read in {region}")
                continue
            found += [f"user {user} in {region}: {post}" for post in self.due(user).difference(ids)]
            if len(set(ids)) != len(ids):
                found.append(f"user {user} in {region}: something twice")
        return found


def kind_of(handle: str) -> str:
    return handle.partition(".")[2].rstrip("-0123456789")


def drawn(handles: Sequence[str], kills: int, draws: random.Random) -> list[str]:
    """Each handle once, cut or extended to so many; when it is cut, one of each kind is left, in some region."""
    shuffled = draws.sample(handles, len(handles))
    first = {kind_of(handle): handle for handle in reversed(shuffled)}
    order = sorted(shuffled, key=lambda handle: first[kind_of(handle)] != handle)
    while len(order) < kills:
        order += draws.sample(handles, len(handles))
    return draws.sample(order[:kills], kills)


@asynccontextmanager
async def listening(stack: StackProcess, clients: Clients) -> AsyncIterator[list[Listener]]:
    """Streams in both regions, at feps and at edges by turns; open before, and kept until the end."""
    trusted = ssl.create_default_context(cafile=stack.endpoints["ca_file"])
    urls = [region[kind] for region in stack.endpoints["regions"].values() for kind in ("stream", "edge")]
    listeners = [
        Listener(user, urls[user % len(urls)], clients.headers[user], trusted, clients.walk) for user in LISTENERS
    ]
    tasks = [asyncio.ensure_future(listener.listen()) for listener in listeners]
    try:
        async with asyncio.timeout(SETTLED_WITHIN_S):
            for listener in listeners:
                await listener.connected.wait()
        yield listeners
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)


@pytest.mark.slow
@pytest.mark.stack
@pytest.mark.timeout(400)
async def test_twenty_kills_lose_nothing(tmp_path: Path, start_stack: Callable[..., StackProcess]) -> None:
    folder = population(tmp_path / "population")
    stack = await asyncio.to_thread(lambda: start_stack("--population", str(folder)).await_ready())
    clients = Clients(stack, np.load(folder / "followees.npy"))
    handles = [name for name, handle in sorted(stack.endpoints["handles"].items()) if handle["backend"] == "process"]
    order = drawn(handles, KILLS, random.Random(SEED))
    assert {kind_of(handle) for handle in handles} == EVERY_KIND
    assert len(order) == KILLS
    assert len(set(order)) == min(KILLS, len(handles)), "each process is killed, once before any twice"
    assert len({kind_of(handle) for handle in order}) == min(KILLS, len(EVERY_KIND))
    async with listening(stack, clients) as listeners:
        working = asyncio.ensure_future(clients.work())
        recoveries = [(handle, await killed(stack, clients, handle)) for handle in order]
        clients.stopping = True
        await working
        for region in clients.apis:
            await settled(clients, region)
        await announced(clients, listeners)
    await clients.http.aclose()
    assert not clients.repeated
    assert [(handle, seconds) for handle, seconds in recoveries if seconds > BACK_WITHIN_S] == []
    assert sum(len(posts) for posts in clients.acknowledged.values()) > KILLS * POSTS_PER_S / 2


async def killed(stack: StackProcess, clients: Clients, handle: str) -> float:
    """Kill a part; seconds until it serves again and a new post gets through, in its region, to a follower's feed."""
    await asyncio.sleep(PAUSE_S)
    before, started = stack.pid(handle), time.monotonic()
    assert before, f"{handle} is down"
    os.killpg(before, signal.SIGKILL)
    region = handle.partition(".")[0]
    probe = stack.endpoints["handles"][handle]["ready"].replace("tcp://", "redis://" if "redis" in handle else "tcp://")
    reader, author = 0, int(clients.followees[0][0])
    post_id: str | None = None
    while True:
        if stack.pid(handle) not in (0, before) and await is_ready(probe):
            post_id = post_id or await clients.post(author, region)
            page = await clients.page(reader, region)
            if page and post_id in [item["id"] for item in page["items"]]:
                return time.monotonic() - started
        assert time.monotonic() - started < 4 * BACK_WITHIN_S, f"{handle} does not come back"
        await asyncio.sleep(0.05)


async def settled(clients: Clients, region: str) -> None:
    """Return when nothing is missing in a region (the last posts may still be on their way)."""
    deadline = time.monotonic() + SETTLED_WITHIN_S
    while found := await clients.missing(region):
        assert time.monotonic() < deadline, f"{len(found)} lost or doubled: {found[:5]}"


async def announced(clients: Clients, listeners: Sequence[Listener]) -> None:
    """Each listener has had an event for each post, or a resync and then a read that shows it; none came twice."""
    async with asyncio.timeout(SETTLED_WITHIN_S):
        for listener in listeners:
            await listener.caught_up()
    deadline = time.monotonic() + SETTLED_WITHIN_S
    while lost := {one.user: found for one in listeners if (found := one.lacks(clients.due(one.user)))}:
        assert time.monotonic() < deadline, f"neither announced nor read after a resync: {lost}"
        await asyncio.sleep(0.05)
    assert [post for listener in listeners for post in listener.twice] == []
    assert all(clients.due(listener.user) & listener.announced for listener in listeners)
    assert all(listener.connections > 1 for listener in listeners), "every stream has been cut at least once"
