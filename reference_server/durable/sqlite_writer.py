"""Archive writer over SQLite: WAL mode, synchronous=FULL.

FULL, because an archived row replaces the queue's copy of an acknowledged post: with NORMAL the last transactions of
a WAL may be lost with the power.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from reference_server.durable.protocol import ArchiveBatch, PostRow

FILE_NAME = "durable.db"
_SCHEMA = """
CREATE TABLE IF NOT EXISTS posts(
  id BLOB PRIMARY KEY, author INTEGER NOT NULL, ts_us INTEGER NOT NULL, text TEXT NOT NULL, reply_to BLOB NOT NULL,
  status INTEGER NOT NULL DEFAULT 0) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS posts_by_author ON posts(author, ts_us DESC, status);
CREATE INDEX IF NOT EXISTS posts_hidden ON posts(id) WHERE status != 0;
CREATE TABLE IF NOT EXISTS positions(stream TEXT PRIMARY KEY, position TEXT NOT NULL) WITHOUT ROWID;
"""
_INSERT_POST = """
INSERT INTO posts(id, author, ts_us, text, reply_to, status) VALUES (?, ?, ?, ?, ?, ?)
ON CONFLICT(id) DO UPDATE SET author = excluded.author, ts_us = excluded.ts_us, text = excluded.text,
  reply_to = excluded.reply_to, status = max(posts.status, excluded.status)
"""
_SET_STATUS = """
INSERT INTO posts(id, author, ts_us, text, reply_to, status) VALUES (?, -1, 0, '', x'', ?)
ON CONFLICT(id) DO UPDATE SET status = excluded.status
"""
_SET_POSITION = "INSERT OR REPLACE INTO positions(stream, position) VALUES (?, ?)"
_PREFILLED = "prefill"


class SqliteWriter:
    """The one writer of a region's `durable.db`."""

    def __init__(self, path: Path) -> None:
        self._db = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        self._db.execute("PRAGMA journal_mode=WAL")
        self._db.execute("PRAGMA synchronous=FULL")
        self._db.execute("PRAGMA busy_timeout=5000")
        self._db.executescript(_SCHEMA)

    def archive(self, batch: ArchiveBatch) -> None:
        """See DurableWriter. Raises sqlite3.Error; then nothing of the batch is stored."""
        with self._db:
            self._db.execute("BEGIN IMMEDIATE")
            self._db.executemany(_INSERT_POST, batch.posts)
            self._db.executemany(_SET_STATUS, batch.statuses)
            self._db.executemany(_SET_POSITION, batch.positions.items())

    def prefill(self, rows: Iterable[PostRow]) -> int:
        """See DurableWriter. Raises sqlite3.Error."""
        with self._db:
            self._db.execute("BEGIN IMMEDIATE")
            if self._db.execute("SELECT 1 FROM positions WHERE stream = ?", (_PREFILLED,)).fetchone():
                return 0
            before = self._db.total_changes
            self._db.executemany(_INSERT_POST, rows)
            inserted = self._db.total_changes - before
            self._db.execute(_SET_POSITION, (_PREFILLED, str(inserted)))
        return inserted

    def positions(self) -> Mapping[str, str]:
        """See DurableWriter."""
        return dict(self._db.execute("SELECT stream, position FROM positions"))

    def hidden(self, count: int) -> Sequence[tuple[bytes, int]]:
        """See DurableWriter."""
        query = "SELECT id, author FROM posts INDEXED BY posts_hidden WHERE status != 0 ORDER BY id DESC LIMIT ?"
        return [(row[0], row[1]) for row in self._db.execute(query, (count,))]

    def close(self) -> None:
        """See DurableWriter."""
        self._db.close()
