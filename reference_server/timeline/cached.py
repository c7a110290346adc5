"""The cached form of a timeline, and what becomes of it on the way to a page. Pure functions.

    value:  magic 4 bytes | floor u64 | upto u64 | slots (45 bytes each, any order, repeats possible)
Every entry of the user that arrived at or after `floor` is among the slots; `upto` is the newest arrival number the
writer of the header knew (later ones were appended). A value that does not begin with the magic is a placeholder: a
lease that somebody took, onto which the fan-out may have appended already. No arrival number can look like the magic,
as its epoch would be 0xFFFF.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from reference_server.timeline.entry import SLOT_BYTES, SLOT_DTYPE

Slots = npt.NDArray[np.void]
MAGIC = b"\xff\xffTL"
_HEADER = struct.Struct(">4sQQ")
HEADER_BYTES = _HEADER.size
_KEYS = np.dtype([("seq", ">u8"), ("high", ">u8"), ("low", ">u8"), ("ts_us", ">u8"), ("author", ">i8"), ("rest", "V5")])
"""a slot with its post id as two numbers, for sorting"""


class CachedTimeline(NamedTuple):
    """A complete cached value."""

    floor: int
    upto: int
    slots: bytes


def timeline_key(gen: int, user: int) -> str:
    """Key of a user's timeline."""
    return f"tl:{gen}:{user}"


def gen_key(lane: int) -> str:
    """Key that holds the lane's key generation in decimal; absent: no cached timeline of the lane counts."""
    return f"gen:{lane}"


def make_value(floor: int, upto: int, slots: bytes) -> bytes:
    """The value to publish."""
    return _HEADER.pack(MAGIC, floor, upto) + slots


def read_value(value: bytes) -> CachedTimeline | None:
    """The timeline in a value; None for a placeholder or anything damaged."""
    if not value.startswith(MAGIC) or (len(value) - HEADER_BYTES) % SLOT_BYTES:
        return None
    _, floor, upto = _HEADER.unpack_from(value)
    return CachedTimeline(floor, upto, value[HEADER_BYTES:])


def newest(slots: bytes, count: int) -> bytes:
    """The `count` slots that arrived last, in arrival order, repeats dropped."""
    array = np.frombuffer(slots, SLOT_DTYPE)
    _, first = np.unique(array["seq"].astype(np.uint64), return_index=True)
    return array[first[-count:]].tobytes()


def for_display(slots: bytes) -> Slots:
    """The slots by time, then id, descending; a post that stands there twice keeps its first arrival."""
    keys = np.frombuffer(slots, _KEYS)
    high, low = keys["high"].astype(np.uint64), keys["low"].astype(np.uint64)
    order = np.lexsort((~keys["seq"].astype(np.uint64), low, high, keys["ts_us"].astype(np.uint64)))[::-1]
    high, low = high[order], low[order]
    keep = np.ones(len(order), bool)
    keep[1:] = (high[1:] != high[:-1]) | (low[1:] != low[:-1])
    return np.frombuffer(slots, SLOT_DTYPE)[order[keep]]
