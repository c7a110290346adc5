"""What the loss of a host costs: its cache, its fan-out worker and all lanes' logs gone at once, under steady posting.

A whole region takes posts all the time. Fan-out and memcached are killed, the logs deleted, both started again. Readers
walk their feeds, one after the other. A walk is complete when it has every post that was acknowledged LAG_S before it
began, fresh when its pages are not marked either. The loss window is the time from the kill until all readers' walks
are fresh: timelines stand in for nothing meanwhile, reads come from the durable store. Lost is a post that was
acknowledged and is missing from any feed at the end.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import sys
import time
from dataclasses import dataclass, field
from typing import Any

import httpx
import uvloop

from benchmarks._lane import machine, printed
from benchmarks._stack import RunningStack, running_stack
from reference_server.settings import read_settings
from reference_server.supervisor.layout import read_pid_file

TARGET_S = 10.0
"""the recovery that scenarios ask for"""
REGION = "us-east"
AUTHORS, READERS = range(10), range(10, 40)
POSTS_PER_S = 20
BEFORE_S, AFTER_S, LIMIT_S = 6.0, 1.0, 30.0
LAG_S = 1.0
"""what fan-out may take at its slowest while nothing is wrong"""
PAGE = 100


@dataclass
class Walked:
    """One reader's walk through the whole feed."""

    ended_s: float
    missing: int
    """posts acknowledged LAG_S before it began that are not in it"""
    is_marked: bool


@dataclass
class Run:
    """A region's clients, and what they saw."""

    client: httpx.AsyncClient
    tokens: dict[int, str] = field(default_factory=dict)
    acknowledged: dict[str, float] = field(default_factory=dict)
    """post -> when"""
    refused: int = 0
    walks: list[Walked] = field(default_factory=list)

    async def ask(self, method: str, path: str, user: int, **options: Any) -> httpx.Response:
        """One request of a user."""
        return await self.client.request(
            method, path, headers={"Authorization": f"Bearer {self.tokens[user]}"}, **options
        )

    async def join(self) -> None:
        """All sign up; every reader follows every author."""
        for user in (*AUTHORS, *READERS):
            answer = await self.client.post("/v1/users", json={"identity": str(user)})
            self.tokens[user] = answer.raise_for_status().json()["token"]
        for reader in READERS:
            for author in AUTHORS:
                (await self.ask("PUT", f"/v1/follows/{author}", reader)).raise_for_status()

    async def keep_posting(self) -> None:
        """At POSTS_PER_S, for ever; whatever is answered otherwise counts as refused."""
        started = time.monotonic()
        for number in range(1 << 30):
            await asyncio.sleep(max(0.0, started + number / POSTS_PER_S - time.monotonic()))
            author = AUTHORS[number % len(AUTHORS)]
            answer = await self.ask("POST", "/v1/posts", author, json={"text": f"post {number}"})
            if answer.status_code == 201:
                self.acknowledged[answer.json()["post"]["id"]] = time.monotonic()
            else:
                self.refused += 1

    async def walk(self, reader: int, lag_s: float = LAG_S) -> Walked:
        """A walk of a reader; a page that is refused is asked for again."""
        latest_s = time.monotonic() - lag_s
        wanted = {post for post, at_s in self.acknowledged.items() if at_s <= latest_s}
        found, marked, cursor = set[str](), False, None
        while True:
            options = {"limit": str(PAGE)} | ({"cursor": cursor} if cursor else {})
            answer = await self.ask("GET", "/v1/feed", reader, params=options)
            if answer.status_code != 200:
                marked = True
                await asyncio.sleep(0.05)
                continue
            marked |= "feed-degraded" in answer.headers
            page = answer.json()
            found.update(item["id"] for item in page["items"])
            cursor = page["next_cursor"]
            if cursor is None:
                return Walked(time.monotonic(), len(wanted - found), marked)

    async def walk_until_all_are_fresh(self, limit_s: float) -> float:
        """When the last of the readers' walks was fresh, each after one that may not have been. Raises TimeoutError."""
        async with asyncio.timeout(limit_s):
            for reader in READERS:
                while True:
                    walked = await self.walk(reader)
                    self.walks.append(walked)
                    if not walked.missing and not walked.is_marked:
                        break
        return time.monotonic()


def lose_host(stack: RunningStack) -> None:
    """Kill fan-out and memcached at once, delete all logs; the supervisor starts both again afterwards."""
    hold = stack.directory.hold_file(f"{REGION}.fanout")
    hold.touch()
    for part in ("fanout", "memcached"):
        leader = read_pid_file(stack.directory.pid_file(f"{REGION}.{part}"))
        assert leader is not None
        os.killpg(leader[0], signal.SIGKILL)
    for path in read_settings(stack.directory.settings).data(REGION, "lanes").iterdir():
        if path.is_dir():
            shutil.rmtree(path)
        elif path.suffix == ".written":
            path.unlink()
    hold.unlink()


async def measure(stack: RunningStack) -> dict[str, Any]:
    """One run."""
    base = stack.endpoints.regions[REGION].api
    async with httpx.AsyncClient(base_url=base, timeout=10.0) as client:
        run = Run(client)
        await run.join()
        posting = asyncio.ensure_future(run.keep_posting())
        await asyncio.sleep(BEFORE_S)
        await run.walk_until_all_are_fresh(LIMIT_S)
        run.walks.clear()
        before = len(run.acknowledged)
        lost_s = time.monotonic()
        await asyncio.to_thread(lose_host, stack)
        try:
            window_s = await run.walk_until_all_are_fresh(LIMIT_S) - lost_s
        except TimeoutError:
            window_s = float("inf")
        meanwhile = len(run.acknowledged) - before
        await asyncio.sleep(AFTER_S)
        posting.cancel()
        await asyncio.wait([posting])
        if not posting.cancelled():
            posting.result()
        await asyncio.sleep(LAG_S)
        ends = [await run.walk(reader, lag_s=0.0) for reader in READERS]
        return result(run, before, meanwhile, window_s, max(end.missing for end in ends))


def result(run: Run, before: int, meanwhile: int, window_s: float, lost: int) -> dict[str, Any]:
    """The JSON line."""
    marked, unmarked = ([w.missing for w in run.walks if w.is_marked is is_marked] for is_marked in (True, False))
    return {
        "benchmark": "loss window of a host (cache, fan-out and logs gone), s until all feeds are fresh again",
        "value": round(window_s, 2),
        "target": f"<= {TARGET_S:g}, no post lost",
        "ok": bool(window_s <= TARGET_S and not lost and before and meanwhile),
        "details": f"{lost} of {len(run.acknowledged)} acknowledged posts lost, {run.refused} refused; entries of "
        f"{before} posts made again, {meanwhile} posted meanwhile; of {len(run.walks)} walks {len(marked)} marked, "
        f"with at most {max(marked, default=0)} posts missing, in others at most {max(unmarked, default=0)}",
        "machine": machine(),
    }


def main() -> int:
    """Print one JSON line."""
    with running_stack("--regions", REGION, "--users", "200") as stack:
        found = uvloop.run(measure(stack))
    return printed(found)


if __name__ == "__main__":
    sys.exit(main())
