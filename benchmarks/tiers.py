"""What two tiers, the celebrities' path and the follower cache buy, from the queue to memcached, with real processes.

Deliveries: posts of 1,000 followers wait in the queue; how fast a worker gets them, with both tiers and with one (all
are written at once). A delivery is a follower who has the post or is owed it. The ceiling is one sender that appends
the same slots to the same keys, rendered beforehand. Turns alternate, as timelines grow meanwhile.
Celebrities: entries written for a post of half of all users. Graph: pages read for posts of Zipf-distributed authors
within the cache's TTL. Beside: how long ordinary posts take to the bus while celebrities post without a pause.
"""

from __future__ import annotations

import asyncio
import statistics
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass

import msgspec
import numpy as np
import numpy.typing as npt
import uvloop

from benchmarks._fanout_region import (
    AUTHORS,
    CELEBRITIES,
    HOT_RATIO,
    LANES,
    REGION,
    SMALL,
    USERS,
    Drained,
    FanoutRegion,
    fanout_region,
)
from benchmarks._lane import machine, printed
from benchmarks.fanout import ceiling
from reference_server.partition import PARTITIONS, lane_of, partition_of
from reference_server.timeline.entry import SLOT_BYTES, make_seq
from reference_server.timeline.memcached import Memcached

TARGET = 2.5
ARTICLE_PER_S = 1_800_000
"""follower deliveries a second that the article tells of"""
POSTS = 600
"""of 1,000 followers, a turn"""
TURNS = 3
ZIPF_POSTS = 5000
"""by the authors of 1,000 followers and the small ones; rank r writes in proportion to 1 / r"""
BESIDE_S = 3.0
BESIDE_TURNS = 4
BESIDE_PER_S = 50
GROUP = 4


@dataclass(frozen=True)
class Check:
    """One claim."""

    name: str
    value: float
    bound: str
    ok: bool

    def __str__(self) -> str:
        return f"{self.name} {self.value:.3g} ({self.bound}{'' if self.ok else ', missed'})"


async def raw_per_s(region: FanoutRegion, authors: Sequence[int]) -> float:
    """Appends a second of a sender that does nothing else."""
    generations = await region.generations()
    slot = make_seq(1, 1).to_bytes(8, "big") + bytes(37) + b"\r\n"
    prefixes = {
        user: b"ms tl:%d:%d %d MA q k\r\n" % (generations[lane_of(user, LANES)], user, SLOT_BYTES)
        for author in set(authors)
        for user in region.followers[author].tolist()
    }
    posts = [slot.join([*[prefixes[u] for u in region.followers[a].tolist()], b""]) for a in authors]
    bursts = [b"".join(posts[n : n + GROUP]) for n in range(0, len(posts), GROUP)]
    client = Memcached(region.memcached_port, timeout_s=30.0)
    await client.wait_connected(5.0)
    seconds = await ceiling(client, bursts)
    await client.close()
    return sum(len(region.followers[author]) for author in authors) / seconds


