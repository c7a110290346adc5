"""A region dies, all of it but its edge: how long until its users are served by the next one, and is anything lost?

A whole stack of two regions. Authors post and readers read through the edge of their own region all the time, on fixed
schedules; a request that fails is not sent again. Then every part of that region but its edge is killed at once and
held down. The value is the time from the kill until the first of SERVED requests in a row that were all answered. Then
the parts may come back, and every region's own api has to come to show every reader all that was acknowledged, before
and meanwhile, in one order.
"""

from __future__ import annotations

import asyncio
import os
import signal
import ssl
import sys
import time
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import uvloop

from benchmarks._lane import machine, printed
from benchmarks._stack import RunningStack, running_stack
from reference_server.supervisor.endpoints import ProcessHandle
from reference_server.supervisor.layout import read_pid_file
from reference_server.supervisor.readiness import is_ready

TARGET_S = 10.0
"""the recovery that scenarios ask for"""
DEAD, NEXT = "us-east", "ap-tokyo"
AUTHORS, READERS = range(4), range(4, 16)
POSTS_PER_S, READS_PER_S = 10, 40
BEFORE_S, DOWN_LIMIT_S, AGREE_LIMIT_S, REQUEST_LIMIT_S = 4.0, 30.0, 90.0, 2.0
SERVED = 150
"""requests answered in a row: 3 s, longer than any may take"""
PAGE = 100


@dataclass
class Clients:
    """Users of the region that dies, through its edge, and what became of their requests."""

    edge: httpx.AsyncClient
    tokens: dict[int, str] = field(default_factory=dict)
    acknowledged: set[str] = field(default_factory=set)
    failed: int = 0
    row: int = 0
    """answered one after the other, since the last that was not"""
    row_began_s: float = 0.0

    async def ask(self, method: str, path: str, user: int, **options: Any) -> httpx.Response:
        """One request of a user."""
        headers = {"Authorization": f"Bearer {self.tokens[user]}"}
        return await self.edge.request(method, path, headers=headers, **options)

    async def post(self, number: int) -> None:
        """One post; acknowledged or not."""
        answer = await self._counted("POST", "/v1/posts", AUTHORS[number % len(AUTHORS)], json={"text": f"{number}"})
        if answer is not None and answer.status_code == 201:
            self.acknowledged.add(answer.json()["post"]["id"])

    async def read(self, number: int) -> None:
        """One first page."""
        await self._counted("GET", "/v1/feed", READERS[number % len(READERS)])

    async def _counted(self, method: str, path: str, user: int, **options: Any) -> httpx.Response | None:
        sent_s = time.monotonic()
        try:
            answer = await self.ask(method, path, user, **options)
        except httpx.HTTPError:
            answer = None
        if answer is None or not answer.is_success:
            self.failed, self.row = self.failed + 1, 0
            return None
        if not self.row:
            self.row_began_s = sent_s
        self.row += 1
        return answer


async def steadily(per_s: float, act: Callable[[int], Coroutine[Any, Any, None]]) -> None:
    """One after the other, on schedule, for ever; what takes too long delays nobody."""
    started = time.monotonic()
    async with asyncio.TaskGroup() as group:
        for number in range(1 << 30):
            await asyncio.sleep(max(0.0, started + number / per_s - time.monotonic()))
            group.create_task(act(number))


async def until(condition: Callable[[], Awaitable[bool]], limit_s: float) -> bool:
    """Whether it came true in time."""
    deadline = time.monotonic() + limit_s
    while not await condition():
        if time.monotonic() > deadline:
            return False
        await asyncio.sleep(0.05)
    return True


async def join(clients: Clients, apis: dict[str, httpx.AsyncClient]) -> None:
    """All sign up at home and are known in both regions; every reader follows every author."""
    for user in (*AUTHORS, *READERS):
        answer = await clients.edge.post("/v1/users", json={"identity": str(user)})
        clients.tokens[user] = answer.raise_for_status().json()["token"]
    for reader in READERS:
        for author in AUTHORS:
            (await clients.ask("PUT", f"/v1/follows/{author}", reader)).raise_for_status()

    async def is_known() -> bool:
        headers = [{"Authorization": f"Bearer {token}"} for token in clients.tokens.values()]
        answers = [await apis[NEXT].get("/v1/users/me", headers=one) for one in headers]
        return all(answer.is_success and answer.json()["following"] in (0, len(AUTHORS)) for answer in answers)

    if not await until(is_known, AGREE_LIMIT_S):
        raise RuntimeError(f"{NEXT} does not know the users of {DEAD}")


def parts_of(stack: RunningStack) -> list[ProcessHandle]:
    """All parts of the region that dies, but its edge."""
    handles = stack.endpoints.handles.items()
    return [h for name, h in handles if isinstance(h, ProcessHandle) and h.region == DEAD and name != f"{DEAD}.edge"]


