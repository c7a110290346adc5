"""Profiles in memcached, for moments: key u:{user} on the user's node. An unreachable node is a miss, never an error.

A change marks the key with "-" for STALE_S, and readers only add: one that asked the graph before the change cannot
bring the old profile back. Changes made in another region are seen when TTL_S is over.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence

import msgspec
from prometheus_client import Counter

from reference_server.partition import node_of
from reference_server.timeline.memcached import Memcached, MemcachedDown

TTL_S = 2
STALE_S = 2
MARK = b"-"
READS = Counter("feed_profile_reads", "Profiles read, by where they came from", ["source"])
_FROM_CACHE, _FROM_GRAPH = READS.labels("cache"), READS.labels("graph")


class Profile(msgspec.Struct, frozen=True):
    """What the owner of a profile sees of it."""

    id: str
    followers: int
    following: int
    joined: bool
    minor: bool
    safe_mode: bool


_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(Profile)


class ProfileCache:
    """The cache over the region's memcached nodes, which bound it."""

    def __init__(self, ports: Sequence[int]) -> None:
        self._nodes = [Memcached(port) for port in ports]

    async def get(self, user: int) -> Profile | None:
        """The profile, if it is there."""
        try:
            value = await self._node(user).get(f"u:{user}")
            found = _decoder.decode(value) if value and value != MARK else None
        except (MemcachedDown, msgspec.MsgspecError):
            found = None
        (_FROM_GRAPH if found is None else _FROM_CACHE).inc()
        return found

    def add(self, user: int, profile: Profile) -> None:
        """Store unless something is there; does not wait."""
        node, value = self._node(user), _encoder.encode(profile)
        if node.connected:
            node.submit(b"ms u:%d %d T%d ME q\r\n%b\r\n" % (user, len(value), TTL_S, value))

    async def forget(self, users: Iterable[int]) -> None:
        """These profiles have changed."""
        await asyncio.gather(*(self._mark(user) for user in users))

    async def _mark(self, user: int) -> None:
        try:
            await self._node(user).submit(b"ms u:%d %d T%d q\r\n%b\r\n" % (user, len(MARK), STALE_S, MARK))
        except MemcachedDown:
            return  # a node that comes back paused, not restarted, may show the old profile for TTL_S

    def _node(self, user: int) -> Memcached:
        return self._nodes[node_of(user, len(self._nodes))]

    async def close(self) -> None:
        """Disconnect."""
        for node in self._nodes:
            await node.close()
