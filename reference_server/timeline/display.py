"""A timeline in display order, newest first by (timestamp, id), as far down as somebody reads.

A page shows 50 of 800 slots, so only the newest are unpacked: CHUNK of them, further down four times as many.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from functools import cached_property
from operator import itemgetter

import msgspec
import numpy as np
import numpy.typing as npt

from reference_server.timeline.cached import Slots, for_display
from reference_server.timeline.entry import EPOCH_SHIFT, SLOT_BYTES

Key = tuple[int, bytes]
"""A place in display order: (timestamp µs, post id); newer posts compare greater."""
Row = tuple[bytes, int, int, int]
"""(post id, timestamp µs, author, last byte of the entry)"""
CHUNK = 64
_ROW = struct.Struct(">8x16sQq4xB")
_WHOLE = np.dtype(f"V{SLOT_BYTES}")
_TIME_OFFSET = 24
_RECORD_BITS = (1 << EPOCH_SHIFT) - 1
_by_place = itemgetter(1, 0)


class TimelineView(msgspec.Struct, frozen=True, dict=True):
    """A timeline as read."""

    raw: bytes
    """the slots, in any order, repeats possible"""
    degraded: str = ""
    """"", "stale" or "reduced" """
    source: str = "cache"
    """"cache", "owner" or "durable" """
    floor: int = 0
    """all that arrived at or after this number is there"""
    horizon_us: int = 0
    """posts older than this may be missing, as the lane has let go of them; 0: it has let go of nothing"""
    cut_us: int = 0
    """posts up to then may be missing here, though the lane's owner has them; 0: all it has is here"""

    @cached_property
    def slots(self) -> Slots:
        """SLOT_DTYPE, newest first, no post twice; `seq` is the arrival number."""
        return for_display(self.raw)

    @property
    def has_all_since_horizon(self) -> bool:
        """Whether nothing was cut off for its number; if something was, it is older than what is here."""
        return not self.floor & _RECORD_BITS and self.source != "durable"

    @property
    def is_whole(self) -> bool:
        """Whether nothing older than what is here ever was in the feed."""
        return not self.horizon_us and not self.cut_us and self.has_all_since_horizon

    def last(self) -> Key | None:
        """The oldest place; None in an empty timeline."""
        row = min(_ROW.iter_unpack(self.raw), key=_by_place, default=None)
        return None if row is None else (row[1], row[0])


def newest_first(raw: bytes, after: Key | None) -> Iterator[list[Row]]:
    """The rows behind `after` (None: all) in display order, some at a time; each post once."""
    times = _times(raw)
    order = None if _is_rising(times) else times.argsort(kind="stable")
    slots = np.frombuffer(raw, _WHOLE)
    if order is not None:
        times = times[order]
    end = len(times) if after is None else int(times.searchsorted(after[0], "right"))
    size = CHUNK
    while end:
        start = max(0, end - size)
        if order is None:
            rows: list[Row] = list(_ROW.iter_unpack(raw[start * SLOT_BYTES : end * SLOT_BYTES]))
            rows.reverse()
        else:
            start = int(times.searchsorted(times[start], "left"))  # the order of equal times is that of their ids
            rows = _sorted(slots[order[start:end]].tobytes())
        if after is not None and rows[0][1] == after[0]:
            rows = [row for row in rows if (row[1], row[0]) < after]
        yield rows
        end = start
        size *= 4


def _is_rising(times: npt.NDArray[np.uint64]) -> bool:
    """Whether the slots are in order, and no time comes twice: posts arrive nearly so."""
    return not np.count_nonzero(times[1:] <= times[:-1])


def _sorted(raw: bytes) -> list[Row]:
    """The rows in display order, each post once."""
    rows = sorted(_ROW.iter_unpack(raw), key=_by_place, reverse=True)
    return list({row[0]: row for row in rows}.values())


def _times(raw: bytes) -> npt.NDArray[np.uint64]:
    if not raw:
        return np.zeros(0, np.uint64)
    shape = (len(raw) // SLOT_BYTES,)
    return np.ndarray(shape, ">u8", raw, _TIME_OFFSET, (SLOT_BYTES,)).astype(np.uint64)
