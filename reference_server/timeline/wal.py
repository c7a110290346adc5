"""The write-ahead log of one lane: a RocksDB directory, the truth behind index and cache.

    column family   key                    value
    entry           record number u64 BE   entry (37 bytes) + kind (u8)
    page            record number u64 BE   the users it reached, u32 LE each
    seen            post id                the queue entry that brought it ("posts:1700000000000-0")
    status          post id                status u8, hybrid clock u64 BE, Unix second u32 BE; of posts hidden or shown
    hot             user u32 BE            Unix second until which the user counts as active, u64 BE
    merged          user u32 BE            record number up to which nothing is owed to the user, u64 BE
    default         name                   numbers (below), clock; pos:{stream}, progress:{stream}
Writes come in batches, each of which happens as a whole. A batch is handed to the kernel before `write` returns: it
survives the process; after `sync` also the host. Calls block the event loop for microseconds, `sync` and `compact` for
longer: call these in a thread.

Numbers: epoch; former (epoch of the log before, 0: none known); gen, gen:{node} (key generations); first, next (records
kept: first .. next-1); applied; history, history-loaded; horizon (see Index.horizon_us); restoring (1: the archive has
to be replayed, 2: only what is missing); volatile (1: records were not logged); unpushed (see ColdMerge); tail-lost (1:
newer records are gone, see `written`, and sessions begun with them may still count in the cache). Record numbers end at
MAX_NUMBER (49 days at 1,000 a second): a log that is used up counts as damaged at the next takeover, and is made again.
"""

from __future__ import annotations

import logging
import struct
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from enum import IntEnum
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
from rocksdict import Rdict, WriteBatch

from reference_server.timeline.entry import ENTRY_BYTES, Status
from reference_server.timeline.index import StatusMark
from reference_server.timeline.log_files import BUFFER_MB, LogDamaged, is_damage, options, size_bytes, suspect
from reference_server.timeline.written import Written

_log = logging.getLogger(__name__)
_UNFLUSHED, _CACHED = "rocksdb.cur-size-all-mem-tables", "rocksdb.block-cache-usage"
_RECORD_FAMILIES = ("entry", "page")
_FAMILIES = (*_RECORD_FAMILIES, "seen", "status", "hot", "merged")
MAX_NUMBER = 0xF000_0000
"""lists hold record numbers of 32 bits"""
TAIL_LOST = "tail-lost"
_U64 = struct.Struct(">Q")
_U32 = struct.Struct(">I")
_STATUS = struct.Struct(">BQI")
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


COMPLETE = -1
"""in place of the next page of a post that is complete, while an earlier one of its stream is not"""


class Progress(msgspec.Struct, array_like=True, frozen=True):
    """How far a post with several follower pages got: the next page to write, or COMPLETE."""

    position: str
    page: int
    post_id: bytes
    version: int = -1
    """state of the author's follower list that its pages were read in; -1: unknown, or of several"""


Clock = list[tuple[float, int]]
"""(Unix time, number of the next record then), ascending: how old records are"""


