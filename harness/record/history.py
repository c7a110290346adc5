"""Writes and converts the history: JSON lines while the run lasts, one Parquet file for the judge.

A segment (`history/<process>.jsonl`) belongs to one process. Rows are encoded when they are appended and
written once a second, so a killed process loses at most a second; the line it was writing is torn and
dropped. Works the same under asyncio and gevent: no thread, no loop, the owner calls `flush_if_due`.
"""

from __future__ import annotations

import hashlib
import itertools
import os
from pathlib import Path
from types import TracebackType
from typing import Self

import msgspec

from harness.core.clock import NS_PER_S, now_ns
from harness.core.op import Op

FLUSH_EVERY_NS = NS_PER_S
FLUSH_BYTES = 4 << 20
_SEQUENCE_BITS = 38
_PROCESS_BITS = 24


class HistoryWriter:
    """Appends ops to one segment.

    `next_id()` numbers the ops of this process; ids of different processes differ because the high bits
    are a hash of the segment's name.
    """

    def __init__(self, path: Path) -> None:
        digest = hashlib.blake2b(path.stem.encode(), digest_size=_PROCESS_BITS // 8).digest()
        self._ids = itertools.count((int.from_bytes(digest, "little") << _SEQUENCE_BITS) + 1)
        self._encode_into = msgspec.json.Encoder().encode_into
        self._buffer = bytearray()
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
        self._flushed_ns = now_ns()
        self.rows = 0

    def next_id(self) -> int:
        """A new op id."""
        return next(self._ids)

    def append(self, op: Op) -> None:
        """Add a row. It reaches the file with the next flush."""
        self._encode_into(op, self._buffer, -1)
        self._buffer += b"\n"
        self.rows += 1
        if len(self._buffer) >= FLUSH_BYTES:
            self.flush()

    def flush_if_due(self) -> None:
        """Flush when the last flush is a second or more ago. For a caller with a regular tick."""
        if now_ns() - self._flushed_ns >= FLUSH_EVERY_NS:
            self.flush()

    def flush(self) -> None:
        """Write everything appended so far. Survives the end of this process, not of the machine."""
        self._flushed_ns = now_ns()
        if not self._buffer:
            return
        full, self._buffer = self._buffer, bytearray()
        rest = memoryview(full)
        while rest:
            rest = rest[os.write(self._file, rest) :]

    def close(self) -> None:
        """Flush and close. Calling it again does nothing."""
        if self._file >= 0:
            self.flush()
            os.close(self._file)
            self._file = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
