"""Archive reader over SQLite: read-only connections, one a thread, never on the event loop."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from reference_server.durable.protocol import DurableUnavailable, PostKey, PostRow

THREADS = 2
TIMEOUT_S = 1.0
_AUTHORS_A_QUERY = 500
T = TypeVar("T")


class SqliteReader:
    """Reads a region's `durable.db`, which may appear later than the reader."""

    def __init__(self, path: Path, timeout_s: float = TIMEOUT_S) -> None:
        self._uri = f"file:{path}?mode=ro"
        self._timeout_s = timeout_s
        self._pool = ThreadPoolExecutor(THREADS, thread_name_prefix="durable")
        self._local = threading.local()
        self._opened: list[sqlite3.Connection] = []

    async def posts(self, ids: Sequence[bytes]) -> dict[bytes, PostRow]:
        """See DurableReader."""
        return await self._run(lambda db: _posts(db, ids)) if ids else {}

    async def newest(self, authors: Sequence[int], count: int) -> list[PostKey]:
        """See DurableReader."""
        return await self._run(lambda db: _newest(db, authors, count)) if authors else []

    async def close(self) -> None:
        """See DurableReader."""
        self._pool.shutdown(wait=False, cancel_futures=True)
        for connection in self._opened:
            connection.interrupt()
        await asyncio.to_thread(self._pool.shutdown, True)
        for connection in self._opened:
            connection.close()

    async def _run(self, query: Callable[[sqlite3.Connection], T]) -> T:
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(self._timeout_s):
                return await loop.run_in_executor(self._pool, self._query, query)
        except (sqlite3.Error, TimeoutError, RuntimeError) as error:
            raise DurableUnavailable(str(error) or "no answer in time") from error

    def _query(self, query: Callable[[sqlite3.Connection], T]) -> T:
        connection: sqlite3.Connection | None = getattr(self._local, "connection", None)
        if connection is None:
            connection = sqlite3.connect(self._uri, uri=True, check_same_thread=False)
            connection.execute(f"PRAGMA busy_timeout={int(self._timeout_s * 1000)}")
            self._opened.append(connection)
            self._local.connection = connection
        return query(connection)


def _posts(db: sqlite3.Connection, ids: Sequence[bytes]) -> dict[bytes, PostRow]:
    marks = ",".join("?" * len(ids))
    query = f"SELECT id, author, ts_us, text, reply_to, status FROM posts WHERE id IN ({marks})"
    return {row[0]: PostRow._make(row) for row in db.execute(query, ids)}


def _newest(db: sqlite3.Connection, authors: Sequence[int], count: int) -> list[PostKey]:
    found: list[PostKey] = []
    for start in range(0, len(authors), _AUTHORS_A_QUERY):
        some = authors[start : start + _AUTHORS_A_QUERY]
        marks = ",".join("?" * len(some))
        query = (
            f"SELECT ts_us, id, author FROM posts WHERE author IN ({marks}) AND status = 0"
            " ORDER BY ts_us DESC, id DESC LIMIT ?"
        )
        found += [PostKey._make(row) for row in db.execute(query, (*some, count))]
    found.sort(reverse=True)
    return found[:count]