class LogBatch:
    """Changes that happen together."""

    def __init__(self, wal: Wal) -> None:
        self._wal = wal
        self.next = 0
        """number behind its newest record; 0: it has none"""
        self.raw = WriteBatch(raw_mode=True)

    def record(self, number: int, entry: bytes, kind: int, page: bytes) -> None:
        """A new record; records come in ascending order without gaps."""
        if self._wal.is_volatile:
            return
        key = _U64.pack(number)
        self.next = number + 1
        self.raw.put(key, entry + _KINDS[kind], self._wal.family("entry"))
        self.raw.put(key, page, self._wal.family("page"))

    def records_dropped(self, first: int, upto: int) -> None:
        """Records first .. upto-1 are no longer needed."""
        for name in _RECORD_FAMILIES:
            self.raw.delete_range(_U64.pack(first), _U64.pack(upto), self._wal.family(name))
        self.number("first", upto)

    def posts_dropped(self, posts: Iterable[bytes]) -> None:
        """Posts whose queue entries cannot come again."""
        seen = self._wal.family("seen")
        for post_id in posts:
            self.raw.delete(post_id, seen)

    def statuses_dropped(self, posts: Iterable[bytes]) -> None:
        """Marks of posts that have no records any more."""
        statuses = self._wal.family("status")
        for post_id in posts:
            self.raw.delete(post_id, statuses)

    def user_dropped(self, user: int, family: str) -> None:
        """The user's "hot" or "merged" says nothing any more."""
        self.raw.delete(_U32.pack(user), self._wal.family(family))

    def clock(self, ticks: Clock) -> None:
        """How old records are."""
        self.raw.put(b"clock", msgspec.msgpack.encode(ticks))

    def seen(self, post_id: bytes, source: bytes) -> None:
        """The post was written, on behalf of that queue entry."""
        self.raw.put(post_id, source, self._wal.family("seen"))

    def status(self, post_id: bytes, mark: StatusMark) -> None:
        """What the post's status is."""
        self.raw.put(post_id, _STATUS.pack(mark.status, mark.hlc, mark.at_s), self._wal.family("status"))

    def hot(self, user: int, until_s: int) -> None:
        """The user counts as active until then."""
        self.raw.put(_U32.pack(user), _U64.pack(until_s), self._wal.family("hot"))

    def merged(self, user: int, number: int) -> None:
        """Nothing up to that record is owed to the user any more."""
        self.raw.put(_U32.pack(user), _U64.pack(number), self._wal.family("merged"))

    def number(self, name: str, value: int) -> None:
        """A number by name."""
        self.raw.put(name.encode(), _U64.pack(value))

    def position(self, stream: str, position: str, progresses: Sequence[Progress] = ()) -> None:
        """Where the lane stands in a stream: done up to `position`, and that far into entries behind it."""
        self.raw.put(b"pos:" + stream.encode(), position.encode())
        self.raw.put(b"progress:" + stream.encode(), msgspec.msgpack.encode(progresses) if progresses else b"")

    def positions_dropped(self, stream: str) -> None:
        """The lane has nothing of the stream any more; empty: of no stream."""
        for prefix in (b"pos:", b"progress:"):
            start = prefix + stream.encode()
            self.raw.delete_range(start, start + b"\xff")

    def seen_dropped(self) -> None:
        """No post counts as written any more."""
        self.raw.delete_range(b"", b"\xff" * 17, self._wal.family("seen"))

    def finish(self) -> WriteBatch:
        """What to write."""
        if self.next:
            self.number("next", self.next)
        return self.raw


_KINDS = tuple(bytes([kind]) for kind in Kind)


