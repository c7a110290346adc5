"""Rebuilds of lost timelines from log and index, over the owner's socket, while the owner keeps writing.

One lane of 100,000 timelines with 200 entries each. Its process writes posts of 1,000 followers at a steady rate, log,
index and appends to memcached included; this process asks for timelines at random users on a fixed schedule. Latency
counts from the due time, so waiting behind a burst is in it. The timelines are put into the index without their log.
"""

from __future__ import annotations

import asyncio
import gc
import multiprocessing
import sys
import time
from multiprocessing.synchronize import Event
from pathlib import Path
from tempfile import TemporaryDirectory

import msgspec
import numpy as np
import uvloop

from benchmarks._lane import PostSource, machine, open_lane
from reference_server import rpc
from reference_server.rpc import RpcClient, RpcError, RpcUnavailable
from reference_server.timeline.entry import SLOT_BYTES, SLOT_DTYPE, make_seq
from reference_server.timeline.lane_service import LaneService
from reference_server.timeline.merge import ColdMerge
from reference_server.timeline.owner import LaneOwner

TARGET_MS = 20.0
USERS = 100_000
ENTRIES = 200
FOLLOWERS = 1000
WRITES_PER_S = 200_000
"""followers written"""
READS_PER_S = 500
SECONDS = 8.0
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


async def write(owner: LaneOwner) -> None:
    """Posts at WRITES_PER_S followers, for ever."""
    random = np.random.default_rng(2)
    pages = [np.sort(random.choice(USERS, FOLLOWERS, replace=False)).astype(np.uint32) for _ in range(200)]
    source = PostSource(np.zeros(0, np.uint32))
    started = time.perf_counter()
    while True:
        due = int((time.perf_counter() - started) * WRITES_PER_S / FOLLOWERS)
        items = [source.page(pages[number % len(pages)]) for number in range(source.count, min(due, source.count + 4))]
        if items:
            await owner.wait_room()
            owner.write(items, "posts", f"{source.count}-0", None)
        await asyncio.sleep(0 if source.count < due else 0.002)


async def own(path: str, stop: Event) -> None:
    """The owner's process."""

    async def nobody(_: int) -> list[int]:
        return []

    async with open_lane(USERS) as (owner, _):
        load(owner)
        assert owner.cache is not None
        slots = bytes(SLOT_BYTES * _CACHED_ENTRIES)
        await owner.cache.fill((user, 0, 0, slots) for user in range(USERS))
        server = await rpc.serve(path, LaneService(owner, ColdMerge(owner, nobody, 800)).handlers())
        gc.collect()
        gc.freeze()
        writer = asyncio.ensure_future(write(owner))
        await asyncio.to_thread(stop.wait)
        server.close()
        writer.cancel()


def own_lane(path: str, stop: Event) -> None:
    """Entry point of the owner's process."""
    uvloop.run(own(path, stop))


async def read(path: str) -> tuple[list[float], float]:
    """(latencies in ms, followers written a second)."""
    client = RpcClient(path, timeout_s=10.0)
    deadline = time.monotonic() + 40
    while True:
        try:
            before = await client.call("stats")
            break
        except (RpcUnavailable, RpcError):
            if time.monotonic() > deadline:
                raise
            await asyncio.sleep(0.1)
    random = np.random.default_rng(3)
    latencies: list[float] = []
    started = time.perf_counter() + 0.5

    async def one(due: float, user: int) -> None:
        await asyncio.sleep(max(0.0, due - time.perf_counter()))
        reply = await client.call("rebuild", user)
        latencies.append((time.perf_counter() - due) * 1000)
        assert len(reply[4]) >= ENTRIES * SLOT_BYTES

    count = int(READS_PER_S * SECONDS)
    users = random.integers(0, USERS, count).tolist()
    await asyncio.gather(*[one(started + n / READS_PER_S, user) for n, user in enumerate(users)])
    after = await client.call("stats")
    client.close()
    return latencies, (after["records"] - before["records"]) * FOLLOWERS / (SECONDS + 0.5)


def measure() -> dict[str, object]:
    """One run."""
    context = multiprocessing.get_context("spawn")
    stop = context.Event()
    with TemporaryDirectory(prefix="fs-") as folder:
        path = str(Path(folder) / "lane.sock")
        owner = context.Process(target=own_lane, args=(path, stop))
        owner.start()
        try:
            latencies, written = uvloop.run(read(path))
        finally:
            stop.set()
            owner.join(10)
            owner.kill()
    p50, p99 = np.percentile(latencies, [50, 99])
    return {
        "benchmark": f"rebuild of a timeline, p99 in ms, {USERS:,} timelines x {ENTRIES}, while writing",
        "value": round(float(p99), 2),
        "target": f"<= {TARGET_MS:g}",
        "ok": bool(p99 <= TARGET_MS and written > 0.5 * WRITES_PER_S),
        "details": f"p50 {p50:.2f} ms, max {max(latencies):.1f} ms, {READS_PER_S} reads/s, {written:,.0f} followers/s",
        "machine": machine(),
    }


def main() -> int:
    """Print one JSON line."""
    result = measure()
    print(msgspec.json.encode(result).decode())
    return 0 if result["ok"] else 1


if __name__ == "__main__":
    sys.exit(main())
