"""A celebrity joins late: thousands of pending follows of him fire at once, and nobody's sign-up waits for that."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import msgspec
import numpy as np
import pytest
from real_servers import wait_until
from stack_process import StackProcess

from reference_server.events import GraphEvent
from reference_server.queue import Queue

USERS = 20_000
CELEBRITY = 0
PENDING = 6_000
"""users who have joined before, each with a follow of the celebrity"""
AT_ONCE = 500
SAMPLES = 300
"""sign-ups timed in quiet: three of them may be slower than the p99"""


def population(folder: Path) -> Path:
    """Everybody follows the celebrity and two neighbours; nobody has joined."""
    rows = [sorted({CELEBRITY, u % (USERS - 1) + 1, (u + 7) % (USERS - 1) + 1} - {u}) for u in range(USERS)]
    rows[CELEBRITY] = [1]
    offsets = np.concatenate([[0], np.cumsum([len(row) for row in rows])]).astype(np.int64)
    followees = np.array([f for row in rows for f in row], np.uint32)
    folder.mkdir()
    np.save(folder / "offsets.npy", offsets)
    np.save(folder / "followees.npy", followees)
    np.save(folder / "hot.npy", np.ones(len(followees), np.uint8))
    facts: dict[str, Any] = {"version": 1, "users": USERS, "seed": 1, "history": 0, "joined": "none"}
    facts |= {"mean_follows": 3.0, "celebrities": [CELEBRITY], "celebrity_threshold": USERS // 10}
    (folder / "population.json").write_bytes(msgspec.json.encode(facts))
    return folder


@pytest.fixture
def stack(tmp_path: Path, start_stack: Callable[..., StackProcess]) -> StackProcess:
    return start_stack("--population", str(population(tmp_path / "p")), "--regions", "us-east").await_ready()


@pytest.fixture
def client(stack: StackProcess) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=stack.endpoints["regions"]["us-east"]["api"], timeout=10) as opened:
        yield opened


async def join(stack: StackProcess, users: range) -> None:
    """What the api writes when they sign up, many at once."""
    queue = Queue.of(stack.settings, stack.settings.region("us-east"))
    for start in range(users.start, users.stop, AT_ONCE):
        some = range(start, min(start + AT_ONCE, users.stop))
        clock = time.time_ns() // 1000 << 8
        await asyncio.gather(*[queue.append_graph(GraphEvent("join", user, clock, "us-east")) for user in some])
    await queue.close()


def sign_up(client: httpx.Client, user: int) -> tuple[str, float]:
    started = time.perf_counter()
    answer = client.post("/v1/users", json={"identity": str(user)})
    taken = time.perf_counter() - started
    assert answer.status_code in (200, 201), answer.text
    return answer.json()["token"], taken


class SignUps(threading.Thread):
    """Signs users up one after the other, until told to stop."""

    def __init__(self, client: httpx.Client, first: int) -> None:
        super().__init__()
        self.client, self.next, self.ended = client, first, threading.Event()
        self.taken_s: list[float] = []

    def run(self) -> None:
        while not self.ended.is_set() and self.next < USERS:
            self.taken_s.append(sign_up(self.client, self.next)[1])
            self.next += 1


@contextmanager
def signing_up(client: httpx.Client, first: int) -> Iterator[SignUps]:
    """Others sign up all the while."""
    others = SignUps(client, first)
    others.start()
    try:
        yield others
    finally:
        others.ended.set()
        others.join()


def me(client: httpx.Client, token: str) -> dict[str, Any]:
    found: dict[str, Any] = client.get("/v1/users/me", headers={"Authorization": f"Bearer {token}"}).json()
    return found


def imported(stack: StackProcess) -> float:
    text = httpx.get(stack.endpoints["regions"]["us-east"]["metrics"]["jobs"]).text
    (count,) = [line.split()[-1] for line in text.splitlines() if line.startswith('feed_imports_total{outcome="done"')]
    return float(count)


def p99(taken_s: list[float]) -> float:
    return float(np.quantile(taken_s, 0.99))


@pytest.mark.slow
@pytest.mark.stack
def test_pending_follows_fire_and_sign_ups_go_on(stack: StackProcess, client: httpx.Client) -> None:
    asyncio.run(join(stack, range(1, PENDING + 1)))
    wait_until(lambda: imported(stack) == PENDING, "all who joined have their follows, that of the celebrity pends", 60)
    reader, _ = sign_up(client, PENDING // 2)
    with signing_up(client, PENDING + 1) as others:
        wait_until(lambda: len(others.taken_s) >= SAMPLES, "sign-ups in quiet")
        quiet = len(others.taken_s)
        star, _ = sign_up(client, CELEBRITY)
        wait_until(lambda: me(client, star)["followers"] >= PENDING, "thousands of pending follows fired")
        posts = [
            client.post("/v1/posts", json={"text": f"late {n}"}, headers={"Authorization": f"Bearer {star}"})
            for n in range(3)
        ]
        wanted = {post.json()["post"]["id"] for post in posts}

        def seen() -> bool:
            feed = client.get("/v1/feed", headers={"Authorization": f"Bearer {reader}"}).json()
            return wanted <= {item["id"] for item in feed["items"]}

        wait_until(seen, "a follower who joined first sees the posts")
        wait_until(lambda: len(others.taken_s) >= quiet + SAMPLES, "sign-ups during the avalanche")
        joined = others.next
    before, during = others.taken_s[:quiet], others.taken_s[quiet:]
    assert p99(during) < 2 * p99(before) + 0.05
    wait_until(lambda: me(client, star)["followers"] >= joined - 1, "also those who signed up meanwhile follow him")