def kill(parts: list[ProcessHandle]) -> None:
    """All at once; they stay down until `revive`."""
    for part in parts:
        Path(part.hold_file).touch()
    for part in parts:
        leader = read_pid_file(Path(part.pid_file))
        assert leader is not None
        os.killpg(leader[0], signal.SIGKILL)


def revive(parts: list[ProcessHandle]) -> None:
    for part in parts:
        Path(part.hold_file).unlink(missing_ok=True)


async def feed(api: httpx.AsyncClient, token: str) -> list[str]:
    """Ids of a whole feed, top first; empty when a page is refused or marked."""
    found: list[str] = []
    cursor = None
    while True:
        options = {"limit": str(PAGE)} | ({"cursor": cursor} if cursor else {})
        try:
            answer = await api.get("/v1/feed", params=options, headers={"Authorization": f"Bearer {token}"})
        except httpx.HTTPError:
            return []
        if not answer.is_success or "feed-degraded" in answer.headers:
            return []
        page = answer.json()
        found += [item["id"] for item in page["items"]]
        cursor = page["next_cursor"]
        if cursor is None:
            return found


async def missing_at_last(clients: Clients, apis: dict[str, httpx.AsyncClient]) -> tuple[int, bool]:
    """(most acknowledged posts that a reader lacks in a region, whether all feeds agree), as it is at last."""
    worst, agreed = len(clients.acknowledged), False

    async def settled() -> bool:
        nonlocal worst, agreed
        feeds = [[await feed(api, clients.tokens[reader]) for api in apis.values()] for reader in READERS]
        worst = max(len(clients.acknowledged - set(one)) for several in feeds for one in several)
        agreed = all(one == several[0] for several in feeds for one in several)
        return not worst and agreed

    await until(settled, AGREE_LIMIT_S)
    return worst, agreed


@dataclass
class Outage:
    """What the users of the dead region saw of it."""

    window_s: float
    failed: int
    before: int
    """posts acknowledged before"""
    meanwhile: int


async def served(clients: Clients) -> bool:
    return clients.row >= SERVED


async def outage(clients: Clients, parts: list[ProcessHandle]) -> Outage:
    """Load, the kill, and load until the next region serves; the parts may come back afterwards."""
    load = [
        asyncio.ensure_future(steadily(rate, act))
        for rate, act in ((POSTS_PER_S, clients.post), (READS_PER_S, clients.read))
    ]
    await asyncio.sleep(BEFORE_S)
    before, clients.failed, clients.row = len(clients.acknowledged), 0, 0
    killed_s = time.monotonic()
    kill(parts)
    try:
        is_served = await until(lambda: served(clients), DOWN_LIMIT_S)
    finally:
        revive(parts)
    window_s = (clients.row_began_s if is_served else time.monotonic()) - killed_s
    found = Outage(max(0.0, window_s), clients.failed, before, len(clients.acknowledged) - before)
    for task in load:
        task.cancel()
    await asyncio.wait(load)
    return found


async def measure(stack: RunningStack) -> dict[str, Any]:
    """One run."""
    regions, trusted = stack.endpoints.regions, ssl.create_default_context(cafile=stack.endpoints.ca_file)
    parts = parts_of(stack)
    async with AsyncExitStack() as undo:
        edge = httpx.AsyncClient(
            base_url=regions[DEAD].edge, verify=trusted, http2=True, trust_env=False, timeout=REQUEST_LIMIT_S
        )
        clients = Clients(await undo.enter_async_context(edge))
        apis = {
            name: httpx.AsyncClient(base_url=regions[name].api, trust_env=False, timeout=10.0) for name in (DEAD, NEXT)
        }
        for api in apis.values():
            await undo.enter_async_context(api)
        await join(clients, apis)
        found = await outage(clients, parts)
        back = [await until(partial(is_ready, part.ready), AGREE_LIMIT_S) for part in parts]
        missing, agreed = await missing_at_last(clients, apis)
    return result(found, missing, agreed, f"{sum(back)} of {len(parts)} parts back")


def result(found: Outage, missing: int, agreed: bool, back: str) -> dict[str, Any]:
    """The JSON line."""
    told = (
        f"{found.failed} requests failed; {found.before} posts before, {found.meanwhile} acknowledged meanwhile; {back}"
    )
    return {
        "benchmark": "a region dies: s until its users are served by the next one",
        "value": round(found.window_s, 2),
        "target": f"<= {TARGET_S:g}, no post lost, all regions agree afterwards",
        "ok": found.window_s <= TARGET_S and not missing and agreed and found.meanwhile > 0,
        "details": f"{told}; {missing} acknowledged posts missing, feeds {'agree' if agreed else 'differ'}",
        "figures": {"missing": missing, "disagree": int(not agreed), "meanwhile": found.meanwhile},
        "machine": machine(),
    }


def main() -> int:
    """Print one JSON line."""
    with running_stack("--regions", f"{DEAD},{NEXT}", "--users", "50") as stack:
        found = uvloop.run(measure(stack))
    return printed(found)


if __name__ == "__main__":
    sys.exit(main())