class Wal:
    """An open log. One process at a time (the lane's file lock sees to that)."""

    def __init__(self, directory: Path, *, keeps_records: bool = True, buffer_mb: int = BUFFER_MB) -> None:
        """Open or create. A log that is new gets an epoch above that of any log lost before. Raises LogDamaged.

        `keeps_records=False`: only positions and what guards against repeats is stored, and each opening begins a new
        epoch without records. `buffer_mb`: what RocksDB may hold in memory before it writes tables.
        """
        self.directory = directory
        self.is_volatile = not keeps_records
        self._batches = self._synced = 0
        """batches written, and how many of them are known to be on disk"""
        self._syncing, self._compacting = threading.Lock(), threading.Lock()
        self._handles: dict[str, Any] = {}
        self._tables: dict[str, Any] = {}
        self._db: Any = None
        self._written = Written(directory.with_name(directory.name + ".written"))
        try:
            self._db = _opened(directory, buffer_mb)
            for name in _FAMILIES:
                self._handles[name] = self._db.get_column_family_handle(name)
                self._tables[name] = self._db.get_column_family(name)
            self.epoch = self._take_up()
        except BaseException:
            self.close()
            raise

    def _take_up(self) -> int:
        epoch = self.number("epoch")
        if not epoch and self.last_record():
            raise LogDamaged("records without an epoch")
        if not epoch or self.is_volatile or self.number("volatile"):
            return self._new_epoch(is_new=not epoch)
        if self.number("next") > MAX_NUMBER:
            raise LogDamaged("record numbers are used up")
        upto = max(1, self.number("next"))
        if reason := self._written.lost_tail(epoch, upto):
            return self._raise_epoch(epoch, upto, reason)
        self._written.begin(epoch, upto)
        return epoch

    def _raise_epoch(self, epoch: int, upto: int, reason: str) -> int:
        """Go on with what is there, under an epoch in which nobody knows a number yet."""
        raised = max(epoch, self._written.epoch) + 1
        _log.error("the log %s lost its tail, going on under epoch %d: %s", self.directory.name, raised, reason)
        batch = self.batch()
        batch.number("epoch", raised)
        batch.number(TAIL_LOST, 1)
        self._generations(batch, raised)
        self.write(batch)
        self._written.begin(raised, upto)
        return raised

    def _generations(self, batch: LogBatch, epoch: int) -> None:
        """Nothing counts that is cached under an earlier epoch."""
        for name in ("gen", *(key.decode() for key in self._db.keys(from_key=b"gen:") if key.startswith(b"gen:"))):
            batch.number(name, epoch << 20)

    def _new_epoch(self, *, is_new: bool) -> int:
        hours = max(1, int(time.time() - _EPOCH_ZERO_S) // 3600)
        former = self._written.epoch
        epoch = min(max(former + 1, hours), 0xFFFE)
        self._written.begin(epoch, 1)
        batch = self.batch()
        self._generations(batch, epoch)
        numbers = {"epoch": epoch, "former": former, "first": 1, "next": 1, "applied": 0, "history": 0}
        for name, value in numbers.items():
            batch.number(name, value)
        batch.number("volatile", int(self.is_volatile))
        batch.number("restoring", int(not self.is_volatile))
        if self.is_volatile:
            batch.number("horizon", 0 if is_new else time.time_ns() // 1000)
            batch.positions_dropped("archive")  # a replay that was cut off
        else:
            batch.number("history-loaded", 0)
            batch.positions_dropped("")
        batch.clock([])
        for name in (*_RECORD_FAMILIES, "merged") if self.is_volatile else _FAMILIES:
            batch.raw.delete_range(b"", b"\xff" * 17, self.family(name))
        self.write(batch)
        return epoch

    def family(self, name: str) -> Any:
        """Handle for batches."""
        return self._handles[name]

    def batch(self) -> LogBatch:
        """An empty batch."""
        return LogBatch(self)

    def write(self, batch: LogBatch) -> None:
        """Carry out a batch. Raises LogDamaged."""
        try:
            self._db.write(batch.finish())
        except Exception as error:  # rocksdict's errors have no class of their own
            raise self._told(error) from error
        if batch.next:
            self._written.note(batch.next)
        self._batches += 1

    @property
    def is_synced(self) -> bool:
        """Whether all that was written is on disk."""
        return self._synced == self._batches

    def sync(self) -> None:
        """Return when all that was written before is on disk."""
        with self._syncing:
            batches = self._batches
            if self._synced < batches and self._db is not None:
                self._db.flush_wal(True)
                self._synced = batches

    def _told(self, error: Exception) -> Exception:
        """The error to raise; a damage is noted for whoever opens the log next."""
        if not is_damage(error):
            return error
        suspect(self.directory, str(error))
        return LogDamaged(str(error))

    def _value(self, table: Any, key: bytes) -> bytes | None:
        try:
            value: bytes | None = table.get(key)
        except Exception as error:  # rocksdict's errors have no class of their own
            raise self._told(error) from error
        return value

    def _items(self, name: str) -> Iterator[tuple[bytes, bytes]]:
        """All of a column family. Raises LogDamaged where RocksDB cannot read on: its own loop would just end there."""
        table, key = self._tables[name], b""
        for key, value in table.items():
            yield key, value
        end = table.iter()
        end.seek(key)
        if end.valid():
            end.next()
        try:
            end.status()
        except Exception as error:  # rocksdict's errors have no class of their own
            raise self._told(error) from error

    def number(self, name: str) -> int:
        """A number by name; 0 when never set. Raises LogDamaged."""
        value = self._value(self._db, name.encode())
        return 0 if value is None else int(_U64.unpack(value)[0])

    def position(self, stream: str) -> tuple[str, tuple[Progress, ...]]:
        """Where the lane stands in a stream ("0-0" at first), and how far into entries behind that."""
        position = self._value(self._db, b"pos:" + stream.encode())
        progresses = self._value(self._db, b"progress:" + stream.encode())
        return "0-0" if position is None else position.decode(), _progresses(progresses)

    def seen(self, post_id: bytes) -> bytes | None:
        """The queue entry that brought the post; None: it was never written. Raises LogDamaged."""
        return self._value(self._tables["seen"], post_id)

    def clock(self) -> Clock:
        """How old records are."""
        value = self._value(self._db, b"clock")
        return msgspec.msgpack.decode(value, type=Clock) if value else []

    def records(self, start: int = 0) -> Iterator[LogRecord]:
        """All records kept from a number on, ascending. Raises ValueError where entries and pages do not match.

        RocksDB ends early where it cannot read on: see whether the last record is `next` - 1.
        """
        key = _U64.pack(max(start, self.number("first")))
        entries = self._tables["entry"].items(from_key=key)
        pages = self._tables["page"].values(from_key=key)
        for (number, stored), page in zip(entries, pages, strict=True):
            yield LogRecord(_U64.unpack(number)[0], stored[:ENTRY_BYTES], stored[ENTRY_BYTES], page)

    def last_record(self) -> int:
        """Number of the newest record; 0: none."""
        for number in self._tables["entry"].keys(backwards=True):
            return int(_U64.unpack(number)[0])
        return 0

    def statuses(self) -> dict[bytes, StatusMark]:
        """All posts that were hidden, shown or deleted. Raises LogDamaged."""
        return {post_id: _mark(value) for post_id, value in self._items("status")}

    def hot_until(self) -> dict[int, int]:
        """user -> Unix second. Raises LogDamaged."""
        return {_U32.unpack(user)[0]: _U64.unpack(until)[0] for user, until in self._items("hot")}

    def merged(self) -> dict[int, int]:
        """user -> record number. Raises LogDamaged."""
        return {_U32.unpack(user)[0]: _U64.unpack(number)[0] for user, number in self._items("merged")}

    def clear_records(self) -> None:
        """Drop all records (a bulk load that was cut off)."""
        batch = self.batch()
        batch.records_dropped(0, max(self.last_record(), self.number("next")) + 1)
        batch.number("first", 1)
        batch.number("next", 1)
        self.write(batch)
        self._written.begin(self.epoch, 1)

    def compact(self, upto: int) -> None:
        """Have the disk space of records before `upto` freed. May take seconds."""
        with self._compacting:
            if self._db is None:
                return
            for table in (*self._tables.values(), self._db):
                table.flush(True)  # RocksDB's own log goes when everything in it has been flushed
            for name in _RECORD_FAMILIES:
                self._tables[name].compact_range(_U64.pack(0), _U64.pack(upto))
            self._tables["seen"].compact_range(b"", b"\xff" * 17)

    def size_bytes(self) -> int:
        """Bytes on disk."""
        return size_bytes(self.directory)

    def memory_bytes(self) -> int:
        """What RocksDB holds in memory: what is not flushed yet, and its block cache; its options bound both."""
        if self._db is None:
            return 0
        unflushed = (table.property_int_value(_UNFLUSHED) or 0 for table in (*self._tables.values(), self._db))
        return sum(unflushed) + (self._db.property_int_value(_CACHED) or 0)  # the families share one cache

    def close(self) -> None:
        """Give the directory free; waits for `sync` and `compact`. Repeating it changes nothing."""
        self._written.close()
        if self._db is None:
            return
        with self._syncing, self._compacting:
            self._handles.clear()  # handles keep the database, and its lock, alive
            self._tables.clear()
            self._db.close()
            self._db = None


def _opened(directory: Path, buffer_mb: int) -> Any:
    try:
        directory.mkdir(parents=True, exist_ok=True)
        families = options(("", *_FAMILIES), buffer_mb)
        return Rdict(str(directory), options=families.pop(""), column_families=families)
    except Exception as error:  # rocksdict's errors have no class of their own
        if is_damage(error) or isinstance(error, (FileExistsError, NotADirectoryError)):
            raise LogDamaged(str(error)) from error
        raise


def _progresses(value: bytes | None) -> tuple[Progress, ...]:
    found = msgspec.msgpack.decode(value) if value else []
    if found and isinstance(found[0], str):
        found = [found]  # as logs were written that knew one post in progress only
    return msgspec.convert(found, tuple[Progress, ...])


def _mark(value: bytes) -> StatusMark:
    status, hlc, at_s = _STATUS.unpack(value)
    return StatusMark(Status(status), hlc, at_s)
