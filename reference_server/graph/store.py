"""graph.db: the changes, durable, together with the position in the graph stream that they stand for.

One transaction a batch holds rows and position, so a SIGKILL at any moment loses nothing and applies nothing twice.
Checkpoints (the only fsyncs) run in a thread of their own.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from pathlib import Path

from reference_server.graph.changes import Applied, Changes, Switches, Versioned

_SCHEMA = """
CREATE TABLE IF NOT EXISTS meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS users (user INTEGER PRIMARY KEY, joined INTEGER NOT NULL, covered INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS follows (user INTEGER, other INTEGER, hlc INTEGER NOT NULL, active INTEGER NOT NULL,
    PRIMARY KEY (user, other)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS blocks (user INTEGER, other INTEGER, hlc INTEGER NOT NULL, active INTEGER NOT NULL,
    PRIMARY KEY (user, other)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS likes (user INTEGER, other INTEGER, PRIMARY KEY (user, other)) WITHOUT ROWID;
"""
START = "0-0"


class GraphStore:
    """The database of one region's graph service."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.existed = path.exists()
        """whether an earlier life left data"""
        self._db = _open(path)
        self._db.executescript(_SCHEMA)

    def position(self) -> str:
        """Id of the last entry of the graph stream whose effect is in here."""
        row = self._db.execute("SELECT value FROM meta WHERE key = 'position'").fetchone()
        return str(row[0]) if row else START

    def load(self, changes: Changes) -> None:
        """Put everything stored into `changes`."""
        for user, joined, covered in self._db.execute("SELECT user, joined, covered FROM users"):
            if changes.knows(user):
                changes.joined[user] = bool(joined)
                changes.covered[user] = covered
        self._load_switches("follows", changes.follows)
        self._load_switches("blocks", changes.blocks)
        for user, other in self._db.execute("SELECT user, other FROM likes"):
            changes.like(user, other)

    def _load_switches(self, table: str, switches: Switches) -> None:
        for user, other, hlc, active in self._db.execute(f"SELECT user, other, hlc, active FROM {table}"):
            switches.put(user, other, Versioned(hlc, bool(active)))

    def commit(self, changes: Changes, applied: Applied, position: str | None = None) -> None:
        """Store what changed and, with it, the position reached."""
        users = ((u, int(changes.joined[u]), int(changes.covered[u])) for u in applied.users)
        db = self._db
        db.execute("BEGIN IMMEDIATE")
        try:
            db.executemany("INSERT OR REPLACE INTO users VALUES (?, ?, ?)", users)
            db.executemany(
                "INSERT OR REPLACE INTO follows VALUES (?, ?, ?, ?)", _rows(changes.follows, applied.follows)
            )
            db.executemany("INSERT OR REPLACE INTO blocks VALUES (?, ?, ?, ?)", _rows(changes.blocks, applied.blocks))
            db.executemany("INSERT OR IGNORE INTO likes VALUES (?, ?)", applied.likes)
            if position is not None:
                db.execute("INSERT OR REPLACE INTO meta VALUES ('position', ?)", (position,))
            db.execute("COMMIT")
        except sqlite3.Error:
            db.execute("ROLLBACK")
            raise

    def close(self) -> None:
        """Close the database."""
        self._db.close()


def checkpoint(path: Path) -> None:
    """Move the log's pages into the database file. For a thread: it uses its own connection."""
    db = _open(path)
    try:
        db.execute("PRAGMA wal_checkpoint(PASSIVE)")
    finally:
        db.close()


def _open(path: Path) -> sqlite3.Connection:
    db = sqlite3.connect(path, isolation_level=None, timeout=5.0)
    for pragma in ("journal_mode = WAL", "synchronous = NORMAL", "wal_autocheckpoint = 0"):
        db.execute(f"PRAGMA {pragma}")
    return db


def _rows(switches: Switches, pairs: Iterable[tuple[int, int]]) -> list[tuple[int, int, int, int]]:
    found = [(user, other, switches.get(user, other)) for user, other in pairs]
    return [(user, other, value.hlc, int(value.on)) for user, other, value in found]
