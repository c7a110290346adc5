"""Follower pages: from redis-cache for follower_cache_ttl_s (five minutes), else from the graph service.

Before pages are asked for, `look` finds out who may have got followers that the graph does not know yet; their pages
wait for it (see graph_changes).

The graph deletes the cached pages of an author whose followers change. A page read before such a change must not be
stored after it, or new followers would be missed for minutes: the reader first leaves a mark under the key, and stores
the page only where its mark still stands. Who finds another worker's mark waits a moment for that worker's page, so a
page that many want at once is read from the graph once.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import msgspec
import numpy as np
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from reference_server.fanout.graph_changes import GraphChanges
from reference_server.flags import Flags
from reference_server.queue import START
from reference_server.rpc import RpcClient, RpcError, RpcTimeout, RpcUnavailable
from reference_server.timeline.index import Users
from reference_server.timeline.measures import GRAPH_READS

_log = logging.getLogger(__name__)
MARK_TTL_S = 5
WALKED_AT_ONCE = 16
WAITS_S = (0.001, 0.002, 0.004, 0.008, 0.015)
"""pauses between looks for the page that another worker is reading; then the graph is asked all the same"""
_MARK = b"mark:"
_TIMEOUT_S = 0.25
_COOL_DOWN_S = 0.5
_FIRST_RETRY_S, _LAST_RETRY_S = 0.02, 0.5
_FINAL = ("not-found", "bad-request")
"""refusals that asking again does not change"""
_STORE = "if redis.call('GET', KEYS[1]) == ARGV[1] then redis.call('SET', KEYS[1], ARGV[2], 'EX', ARGV[3]) end"


class FollowerPage(NamedTuple):
    """Up to 1,000 followers, by lane."""

    hot_offsets: list[int]
    hot: Users
    cold_offsets: list[int]
    cold: Users
    last: bool
    version: int
    """state of the author's follower list: pages of different versions may have lost a follower between them"""

    def hot_of(self, lane: int) -> Users:
        """Hot followers of a lane."""
        return self.hot[self.hot_offsets[lane] : self.hot_offsets[lane + 1]]

    def cold_of(self, lane: int) -> Users:
        """Cold followers of a lane."""
        return self.cold[self.cold_offsets[lane] : self.cold_offsets[lane + 1]]


class _Wire(msgspec.Struct, array_like=True):
    hot: tuple[list[int], bytes]
    cold: tuple[list[int], bytes]
    last: bool
    version: int = 0


_decoder = msgspec.msgpack.Decoder(_Wire)


def decode_page(data: bytes) -> FollowerPage:
    """A page from its msgpack form. Raises msgspec.DecodeError."""
    wire = _decoder.decode(data)
    hot, cold = np.frombuffer(wire.hot[1], "<u4"), np.frombuffer(wire.cold[1], "<u4")
    return FollowerPage(wire.hot[0], hot, wire.cold[0], cold, wire.last, wire.version)


def cache_key(author: int, page: int) -> str:
    """Where a page is kept."""
    return f"followers:{author}:{page}"


