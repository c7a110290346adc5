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
Pairs = tuple[Ints, Ints]
"""(readers, items), one place each"""
NOTHING: Pairs = (np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64))


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


def survey(readings: Readings, ignored: Bools, stable: Pairs = NOTHING, hidden: Pairs = NOTHING) -> Survey:
    """Count what was known and what was shown.

    ignored bool[items]: items that do not count. stable: items a reader knows from the start; hidden: items that do
    not count for him. A place below is a reader and an item in one number: reader * width + item.
    """
    width, count = len(ignored), len(readings.op)
    owner = readings.owner
    kept = _counting((readings.reader[owner], readings.items), ignored, hidden)
    owner = owner[kept]
    places = readings.reader[owner] * width + readings.items[kept]
    kept = _counting(stable, ignored, hidden)
    shown = _Shown.of(readings, places, owner, stable[0][kept] * width + stable[1][kept])
    low, high = (readings.reader * width + np.clip(bound, 0, width) for bound in (readings.lo, readings.hi))
    due = _due(readings, shown, low, np.minimum(high, _tops(readings, shown, width) + 1))
    odd = readings.judged & (due != shown.counted(readings, low, high))
    odd[shown.twice(count)] = True
    expected = np.zeros(int(readings.reader[-1]) + 1 if count else 0, dtype=np.int64)
    np.add.at(expected, readings.reader, due)
    return Survey(expected, np.unique(readings.reader[odd]))


def _counting(pairs: Pairs, ignored: Bools, hidden: Pairs) -> Bools:
    """Which of the pairs count."""
    counting = ~ignored[pairs[1]]
    somebodys = np.zeros(len(ignored), dtype=bool)
    somebodys[hidden[1]] = True
    doubtful = np.flatnonzero(somebodys[pairs[1]])
    if len(doubtful):
        width = len(ignored)
        keys = pairs[0][doubtful] * width + pairs[1][doubtful]
        counting[doubtful] &= ~np.isin(keys, hidden[0] * width + hidden[1])
    return counting


@dataclass(frozen=True)
class _Shown:
    """All that was shown, in the order of places, and since when each place is known."""

    place: Ints
    owner: Ints
    """the reading; one past the last for what was known from the start"""
    known: Ints
    """each place once"""
    since: Ints
    """when the first reading that showed it was done; -1: known from the start"""
    first: Ints
    """where each known place begins in `place`"""

    @classmethod
    def of(cls, readings: Readings, places: Ints, owner: Ints, stable: Ints) -> _Shown:
        count = len(readings.op)
        bits = count.bit_length()
        codes = np.concatenate([places << bits | owner, stable << bits | count])
        codes.sort()  # of one array, which is several times faster than an order of two
        place, owner = codes >> bits, codes & ((1 << bits) - 1)
        first = np.flatnonzero(np.diff(place, prepend=-1))
        done = np.append(readings.done_ns, -1)[owner]
        since = np.minimum.reduceat(done, first) if len(first) else done
        return cls(place, owner, place[first], since, first)

    def twice(self, count: int) -> Ints:
        """Those of the `count` readings that show an item twice, so that counting could deceive."""
        again = (self.place[1:] == self.place[:-1]) & (self.owner[1:] == self.owner[:-1])
        owners: Ints = self.owner[1:][again]
        return owners[owners < count]

    def counted(self, readings: Readings, low: Ints, high: Ints) -> Ints:
        """How many known items each reading shows in its range."""
        count = len(readings.op)
        since = np.repeat(self.since, np.diff(self.first, append=len(self.place)))
        low, high, start = np.append(low, 0), np.append(high, 0), np.append(readings.start_ns, 0)
        there = (self.place >= low[self.owner]) & (self.place < high[self.owner]) & (since <= start[self.owner])
        return np.bincount(self.owner[there], minlength=count)


def _tops(readings: Readings, shown: _Shown, width: int) -> Ints:
    """For each reading: the highest place that its reader knew when it began; below all of his: none."""
    reader = shown.known // width
    times, ranks = np.unique(np.concatenate([shown.since, readings.start_ns]), return_inverse=True)
    learned = reader * len(times) + ranks[: len(reader)]
    order = np.argsort(learned, kind="stable")
    tops = np.maximum.accumulate(np.append(-1, shown.known[order]))
    began = readings.reader * len(times) + ranks[len(reader) :]
    found: Ints = tops[np.searchsorted(learned[order], began, side="right")]
    return found


def _due(readings: Readings, shown: _Shown, low: Ints, high: Ints) -> Ints:
    """For each judged reading: how many items in its range its reader knew when it began."""
    first, end = np.searchsorted(shown.known, low), np.searchsorted(shown.known, high)
    lengths = np.where(readings.judged, np.maximum(end - first, 0), 0)
    owner = np.repeat(np.arange(len(lengths)), lengths)
    place = np.arange(len(owner)) - np.repeat(np.cumsum(lengths) - lengths - first, lengths)
    there = shown.since[place] <= readings.start_ns[owner]
    return np.bincount(owner[there], minlength=len(lengths))
