"""How long a rebuild of a timeline takes at the owner's socket, while the owner keeps writing.

One lane of 100,000 timelines with 200 entries each. Its process writes posts of 1,000 followers, log, index and appends
to memcached included: first at a steady 500,000 entries/s, then as fast as it can. This process asks for timelines of
random users on a fixed schedule. Latency counts from the due time, so waiting behind a burst is in it. The timelines
are put into the index without their log.
"""

from __future__ import annotations

import asyncio
import gc
import multiprocessing
import os
import sys
import time
from dataclasses import dataclass
from multiprocessing.synchronize import Event
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import uvloop

from benchmarks._lane import PostSource, machine, open_lane, printed
from reference_server import rpc
from reference_server.rpc import RpcClient, RpcError, RpcUnavailable
from reference_server.timeline.cached import CachedTimeline
from reference_server.timeline.entry import SLOT_BYTES, make_seq
from reference_server.timeline.lane_service import LaneService
from reference_server.timeline.merge import ColdMerge
from reference_server.timeline.owner import LaneOwner
from reference_server.timeline.slots import SLOT_DTYPE

PACED_MS, FLAT_OUT_MS = 10.0, 50.0
"""the p99 wanted"""
USERS = 100_000
ENTRIES = 200
FOLLOWERS = 1000
WRITES_PER_S = 500_000
"""entries"""
READS_PER_S = 500
SECONDS = 10.0
_FLAT_OUT = 0
_REST = -1
_GROUP_POSTS = 2
"""posts written together when they are late: a lane's part of what fan-out gathers, and what a reader may wait for"""
_CACHED_ENTRIES = 10


def load(owner: LaneOwner) -> None:
    """Give every user ENTRIES entries."""
    records = USERS * ENTRIES // FOLLOWERS
    slots = np.zeros(records, SLOT_DTYPE)
    slots["seq"] = np.arange(1, records + 1, dtype=np.uint64) | np.uint64(make_seq(owner.index.epoch, 0))
    owner.index.put_slots(slots)
    random = np.random.default_rng(1)
    block = USERS // FOLLOWERS
    for start in range(0, records, block):
        users = random.permutation(USERS).astype(np.uint32)
        owner.index.fill(users, np.repeat(np.arange(start + 1, start + 1 + block, dtype=np.uint32), FOLLOWERS))
    owner.applied = records


class Writer:
    """Writes posts at the pace it was told."""

    def __init__(self, owner: LaneOwner) -> None:
        self._owner = owner
        self._per_s = _REST
        self._started = time.perf_counter()
        self._source = PostSource(np.zeros(0, np.uint32))
        self._before = 0
        self._slowest_ms = 0.0

    async def pace(self, entries_per_s: int) -> list[float]:
        """Go on at another pace; returns [posts written, slowest group in ms, entries a second] of the former one."""
        took_s = time.perf_counter() - self._started
        posts = self._source.count - self._before
        told = [posts, self._slowest_ms, posts * FOLLOWERS / took_s]
        self._per_s, self._started, self._before = entries_per_s, time.perf_counter(), self._source.count
        self._slowest_ms = 0.0
        return told

    def _due(self) -> int:
        if self._per_s == _FLAT_OUT:
            return self._source.count + _GROUP_POSTS
        if self._per_s == _REST:
            return self._source.count
        return self._before + int((time.perf_counter() - self._started) * self._per_s / FOLLOWERS)

    async def run(self) -> None:
        """Write, for ever."""
        random, owner, source = np.random.default_rng(2), self._owner, self._source
        pages = [np.sort(random.choice(USERS, FOLLOWERS, replace=False)).astype(np.uint32) for _ in range(200)]
        while True:
            count = min(self._due() - source.count, _GROUP_POSTS)
            if count <= 0:
                await asyncio.sleep(0.001)
                continue
            await owner.wait_room()
            began = time.perf_counter()
            items = [source.page(pages[source.count % len(pages)]) for _ in range(count)]
            owner.write(items, "posts", f"{source.count}-0")
            self._slowest_ms = max(self._slowest_ms, (time.perf_counter() - began) * 1000)


