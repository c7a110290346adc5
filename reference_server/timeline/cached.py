"""The cached form of a timeline, and what becomes of it on the way to a page. Pure functions.

    value:  magic 4 | floor u64 | upto u64 | horizon µs u64 | cut µs u64 | slots (45 bytes each, any order, repeats)
Every entry of the user that arrived at or after `floor` is among the slots; `upto` is the newest arrival number the
writer of the header knew (later ones were appended). Posts older than the horizon may be missing, as the lane has let
go of them; 0: it has let go of nothing. Posts up to the cut may be missing here alone: of a long timeline the newest
part is cached, as an append copies the whole value, and the lane's owner has the rest; 0: all is here.

A value that does not begin with the magic is a placeholder: a lease that somebody took, onto which the fan-out may have
appended already. No arrival number can look like the magic, as its epoch would be 0xFFFF.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from reference_server.timeline.entry import SLOT_BYTES
from reference_server.timeline.slots import SLOT_DTYPE

Slots = npt.NDArray[np.void]
MAGIC = b"\xff\xffT3"
_HEADER = struct.Struct(">4sQQQQ")
HEADER_BYTES = _HEADER.size
_KEYS = np.dtype([("seq", ">u8"), ("high", ">u8"), ("low", ">u8"), ("ts_us", ">u8"), ("author", ">i8"), ("rest", "V5")])
"""a slot with its post id as two numbers, for sorting"""


class CachedTimeline(NamedTuple):
    """A complete cached value."""

    floor: int
    upto: int
    slots: bytes
    horizon_us: int = 0
    cut_us: int = 0


def timeline_key(gen: int, user: int) -> str:
    """Key of a user's timeline."""
    return f"tl:{gen}:{user}"


def session_key(user: int) -> str:
    """Key that says that the user's session was opened at the owner, who will hand over nothing before it ends."""
    return f"hot:{user}"


def gen_key(lane: int) -> str:
    """Key that holds the lane's key generation in decimal; absent: no cached timeline of the lane counts."""
    return f"gen:{lane}"


def make_value(floor: int, upto: int, slots: bytes, horizon_us: int = 0, cut_us: int = 0) -> bytes:
    """The value to publish."""
    return _HEADER.pack(MAGIC, floor, upto, horizon_us, cut_us) + slots


def read_value(value: bytes) -> CachedTimeline | None:
    """The timeline in a value; None for a placeholder or anything damaged."""
    if not value.startswith(MAGIC) or (len(value) - HEADER_BYTES) % SLOT_BYTES:
        return None
    _, floor, upto, horizon_us, cut_us = _HEADER.unpack_from(value)
    return CachedTimeline(floor, upto, value[HEADER_BYTES:], horizon_us, cut_us)


def newest_part(timeline: CachedTimeline, count: int) -> CachedTimeline:
    """What is cached of it: the `count` slots that arrived last, and the `count` newest; in arrival order, no repeats.

    Both: late arrivals may be old, and would leave a first page to the owner for as long as they are the last.
    """
    array = np.frombuffer(timeline.slots, SLOT_DTYPE)
    seqs, first = np.unique(array["seq"].astype(np.uint64), return_index=True)
    array = array[first]
    if len(array) <= count:
        return timeline._replace(slots=array.tobytes())
    times = array["ts_us"].astype(np.uint64)
    is_kept = times >= np.partition(times, len(times) - count)[len(times) - count]
    is_kept[-count:] = True
    if is_kept.all():
        return timeline._replace(slots=array.tobytes())
    floor, cut_us = max(timeline.floor, int(seqs[-count])), max(timeline.cut_us, int(times[~is_kept].max()))
    return timeline._replace(floor=floor, slots=array[is_kept].tobytes(), cut_us=cut_us)


def for_display(slots: bytes) -> Slots:
    """The slots by time, then id, descending; a post that stands there twice keeps its first arrival."""
    keys = np.frombuffer(slots, _KEYS)
    high, low = keys["high"].astype(np.uint64), keys["low"].astype(np.uint64)
    order = np.lexsort((~keys["seq"].astype(np.uint64), low, high, keys["ts_us"].astype(np.uint64)))[::-1]
    high, low = high[order], low[order]
    keep = np.ones(len(order), bool)
    keep[1:] = (high[1:] != high[:-1]) | (low[1:] != low[:-1])
    return np.frombuffer(slots, SLOT_DTYPE)[order[keep]]
