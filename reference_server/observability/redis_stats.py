"""Figures of a region's redis servers, which have no `/metrics` of their own: the jobs process asks them for it.

`feed_queue_depth` counts the entries of a stream. Streams are trimmed below what every consumer has made durable, in
blocks of a hundred, so a depth of some hundreds is rest, and one that rises is work nobody does.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence

from prometheus_client import Counter, Gauge

from reference_server.events import (
    STREAM_CELEB,
    STREAM_DEAD,
    STREAM_GRAPH,
    STREAM_JOBS,
    STREAM_OUTBOX,
    STREAM_POSTS,
)
from reference_server.queue import Backpressure, QueueUnavailable
from reference_server.queue.link import Link
from reference_server.settings import Region

EVERY_S = 5.0
TIMEOUT_S = 1.0
QUEUE_STREAMS = (STREAM_POSTS, STREAM_CELEB, STREAM_GRAPH, STREAM_JOBS, STREAM_OUTBOX, STREAM_DEAD)
DEPTH = Gauge("feed_queue_depth", "Entries of a stream in redis-queue", ["stream"])
UP = Gauge("feed_redis_up", "Whether a redis server answered when it was last asked (1: yes)", ["server"])
MEMORY = Gauge("feed_redis_memory_bytes", "Memory a redis server uses for its data", ["server"])
MEMORY_LIMIT = Gauge("feed_redis_memory_limit_bytes", "Memory from which a redis server evicts (0: none)", ["server"])
CLIENTS = Gauge("feed_redis_clients", "Connections a redis server holds", ["server"])
LOG_BYTES = Gauge("feed_redis_log_bytes", "Size of a redis server's append-only file (0: it keeps none)", ["server"])
_COUNTERS = {
    "total_commands_processed": Counter("feed_redis_commands", "Commands a redis server carried out", ["server"]),
    "keyspace_hits": Counter("feed_redis_hits", "Keys that were asked for and were there", ["server"]),
    "keyspace_misses": Counter("feed_redis_misses", "Keys that were asked for and were not there", ["server"]),
    "evicted_keys": Counter("feed_redis_evictions", "Keys a redis server gave up for lack of memory", ["server"]),
    "aof_delayed_fsync": Counter("feed_redis_delayed_fsyncs", "Writes to the log that waited for the disk", ["server"]),
}
_GAUGES = {
    "used_memory": MEMORY,
    "maxmemory": MEMORY_LIMIT,
    "connected_clients": CLIENTS,
    "aof_current_size": LOG_BYTES,
}


class RedisStats:
    """Figures of one server."""

    def __init__(self, server: str, port: int, streams: Sequence[str] = ()) -> None:
        """`server`: its name in the metrics; `streams`: whose depth is told."""
        self._server = server
        self._streams = streams
        self._link = Link(port, TIMEOUT_S)
        self._last: dict[str, int] = {}
        for counter in _COUNTERS.values():
            counter.labels(server)

    async def step(self) -> bool:
        """Ask once; False when it did not answer."""
        try:
            text = await self._link.call("INFO")
            depths = await asyncio.gather(*(self._link.call("XLEN", stream) for stream in self._streams))
        except (QueueUnavailable, Backpressure):
            UP.labels(self._server).set(0)
            return False
        UP.labels(self._server).set(1)
        self._note(parse_info(text))
        for stream, depth in zip(self._streams, depths, strict=True):
            DEPTH.labels(stream).set(depth)
        return True

    def _note(self, info: Mapping[str, str]) -> None:
        for name, gauge in _GAUGES.items():
            gauge.labels(self._server).set(int(info.get(name, 0)))
        for name, counter in _COUNTERS.items():
            now, before = int(info.get(name, 0)), self._last.get(name, 0)
            counter.labels(self._server).inc(now - before if now >= before else now)  # less: it was restarted
            self._last[name] = now

    async def close(self) -> None:
        """Drop the connection."""
        await self._link.close()


def parse_info(text: bytes | str) -> dict[str, str]:
    """The fields of redis' INFO."""
    lines = (text.decode() if isinstance(text, bytes) else text).splitlines()
    return dict(line.split(":", 1) for line in lines if ":" in line and not line.startswith("#"))


async def watch(region: Region) -> None:
    """Ask both redis servers of a region every EVERY_S, for ever."""
    queue = RedisStats("redis-queue", region.redis_queue_port, QUEUE_STREAMS)
    servers = [queue, RedisStats("redis-cache", region.redis_cache_port)]
    try:
        while True:
            await asyncio.gather(*(server.step() for server in servers))
            await asyncio.sleep(EVERY_S)
    finally:
        for server in servers:
            await server.close()
