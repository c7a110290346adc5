"""The timeline entry (37 bytes) and the cached slot (arrival number + entry, 45 bytes), big-endian.

    slot:  seq u64 | post id 16 bytes | timestamp µs u64 | author i64 | score f32 | status u8
The last byte holds the status in its low four bits and the post's labels (bits of `events.Label`) in its high ones.
Big-endian, so that slots sort by arrival as plain bytes.
"""

from __future__ import annotations

import struct
from enum import IntEnum

ENTRY = struct.Struct(">16sQqfB")
ENTRY_BYTES = ENTRY.size
SLOT_BYTES = 8 + ENTRY_BYTES


class Status(IntEnum):
    """Whether an entry may be shown."""

    VISIBLE = 0
    HIDDEN_BY_AUTHOR = 1
    MODERATED = 2
    DELETED = 3


STATUS_BITS = 0x0F
"""part of an entry's last byte that is its status"""


def pack_entry(
    post_id: bytes, ts_us: int, author: int, score: float = 0.0, status: Status = Status.VISIBLE, labels: int = 0
) -> bytes:
    """The 37 bytes of an entry. `labels`: bits of `events.Label`, 0..15."""
    return ENTRY.pack(post_id, ts_us, author, score, labels << 4 | status)


def status_of(byte: int) -> Status:
    """The status in an entry's last byte. Raises ValueError for a number that is none."""
    return Status(byte & STATUS_BITS)


def labels_of(byte: int) -> int:
    """The labels in an entry's last byte."""
    return byte >> 4


def with_status(byte: int, status: int) -> int:
    """An entry's last byte under another status; the labels stay."""
    return byte & ~STATUS_BITS | status


EPOCH_SHIFT = 48


def make_seq(epoch: int, record: int) -> int:
    """Arrival number: epoch (16 bits) << 48 | record number in the lane's log."""
    return epoch << EPOCH_SHIFT | record