class FollowerPages:
    """Reads pages, waiting for the graph as long as it takes."""

    def __init__(
        self, graph: RpcClient, changes: GraphChanges, redis_port: int, lanes: int, flags: Callable[[], Flags]
    ) -> None:
        """With the flag follower_cache off each page comes from the graph."""
        self._graph, self._changes, self._flags = graph, changes, flags
        nobody = [[0] * (lanes + 1), b""]
        self._refused = msgspec.msgpack.encode([nobody, nobody, True])
        """stands for a page that the graph will never give"""
        self._redis: Any = Redis(
            host="127.0.0.1",
            port=redis_port,
            protocol=2,
            socket_timeout=_TIMEOUT_S,
            socket_connect_timeout=_TIMEOUT_S,
            retry=Retry(NoBackoff(), 0),
        )
        self._away_until = 0.0
        self._fetches: dict[tuple[int | str, ...], asyncio.Task[FollowerPage]] = {}

    async def look(self) -> None:
        """Find out whose pages must wait for the graph: what was accepted before now counts for pages asked for later.

        Raises QueueUnavailable, Backpressure.
        """
        await self._changes.look()

    async def request_many(self, wanted: Sequence[tuple[int, int]]) -> list[asyncio.Future[FollowerPage]]:
        """The (author, page) asked for, in that order; cached ones are there at once, others when the graph answers."""
        # Before the cache is read: while an old page is on its way the graph may apply the change and be found level.
        late = {author for author, _ in wanted if self._changes.awaited(author) != START}
        futures: list[asyncio.Future[FollowerPage]] = []
        for key, value in zip(wanted, await self._from_cache(wanted), strict=True):
            if value is None or value.startswith(_MARK) or key[0] in late:
                futures.append(self._fetching(key))
                continue
            GRAPH_READS.labels("cache").inc()
            future = asyncio.get_running_loop().create_future()
            future.set_result(decode_page(value))
            futures.append(future)
        return futures

    async def walk(self, author: int, pages: int) -> list[FollowerPage]:
        """All pages of an author straight from the graph; as fast as can be, so that they are of one version.

        `pages`: how many there were lately. WALKED_AT_ONCE of them are asked for together, so that the graph serves
        others between them, sign-ups first of all.
        """
        found: list[FollowerPage] = []
        for start in range(0, pages, WALKED_AT_ONCE):
            some = range(start, min(start + WALKED_AT_ONCE, pages))
            found += [decode_page(data) for data in await asyncio.gather(*[self._ask(author, n) for n in some])]
        while not any(page.last for page in found):
            found.append(decode_page(await self._ask(author, len(found))))
        return found[: [page.last for page in found].index(True) + 1]

    async def close(self) -> None:
        """Drop what is under way and the connection to redis-cache."""
        for task in self._fetches.values():
            task.cancel()
        await asyncio.gather(*self._fetches.values(), return_exceptions=True)
        await self._redis.aclose()

    def _fetching(self, wanted: tuple[int, int]) -> asyncio.Task[FollowerPage]:
        """A fetch that is under way is shared, unless it may have been answered before a change that counts now."""
        key = (*wanted, self._changes.awaited(wanted[0]), self._changes.levels)
        task = self._fetches.get(key)
        if task is None:
            task = self._fetches[key] = asyncio.ensure_future(self._fetch(*wanted))
            task.add_done_callback(lambda _: self._fetches.pop(key, None))
        return task

    async def _from_cache(self, wanted: Sequence[tuple[int, int]]) -> list[bytes | None]:
        values = await self._command("MGET", *[cache_key(*key) for key in wanted]) if wanted else None
        return [None] * len(wanted) if values is None else values

    async def _command(self, *command: Any) -> Any:
        """The reply; None while redis-cache is away or not wanted."""
        if not self._flags().follower_cache or time.monotonic() < self._away_until:
            return None
        try:
            return await self._redis.execute_command(*command)
        except (RedisError, OSError) as error:
            _log.warning("follower pages without redis-cache: %s", error)
            self._away_until = time.monotonic() + _COOL_DOWN_S
            return None

    async def _fetch(self, author: int, page: int) -> FollowerPage:
        if not await self._changes.settle(author):
            return decode_page(await self._ask(author, page))
        key, mark = cache_key(author, page), _MARK + secrets.token_bytes(8)
        marked = await self._command("SET", key, mark, "NX", "EX", MARK_TTL_S)
        if not marked and (value := await self._await_page(key)) is not None:
            GRAPH_READS.labels("other").inc()
            return decode_page(value)
        data = await self._ask(author, page)
        if marked and data is not self._refused:
            await self._command("EVAL", _STORE, 1, key, mark, data, self._flags().follower_cache_ttl_s)
        return decode_page(data)

    async def _await_page(self, key: str) -> bytes | None:
        """The page that another worker has stored, or stores within a moment."""
        for wait_s in (*WAITS_S, 0.0):
            value: bytes | None = await self._command("GET", key)
            if value is None or not value.startswith(_MARK):
                return value
            await asyncio.sleep(wait_s)
        return None

    async def _ask(self, author: int, page: int) -> bytes:
        """The page in msgpack, from the graph; retries until it answers. Refused: a last page with nobody."""
        wait_s = _FIRST_RETRY_S
        while True:
            try:
                reply = await self._graph.call("followers", author, page)
            except (RpcUnavailable, RpcTimeout, RpcError) as error:
                if isinstance(error, RpcError) and error.code in _FINAL:
                    _log.error("a post reaches nobody, the graph has no page %d of %d: %s", page, author, error)
                    return self._refused
                _log.warning("followers of %d wait for the graph: %s", author, error)
                await asyncio.sleep(wait_s)
                wait_s = min(2 * wait_s, _LAST_RETRY_S)
                continue
            GRAPH_READS.labels("graph").inc()
            return msgspec.msgpack.encode(reply)
