"""The write-ahead log of one lane: a RocksDB directory, the truth behind index and cache.

    column family   key                    value
    entry           record number u64 BE   entry (37 bytes) + kind (u8)
    page            record number u64 BE   the users it reached, u32 LE each
    seen            post id                the queue entry that brought it ("posts:1700000000000-0")
    status          post id                u8, for posts that are not visible
    hot             user u32 BE            Unix second until which the user counts as active, u64 BE
    merged          user u32 BE            record number up to which nothing is owed to the user, u64 BE
    default         name                   epoch, gen, applied, next, history; pos:{stream}, progress:{stream}
Writes come in batches, each of which happens as a whole. A batch is handed to the kernel before `write` returns: it
survives the process, not the host. Calls block the event loop for microseconds.
"""

from __future__ import annotations

import struct
import time
from collections.abc import Iterator
from enum import IntEnum
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
from rocksdict import DBCompressionType, DBRecoveryMode, Options, Rdict, WriteBatch

from reference_server.timeline.entry import ENTRY_BYTES, Status

_FAMILIES = ("entry", "page", "seen", "status", "hot", "merged")
_U64 = struct.Struct(">Q")
_U32 = struct.Struct(">I")
_EPOCH_ZERO_S = 1_735_689_600
"""2025-01-01: epochs count hours since then, so that a new log's epoch is above a lost one's even without its file"""


class Kind(IntEnum):
    """What a record stands for."""

    POST = 0
    """a post's first record in the lane: what cold merges look for"""
    CONTINUED = 1
    """further followers of a post"""
    OWED = 2
    """a post handed to one user afterwards"""


class LogRecord(NamedTuple):
    """One record as stored."""

    number: int
    entry: bytes
    kind: int
    page: bytes


class Progress(msgspec.Struct, array_like=True, frozen=True):
    """How far a post with several follower pages got: the next page to write."""

    position: str
    page: int
    post_id: bytes


class LogBatch:
    """Changes that happen together."""

    def __init__(self, wal: Wal) -> None:
        self._wal = wal
        self.raw = WriteBatch(raw_mode=True)

    def record(self, number: int, entry: bytes, kind: int, page: bytes) -> None:
        """A new record."""
        key = _U64.pack(number)
        self.raw.put(key, entry + _KINDS[kind], self._wal.family("entry"))
        self.raw.put(key, page, self._wal.family("page"))

    def seen(self, post_id: bytes, source: bytes) -> None:
        """The post was written, on behalf of that queue entry."""
        self.raw.put(post_id, source, self._wal.family("seen"))

    def status(self, post_id: bytes, status: Status) -> None:
        """The post is no longer visible."""
        self.raw.put(post_id, bytes([status]), self._wal.family("status"))

    def hot(self, user: int, until_s: int) -> None:
        """The user counts as active until then."""
        self.raw.put(_U32.pack(user), _U64.pack(until_s), self._wal.family("hot"))

    def merged(self, user: int, number: int) -> None:
        """Nothing up to that record is owed to the user any more."""
        self.raw.put(_U32.pack(user), _U64.pack(number), self._wal.family("merged"))

    def number(self, name: str, value: int) -> None:
        """A number by name."""
        self.raw.put(name.encode(), _U64.pack(value))

    def position(self, stream: str, position: str, progress: Progress | None) -> None:
        """Where the lane stands in a stream: done up to `position`, and that far into the entry behind it."""
        self.raw.put(b"pos:" + stream.encode(), position.encode())
        self.raw.put(b"progress:" + stream.encode(), b"" if progress is None else msgspec.msgpack.encode(progress))


_KINDS = tuple(bytes([kind]) for kind in Kind)


