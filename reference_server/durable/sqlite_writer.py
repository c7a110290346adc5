"""Archive writer over SQLite: WAL mode, synchronous=FULL.

FULL, because an archived row replaces the queue's copy of an acknowledged post: with NORMAL the last transactions of
a WAL may be lost with the power.

Damage that is met leaves a mark beside the file, so that whoever opens the archive next moves it aside: trying again,
or beginning again at the same place, would meet it again.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from reference_server import sqlite_files
from reference_server.durable.protocol import ArchiveBatch, PostRow, StoredStatus
from reference_server.durable.replay import DurableDamaged
from reference_server.durable.sqlite_reader import statuses_of

FILE_NAME = "durable.db"
_SCHEMA = """
CREATE TABLE IF NOT EXISTS posts(
  id BLOB PRIMARY KEY, author INTEGER NOT NULL, ts_us INTEGER NOT NULL, text TEXT NOT NULL, reply_to BLOB NOT NULL,
  status INTEGER NOT NULL DEFAULT 0, labels INTEGER NOT NULL DEFAULT 0, status_hlc INTEGER NOT NULL DEFAULT 0,
  hidden INTEGER NOT NULL DEFAULT 0) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS posts_by_author ON posts(author, ts_us DESC, status);
CREATE INDEX IF NOT EXISTS posts_hidden ON posts(id) WHERE status != 0;
CREATE TABLE IF NOT EXISTS positions(stream TEXT PRIMARY KEY, position TEXT NOT NULL) WITHOUT ROWID;
"""
_SHOWN_INDEX = """
CREATE INDEX IF NOT EXISTS posts_shown ON posts(status_hlc) WHERE status = 0 AND status_hlc > 0
"""
_LATER_COLUMNS = ("labels", "status_hlc", "hidden")
"""columns that a file of an earlier version lacks"""
_INSERT_POST = """
INSERT INTO posts(id, author, ts_us, text, reply_to, status, labels) VALUES (?, ?, ?, ?, ?, ?, ?)
ON CONFLICT(id) DO UPDATE SET author = excluded.author, ts_us = excluded.ts_us, text = excluded.text,
  reply_to = excluded.reply_to, status = max(posts.status, excluded.status), labels = excluded.labels
"""
_SET_STATUS = """
INSERT INTO posts(id, author, ts_us, text, reply_to, status, status_hlc, hidden)
VALUES (:id, -1, 0, '', x'', :status, :hlc, :status = 1)
ON CONFLICT(id) DO UPDATE SET status = excluded.status, status_hlc = excluded.status_hlc,
  hidden = CASE WHEN excluded.status < 2 THEN excluded.hidden ELSE posts.hidden END
WHERE posts.status != 3 AND (excluded.status = 3 OR excluded.status_hlc > posts.status_hlc)
"""
_SET_POSITION = "INSERT OR REPLACE INTO positions(stream, position) VALUES (?, ?)"
_PREFILLED = "prefill"
_DAMAGES = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)


class SqliteWriter:
    """The one writer of a region's `durable.db`. Every call raises DurableDamaged where the file cannot be read."""

    def __init__(self, path: Path) -> None:
        self._path = path
        with self._noticing_damage():
            self._db = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
            self._db.execute("PRAGMA journal_mode=WAL")
            self._db.execute("PRAGMA synchronous=FULL")
            self._db.execute("PRAGMA busy_timeout=5000")
            self._db.executescript(_SCHEMA)
            known = {row[1] for row in self._db.execute("PRAGMA table_info(posts)")}
            for column in _LATER_COLUMNS:
                if column not in known:
                    self._db.execute(f"ALTER TABLE posts ADD COLUMN {column} INTEGER NOT NULL DEFAULT 0")
            self._db.execute(_SHOWN_INDEX)

    @contextmanager
    def _noticing_damage(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.DatabaseError as error:
            if getattr(error, "sqlite_errorcode", 0) & 0xFF not in _DAMAGES:
                raise
            sqlite_files.suspect(self._path, str(error))
            raise DurableDamaged(str(error)) from error

    def archive(self, batch: ArchiveBatch) -> None:
        """See DurableWriter. Raises sqlite3.Error; then nothing of the batch is stored."""
        with self._noticing_damage(), self._db:
            self._db.execute("BEGIN IMMEDIATE")
            self._db.executemany(_INSERT_POST, batch.posts)
            self._db.executemany(_SET_STATUS, [row._asdict() for row in batch.statuses])
            self._db.executemany(_SET_POSITION, batch.positions.items())

    def prefill(self, rows: Iterable[PostRow]) -> int:
        """See DurableWriter. Raises sqlite3.Error."""
        with self._noticing_damage(), self._db:
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
        with self._noticing_damage():
            return dict(self._db.execute("SELECT stream, position FROM positions"))

    def statuses(self, ids: Sequence[bytes]) -> Mapping[bytes, StoredStatus]:
        """See DurableWriter."""
        with self._noticing_damage():
            return statuses_of(self._db, ids) if ids else {}

    def hidden(self, count: int) -> Sequence[tuple[bytes, int]]:
        """See DurableWriter."""
        query = "SELECT id, author FROM posts INDEXED BY posts_hidden WHERE status != 0 ORDER BY id DESC LIMIT ?"
        with self._noticing_damage():
            return [(row[0], row[1]) for row in self._db.execute(query, (count,))]

    def shown(self, count: int) -> Sequence[bytes]:
        """See DurableWriter."""
        query = (
            "SELECT id FROM posts INDEXED BY posts_shown WHERE status = 0 AND status_hlc > 0"
            " ORDER BY status_hlc DESC LIMIT ?"
        )
        with self._noticing_damage():
            return [row[0] for row in self._db.execute(query, (count,))]

    def close(self) -> None:
        """See DurableWriter."""
        self._db.close()
