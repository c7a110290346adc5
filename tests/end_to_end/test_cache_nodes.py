"""One of three memcached nodes dies under load: every read is answered, nothing is lost, the hit ratio recovers."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from prometheus_client.parser import text_string_to_metric_families
from stack_process import StackProcess
from test_kills import POSTS_PER_S, USERS, Clients, population, settled

pytestmark = [pytest.mark.slow, pytest.mark.stack]
REGION, LOST = "us-east", "us-east.memcached-1"
DOWN = 3.0
"""`feed_cache_node_state` of a node that is gone"""
READS = 200
"""over so many a hit ratio is taken"""
LIMIT_S = 30.0


class Readers(Clients):
    """Clients who note how each read was answered."""

    def __init__(self, stack: StackProcess, followees: np.ndarray[Any, Any]) -> None:
        super().__init__(stack, followees)
        self.metrics = stack.endpoints["regions"][REGION]["metrics"]
        self.answers: Counter[str] = Counter()

    async def work(self) -> None:
        """Post, and read four times as much, until told to stop."""
        await asyncio.gather(super().work(), *(self._read() for _ in range(3)))

    async def _read(self) -> None:
        while not self.stopping:
            await self.page(self.random.randrange(USERS), REGION)
            await asyncio.sleep(1 / POSTS_PER_S)

    async def page(self, user: int, region: str, cursor: str | None = None) -> dict[str, Any] | None:
        """One page."""
        query = {"cursor": cursor} if cursor else {}
        try:
            answer = await self.http.get(f"{self.apis[region]}/v1/feed", params=query, headers=self.headers[user])
        except httpx.HTTPError as error:
            self.answers[repr(error)] += 1
            return None
        self.answers[str(answer.status_code)] += 1
        found: dict[str, Any] = answer.json() | {"degraded": "feed-degraded" in answer.headers}
        ids = [item["id"] for item in found.get("items", [])]
        if len(set(ids)) != len(ids):
            self.repeated.append(f"user {user} in {region}")
        return found

    async def measured(self, part: str, name: str, label: str) -> dict[str, float]:
        """A metric's values by one of its labels, highest first where there are several."""
        text = (await self.http.get(self.metrics[part])).text
        found: dict[str, float] = {}
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                if sample.name == name:
                    key = sample.labels[label]
                    found[key] = max(sample.value, found.get(key, sample.value))
        return found

    async def hit_ratio(self) -> float:
        """Share of the next READS pages whose timeline comes from the cache."""
        before = Counter(await self.measured("api-0", "api_feed_reads_total", "source"))
        while True:
            now = Counter(await self.measured("api-0", "api_feed_reads_total", "source"))
            if (now - before).total() >= READS:
                return (now - before)["cache"] / (now - before).total()
            await asyncio.sleep(0.1)

    async def node_states(self) -> dict[str, float]:
        """Node -> its worst state in any lane."""
        return await self.measured("fanout-0", "feed_cache_node_state", "node")


async def reached(condition: Callable[[], Awaitable[bool]], what: str) -> None:
    deadline = time.monotonic() + LIMIT_S
    while not await condition():
        assert time.monotonic() < deadline, f"not within {LIMIT_S:g} s: {what}"
        await asyncio.sleep(0.1)


async def stopped(clients: Readers, working: asyncio.Future[None]) -> None:
    """End the load; nothing that was acknowledged is missing."""
    clients.stopping = True
    await working
    await settled(clients, REGION)
    clients.stopping = False


@pytest.mark.timeout(240)
async def test_a_lost_cache_node_costs_no_read_and_no_post(
    tmp_path: Path, start_stack: Callable[..., StackProcess]
) -> None:
    folder = population(tmp_path / "population")
    options = ("--population", str(folder), "--memcacheds", "3", "--regions", REGION)
    stack = await asyncio.to_thread(lambda: start_stack(*options).await_ready())
    clients = Readers(stack, np.load(folder / "followees.npy"))
    for user in range(USERS):
        await clients.page(user, REGION)
    working = asyncio.ensure_future(clients.work())

    async def warm() -> bool:
        return await clients.hit_ratio() > 0.95

    await reached(warm, "the cache is warm")
    stack.stack.hold_file(LOST).touch()
    await asyncio.to_thread(stack.kill, LOST)

    async def one_is_down() -> bool:
        return await clients.node_states() == {"0": 1.0, "1": DOWN, "2": 1.0}

    await reached(one_is_down, "the owners know")
    while_down = await clients.hit_ratio()
    assert 0.5 < while_down < 0.85, "the others' timelines are where they were"
    await stopped(clients, working)
    working = asyncio.ensure_future(clients.work())
    stack.stack.hold_file(LOST).unlink()

    async def all_are_up() -> bool:
        return set((await clients.node_states()).values()) == {1.0}

    await reached(all_are_up, "the node is back")
    await reached(warm, "the hit ratio recovers")
    await stopped(clients, working)
    seen = await clients.measured("jobs", "feed_memcached_up", "node")
    await clients.http.aclose()
    assert set(clients.answers) == {"200"}, clients.answers
    assert not clients.repeated
    assert set(seen) == {"0", "1", "2"}
    assert sum(len(posts) for posts in clients.acknowledged.values()) > 100
