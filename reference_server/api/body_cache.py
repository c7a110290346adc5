"""Post bodies and tombstones in memcached: key p:{post id hex}. An unreachable node is a miss, never an error."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from reference_server.timeline.memcached import Memcached, MemcachedDown, set_command

TTL_S = 24 * 3600


class MemcachedBodies:
    """The cache of bodies over the region's memcached nodes (by a hash of the id's random part)."""

    def __init__(self, ports: Sequence[int]) -> None:
        self._nodes = [Memcached(port) for port in ports]

    async def wait_connected(self, limit_s: float) -> None:
        """Connect to all nodes, or give up waiting; connecting goes on in the background."""
        for node in self._nodes:
            await node.wait_connected(limit_s)

    async def get(self, ids: Sequence[bytes]) -> dict[bytes, bytes]:
        """The values present."""
        if len(self._nodes) == 1:
            return await self._get(self._nodes[0], ids)
        found: dict[bytes, bytes] = {}
        for node in self._nodes:
            found |= await self._get(node, [post_id for post_id in ids if self._node(post_id) is node])
        return found

    async def _get(self, node: Memcached, ids: Sequence[bytes]) -> dict[bytes, bytes]:
        if not ids:
            return {}
        commands = b"".join([b"mg p:%b v\r\n" % post_id.hex().encode() for post_id in ids])
        try:
            replies = await node.submit(commands)  # one reply a command, in order
        except MemcachedDown:
            return {}
        return {post_id: reply.value for post_id, reply in zip(ids, replies, strict=False) if reply.value}

    def add(self, values: Mapping[bytes, bytes]) -> None:
        """Store where absent; does not wait."""
        for node in self._nodes:
            commands = b"".join(
                [
                    b"ms p:%b %d T%d ME q\r\n%b\r\n" % (post_id.hex().encode(), len(value), TTL_S, value)
                    for post_id, value in values.items()
                    if self._node(post_id) is node
                ]
            )
            if commands and node.connected:
                node.submit(commands)

    async def bury(self, post_id: bytes, author: int) -> bool:
        """Replace a post by its tombstone; False when that is not certain."""
        try:
            return not await self._node(post_id).submit(set_command(f"p:{post_id.hex()}", tombstone(author), TTL_S))
        except MemcachedDown:
            return False

    def _node(self, post_id: bytes) -> Memcached:
        return self._nodes[post_id[-1] % len(self._nodes)]

    async def close(self) -> None:
        """Disconnect."""
        for node in self._nodes:
            await node.close()


def tombstone(author: int) -> bytes:
    """What stands in place of a post that must not show; -1: its author is not known."""
    return b"-%d" % author
