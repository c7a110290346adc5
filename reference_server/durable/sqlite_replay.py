"""What a lane that lost its log reads from the archive: every post from some time on, in order of ids.

One read-only connection of its own, used by one thread at a time. Ids are UUIDv7, so their order is that of time, and a
time is a place in it. A pass goes on where it stopped; what is archived behind its place meanwhile is not seen, but
comes from the queue, whose positions must have been asked for before the pass began.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence
from pathlib import Path

from reference_server.durable.protocol import DurableUnavailable
from reference_server.durable.replay import ArchivedPost, DurableDamaged

BUSY_TIMEOUT_S = 1.0
_SLACK_MS = 5000
"""an id may be older than its post's timestamp by so much"""
_PASSING = (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_INTERRUPT, sqlite3.SQLITE_CANTOPEN)
_POSITIONS = "SELECT stream, position FROM positions"
_POSTS = """
SELECT id, author, ts_us, status, status_hlc, labels FROM posts
WHERE id > ? AND NOT (author >= 0 AND ts_us < ?) ORDER BY id LIMIT ?
"""
_OLDER = "SELECT 1 FROM posts WHERE id < ? AND ts_us >= ? LIMIT 1"
_ANY = "SELECT 1 FROM posts WHERE id > ? AND NOT (author >= 0 AND ts_us < ?) LIMIT 1"


def first_id(since_us: int) -> bytes:
    """An id below those of all posts from that time on."""
    return max(0, since_us // 1000 - _SLACK_MS).to_bytes(6, "big") + bytes(10)


class SqliteReplay:
    """See the module and DurableReplay."""

    def __init__(self, path: Path) -> None:
        """Raises FileNotFoundError, DurableUnavailable, DurableDamaged."""
        if not path.exists():
            raise FileNotFoundError(path)
        try:
            self._db = sqlite3.connect(
                f"file:{path}?mode=ro", uri=True, check_same_thread=False, timeout=BUSY_TIMEOUT_S
            )
        except sqlite3.Error as error:
            raise _told(error) from error

    def positions(self) -> Mapping[str, str]:
        """See DurableReplay."""
        return {str(stream): str(position) for stream, position in self._rows(_POSITIONS, ())}

    def posts(self, after: bytes, not_before_us: int, count: int) -> Sequence[ArchivedPost]:
        """See DurableReplay."""
        return [ArchivedPost._make(row) for row in self._rows(_POSTS, (after, not_before_us, count))]

    def has_posts(self, after: bytes, not_before_us: int) -> bool:
        """See DurableReplay."""
        return bool(self._rows(_ANY, (after, not_before_us)))

    def has_older(self, than: bytes, not_before_us: int) -> bool:
        """See DurableReplay."""
        return bool(self._rows(_OLDER, (than, not_before_us)))

    def close(self) -> None:
        """See DurableReplay."""
        self._db.close()

    def _rows(self, query: str, arguments: tuple[object, ...]) -> list[tuple[object, ...]]:
        try:
            return self._db.execute(query, arguments).fetchall()
        except sqlite3.Error as error:
            if "no such table" in str(error):
                return []  # its writer is about to make it
            raise _told(error) from error


def _told(error: sqlite3.Error) -> Exception:
    passing = isinstance(error, sqlite3.OperationalError) and (
        error.sqlite_errorcode & 0xFF in _PASSING or "no such column" in str(error)  # written by an earlier version
    )
    return DurableUnavailable(str(error)) if passing else DurableDamaged(str(error))
