"""Fan-out with log and index against the bare ceiling: how fast memcached takes the same appends from one sender.

Both sides append slots of 45 bytes to the same keys, whose values have the same sizes: they are filled anew before each
turn, and turns alternate. The ceiling's bursts are rendered beforehand, so it only sends bytes and awaits barriers,
with as many outstanding. The ratio is the median over the rounds of a case; the worst case counts.
"""

from __future__ import annotations

import asyncio
import statistics
import sys
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import uvloop

from benchmarks._lane import PostSource, machine, open_lane, printed
from reference_server.timeline.cache_writer import MAX_OUTSTANDING
from reference_server.timeline.cached import CachedTimeline
from reference_server.timeline.entry import SLOT_BYTES, make_seq
from reference_server.timeline.index import Users
from reference_server.timeline.memcached import Memcached, Reply
from reference_server.timeline.owner import LaneOwner

TARGET = 0.65
USERS = 20_000
ROUNDS = 5
TURN_ENTRIES = 300_000


@dataclass(frozen=True)
class Case:
    """How posts look: followers of each, posts written together, entries a value holds before."""

    followers: int
    group: int
    entries: int


CASES = (Case(1000, 4, 4), Case(150, 16, 4), Case(1000, 4, 200))


async def fill(owner: LaneOwner, entries: int) -> None:
    """Give every user a cached timeline of that many slots."""
    assert owner.cache is not None
    slots = bytes(SLOT_BYTES * entries)
    await owner.cache.fill((user, CachedTimeline(0, 0, slots)) for user in range(USERS))


def render(owner: LaneOwner, pages: Sequence[Users], case: Case, bursts: int) -> list[bytes]:
    """What the ceiling sends: one burst a group of posts."""
    assert owner.cache is not None
    prefixes = owner.cache.cached.prefixes
    slot = make_seq(1, 1).to_bytes(8, "big") + bytes(37) + b"\r\n"
    rendered = []
    for number in range(bursts):
        parts = []
        for post in range(case.group):
            page = pages[(number * case.group + post) % len(pages)]
            parts.append(slot.join([*[prefixes[user] for user in page.tolist()], b""]))
        rendered.append(b"".join(parts))
    return rendered


async def ceiling(client: Memcached, bursts: Sequence[bytes]) -> float:
    """Seconds until memcached has taken all bursts."""
    outstanding: deque[asyncio.Future[list[Reply]]] = deque()
    started = time.perf_counter()
    for burst in bursts:
        outstanding.append(client.submit(burst))
        await asyncio.sleep(0)  # the ceiling, too, is sent as soon as the socket takes it
        if len(outstanding) == MAX_OUTSTANDING:
            await outstanding.popleft()
    for future in outstanding:
        await future
    return time.perf_counter() - started


async def ours(owner: LaneOwner, source: PostSource, pages: Sequence[Users], case: Case, bursts: int) -> float:
    """Seconds until the lane has written and applied as many groups of posts."""
    assert owner.cache is not None
    gen, started = owner.cache.gen_of(0), time.perf_counter()
    for number in range(bursts):
        await owner.wait_room()
        first = number * case.group
        items = [source.page(pages[(first + post) % len(pages)]) for post in range(case.group)]
        owner.write(items, "posts", f"{source.count}-0")
    await owner.wait_applied(owner.index.next - 1)
    taken = time.perf_counter() - started
    if owner.cache.gen_of(0) != gen:
        raise RuntimeError("memcached did not answer within the barrier's limit: appends were left out")
    return taken


async def measure(owner: LaneOwner, port: int, case: Case) -> tuple[float, float, float]:
    """(ratio, ceiling in appends/s, ours in followers/s), medians."""
    random = np.random.default_rng(case.followers)
    pages = [np.sort(random.choice(USERS, case.followers, replace=False)).astype(np.uint32) for _ in range(200)]
    bursts = TURN_ENTRIES // (case.followers * case.group)
    entries = bursts * case.followers * case.group
    client = Memcached(port, timeout_s=30.0)
    await client.wait_connected(5.0)
    rendered = render(owner, pages, case, bursts)
    source = PostSource(np.zeros(0, np.uint32))
    source.count = 1_000_000_000 * case.followers + 10_000_000 * case.entries
    raw, full = [], []
    for _ in range(ROUNDS):
        await fill(owner, case.entries)
        raw.append(entries / await ceiling(client, rendered))
        await fill(owner, case.entries)
        full.append(entries / await ours(owner, source, pages, case, bursts))
    await client.close()
    ratio = statistics.median(mine / bare for mine, bare in zip(full, raw, strict=True))
    return ratio, statistics.median(raw), statistics.median(full)


async def run() -> dict[str, object]:
    """All cases."""
    ratios, details = [], []
    async with open_lane(USERS) as (owner, port):
        for case in CASES:
            ratio, raw, full = await measure(owner, port, case)
            ratios.append(ratio)
            details.append(
                f"{case.followers} followers a post, {case.entries} entries a value: "
                f"{full / 1e6:.2f} of {raw / 1e6:.2f} M/s = {ratio:.2f}"
            )
    worst = min(ratios)
    return {
        "benchmark": "fan-out with log and index, share of the raw append ceiling",
        "ratio": round(worst, 3),
        "target": f">= {TARGET:.2f}",
        "ok": worst >= TARGET,
        "details": "; ".join(details),
        "machine": machine(),
    }


def main() -> int:
    """Print one JSON line."""
    return printed(uvloop.run(run()))


if __name__ == "__main__":
    sys.exit(main())
