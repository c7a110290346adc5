"""Posts that must not show must not come back from memcached: their tombstones are set there until it is certain that
they hold. The tombstones of posts that may show again are taken away as surely.

A node that is paused keeps its old values, so a failed command is tried again; one that was restarted is empty, and
readers find the status in the durable store.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

MAX_A_ROUND = 1000


class TombstoneCache(Protocol):
    """Where post bodies are cached."""

    async def bury(self, post_id: bytes, author: int) -> bool:
        """Replace a post by its tombstone; False when that is not certain."""

    async def lift(self, post_id: bytes) -> bool:
        """Forget what is cached of a post; False when that is not certain."""


class Tombstones:
    """Those not set, or not taken away, yet."""

    def __init__(self, cache: TombstoneCache) -> None:
        self._cache = cache
        self._pending: dict[bytes, int | None] = {}
        """post -> author, None: its tombstone is to go"""

    def add(self, gone: Iterable[tuple[bytes, int]]) -> None:
        """(post id, author) of posts that must not show."""
        for post_id, author in gone:
            self._pending[post_id] = author

    def lift(self, shown: Iterable[bytes]) -> None:
        """Posts that may show again."""
        for post_id in shown:
            self._pending[post_id] = None

    @property
    def pending(self) -> int:
        """How many are not done yet."""
        return len(self._pending)

    async def flush(self) -> None:
        """Do what is pending; stops at the first failure, the rest waits for the next round."""
        for post_id, author in list(self._pending.items())[:MAX_A_ROUND]:
            done = await (self._cache.lift(post_id) if author is None else self._cache.bury(post_id, author))
            if not done:
                return
            if self._pending.get(post_id, -2) == author:  # else it was changed meanwhile
                del self._pending[post_id]
