"""What the faults on a durable store share: a look from outside at whether an SQLite file can be written to now."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from chaos.handles import Handle
from chaos.kind import FaultError

READ_BACK_S = 2.0


def store_uri(handle: Handle) -> str:
    """The handle's store, to be opened for writing, never to be made. Raises FaultError: it is no SQLite file."""
    uri = f"{Path(handle.durable).resolve().as_uri()}?mode=rw"
    try:
        _connected(uri.replace("mode=rw", "mode=ro"), 0).close()
    except sqlite3.Error as error:
        raise FaultError(f"{handle.name}: {handle.durable} cannot be read as an SQLite file: {error}") from error
    return uri


def can_be_written(uri: str, within_s: float) -> bool:
    """Whether a write lock is to be had within that time; it is let go of at once. Raises FaultError: no such store."""
    try:
        db = _connected(uri, within_s)
        try:
            db.execute("BEGIN IMMEDIATE")
            db.execute("ROLLBACK")
        finally:
            db.close()
    except sqlite3.OperationalError as error:
        if error.sqlite_errorcode & 0xFF in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
            return False
        raise FaultError(f"{uri}: {error}") from error
    except sqlite3.DatabaseError as error:
        raise FaultError(f"{uri}: {error}") from error
    return True


def after_lock(uri: str) -> str:
    """A sentence about the store once no process of ours is left, and with it no lock of ours."""
    try:
        if can_be_written(uri, READ_BACK_S):
            return "the store can be written to"
        return f"the store is being written to by its owner for more than {READ_BACK_S:g} s"
    except FaultError:
        return "the store itself is gone"


def _connected(uri: str, timeout_s: float) -> sqlite3.Connection:
    db = sqlite3.connect(uri, uri=True, isolation_level=None, timeout=timeout_s)
    try:
        db.execute("PRAGMA schema_version").fetchone()
    except sqlite3.OperationalError as error:
        if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY:
            db.close()
            raise
    except sqlite3.DatabaseError:
        db.close()
        raise
    return db