async def own(path: str, stop: Event) -> None:
    """The owner's process."""

    async def nobody(_: int) -> list[int]:
        return []

    async with open_lane(USERS) as (owner, _):
        load(owner)
        assert owner.cache is not None
        slots = bytes(SLOT_BYTES * _CACHED_ENTRIES)
        await owner.cache.fill((user, CachedTimeline(0, 0, slots)) for user in range(USERS))
        writer = Writer(owner)
        handlers = LaneService(owner, ColdMerge(owner, nobody, 800)).handlers()
        server = await rpc.serve(path, {**handlers, "pace": writer.pace})
        gc.collect()
        gc.freeze()
        writing = asyncio.ensure_future(writer.run())
        await asyncio.to_thread(stop.wait)
        server.close()
        writing.cancel()


def own_lane(path: str, stop: Event) -> None:
    """Entry point of the owner's process."""
    uvloop.run(own(path, stop))


@dataclass
class Phase:
    """What was seen at one pace."""

    p50_ms: float
    p99_ms: float
    max_ms: float
    slowest_group_ms: float
    entries_per_s: float

    def __str__(self) -> str:
        return (
            f"p50 {self.p50_ms:.2f} p99 {self.p99_ms:.2f} max {self.max_ms:.1f} ms at {self.entries_per_s:,.0f} "
            f"entries/s (slowest group {self.slowest_group_ms:.1f} ms)"
        )


async def connect(path: str) -> RpcClient:
    """A client of the owner, once it is ready."""
    client = RpcClient(path, timeout_s=10.0)
    deadline = time.monotonic() + 60
    while True:
        try:
            await client.call("ping")
            return client
        except (RpcUnavailable, RpcError):
            if time.monotonic() > deadline:
                raise
            await asyncio.sleep(0.1)


async def phase(client: RpcClient, entries_per_s: int) -> Phase:
    """Read on schedule while the owner writes at that pace."""
    random = np.random.default_rng(3)
    latencies: list[float] = []

    async def one(due: float, user: int) -> None:
        await asyncio.sleep(max(0.0, due - time.perf_counter()))
        reply = await client.call("rebuild", user)
        latencies.append((time.perf_counter() - due) * 1000)
        assert len(reply[4]) >= ENTRIES * SLOT_BYTES

    await client.call("pace", entries_per_s)
    started = time.perf_counter() + 0.5
    users = random.integers(0, USERS, int(READS_PER_S * SECONDS)).tolist()
    await asyncio.gather(*[one(started + n / READS_PER_S, user) for n, user in enumerate(users)])
    _, slowest_ms, written = await client.call("pace", _REST)
    p50, p99 = np.percentile(latencies, [50, 99]).tolist()
    return Phase(p50, p99, max(latencies), slowest_ms, written)


async def read(path: str) -> tuple[Phase, Phase]:
    """Both paces."""
    client = await connect(path)
    try:
        return await phase(client, WRITES_PER_S), await phase(client, _FLAT_OUT)
    finally:
        client.close()


def measure() -> dict[str, Any]:
    """One run."""
    context = multiprocessing.get_context("spawn")
    stop = context.Event()
    with TemporaryDirectory(prefix="fs-") as folder:
        path = str(Path(folder) / "lane.sock")
        owner = context.Process(target=own_lane, args=(path, stop))
        owner.start()
        try:
            paced, flat_out = uvloop.run(read(path))
        finally:
            stop.set()
            owner.join(10)
            owner.kill()
    kept_pace = paced.entries_per_s > 0.95 * WRITES_PER_S
    return {
        "benchmark": f"rebuild of a timeline, p99 in ms, {USERS:,} timelines x {ENTRIES}, writing {WRITES_PER_S:,}/s",
        "value": round(paced.p99_ms, 2),
        "target": f"<= {PACED_MS:g}; flat out <= {FLAT_OUT_MS:g}",
        "ok": bool(paced.p99_ms <= PACED_MS and flat_out.p99_ms <= FLAT_OUT_MS and kept_pace),
        "details": f"paced: {paced}; flat out: {flat_out}; {READS_PER_S} reads/s; load {os.getloadavg()[0]:.1f}",
        "figures": {"flat_out_p99_ms": round(flat_out.p99_ms, 2)},
        "machine": machine(),
    }


def main() -> int:
    """Print one JSON line."""
    return printed(measure())


if __name__ == "__main__":
    sys.exit(main())
