"""SQLite files that may be damaged: found out at start, moved aside for people to look at, taken back from a copy.

For owners of a database, before they open it. Nothing here may run while another connection writes to the file,
except `copy`.
"""

from __future__ import annotations

import logging
import os
import sqlite3
from pathlib import Path

log = logging.getLogger(__name__)
DAMAGED = ".damaged"
SUSPECT = ".suspect"
_BESIDE = ("", "-wal", "-shm")


def damage_of(path: Path, check_below_bytes: int | None = None) -> str:
    """What is wrong with the database; "": nothing, or there is none yet.

    Reads all of a file below `check_below_bytes` (None: of any file); of a larger one only the beginning. `suspect` is
    believed.
    """
    if not path.exists():
        return ""
    if reason := _suspicion(path):
        return reason
    if not path.stat().st_size:
        return "the file is empty"
    try:
        db = sqlite3.connect(path, isolation_level=None, timeout=5.0)
    except sqlite3.Error as error:
        return str(error)
    try:
        if check_below_bytes is not None and path.stat().st_size >= check_below_bytes:
            db.execute("SELECT count(*) FROM sqlite_master").fetchone()
            return ""
        told = str(db.execute("PRAGMA quick_check(1)").fetchone()[0])
    except sqlite3.OperationalError as error:
        if "locked" in str(error) or "busy" in str(error):
            raise  # somebody else's file: no damage
        return str(error)
    except sqlite3.DatabaseError as error:
        return str(error)
    finally:
        db.close()
    return "" if told == "ok" else told


def suspect(path: Path, reason: str) -> None:
    """Leave word that the database turned out to be damaged while it was in use."""
    Path(f"{path}{SUSPECT}").write_text(reason)


def _suspicion(path: Path) -> str:
    try:
        return Path(f"{path}{SUSPECT}").read_text() or "no reason given"
    except OSError:
        return ""


def set_aside(path: Path) -> None:
    """Move the database and what belongs to it out of the way; the damaged one before it is forgotten."""
    Path(f"{path}{SUSPECT}").unlink(missing_ok=True)  # first, or a crash could leave it to the next database
    for suffix in _BESIDE:
        source, target = Path(f"{path}{suffix}"), Path(f"{path}{DAMAGED}{suffix}")
        if source.exists():
            source.replace(target)
        else:
            target.unlink(missing_ok=True)
    _sync_folder(path.parent)


def copy(path: Path, target: Path) -> None:
    """A copy of the database at one moment, whole or not at all; it may be written to meanwhile. Takes a while.

    Raises sqlite3.Error, OSError.
    """
    unfinished = Path(f"{target}.tmp")
    unfinished.unlink(missing_ok=True)
    db = sqlite3.connect(f"file:{path}?mode=ro", uri=True, isolation_level=None, timeout=5.0)
    try:
        db.execute("VACUUM INTO ?", (str(unfinished),))
    finally:
        db.close()
    with unfinished.open("rb") as file:
        os.fsync(file.fileno())
    unfinished.replace(target)
    _sync_folder(target.parent)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
