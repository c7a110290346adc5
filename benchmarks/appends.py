"""What size and spread of values cost: appends through a lane's hand on its memcached nodes, no log, no index.

Bursts of posts of FOLLOWERS followers, as fan-out sends them, to values of ENTRIES slots on one node and on three, in
turns. An append copies its value, so long values are slow; a lane over three nodes sends three smaller bursts, and its
nodes share what cores there are. The ratio is three nodes against one, at JUDGED entries a value.
"""

from __future__ import annotations

import asyncio
import statistics
import sys
import time
from collections.abc import Sequence

import numpy as np
import uvloop

from benchmarks._lane import machine, memcached_nodes, printed
from reference_server.timeline.cached import CachedTimeline
from reference_server.timeline.entry import SLOT_BYTES
from reference_server.timeline.lane_cache import LaneCache

TARGET = 0.6
USERS = 12_000
FOLLOWERS = 1000
GROUP = 4
"""posts a burst"""
BURSTS = 30
ROUNDS = 3
ENTRIES = (4, 64, 200, 800)
JUDGED = 200
"""entries of the values whose ratio counts"""


class Bench:
    """A lane's hand on so many nodes, and the bursts it has sent."""

    def __init__(self, ports: Sequence[int]) -> None:
        gens = [1] * len(ports)
        self.cache = LaneCache(0, range(USERS), USERS, ports, gens, self._store_gen, self._note_applied, timeout_s=30.0)
        random = np.random.default_rng(1)
        self._pages = [np.sort(random.choice(USERS, FOLLOWERS, replace=False)).astype(np.uint32) for _ in range(200)]
        self._sent = self._applied = 0
        self._moved = asyncio.Event()

    def _store_gen(self, node: int, gen: int) -> None:
        raise RuntimeError(f"node {node} did not answer within the barrier's limit: appends were left out")

    def _note_applied(self, last: int) -> None:
        self._applied = last
        self._moved.set()

    async def turn(self, entries: int) -> float:
        """Appends a second to values that held so many entries before."""
        await self.cache.fill((user, CachedTimeline(0, 0, bytes(SLOT_BYTES * entries))) for user in range(USERS))
        slot = bytes(SLOT_BYTES)
        started = time.perf_counter()
        for number in range(self._sent + 1, self._sent + 1 + BURSTS):
            await self.cache.wait_room()
            appends = self.cache.appends()
            for post in range(GROUP):
                appends.slot(slot, self._pages[(number * GROUP + post) % len(self._pages)])
            self.cache.send(appends, number)
        self._sent += BURSTS
        while self._applied < self._sent:
            self._moved.clear()
            await self._moved.wait()
        return BURSTS * GROUP * FOLLOWERS / (time.perf_counter() - started)


async def run() -> dict[str, object]:
    """One node and three, in turns."""
    details, ratio = [], 0.0
    with memcached_nodes(1) as one_port, memcached_nodes(3) as three_ports:
        one, three = Bench(one_port), Bench(three_ports)
        for bench in (one, three):
            await bench.cache.join()
        for entries in ENTRIES:
            rates = [(await one.turn(entries), await three.turn(entries)) for _ in range(ROUNDS)]
            middle = [statistics.median(column) / 1e6 for column in zip(*rates, strict=True)]
            details.append(f"{entries} entries: {middle[0]:.2f} and {middle[1]:.2f} M/s")
            if entries == JUDGED:
                ratio = statistics.median(spread / single for single, spread in rates)
        for bench in (one, three):
            await bench.cache.close()
    return {
        "benchmark": f"appends to values of {JUDGED} entries over three cache nodes, against one node",
        "ratio": round(ratio, 3),
        "target": f">= {TARGET:g}",
        "ok": ratio >= TARGET,
        "details": "one node and three: " + "; ".join(details),
        "machine": machine(),
    }


def main() -> int:
    """Print one JSON line."""
    return printed(uvloop.run(run()))


if __name__ == "__main__":
    sys.exit(main())
