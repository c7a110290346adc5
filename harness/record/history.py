"""Writes the history while a run lasts: each process its own segment, in frames (`harness.record.frames`).

Rows are encoded when they are appended and written twice a second, so a killed process loses less than a second.
A post that reads show is written once a segment, and named by its number from then on. Works the same under asyncio
and gevent: no thread, no loop; whoever owns the writer also calls `flush_if_due` once a second, for quiet times.
"""

from __future__ import annotations

import hashlib
import itertools
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

import msgspec

from harness.core.clock import NS_PER_S, now_ns
from harness.core.in_use import hold_open
from harness.core.op import Op
from harness.record.frames import Header, SeenItem, checksum

FLUSH_EVERY_NS = NS_PER_S // 2
FLUSH_BYTES = 4 << 20
REMEMBERED_ITEMS = 200_000
"""items a process knows by number; then it forgets them all (about 60 MB), and numbers on"""
_SEQUENCE_BITS = 38
_PROCESS_BITS = 24
_NO_ITEMS: list[int] = []
_NUMBERS = 1 << 40
"""each writer of a process marks items with numbers of its own"""
_writers = itertools.count(1)

Item = tuple[str, int, int, int]
"""id, ts_us, author, text_hash: what an answer said of a post"""


class Shown(Protocol):
    """A post on a page, as a client keeps it that sees the same post again and again: one object for equal ones."""

    id: str
    created_at_us: int
    author_number: int
    text_hash: int
    mark: int
    """0 at first; the writer's own"""


class HistoryWriter:
    """Appends ops to one segment.

    `next_id()` numbers the ops of this process; ids of different processes differ because the high bits
    are a hash of the segment's name. Nobody deletes the segments of a folder while it has a writer. Raises
    FileExistsError when there is such a segment.
    """

    def __init__(self, path: Path) -> None:
        digest = hashlib.blake2b(path.stem.encode(), digest_size=_PROCESS_BITS // 8).digest()
        self._ids = itertools.count((int.from_bytes(digest, "little") << _SEQUENCE_BITS) + 1)
        self._encode_into = msgspec.json.Encoder().encode_into
        self._encode = msgspec.json.Encoder().encode
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
        self._hold = hold_open(path.parent)
        self._known: dict[str, tuple[int, Item]] = {}
        """post -> number and item, as it was last seen"""
        self._next_item = self._frame = self._size = 0
        self._mark = next(_writers) * _NUMBERS
        """mark of item 0; those of other writers are far away"""
        self._frame_rows = self._frame_items = 0
        self._rows, self._items = bytearray(), bytearray()
        self._flushed_ns = now_ns()
        self.rows = 0

    def next_id(self) -> int:
        """A new op id."""
        return next(self._ids)

    def append(self, op: Op, shown: Sequence[Shown] = ()) -> None:
        """Add a row. It reaches the file with the next flush.

        `shown`: what the op's answer showed, instead of the lists of the op, which are empty then.
        """
        if shown:
            self._append_with_items(op, self._numbers_of(shown))
        elif op.ids:
            items = zip(op.ids, op.item_ts_us, op.item_authors, op.item_hashes, strict=True)
            bare: Op = op.__copy__()  # type: ignore[attr-defined]
            bare.ids = bare.item_ts_us = bare.item_authors = bare.item_hashes = _NO_ITEMS  # type: ignore[assignment]
            self._append_with_items(bare, [self._number(item) for item in items])
        else:
            self._encode_into(op, self._rows, -1)
            self._rows += b"\n"
        self.rows += 1
        self._frame_rows += 1
        if op.done_ns - self._flushed_ns >= FLUSH_EVERY_NS or len(self._rows) >= FLUSH_BYTES:
            self.flush()

    def _append_with_items(self, bare: Op, numbers: list[int]) -> None:
        """A row of a read: the numbers of its items in place of the lists."""
        self._encode_into(bare, self._rows, -1)
        del self._rows[-1:]
        self._rows += b',"items":'
        self._encode_into(numbers, self._rows, -1)
        self._rows += b"}\n"

    def _numbers_of(self, shown: Sequence[Shown]) -> list[int]:
        """The numbers of items, written on their marks since they were seen first."""
        first = self._mark
        numbers = [item.mark - first for item in shown]
        if min(numbers) >= 0 and max(numbers) < _NUMBERS:
            return numbers
        return [n if 0 <= n < _NUMBERS else self._marked(item) for n, item in zip(numbers, shown, strict=True)]

    def _marked(self, item: Shown) -> int:
        """The number of an item that has no mark of ours."""
        number = self._number((item.id, item.created_at_us, item.author_number, item.text_hash))
        item.mark = self._mark + number
        return number

    def _number(self, item: Item) -> int:
        """The number of an item; it is written when it is new, or was not like this when it was last seen."""
        known = self._known.get(item[0])
        if known is not None and known[1] == item:
            return known[0]
        if len(self._known) >= REMEMBERED_ITEMS:
            self._known.clear()
        number, self._next_item = self._next_item, self._next_item + 1
        self._known[item[0]] = number, item
        self._frame_items += 1
        post, ts_us, author, text_hash = item
        seen = SeenItem(item=number, post=post, ts_us=ts_us, author=author, text_hash=text_hash)
        self._encode_into(seen, self._items, -1)
        self._items += b"\n"
        return number

    def flush_if_due(self) -> None:
        """Flush when the last flush is half a second or more ago. For a caller with a regular tick."""
        if now_ns() - self._flushed_ns >= FLUSH_EVERY_NS:
            self.flush()

    def flush(self) -> None:
        """Write everything appended so far as one frame. Survives the end of this process, not of the machine.

        Raises OSError when the disk is full; nothing is lost then, the next flush tries again.
        """
        self._flushed_ns = now_ns()
        if not self._rows:
            return
        body = bytes(self._items + self._rows)
        frame, rows, seen, seen_bytes = self._frame, self._frame_rows, self._frame_items, len(self._items)
        crc = checksum(frame, rows, seen, seen_bytes, body)
        header = Header(frame=frame, rows=rows, seen=seen, seen_bytes=seen_bytes, bytes=len(body), crc=crc)
        self._write(self._encode(header) + b"\n" + body)
        self._frame += 1
        self._frame_rows = self._frame_items = 0
        self._rows, self._items = bytearray(), bytearray()

    def _write(self, data: bytes) -> None:
        rest = memoryview(data)
        try:
            while rest:
                rest = rest[os.write(self._file, rest) :]
        except OSError:
            os.ftruncate(self._file, self._size)
            os.lseek(self._file, self._size, os.SEEK_SET)
            raise
        self._size += len(data)

    def close(self) -> None:
        """Flush and close. Calling it again does nothing."""
        if self._file >= 0:
            self.flush()
            os.close(self._file)
            os.close(self._hold)
            self._file = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


@contextmanager
def being_written(history: Path) -> Iterator[None]:
    """For the length of a run: its segments stay, also while no process writes one."""
    descriptor = hold_open(history)
    try:
        yield
    finally:
        os.close(descriptor)
