"""Many readers' readings as columns, and which readers need a closer look. Pure numpy.

`harness.judge.sweep` finds what vanished from one reader's readings, one by one. On nearly all readers nothing
vanished, and that can be told by counting: when a reading shows as many known items as its range must hold, none is
missing. Only the others are swept.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from harness.judge.sweep import Reading

Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]
_CHUNK = 400_000
"""items looked at together: few enough to stay in the processor's cache"""


@dataclass(frozen=True)
class Readings:
    """Readings, those of one reader (`reader` 0, 1, ...) together. Items of reading k: `items[ends[k - 1]:ends[k]]`."""

    reader: Ints
    op: Ints
    start_ns: Ints
    done_ns: Ints
    lo: Ints
    hi: Ints
    judged: Bools
    items: Ints
    ends: Ints

    def part(self, first: int, end: int) -> Readings:
        """Readings first .. end-1."""
        begin = int(self.ends[first - 1]) if first else 0
        cut = slice(first, end)
        return Readings(
            reader=self.reader[cut],
            op=self.op[cut],
            start_ns=self.start_ns[cut],
            done_ns=self.done_ns[cut],
            lo=self.lo[cut],
            hi=self.hi[cut],
            judged=self.judged[cut],
            items=self.items[begin : int(self.ends[end - 1])],
            ends=self.ends[cut] - begin,
        )

    @property
    def owner(self) -> Ints:
        """The reading of each item."""
        return np.repeat(np.arange(len(self.op)), np.diff(self.ends, prepend=0))

    def of(self, reader: int) -> Iterator[Reading]:
        """One reader's readings."""
        first, end = np.searchsorted(self.reader, [reader, reader + 1])
        bounds = np.concatenate([[self.ends[first - 1] if first else 0], self.ends[first:end]]).tolist()
        columns = (self.op, self.start_ns, self.done_ns, self.lo, self.hi, self.judged)
        rows = zip(*(c[first:end].tolist() for c in columns), pairwise(bounds), strict=True)
        for op, start, done, lo, hi, judged, (a, b) in rows:
            yield Reading(op, start, done, lo, hi, self.items[a:b].tolist(), judged)


@dataclass(frozen=True)
class Survey:
    """How many known items each reader's readings had to show, and which readers must be swept."""

    expected: Ints
    """int64[readers]"""
    suspects: Ints


def survey(readings: Readings, ignored: Bools, stable: tuple[Ints, Ints]) -> Survey:
    """Count what was known and what was shown, some readers at a time.

    ignored bool[items]: items that do not count. stable: (readers, items), items a reader knows from the start.
    """
    expected = np.zeros(int(readings.reader[-1]) + 1 if len(readings.reader) else 0, dtype=np.int64)
    suspects = [np.zeros(0, dtype=np.int64)]
    first = 0
    while first < len(readings.reader):
        full = int(np.searchsorted(readings.ends, (readings.ends[first - 1] if first else 0) + _CHUNK))
        last = readings.reader[min(full, len(readings.reader) - 1)]
        end = int(np.searchsorted(readings.reader, last, side="right"))
        mine = (stable[0] >= readings.reader[first]) & (stable[0] <= last)
        part = readings.part(first, end)
        counts, odd = _survey_part(part, ignored, (stable[0][mine], stable[1][mine]))
        np.add.at(expected, part.reader, counts)
        suspects.append(part.reader[odd])
        first = end
    return Survey(expected, np.unique(np.concatenate(suspects)))


def _survey_part(readings: Readings, ignored: Bools, stable: tuple[Ints, Ints]) -> tuple[Ints, Bools]:
    """For each reading: how many known items it had to show, and whether it must be looked at."""
    width = len(ignored)
    kept = ~ignored[readings.items]
    items, owner = readings.items[kept], readings.owner[kept]
    count = ~ignored[stable[1]]
    keys = np.concatenate([readings.reader[owner] * width + items, stable[0][count] * width + stable[1][count]])
    done = np.concatenate([readings.done_ns[owner], np.full(int(count.sum()), -1, dtype=np.int64)])
    if not len(keys):
        return np.zeros(len(readings.op), dtype=np.int64), np.zeros(len(readings.op), dtype=bool)
    order = np.argsort(keys, kind="stable")
    fresh = np.diff(keys[order], prepend=-1) > 0
    known = keys[order][fresh]
    since = np.minimum.reduceat(done[order], np.flatnonzero(fresh))
    place = np.empty(len(keys), dtype=np.int64)
    place[order] = np.cumsum(fresh) - 1
    place = place[: len(items)]
    counts = (items >= readings.lo[owner]) & (items < readings.hi[owner]) & (since[place] <= readings.start_ns[owner])
    shown = np.bincount(owner[counts], minlength=len(readings.op))
    expected = _expected(readings, known, since, width)
    odd = readings.judged & (expected != shown)
    odd[_repeating(order, fresh, owner)] = True
    return expected, odd


def _repeating(order: Ints, fresh: Bools, owner: Ints) -> Ints:
    """Readings that show an item twice, so that counting could deceive (a stable sort leaves the two side by side)."""
    source = order[~fresh]
    before = order[np.flatnonzero(~fresh) - 1]
    both = (source < len(owner)) & (before < len(owner))
    source, before = source[both], before[both]
    twice: Ints = owner[source[owner[source] == owner[before]]]
    return twice


def _expected(readings: Readings, known: Ints, since: Ints, width: int) -> Ints:
    """For each judged reading: how many items in its range its reader knew when it began."""
    base = readings.reader * width
    first = np.searchsorted(known, base + np.clip(readings.lo, 0, width))
    end = np.searchsorted(known, base + np.clip(readings.hi, 0, width))
    lengths = np.where(readings.judged, np.maximum(end - first, 0), 0)
    owner = np.repeat(np.arange(len(lengths)), lengths)
    place = np.arange(len(owner)) - np.repeat(np.cumsum(lengths) - lengths - first, lengths)
    there = since[place] <= readings.start_ns[owner]
    return np.bincount(owner[there], minlength=len(lengths))
