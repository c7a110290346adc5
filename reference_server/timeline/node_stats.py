"""Figures of a region's memcached nodes, which have no `/metrics` of their own: the jobs process asks them for it.

Hits and misses are those of all keys: timelines, generations, session marks and post bodies. What counts for a feed is
told by its reader. A node's figures begin anew when it restarts; the counters here go on.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence

from prometheus_client import Counter, Gauge

from reference_server.timeline.memcached import Memcached, MemcachedDown

EVERY_S = 5.0
TIMEOUT_S = 1.0
UP = Gauge("feed_memcached_up", "Whether a memcached node answered when it was last asked (1: yes)", ["node"])
_GAUGES = {
    "bytes": Gauge("feed_memcached_bytes", "Memory a memcached node uses for items", ["node"]),
    "limit_maxbytes": Gauge("feed_memcached_limit_bytes", "Memory from which a memcached node evicts", ["node"]),
    "curr_items": Gauge("feed_memcached_items", "Items a memcached node holds", ["node"]),
    "curr_connections": Gauge("feed_memcached_connections", "Connections a memcached node holds", ["node"]),
}
_COUNTERS = {
    "get_hits": Counter("feed_memcached_hits", "Keys a memcached node was asked for and had", ["node"]),
    "get_misses": Counter("feed_memcached_misses", "Keys a memcached node was asked for and did not have", ["node"]),
    "cmd_set": Counter("feed_memcached_sets", "Items stored or appended to, tries included", ["node"]),
    "evictions": Counter("feed_memcached_evictions", "Items a memcached node gave up for lack of memory", ["node"]),
    "bytes_read": Counter("feed_memcached_read_bytes", "Bytes a memcached node received", ["node"]),
    "bytes_written": Counter("feed_memcached_written_bytes", "Bytes a memcached node sent", ["node"]),
}


class NodeStats:
    """Figures of one node."""

    def __init__(self, node: int, port: int) -> None:
        self._node = str(node)
        self._client = Memcached(port, timeout_s=TIMEOUT_S)
        self._last: dict[str, int] = {}
        for counter in _COUNTERS.values():
            counter.labels(self._node)

    async def step(self) -> bool:
        """Ask once; False when the node did not answer."""
        try:
            await self._client.wait_connected(TIMEOUT_S)
            replies = await self._client.submit(b"stats\r\n")
        except MemcachedDown:
            UP.labels(self._node).set(0)
            return False
        UP.labels(self._node).set(1)
        self._note({reply.flags[0]: reply.flags[1] for reply in replies if len(reply.flags) == 2})
        return True

    def _note(self, figures: Mapping[bytes, bytes]) -> None:
        numbers = {name.decode(): int(value) for name, value in figures.items() if value.isdigit() and name.isascii()}
        for name, gauge in _GAUGES.items():
            gauge.labels(self._node).set(numbers.get(name, 0))
        if numbers.get("pid") != self._last.get("pid"):
            self._last = {}  # another process: it counts from zero
        for name, counter in _COUNTERS.items():
            counter.labels(self._node).inc(max(0, numbers.get(name, 0) - self._last.get(name, 0)))
        self._last = numbers

    async def close(self) -> None:
        """Drop the connection."""
        await self._client.close()


async def watch(ports: Sequence[int]) -> None:
    """Ask all nodes every EVERY_S, for ever."""
    nodes = [NodeStats(node, port) for node, port in enumerate(ports)]
    try:
        while True:
            await asyncio.gather(*(node.step() for node in nodes))
            await asyncio.sleep(EVERY_S)
    finally:
        for node in nodes:
            await node.close()
