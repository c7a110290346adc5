"""Archive reader over SQLite: read-only connections, one a thread, never on the event loop."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from reference_server.durable.archive_pages import is_lacking
from reference_server.durable.protocol import DurableUnavailable, PostKey, PostRow, StoredStatus

THREADS = 2
TIMEOUT_S = 1.0
LOOK_EVERY_S = 1.0
_AUTHORS_A_QUERY = 500
_LATEST_US = (1 << 63) - 1
_DAY_US = 86_400_000_000
_SPANS_US = (_DAY_US, 16 * _DAY_US, _LATEST_US)
"""how far `newest` looks back, until it has enough"""
_NEWEST = """
SELECT newest.ts_us, newest.id, newest.author, posts.labels FROM (
  SELECT ts_us, id, author FROM posts WHERE author IN ({marks}) AND ts_us > ? AND ts_us <= ? AND (ts_us, id) < (?, ?)
  AND status = 0 ORDER BY ts_us DESC, id DESC LIMIT ?) AS newest JOIN posts ON posts.id = newest.id
"""
"""the inner part needs the index alone"""
T = TypeVar("T")


class SqliteReader:
    """Reads a region's `durable.db`, which may appear later than the reader."""

    def __init__(self, path: Path, timeout_s: float = TIMEOUT_S) -> None:
        self._path = path
        self._uri = f"file:{path}?mode=ro"
        self._timeout_s = timeout_s
        self._pool = ThreadPoolExecutor(THREADS, thread_name_prefix="durable")
        self._local = threading.local()
        self.is_lacking = False
        self._opened: list[sqlite3.Connection] = []

    async def posts(self, ids: Sequence[bytes]) -> dict[bytes, PostRow]:
        """See DurableReader."""
        return await self._run(lambda db: _posts(db, ids)) if ids else {}

    async def statuses(self, ids: Sequence[bytes]) -> dict[bytes, StoredStatus]:
        """See DurableReader."""
        return await self._run(lambda db: statuses_of(db, ids)) if ids else {}

    async def newest(
        self, authors: Sequence[int], count: int, before: tuple[int, bytes] | None = None
    ) -> list[PostKey]:
        """See DurableReader."""
        return await self._run(lambda db: _newest(db, authors, count, before)) if authors else []

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
        if connection is None or self._is_another_file():
            if connection is not None:
                self._opened.remove(connection)
                connection.close()
                self._local.connection = None
            self._local.looked_s, self._local.file = time.monotonic(), _file_number(self._path)
            connection = sqlite3.connect(self._uri, uri=True, check_same_thread=False)
            connection.execute(f"PRAGMA busy_timeout={int(self._timeout_s * 1000)}")
            self._opened.append(connection)
            self._local.connection = connection
            self.is_lacking = is_lacking(_positions(connection))
        return query(connection)

    def _is_another_file(self) -> bool:
        """Whether a new archive was begun in place of a damaged one; looked up now and then, as is what it lacks."""
        now_s = time.monotonic()
        if now_s - self._local.looked_s < LOOK_EVERY_S:
            return False
        self._local.looked_s = now_s
        if _file_number(self._path) != self._local.file:
            return True
        if self.is_lacking:
            self.is_lacking = is_lacking(_positions(self._local.connection))
        return False


def _file_number(path: Path) -> int:
    try:
        return path.stat().st_ino
    except OSError:
        return 0


def _positions(db: sqlite3.Connection) -> dict[str, str]:
    return dict(db.execute("SELECT stream, position FROM positions"))


def _posts(db: sqlite3.Connection, ids: Sequence[bytes]) -> dict[bytes, PostRow]:
    marks = ",".join("?" * len(ids))
    query = (
        f"SELECT id, author, ts_us, text, reply_to, status, labels FROM posts WHERE id IN ({marks})"
        " AND (author >= 0 OR status != 0)"  # a row without author holds the status of a post that is on its way
    )
    return {row[0]: PostRow._make(row) for row in db.execute(query, ids)}


def statuses_of(db: sqlite3.Connection, ids: Sequence[bytes]) -> dict[bytes, StoredStatus]:
    """See DurableReader.statuses."""
    marks = ",".join("?" * len(ids))
    query = f"SELECT id, author, ts_us, status, status_hlc, hidden FROM posts WHERE id IN ({marks})"
    return {row[0]: StoredStatus(row[1], row[2], row[3], row[4], bool(row[5])) for row in db.execute(query, ids)}


def _newest(
    db: sqlite3.Connection, authors: Sequence[int], count: int, before: tuple[int, bytes] | None
) -> list[PostKey]:
    """Looks back a day, then further: a history of years is not sorted for its last page."""
    place = before or (_LATEST_US, b"")
    start_us = min(place[0], time.time_ns() // 1000)
    found: list[PostKey] = []
    for span_us in _SPANS_US:
        since_us = start_us - span_us
        found = []
        for start in range(0, len(authors), _AUTHORS_A_QUERY):
            some = authors[start : start + _AUTHORS_A_QUERY]
            query = _NEWEST.format(marks=",".join("?" * len(some)))
            found += [PostKey._make(row) for row in db.execute(query, (*some, since_us, place[0], *place, count))]
        if len(found) >= count or since_us <= 0:
            break
    found.sort(reverse=True)
    return found[:count]
