"""What fan-out needs, as real processes: both redis servers, memcached, the graph service, one fan-out worker.

Population: authors of 1,000 followers, small authors of 150, celebrities of half of all users; three in ten edges are
hot, nobody has a session. Everybody's timeline is cached before the first post.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
from redis.asyncio import Redis

from benchmarks._lane import free_port, memcached_nodes
from reference_server.events import FIELD, FlagEvent, PostEvent, encode
from reference_server.parent import die_with_parent
from reference_server.queue import Queue
from reference_server.rpc import RpcClient, RpcError, RpcTimeout, RpcUnavailable
from reference_server.settings import Region, Settings, write_settings

USERS = 20_000
AUTHORS, SMALL, CELEBRITIES = range(400), range(400, 600), range(600, 608)
FOLLOWERS = {AUTHORS: 1000, SMALL: 150, CELEBRITIES: USERS // 2}
HOT_RATIO = 0.3
LANES = 4
REGION = "bench"
START_LIMIT_S = 60.0
DRAIN_LIMIT_S = 60.0
Users = npt.NDArray[np.uint32]


@dataclass(frozen=True)
class Drained:
    """What it took to empty a stream."""

    seconds: float
    written: float
    owed: float
    graph_reads: float

    @property
    def deliveries(self) -> float:
        """Followers who have the post or are owed it."""
        return self.written + self.owed


def make_population(folder: Path) -> dict[int, Users]:
    """Write the hand-over files; returns author -> followers."""
    random = np.random.default_rng(1)
    followers = {
        author: np.sort(random.choice(USERS, count, replace=False)).astype(np.uint32)
        for authors, count in FOLLOWERS.items()
        for author in authors
    }
    owners = np.concatenate(list(followers.values()))
    authors = np.repeat(np.fromiter(followers, np.uint32), [len(users) for users in followers.values()])
    order = np.lexsort((authors, owners))
    offsets = np.r_[0, np.cumsum(np.bincount(owners, minlength=USERS))]
    mean = len(owners) / USERS
    described = {"version": 1, "users": USERS, "seed": 1, "history": mean, "joined": "all", "mean_follows": mean}
    folder.mkdir()
    np.save(folder / "offsets.npy", offsets.astype("<i8"))
    np.save(folder / "followees.npy", authors[order].astype("<u4"))
    np.save(folder / "hot.npy", (random.random(len(owners)) < HOT_RATIO).astype("u1"))
    (folder / "population.json").write_bytes(msgspec.json.encode(described))
    return followers


class FanoutRegion:
    """One region without api and edges: posts go straight into its queue."""

    def __init__(self, settings: Settings, followers: dict[int, Users], worker: subprocess.Popen[bytes]) -> None:
        self.settings, self.followers, self._worker = settings, followers, worker
        region = settings.regions[0]
        self.memcached_port = region.memcached_ports[0]
        self.queue: Any = Redis(port=region.redis_queue_port, protocol=2)
        self.cache: Any = Redis(port=region.redis_cache_port, protocol=2)
        self.lanes = [RpcClient(settings.socket(REGION, f"lane-{n}")) for n in range(LANES)]
        self._control = RpcClient(settings.socket(REGION, "fanout-0"))
        self._numbers = itertools.count(time.time_ns())

    async def ready(self) -> None:
        """Wait until every lane answers."""
        deadline = time.monotonic() + START_LIMIT_S
        for lane in self.lanes:
            while True:
                try:
                    await lane.call("ping")
                    break
                except (RpcUnavailable, RpcTimeout, RpcError):
                    if time.monotonic() > deadline:
                        raise
                    await asyncio.sleep(0.05)

    async def set_flag(self, name: str, value: bool | str) -> None:
        """Set a flag, as an operator does; wait until the worker follows."""
        queue = Queue(self.settings.regions[0].redis_queue_port)
        event = FlagEvent(name, msgspec.json.encode(value), next(self._numbers), REGION)
        await queue.set_flag(event, replicate=False)
        await queue.close()
        deadline = time.monotonic() + 5.0
        while (await self._control.call("stats"))["flags"][name] != value:
            if time.monotonic() > deadline:
                raise TimeoutError(f"the worker does not follow the flag {name}")
            await asyncio.sleep(0.02)

    def post(self, author: int) -> PostEvent:
        """A new post, accepted now."""
        post_id = next(self._numbers).to_bytes(16, "big")
        return PostEvent(post_id, author, time.time_ns() // 1000, "text", REGION, celeb=author in CELEBRITIES)

    async def add(self, posts: Sequence[PostEvent]) -> None:
        """Put posts, all of celebrities or none, into their stream."""
        stream = "celeb" if posts[0].celeb else "posts"
        for start in range(0, len(posts), 500):
            pipeline = self.queue.pipeline(transaction=False)
            for post in posts[start : start + 500]:
                pipeline.xadd(stream, {FIELD: encode(post)})
            await pipeline.execute()

    async def drain(self, authors: Sequence[int]) -> Drained:
        """Have posts wait in the queue, then measure until all lanes have them in log, index and memcached."""
        before = await self._counts()
        self._worker.send_signal(signal.SIGSTOP)
        await self.add([self.post(author) for author in authors])
        self._worker.send_signal(signal.SIGCONT)
        started = time.perf_counter()
        await self.wait_empty("celeb" if authors[0] in CELEBRITIES else "posts")
        seconds = time.perf_counter() - started
        written, owed, reads = (after - b for after, b in zip(await self._counts(), before, strict=True))
        return Drained(seconds, written, owed, reads)

    async def wait_empty(self, stream: str) -> None:
        """Return when all lanes have the stream's last entry, applied."""
        ((newest, _),) = await self.queue.xrevrange(stream, count=1)
        deadline = time.monotonic() + DRAIN_LIMIT_S
        for lane in self.lanes:
            while True:
                stats = await lane.call("stats", timeout_s=10.0)
                if stats["positions"][stream] == newest.decode() and stats["applied"] == stats["records"]:
                    break
                if time.monotonic() > deadline:
                    raise TimeoutError(f"lane {stats['lane']} has not emptied {stream}")
                await asyncio.sleep(0.005)

    async def generations(self) -> list[int]:
        """Key generation of each lane."""
        return [(await lane.call("stats"))["gens"][0] for lane in self.lanes]

    async def _counts(self) -> tuple[float, float, float]:
        text = (await self._control.call("metrics")).decode()

        def of(name: str) -> float:
            found = re.search(rf"^{re.escape(name)} (\S+)$", text, re.MULTILINE)
            return float(found[1]) if found else 0.0

        reads = of('feed_follower_pages_total{source="graph"}')
        return of("feed_fanout_entries_total"), of("feed_fanout_deferred_entries_total"), reads

    async def close(self) -> None:
        """Drop the connections."""
        for client in (*self.lanes, self._control):
            client.close()
        await self.queue.aclose()
        await self.cache.aclose()


