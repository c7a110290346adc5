"""Turns the history segments of a run into Parquet, which every checker and every query reads.

    history/ops.parquet      one row an op; reads name their items by number
    history/items.parquet    number -> post, ts_us, author, text_hash: what answers said of the posts they showed

Kept apart from `harness.record.history` so that load processes never load DuckDB. `to_parquet` leaves segments as they
are, so it can also look at a run under way; `seal` deletes them once Parquet holds all rows and nobody writes any more.
"""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import duckdb
import msgspec

from harness.core.in_use import nobody_uses
from harness.core.scratch import clear_left, scratch_folder
from harness.record.clocks import Clock, read_clocks
from harness.record.conversion import (
    ITEMS,
    KEY,
    OPS,
    Contents,
    Conversion,
    count,
    database,
    json_rows,
    no_rows,
    quote,
)
from harness.record.frames import SUFFIX, HistoryError
from harness.record.run_directory import RunDirectory

SCRATCH = ".convert-"
_PHASES = {"name": "VARCHAR", "kind": "VARCHAR", "start_ns": "BIGINT", "end_ns": "BIGINT"}
_FAULTS = {
    "id": "VARCHAR",
    "kind": "VARCHAR",
    "handle": "VARCHAR",
    "phase": "VARCHAR",
    "injected_ns": "BIGINT",
    "undone_ns": "BIGINT",
}


def to_parquet(run: RunDirectory) -> Path:
    """The run's history as Parquet, with all that was flushed by now. Returns the path of ops.parquet.

    Converts unless that was done; what a killed conversion left is removed. A torn tail of a segment (its process was
    killed while writing) is dropped. Raises HistoryError naming segment and frame when anything else is damaged.
    """
    out = run.history / OPS
    with _one_at_a_time(run.history):
        clear_left(run.history, SCRATCH, fresh_s=0)
        clocks, found = read_clocks(run.clocks), _segments(run.history)
        old, is_pair = _contents(run.history, found)
        if is_pair and _is_current(old, found, clocks):
            return out
        kept = _kept(old, found)
        new = [path for name, path in found.items() if name not in kept.segments]
        with scratch_folder(run.history, SCRATCH) as folder:
            Conversion(run.history, folder, kept, clocks).make(new)
    return out


def seal(run: RunDirectory) -> bool:
    """Delete the segments when Parquet holds every row of them, on disk for good, and no process writes any more.

    Returns whether there are none any more.
    """
    with _one_at_a_time(run.history), nobody_uses(run.history) as quiet:
        found = _segments(run.history)
        contents, is_pair = _contents(run.history, found)
        if not quiet or not is_pair or not _is_current(contents, found, read_clocks(run.clocks)):
            return False
        with database(run.history) as db:
            if (count(db, run.history / OPS), count(db, run.history / ITEMS)) != (contents.rows, contents.items):
                return False
        for path in (run.history / OPS, run.history / ITEMS, run.history):
            _sync(path)
        for path in found.values():
            path.unlink()
    return True


def processes(run: RunDirectory) -> set[str]:
    """Names of the processes that wrote a segment, also of one that is gone. Raises HistoryError."""
    found = _segments(run.history)
    contents, _ = _contents(run.history, found)
    return {Path(name).stem for name in (*contents.segments, *found)}


@contextmanager
def open_history(run: RunDirectory) -> Iterator[duckdb.DuckDBPyConnection]:
    """A connection in which the history is the views `ops` and `seen`, beside `phases` and `faults` of the run.

    Raises HistoryError.
    """
    with database(run.history) as db:
        create_views(db, to_parquet(run))
        for name, path, columns in (("phases", run.phases, _PHASES), ("faults", run.faults, _FAULTS)):
            rows = json_rows(path, columns, "auto") if path.exists() else f"({no_rows(columns)})"
            db.execute(f"CREATE VIEW {name} AS SELECT * FROM {rows}")
        yield db


def create_views(db: duckdb.DuckDBPyConnection, ops: Path) -> None:
    """`ops`: every field of an op, the lists of a read's items too; `seen`: what answers said of posts, by number."""
    db.execute(f"CREATE VIEW seen AS SELECT * FROM read_parquet({quote(str(ops.with_name(ITEMS)))})")
    db.execute(f"CREATE VIEW ops AS {_OPS_VIEW.format(stored=quote(str(ops)))}")


_OPS_VIEW = """
SELECT o.*, list_select(every.posts, o.items) AS ids, list_select(every.stamps, o.items) AS item_ts_us,
       list_select(every.authors, o.items) AS item_authors, list_select(every.hashes, o.items) AS item_hashes
FROM read_parquet({stored}) o, (
  SELECT list(post ORDER BY number) AS posts, list(ts_us ORDER BY number) AS stamps,
         list(author ORDER BY number) AS authors, list(text_hash ORDER BY number) AS hashes FROM seen
) every
"""


def _segments(history: Path) -> dict[str, Path]:
    """The segments there are, by name."""
    return {path.name: path for path in sorted(history.glob(f"*{SUFFIX}"))}


def _is_current(old: Contents, found: dict[str, Path], clocks: dict[str, Clock]) -> bool:
    """Whether nothing came after the conversion."""
    return all(
        name in old.segments
        and old.segments[name].size == path.stat().st_size
        and old.segments[name].clock == clocks.get(path.stem)
        for name, path in found.items()
    )


def _kept(old: Contents, found: dict[str, Path]) -> Contents:
    """What must be taken over from older Parquet, because its segments are gone.

    Raises HistoryError when a segment changed after others of the same conversion were deleted.
    """
    if set(old.segments) <= set(found):
        return Contents({})
    for name in old.segments.keys() & found.keys():
        if old.segments[name].size != found[name].stat().st_size:
            raise HistoryError(f"history/{name}: changed after it was converted and other segments were deleted")
    return old


def _contents(history: Path, found: dict[str, Path]) -> tuple[Contents, bool]:
    """What ops.parquet was made of, and whether items.parquet belongs to it (a kill between the two makes it newer).

    Parquet that cannot be read, or not together, is as good as none while there are segments: these are deleted only
    after it is on disk. Raises HistoryError when they are gone.
    """
    if not (history / OPS).exists():
        return Contents({}), False
    try:
        ops, items = _told(history / OPS), _told(history / ITEMS)
        if ops.segments.items() <= items.segments.items():
            return ops, ops == items
        problem = "do not belong together"
    except (duckdb.Error, msgspec.DecodeError, ValueError) as error:
        problem = str(error)
    if not found:
        raise HistoryError(f"history/{OPS}, {ITEMS}: {problem}")
    return Contents({}), False


def _told(path: Path) -> Contents:
    """What a Parquet file says it was made of."""
    with database(path.parent) as db:
        sql = "SELECT value FROM parquet_kv_metadata(?) WHERE decode(key) = ?"
        [(told,)] = db.execute(sql, [str(path), KEY]).fetchall()
    return msgspec.json.decode(bytes(told), type=Contents)


@contextmanager
def _one_at_a_time(history: Path) -> Iterator[None]:
    """Conversions of a run wait for each other. Where nothing can be written none can be made either."""
    try:
        descriptor = os.open(history / ".convert-lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as error:
        if error.errno not in (errno.EACCES, errno.EROFS):
            raise
        yield
        return
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