class Wal:
    """An open log. One process at a time (the lane's file lock sees to that)."""

    def __init__(self, directory: Path) -> None:
        """Open or create. A log that is new gets an epoch above that of any log lost before."""
        directory.mkdir(parents=True, exist_ok=True)
        self._db: Any = Rdict(
            str(directory), options=_options(), column_families={name: _options() for name in _FAMILIES}
        )
        self._handles = {name: self._db.get_column_family_handle(name) for name in _FAMILIES}
        self._tables: dict[str, Any] = {name: self._db.get_column_family(name) for name in _FAMILIES}
        self._epoch_file = directory.with_name(directory.name + ".epoch")
        self.epoch = self.number("epoch") or self._new_epoch()

    def _new_epoch(self) -> int:
        former = int(self._epoch_file.read_text()) if self._epoch_file.exists() else 0
        hours = max(1, int(time.time() - _EPOCH_ZERO_S) // 3600)
        epoch = min(max(former + 1, hours), 0xFFFE)
        self._epoch_file.write_text(str(epoch))
        batch = self.batch()
        batch.number("epoch", epoch)
        batch.number("gen", epoch << 20)
        self.write(batch)
        return epoch

    def family(self, name: str) -> Any:
        """Handle for batches."""
        return self._handles[name]

    def batch(self) -> LogBatch:
        """An empty batch."""
        return LogBatch(self)

    def write(self, batch: LogBatch) -> None:
        """Carry out a batch."""
        self._db.write(batch.raw)

    def number(self, name: str) -> int:
        """A number by name; 0 when never set."""
        value = self._db.get(name.encode())
        return 0 if value is None else int(_U64.unpack(value)[0])

    def position(self, stream: str) -> tuple[str, Progress | None]:
        """Where the lane stands in a stream; "0-0" at first."""
        position = self._db.get(b"pos:" + stream.encode())
        progress = self._db.get(b"progress:" + stream.encode())
        return (
            "0-0" if position is None else position.decode(),
            msgspec.msgpack.decode(progress, type=Progress) if progress else None,
        )

    def seen(self, post_id: bytes) -> bytes | None:
        """The queue entry that brought the post; None: it was never written."""
        source: bytes | None = self._tables["seen"].get(post_id)
        return source

    def records(self, start: int = 0) -> Iterator[LogRecord]:
        """All records from a number on, ascending."""
        key = _U64.pack(start)
        entries = self._tables["entry"].items(from_key=key)
        pages = self._tables["page"].values(from_key=key)
        for (number, stored), page in zip(entries, pages, strict=True):
            yield LogRecord(_U64.unpack(number)[0], stored[:ENTRY_BYTES], stored[ENTRY_BYTES], page)

    def last_record(self) -> int:
        """Number of the newest record; 0: none."""
        for number in self._tables["entry"].keys(backwards=True):
            return int(_U64.unpack(number)[0])
        return 0

    def statuses(self) -> dict[bytes, Status]:
        """All posts that are not visible."""
        return {post_id: Status(value[0]) for post_id, value in self._tables["status"].items()}

    def hot_until(self) -> dict[int, int]:
        """user -> Unix second."""
        return {_U32.unpack(user)[0]: _U64.unpack(until)[0] for user, until in self._tables["hot"].items()}

    def merged(self) -> dict[int, int]:
        """user -> record number."""
        return {_U32.unpack(user)[0]: _U64.unpack(number)[0] for user, number in self._tables["merged"].items()}

    def clear_records(self) -> None:
        """Drop all records (a bulk load that was cut off)."""
        for name in ("entry", "page"):
            self._tables[name].delete_range(_U64.pack(0), b"\xff" * 9)

    def close(self) -> None:
        """Give the directory free."""
        self._handles.clear()  # handles keep the database, and its lock, alive
        self._tables.clear()
        self._db.close()


def _options() -> Options:
    options = Options(raw_mode=True)
    options.create_if_missing(True)
    options.create_missing_column_families(True)
    options.set_compression_type(DBCompressionType.none())
    options.set_wal_recovery_mode(DBRecoveryMode.point_in_time())
    options.set_write_buffer_size(32 << 20)
    options.set_max_background_jobs(2)
    options.set_keep_log_file_num(2)
    return options
