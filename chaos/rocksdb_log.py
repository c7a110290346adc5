"""Write-ahead log files of RocksDB, read just far enough to know where their last whole record ends.

Format (RocksDB wiki, "Write Ahead Log File Format"): blocks of 32 KiB hold fragments, each crc u32, length u16 LE, type
u8 (recyclable ones: and a log number u32), then the data; a record is one FULL fragment or FIRST, MIDDLE .., LAST. What
is left of a block and too short for a header is zero.
"""

from __future__ import annotations

import struct
from pathlib import Path

BLOCK_BYTES = 32_768
HEADER_BYTES = 7
_HEADER = struct.Struct("<IHB")
_UNFINISHED = (2, 3, 6, 7)
_RECYCLABLE = (5, 6, 7, 8, 11)
_HIGHEST_TYPE = 11


def databases(folder: Path) -> list[Path]:
    """RocksDB directories at or right below `folder`."""
    return sorted(path.parent for pattern in ("CURRENT", "*/CURRENT") for path in folder.glob(pattern))


def newest_log(database: Path) -> Path | None:
    """The newest log file that holds anything; None: all has been flushed."""
    logs = [path for path in database.glob("*.log") if path.stem.isdigit() and path.stat().st_size > HEADER_BYTES]
    return max(logs, key=lambda path: int(path.stem), default=None)


def record_ends(data: bytes) -> list[int]:
    """Where each whole record ends, ascending; the first entry is 0."""
    ends, at = [0], 0
    while True:
        left = BLOCK_BYTES - at % BLOCK_BYTES
        if left < HEADER_BYTES:
            at += left
            continue
        if at + HEADER_BYTES > len(data):
            return ends
        _, length, kind = _HEADER.unpack_from(data, at)
        size = HEADER_BYTES + (4 if kind in _RECYCLABLE else 0) + length
        if not 0 < kind <= _HIGHEST_TYPE or size > left or at + size > len(data):
            return ends
        at += size
        if kind not in _UNFINISHED:
            ends.append(at)


def torn_bytes(data: bytes) -> int:
    """Bytes behind the last whole record that are none of a block's empty end."""
    return len(data[record_ends(data)[-1] :].rstrip(b"\0"))
