"""Deletes cached follower pages from redis-cache when an author's followers change.

Fan-out keeps pages there (`followers:{author}:{page}`) for as long as follower_cache_ttl_s says. A change deletes them
at once, but at most once in 100 ms an author; and once more a second later, because fan-out may have asked us before
the change and stored the answer after the deletion. A cache that is away is tried again until it answers: it may be
paused, old pages in it. An earlier life may have been killed between a change and its deletions: a new one begins by
deleting all pages.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterable

from prometheus_client import Counter
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

log = logging.getLogger(__name__)
INTERVAL_S = 0.1
AGAIN_AFTER_S = 1.0
TTL_S = 300.0
LATE_S = 15.0
"""a page may be stored so long after it was served, or after the flag changed"""
ANSWER_LIMIT_S = 0.2
KEYS_A_COMMAND = 500
_Ticket = tuple[set[int], asyncio.Future[None]]
"""(authors whose pages are to be deleted, who waits for that)"""
DELETED = Counter("feed_graph_page_deletions", "Cached follower pages that changes made the graph service delete")


class FollowerPages:
    """Knows which pages may be cached, and deletes those that changed. `pages_of` counts an author's pages."""

    def __init__(self, port: int, pages_of: Callable[[int], int], *, earlier_life: bool, ttl_s: float = TTL_S) -> None:
        """`ttl_s`: how long fan-out keeps a page at present."""
        self._redis = Redis(
            host="127.0.0.1",
            port=port,
            socket_timeout=ANSWER_LIMIT_S,
            socket_connect_timeout=ANSWER_LIMIT_S,
            retry=Retry(NoBackoff(), 0),
            driver_info=None,
        )
        self._pages_of = pages_of
        self._ttl_s = ttl_s
        self._any_cached_until = time.monotonic() + ttl_s + LATE_S if earlier_life else 0.0
        self._served: dict[int, tuple[float, int]] = {}
        self._due: dict[int, float] = {}
        self._deleted_at: dict[int, float] = {}
        self._again: dict[int, float] = {}
        self._wake = asyncio.Event()
        self._tickets: list[_Ticket] = []
        self._failed: set[int] = set()
        """authors whose pages could not be deleted yet"""
        self._left = earlier_life
        """whether pages of an earlier life may be there that it should have deleted"""
        self._begun: asyncio.Future[None] | None = None

    @property
    def is_clean(self) -> bool:
        """Whether no page is left in the cache whose deletion was tried in vain."""
        return not self._failed and not self._left

    def begin(self) -> asyncio.Future[None] | None:
        """Have the pages of an earlier life deleted; done when that was tried. None: there was none."""
        if not self._left:
            return None
        self._begun = asyncio.get_running_loop().create_future()
        return self._begun

    def set_ttl(self, ttl_s: float) -> None:
        """Fan-out keeps pages for so long from about now on; until older ones are gone any page may be there."""
        longest_s = max(ttl_s, self._ttl_s)
        if ttl_s != self._ttl_s:
            self._any_cached_until = max(self._any_cached_until, time.monotonic() + longest_s + LATE_S)
        self._ttl_s = ttl_s

    def served(self, author: int, page: int) -> None:
        """Fan-out was given this page, and may cache it."""
        _, highest = self._served.get(author, (0.0, 0))
        self._served[author] = (time.monotonic() + self._ttl_s + LATE_S, max(highest, page))

    def changed(self, authors: Iterable[int]) -> asyncio.Future[None] | None:
        """Have the pages of these authors deleted; done when that was tried. None: none of them can be cached."""
        now = time.monotonic()
        cached = [a for a in authors if now < max(self._served.get(a, (0.0, 0))[0], self._any_cached_until)]
        if not cached:
            return None
        for author in cached:
            self._due.setdefault(author, max(now, self._deleted_at.get(author, 0.0) + INTERVAL_S))
        ticket: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._tickets.append((set(cached), ticket))
        self._wake.set()
        return ticket

    async def run(self) -> None:
        """Delete what is due, for ever."""
        while True:
            if self._left:
                await self._delete_left()
            await self._sleep()
            now = time.monotonic()
            due = [author for author, at in self._due.items() if at <= now]
            again = [author for author, at in self._again.items() if at <= now]
            if due or again:
                await self._delete(due, again)

    async def _sleep(self) -> None:
        times = [*self._due.values(), *self._again.values()]
        if self._left:
            times.append(time.monotonic() + INTERVAL_S)
        timeout_s = max(min(times) - time.monotonic(), 0.001) if times else None
        try:
            async with asyncio.timeout(timeout_s):
                await self._wake.wait()
        except TimeoutError:
            return
        self._wake.clear()

    async def _delete(self, due: list[int], again: list[int]) -> None:
        keys = [f"followers:{a}:{page}" for a in {*due, *again} for page in range(self._highest(a) + 1)]
        for author in due:
            del self._due[author]
        for author in again:
            self._again.pop(author, None)
        waiting, self._tickets = self._tickets, []  # who comes meanwhile waits for the next deletion
        try:
            pipeline = self._redis.pipeline(transaction=False)
            for start in range(0, len(keys), KEYS_A_COMMAND):
                pipeline.unlink(*keys[start : start + KEYS_A_COMMAND])
            DELETED.inc(sum(await pipeline.execute()))
        except (RedisError, OSError, TimeoutError) as error:
            log.info("follower pages not deleted yet: %s", error)
            self._release(waiting, None)
            retry_at = time.monotonic() + INTERVAL_S
            self._due.update(dict.fromkeys({*due, *again}, retry_at))
            self._failed.update(due, again)
            return
        self._failed.difference_update(due, again)
        self._release(waiting, due)
        now = time.monotonic()
        for author in due:
            self._deleted_at[author] = now
            self._again[author] = now + AGAIN_AFTER_S
        self._forget_old(now)

    async def _delete_left(self) -> None:
        cursor = 0
        try:
            while True:
                cursor, keys = await self._redis.scan(cursor, match="followers:*", count=KEYS_A_COMMAND)
                if keys:
                    DELETED.inc(await self._redis.unlink(*keys))
                if not cursor:
                    break
            self._left = False
        except (RedisError, OSError, TimeoutError) as error:
            log.info("follower pages of an earlier life not deleted yet: %s", error)
        if self._begun is not None and not self._begun.done():
            self._begun.set_result(None)

    def _highest(self, author: int) -> int:
        _, served = self._served.get(author, (0.0, 0))
        if time.monotonic() < self._any_cached_until:
            return max(served, self._pages_of(author))
        return served

    def _release(self, tickets: list[_Ticket], deleted: list[int] | None) -> None:
        """Let those go on who wait for these deletions; None: the cache is away, nobody shall wait for it."""
        for authors, ticket in tickets:
            authors.difference_update(authors if deleted is None else deleted)
            if authors:
                self._tickets.append((authors, ticket))
            elif not ticket.done():
                ticket.set_result(None)

    def _forget_old(self, now: float) -> None:
        if len(self._deleted_at) > 10_000:
            self._deleted_at = {a: at for a, at in self._deleted_at.items() if now - at < INTERVAL_S}
        if len(self._served) > 200_000:
            self._served = {a: kept for a, kept in self._served.items() if kept[0] > now}

    async def close(self) -> None:
        """Drop the connection."""
        await self._redis.aclose()
