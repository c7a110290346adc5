"""What it costs to cache a whole timeline rather than its newest part (ADR 7): an append copies the value.

Quiet appends to values of different sizes, and reads of them, in processor time of memcached and of the reader, which
says more than throughput where both share a machine. A deeper page's price is that of a copy out of the owner's index.
"""

from __future__ import annotations

import asyncio
import os
import sys
import time
from pathlib import Path

import numpy as np
import uvloop

from benchmarks._lane import machine, printed, start_memcached
from reference_server.flags import Flags
from reference_server.timeline.cached import make_value, timeline_key
from reference_server.timeline.entry import SLOT_BYTES
from reference_server.timeline.index import Index
from reference_server.timeline.memcached import Memcached, set_command
from reference_server.timeline.slots import SLOT_DTYPE

TARGET_RATIO = 1.5
WHOLE, PART = 800, Flags().cached_entries
USERS, BURST, BURSTS, READS = 4_000, 1_000, 80, 4_000
_TICKS_A_SECOND = os.sysconf("SC_CLK_TCK")


def used_s(pid: int) -> float:
    """Processor seconds of a process."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS_A_SECOND


async def append(cache: Memcached) -> None:
    """BURSTS bursts of quiet appends to users at random, a few under way."""
    random, slot = np.random.default_rng(1), os.urandom(SLOT_BYTES)
    under_way: list[asyncio.Future[object]] = []
    for _ in range(BURSTS):
        users = random.choice(USERS, BURST, replace=False).tolist()
        lines = [b"ms %b %d MA q\r\n%b\r\n" % (timeline_key(1, user).encode(), SLOT_BYTES, slot) for user in users]
        under_way.append(cache.submit(b"".join(lines)))  # type: ignore[arg-type]
        if len(under_way) > 8:
            await under_way.pop(0)
    await asyncio.gather(*under_way)


async def read(cache: Memcached) -> None:
    """READS timelines, 16 at a time."""
    users = iter(np.random.default_rng(2).integers(0, USERS, READS).tolist())

    async def some() -> None:
        for user in users:
            await cache.submit(b"mg %b v c t N5\r\n" % timeline_key(1, user).encode())

    await asyncio.gather(*[some() for _ in range(16)])


async def measure_size(entries: int) -> tuple[float, float]:
    """(µs of memcached an append, µs of memcached and reader a read) with values of so many entries."""
    process, port = start_memcached()
    cache = Memcached(port, timeout_s=30.0)
    try:
        await cache.wait_connected(10)
        value = make_value(0, 0, os.urandom(SLOT_BYTES * entries))
        for user in range(USERS):
            await cache.submit(set_command(timeline_key(1, user), value, 0))
        before = used_s(process.pid)
        await append(cache)
        appended, own = used_s(process.pid), time.process_time()
        await read(cache)
        read_s = used_s(process.pid) - appended + time.process_time() - own
    finally:
        await cache.close()
        process.kill()
        process.wait()
    return (appended - before) / (BURST * BURSTS) * 1e6, read_s / READS * 1e6


def measure_copy() -> float:
    """µs that the owner needs to copy a timeline of WHOLE entries out of its index."""
    users, records = 200, 20_000
    index = Index(1, list(range(users)), users, kept=WHOLE)
    index.put_slots(np.zeros(records, SLOT_DTYPE))
    random = np.random.default_rng(3)
    for user in range(users):
        numbers = np.sort(random.choice(records, WHOLE, replace=False) + 1).astype(np.uint32)
        index.fill(np.full(WHOLE, user, np.uint32), numbers)
    started = time.process_time()
    for user in range(users):
        index.slots_of(user)
    return (time.process_time() - started) / users * 1e6


def measure() -> dict[str, object]:
    """One run."""
    costs = {entries: uvloop.run(measure_size(entries)) for entries in (64, PART, 400, WHOLE)}
    ratio = costs[WHOLE][0] / costs[PART][0]
    told = ", ".join(f"{entries}: {append:.1f} and {read:.0f}" for entries, (append, read) in costs.items())
    return {
        "benchmark": f"appends a second of memcached, newest {PART} entries cached against {WHOLE}",
        "ratio": round(ratio, 2),
        "target": f">= {TARGET_RATIO:g}",
        "ok": bool(ratio >= TARGET_RATIO),
        "details": f"µs an append and a read with so many entries: {told}; copy at the owner {measure_copy():.0f} µs",
        "machine": machine(),
    }


def main() -> int:
    """Print one JSON line."""
    return printed(measure())


if __name__ == "__main__":
    sys.exit(main())