@asynccontextmanager
async def fanout_region() -> AsyncIterator[FanoutRegion]:
    """A region in a directory of its own; gone afterwards."""
    processes: list[subprocess.Popen[bytes]] = []
    with TemporaryDirectory(prefix="fs-") as name, memcached_nodes(1) as memcached:
        folder = Path(name)
        followers = make_population(folder / "population")
        settings = _settings(folder, memcached)
        write_settings(folder / "settings.json", settings)
        try:
            region = settings.regions[0]
            processes += [_redis(folder / "queue", region.redis_queue_port, durable=True)]
            processes += [_redis(folder / "cache", region.redis_cache_port, durable=False)]
            processes += [_part(folder, "graph", "graph"), _part(folder, "fanout", "fanout-0")]
            made = FanoutRegion(settings, followers, processes[-1])
            try:
                await made.ready()
                yield made
            finally:
                await made.close()
        finally:
            for process in reversed(processes):
                process.kill()
                process.wait()


def _settings(folder: Path, memcached: Sequence[int]) -> Settings:
    region = Region(
        name=REGION,
        index=0,
        api_ports=(),
        fep_ports=(),
        memcached_ports=tuple(memcached),
        redis_queue_port=free_port(),
        redis_cache_port=free_port(),
        replicator_port=free_port(),
    )
    population = str(folder / "population")
    return Settings(
        directory=str(folder), sockets=str(folder), secret="00", regions=(region,), population=population, lanes=LANES
    )


def _redis(folder: Path, port: int, *, durable: bool) -> subprocess.Popen[bytes]:
    program = shutil.which("redis-server")
    if program is None:
        print("redis-server is not installed: apt-get install redis-server", file=sys.stderr)
        raise SystemExit(4)
    folder.mkdir()
    log = ["--appendonly", "yes", "--appendfsync", "always"] if durable else ["--appendonly", "no"]
    options = ["--port", str(port), "--bind", "127.0.0.1", "--dir", str(folder), "--save", "", *log]
    return subprocess.Popen([program, *options], stdout=subprocess.DEVNULL, preexec_fn=die_with_parent)


def _part(folder: Path, module: str, name: str) -> subprocess.Popen[bytes]:
    arguments = ["--settings", str(folder / "settings.json"), "--region", REGION, "--name", name]
    with (folder / f"{name}.log").open("wb") as log:
        command = [sys.executable, "-m", f"reference_server.{module}", *arguments]
        return subprocess.Popen(command, stderr=log, env=os.environ, preexec_fn=die_with_parent)
