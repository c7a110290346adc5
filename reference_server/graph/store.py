"""graph.db: the changes, durable, together with the position in the graph stream that they stand for.

One transaction a batch holds rows and position, so a SIGKILL at any moment loses nothing and applies nothing twice.
Checkpoints (the only fsyncs) run in a thread of their own.
"""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Callable, Iterable
from pathlib import Path

from reference_server.events import Reader
from reference_server.graph.changes import Applied, Changes, Switches, Versioned
from reference_server.graph.interactions import wall_us

_SCHEMA = """
CREATE TABLE IF NOT EXISTS meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS users (user INTEGER PRIMARY KEY, joined INTEGER NOT NULL, covered INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS follows (user INTEGER, other INTEGER, hlc INTEGER NOT NULL, active INTEGER NOT NULL,
    PRIMARY KEY (user, other)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS blocks (user INTEGER, other INTEGER, hlc INTEGER NOT NULL, active INTEGER NOT NULL,
    PRIMARY KEY (user, other)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS likes (user INTEGER, other INTEGER, at_us INTEGER NOT NULL, PRIMARY KEY (user, other))
    WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS readers (user INTEGER, other INTEGER, hlc INTEGER NOT NULL, active INTEGER NOT NULL,
    PRIMARY KEY (user, other)) WITHOUT ROWID;
"""
START = "0-0"
log = logging.getLogger(__name__)


class GraphStore:
    """The database of one region's graph service."""

    def __init__(self, path: Path) -> None:
        self.existed = path.exists()
        """whether an earlier life left data"""
        self.path = path
        self._db = _open(path)
        self._db.executescript(_SCHEMA)
        self._add_times()
        self._split_profiles()

    def _add_times(self) -> None:
        """Likes that an earlier version stored without a time count from now on."""
        if "at_us" not in {row[1] for row in self._db.execute("PRAGMA table_info(likes)")}:
            self._db.execute(f"ALTER TABLE likes ADD COLUMN at_us INTEGER NOT NULL DEFAULT {wall_us()}")

    def _split_profiles(self) -> None:
        """An earlier version had one clock for all that a user said about himself."""
        if not self._db.execute("SELECT 1 FROM sqlite_master WHERE name = 'profiles'").fetchone():
            return
        self._db.execute("BEGIN IMMEDIATE")
        for bit in Reader:
            statement = "INSERT OR IGNORE INTO readers SELECT user, ?1, hlc, reader & ?1 > 0 FROM profiles"
            self._db.execute(statement, (int(bit),))
        self._db.execute("DROP TABLE profiles")
        self._db.execute("COMMIT")

    def position(self) -> str:
        """Id of the last entry of the graph stream whose effect is in here."""
        return _position(self._db)

    def load(self, changes: Changes, *, forgets_blocks: bool = False) -> None:
        """Put everything stored into `changes`, both directions made from the one row an edge has.

        Rows that make no sense for this population are left out, and told of. `forgets_blocks` is the planted defect
        "block-lost-at-restart".
        """
        odd = 0
        for user, joined, covered in self._db.execute("SELECT user, joined, covered FROM users"):
            if changes.knows(user) and covered >= 0:
                changes.joined[user] = bool(joined)
                changes.covered[user] = covered
            else:
                odd += 1
        odd += self._load_switches("follows", changes.fits, changes.put_follow)
        if not forgets_blocks:
            odd += self._load_switches("blocks", changes.fits, changes.blocks.put)
        odd += self._load_switches("readers", changes.fits_reader, changes.readers.put)
        odd += self._load_likes(changes)
        if odd:
            log.error("graph.db: %d rows do not fit the population, they are left out", odd)

    def _load_switches(
        self, table: str, fits: Callable[[int, int], bool], put: Callable[[int, int, Versioned], bool]
    ) -> int:
        """How many rows were left out."""
        odd = 0
        for user, other, hlc, active in self._db.execute(f"SELECT user, other, hlc, active FROM {table}"):
            if fits(user, other):
                put(user, other, Versioned(hlc, bool(active)))
            else:
                odd += 1
        return odd

    def _load_likes(self, changes: Changes) -> int:
        """How many rows were left out. What was over by now is deleted."""
        odd, interactions = 0, changes.interactions
        self._db.execute("DELETE FROM likes WHERE at_us <= ?", (interactions.since_us(),))
        for user, other, at_us in self._db.execute("SELECT user, other, at_us FROM likes"):
            if changes.fits(user, other):
                interactions.note(user, other, at_us)
            else:
                odd += 1
        self._db.executemany("DELETE FROM likes WHERE user = ? AND other = ?", interactions.make_room())
        return odd

    @property
    def imports_lost(self) -> bool:
        """Whether imports may have been forgotten: the database was made anew, and nobody has asked for them since."""
        return self._db.execute("SELECT 1 FROM meta WHERE key = 'imports lost'").fetchone() is not None

    @imports_lost.setter
    def imports_lost(self, lost: bool) -> None:
        statement = "INSERT OR REPLACE INTO meta VALUES ('imports lost', '1')"
        self._db.execute(statement if lost else "DELETE FROM meta WHERE key = 'imports lost'")

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
            db.executemany("DELETE FROM likes WHERE user = ? AND other = ?", applied.ended)
            db.executemany("INSERT OR REPLACE INTO likes VALUES (?, ?, ?)", _likes(changes, applied.likes))
            readers = _rows(changes.readers, applied.readers)
            db.executemany("INSERT OR REPLACE INTO readers VALUES (?, ?, ?, ?)", readers)
            if position is not None:
                db.execute("INSERT OR REPLACE INTO meta VALUES ('position', ?)", (position,))
            db.execute("COMMIT")
        except sqlite3.Error:
            db.execute("ROLLBACK")
            raise

    def close(self) -> None:
        """Close the database."""
        self._db.close()


def stored_position(path: Path) -> str:
    """The position in the database at `path`; "" where there is none."""
    if not path.exists():
        return ""
    db = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
    try:
        return _position(db)
    finally:
        db.close()


def _position(db: sqlite3.Connection) -> str:
    row = db.execute("SELECT value FROM meta WHERE key = 'position'").fetchone()
    return str(row[0]) if row else START


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


def _likes(changes: Changes, pairs: Iterable[tuple[int, int]]) -> list[tuple[int, int, int]]:
    found = [(user, other, changes.interactions.last_us(user, other)) for user, other in pairs]
    return [like for like in found if like[2] >= 0]
