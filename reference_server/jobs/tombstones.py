"""Deleted posts must not come back from memcached: their tombstones are set there until it is certain that they hold.

A node that is paused keeps its old values, so a failed set is tried again; one that was restarted is empty, and readers
find the status in the durable store.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

MAX_A_ROUND = 1000


class TombstoneCache(Protocol):
    """Where post bodies are cached."""

    async def bury(self, post_id: bytes, author: int) -> bool:
        """Replace a post by its tombstone; False when that is not certain."""


class Tombstones:
    """Those not set yet."""

    def __init__(self, cache: TombstoneCache) -> None:
        self._cache = cache
        self._pending: dict[bytes, int] = {}

    def add(self, deleted: Iterable[tuple[bytes, int]]) -> None:
        """(post id, author) of posts deleted."""
        self._pending.update(deleted)

    @property
    def pending(self) -> int:
        """How many are not set yet."""
        return len(self._pending)

    async def flush(self) -> None:
        """Set what is pending; stops at the first failure, the rest waits for the next round."""
        for post_id, author in list(self._pending.items())[:MAX_A_ROUND]:
            if not await self._cache.bury(post_id, author):
                return
            del self._pending[post_id]
