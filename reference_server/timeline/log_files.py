"""The files of a lane's log: how RocksDB is told to keep them, and what happens to those that cannot be read.

A damaged log is moved aside, for people to look at, and the lane begins a new one from archive and queue. Only the
newest KEPT are kept. What is no damage (disk full, no descriptors, another process has it open) is left to the caller.
"""

from __future__ import annotations

import logging
import os
import shutil
import time
from collections.abc import Iterable
from pathlib import Path

from rocksdict import BlockBasedOptions, Cache, DBCompressionType, DBRecoveryMode, Options

_log = logging.getLogger(__name__)
KEPT = 2
"""damaged logs of a lane that are kept"""
_ENVIRONMENT = ("/LOCK", "No space", "Too many open files", "Permission denied", "Cannot allocate memory", "timed out")
"""words in RocksDB's errors that tell of the machine, not of the log"""
BUFFER_MB = 32
"""what is not flushed, of all column families together"""
_UNFLUSHED_BYTES = 64 << 20
_BLOCK_CACHE_BYTES = 16 << 20
_BLOOM_BITS = 10


class LogDamaged(ValueError):
    """A lane's log cannot be read, or records are missing from it."""


def is_damage(error: Exception) -> bool:
    """Whether an error is one of rocksdict (which has no class for them) and tells that the log is damaged."""
    return type(error) is Exception and not any(word in str(error) for word in _ENVIRONMENT)


def options(names: Iterable[str], buffer_mb: int = BUFFER_MB) -> dict[str, Options]:
    """For the database or a column family of these names; they share a block cache, and what may be unflushed."""
    cache = Cache(_BLOCK_CACHE_BYTES)
    return {name: _options(cache, buffer_mb << 20) for name in names}


def _options(cache: Cache, buffer_bytes: int) -> Options:
    found = Options(raw_mode=True)
    found.create_if_missing(True)
    found.create_missing_column_families(True)
    found.set_compression_type(DBCompressionType.none())
    found.set_wal_recovery_mode(DBRecoveryMode.point_in_time())
    found.set_write_buffer_size(buffer_bytes // 2)
    found.set_db_write_buffer_size(buffer_bytes)
    found.set_max_total_wal_size(_UNFLUSHED_BYTES)
    found.set_max_background_jobs(2)
    found.set_keep_log_file_num(2)
    tables = BlockBasedOptions()
    tables.set_bloom_filter(_BLOOM_BITS, False)
    tables.set_block_cache(cache)
    found.set_block_based_table_factory(tables)
    return found


def size_bytes(directory: Path) -> int:
    """Bytes on disk; files that vanish meanwhile count as nothing."""
    total = 0
    try:
        with os.scandir(directory) as entries:
            for entry in entries:
                try:
                    total += entry.stat().st_size
                except OSError:
                    continue
    except OSError:
        return 0
    return total


def suspect(directory: Path, reason: str) -> None:
    """Leave word that the log turned out to be damaged while it was in use."""
    _mark(directory).write_text(reason)


def suspicion(directory: Path) -> str:
    """What `suspect` left; empty: nothing."""
    try:
        return _mark(directory).read_text() or "no reason given"
    except OSError:
        return ""


def set_aside(directory: Path, reason: str) -> Path:
    """Move a damaged log away, delete the oldest of those moved before; returns where it is. Raises OSError."""
    place = directory.with_name(f"{directory.name}.damaged-{time.time_ns() // 1000}")
    _mark(directory).unlink(missing_ok=True)  # first, or a crash could leave it to the next log
    if directory.exists():
        directory.rename(place)
    _log.error("the log %s is damaged, moved to %s, beginning a new one: %s", directory.name, place.name, reason)
    for old in sorted(directory.parent.glob(f"{directory.name}.damaged-*"))[:-KEPT]:
        if old.is_dir():
            shutil.rmtree(old, ignore_errors=True)
        else:
            old.unlink(missing_ok=True)
    return place


def _mark(directory: Path) -> Path:
    return directory.with_name(f"{directory.name}.suspect")
