"""Post bodies and tombstones in memcached: key p:{post id hex}. An unreachable node is a miss, never an error."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence

from reference_server.partition import node_of
from reference_server.timeline.memcached import Memcached, MemcachedDown, Reply, set_command

TTL_S = 24 * 3600


class MemcachedBodies:
    """The cache of bodies over the region's memcached nodes, by rendezvous hashing of the id's last 8 bytes."""

    def __init__(self, ports: Sequence[int]) -> None:
        self._nodes = [Memcached(port) for port in ports]

    async def wait_connected(self, limit_s: float) -> None:
        """Connect to all nodes, or give up waiting; connecting goes on in the background."""
        await asyncio.gather(*(node.wait_connected(limit_s) for node in self._nodes))

    async def get(self, ids: Sequence[bytes]) -> dict[bytes, bytes]:
        """The values present."""
        shares = self._shares(ids)
        asked = [(share, _ask(node, share)) for node, share in shares]
        found: dict[bytes, bytes] = {}
        for share, replies in asked:
            if replies is None:
                continue
            try:
                values = [reply.value for reply in await replies]  # one reply a command, in order
            except MemcachedDown:
                continue
            found.update((post_id, value) for post_id, value in zip(share, values, strict=False) if value)
        return found

    def _shares(self, ids: Iterable[bytes]) -> list[tuple[Memcached, list[bytes]]]:
        """Each node and the ids it has."""
        if len(self._nodes) == 1:
            return [(self._nodes[0], list(ids))]
        shares: dict[int, list[bytes]] = {}
        for post_id in ids:
            shares.setdefault(self._place(post_id), []).append(post_id)
        return [(self._nodes[node], share) for node, share in shares.items()]

    def add(self, values: Mapping[bytes, bytes]) -> None:
        """Store where absent; does not wait."""
        for node, share in self._shares(values):
            commands = b"".join(
                [
                    b"ms p:%b %d T%d ME q\r\n%b\r\n" % (post_id.hex().encode(), len(value), TTL_S, value)
                    for post_id in share
                    for value in (values[post_id],)
                ]
            )
            if commands:
                node.send(commands)

    async def bury(self, post_id: bytes, author: int) -> bool:
        """Replace a post by its tombstone; False when that is not certain."""
        try:
            return not await self._node(post_id).submit(set_command(f"p:{post_id.hex()}", tombstone(author), TTL_S))
        except MemcachedDown:
            return False

    async def lift(self, post_id: bytes) -> bool:
        """Forget what is stored, so that readers look further; False when that is not certain."""
        try:
            replies = await self._node(post_id).submit(b"md p:%b q\r\n" % post_id.hex().encode())
            return all(reply.code == b"NF" for reply in replies)  # memcached says so although asked to be quiet
        except MemcachedDown:
            return False

    def _place(self, post_id: bytes) -> int:
        return node_of(int.from_bytes(post_id[-8:], "big"), len(self._nodes))

    def _node(self, post_id: bytes) -> Memcached:
        return self._nodes[self._place(post_id)]

    async def close(self) -> None:
        """Disconnect."""
        for node in self._nodes:
            await node.close()


def _ask(node: Memcached, ids: Sequence[bytes]) -> asyncio.Future[list[Reply]] | None:
    if not ids:
        return None
    try:
        return node.submit(b"".join([b"mg p:%b v\r\n" % post_id.hex().encode() for post_id in ids]))
    except MemcachedDown:
        return None


def tombstone(author: int) -> bytes:
    """What stands in place of a post that must not show; -1: its author is not known."""
    return b"-%d" % author