async def deliveries(region: FanoutRegion) -> tuple[list[Drained], list[Drained], list[float]]:
    """(two tiers, one tier, ceiling in appends/s), turn by turn."""
    random = np.random.default_rng(2)
    both: list[Drained] = []
    one: list[Drained] = []
    raw: list[float] = []
    await region.drain(list(AUTHORS))  # follower pages are cached from here on, by any mode
    for _ in range(TURNS):
        for two_tier in (False, True, False):
            await region.set_flag("two_tier", two_tier)
            authors = random.choice(np.array(AUTHORS), POSTS).tolist()
            (both if two_tier else one).append(await region.drain(authors))
        raw.append(await raw_per_s(region, random.choice(np.array(AUTHORS), POSTS // 2).tolist()))
    await region.set_flag("two_tier", True)
    return both, one, raw


async def amplification(region: FanoutRegion) -> float:
    """Entries written for a celebrity's post with two tiers, over those with one."""
    written = {}
    for two_tier in (False, True):
        await region.set_flag("two_tier", two_tier)
        written[two_tier] = (await region.drain([*CELEBRITIES])).written
    return written[True] / written[False]


async def graph_reads(region: FanoutRegion) -> tuple[float, float]:
    """Follower pages read from the graph a post: with the cache, without it."""
    weights = 1 / np.arange(1, len(AUTHORS) + len(SMALL) + 1)
    authors = np.random.default_rng(3).permutation(np.r_[np.array(AUTHORS), np.array(SMALL)])
    chosen = np.random.default_rng(4).choice(authors, ZIPF_POSTS, p=weights / weights.sum()).tolist()
    reads = {}
    for cached in (False, True):
        await region.set_flag("follower_cache", cached)
        await region.cache.flushall()
        reads[cached] = (await region.drain(chosen)).graph_reads / len(chosen)
    return reads[True], reads[False]


async def value_sizes(region: FanoutRegion) -> npt.NDArray[np.int64]:
    """Bytes of each user's timeline in memcached."""
    generations = await region.generations()
    client = Memcached(region.memcached_port, timeout_s=30.0)
    await client.wait_connected(5.0)
    asked = b"".join([b"mg tl:%d:%d s\r\n" % (generations[lane_of(user, LANES)], user) for user in range(USERS)])
    replies = await client.submit(asked)
    await client.close()
    return np.array([int(reply.flag(b"s") or 0) for reply in replies])


async def busiest_partition(region: FanoutRegion) -> float:
    """Entries written to the partition that got most of them, over the mean, as memcached has them."""
    await region.set_flag("two_tier", False)
    before = await value_sizes(region)
    await region.drain(list(AUTHORS))
    written = (await value_sizes(region) - before) / SLOT_BYTES
    loads = np.bincount([partition_of(user) for user in range(USERS)], written, PARTITIONS)
    await region.set_flag("two_tier", True)
    if not loads.any():
        raise RuntimeError("the timelines are not cached any more: memcached was silent for too long")
    return float(loads.max() / loads.mean())


async def bus_times(region: FanoutRegion, authors: Sequence[int]) -> list[float]:
    """ms from a post's acceptance to its message on the bus, for posts of these authors at BESIDE_PER_S."""
    listeners = {author: int(region.followers[author][0]) for author in authors}
    for user in listeners.values():
        await region.lanes[lane_of(user, LANES)].call("subscribe", "fep-0", [[user, None]])
    stream = f"bus:{REGION}.fep-0"
    newest = await region.cache.xrevrange(stream, count=1)
    last = newest[0][0] if newest else b"0-0"
    wanted = round(BESIDE_S * BESIDE_PER_S)
    times: list[float] = []
    waiting: set[bytes] = set()

    async def write() -> None:
        started = time.perf_counter()
        for number in range(wanted):
            await asyncio.sleep(max(0.0, started + number / BESIDE_PER_S - time.perf_counter()))
            post = region.post(authors[number % len(authors)])
            waiting.add(post.id)
            await region.add([post])

    writer = asyncio.ensure_future(write())
    async with asyncio.timeout(3 * BESIDE_S + 10):
        while len(times) < wanted:
            for _, rows in await region.cache.xread({stream: last}, block=1000) or []:
                now_us = time.time_ns() // 1000
                for message in (msgspec.msgpack.decode(fields[b"m"]) for _, fields in rows):
                    if message[4] in waiting:  # not what listeners were owed, nor celebrities' posts
                        waiting.discard(message[4])
                        times.append((now_us - message[6]) / 1000)
                last = rows[-1][0]
    await writer
    return times


async def beside_celebrities(region: FanoutRegion) -> tuple[float, float]:
    """p99 in ms of ordinary posts to the bus: alone, and while celebrities post without a pause."""
    authors = list(SMALL)[:50]
    alone: list[float] = []
    beside: list[float] = []

    async def keep_posting() -> None:
        while True:
            await region.add([region.post(author) for author in CELEBRITIES])
            await asyncio.sleep(0.5)

    for _ in range(BESIDE_TURNS):
        alone += await bus_times(region, authors)
        celebrities = asyncio.ensure_future(keep_posting())
        await asyncio.sleep(0.2)
        beside += await bus_times(region, authors)
        celebrities.cancel()
        await asyncio.wait([celebrities])
        await region.wait_empty("celeb")
    return float(np.percentile(alone, 99)), float(np.percentile(beside, 99))


def rate(turns: Sequence[Drained]) -> float:
    """Deliveries a second, median."""
    return statistics.median(turn.deliveries / turn.seconds for turn in turns)


async def run() -> dict[str, object]:
    """All of it."""
    async with fanout_region() as region:
        skew = await busiest_partition(region)
        both, one, raw = await deliveries(region)
        written_share = await amplification(region)
        cached, uncached = await graph_reads(region)
        alone_ms, beside_ms = await beside_celebrities(region)
    share, saved = rate(one) / statistics.median(raw), 100 * (1 - cached / uncached)
    checks = [
        Check(
            "celebrity entries, change in %", 100 * written_share - 100, "-70 +- 5", abs(written_share - 0.3) <= 0.05
        ),
        Check("graph reads a post, change in %", -saved, "<= -80", saved >= 80),
        Check("busiest partition over mean", skew, "<= 1.3", skew <= 1.3),
        Check("one tier end to end over raw appends", share, ">= 0.65", share >= 0.65),
        Check("ordinary p99 beside celebrities over alone", beside_ms / alone_ms, "<= 2", beside_ms <= 2 * alone_ms),
    ]
    details = [*told(both, one, raw), *map(str, checks)]
    return {
        "benchmark": f"deliveries a second, two tiers over one, hot ratio {HOT_RATIO}, queue to memcached",
        "ratio": round(rate(both) / rate(one), 2),
        "target": f">= {TARGET}",
        "ok": rate(both) >= TARGET * rate(one) and all(check.ok for check in checks),
        "details": "; ".join([*details, f"ordinary p99 {alone_ms:.1f} ms alone, {beside_ms:.1f} ms beside"]),
        "figures": {
            "deliveries_per_s": round(rate(both)),
            "written_per_s": round(rate(one)),
            "celebrity_writes_percent": 100 * written_share - 100,
            "graph_reads_percent": -saved,
            "busiest_partition": skew,
            "one_tier_over_raw": share,
            "beside_over_alone": beside_ms / alone_ms,
        },
        "machine": machine(),
    }


def told(both: Sequence[Drained], one: Sequence[Drained], raw: Sequence[float]) -> list[str]:
    """The rates in words."""
    written, owed = both[-1].written / 1e3, both[-1].owed / 1e3
    return [
        f"two tiers {rate(both) / 1e6:.2f} M/s ({written:.0f} k written and {owed:.0f} k owed a turn)",
        f"{100 * rate(both) / ARTICLE_PER_S:.0f} % of the article's 1.8 M/s",
        f"one tier {rate(one) / 1e6:.2f} M/s of {statistics.median(raw) / 1e6:.2f} M/s raw",
    ]


def main() -> int:
    """Print one JSON line."""
    return printed(uvloop.run(run()))


if __name__ == "__main__":
    sys.exit(main())
