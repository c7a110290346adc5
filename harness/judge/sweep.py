"""Finds what vanished: one pass over the readings of one reader, in time order. Pure.

A reading covers the keys lo <= key < hi and showed some items. Everything that an earlier finished reading showed (or
that was there from the start), and that lies in the covered range, must be among the items.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Reading:
    """One page, or one whole walk. `judged`: it must show what was known; else it only adds to what is known."""

    op: int
    start_ns: int
    done_ns: int
    lo: int
    hi: int
    items: Sequence[int]
    judged: bool = True


@dataclass(frozen=True, slots=True)
class Vanished:
    """An item known from reading `seen_op` (0: from the start), missing from reading `op`."""

    item: int
    seen_op: int
    op: int


class Sweep:
    """The known items of one reader. `observations` counts how often a known item had to be there."""

    def __init__(self, stable: Collection[int] = (), ignored: Collection[int] = frozenset()) -> None:
        self.ignored = ignored
        self.seen: dict[int, int] = dict.fromkeys((k for k in stable if k not in ignored), 0)
        self.known = sorted(self.seen)
        self.observations = 0

    def run(self, readings: Iterable[Reading]) -> Iterator[Vanished]:
        """What vanished, in time order; an item is reported once until it is seen again."""
        ordered = sorted(readings, key=lambda r: r.start_ns)
        finished = sorted(ordered, key=lambda r: r.done_ns)
        next_finished = 0
        for reading in ordered:
            while next_finished < len(finished) and finished[next_finished].done_ns <= reading.start_ns:
                self._learn(finished[next_finished])
                next_finished += 1
            if reading.judged:
                yield from self._judge(reading)

    def _learn(self, reading: Reading) -> None:
        for item in set(reading.items).difference(self.seen):
            if item not in self.ignored:
                self.seen[item] = reading.op
                insort(self.known, item)

    def _judge(self, reading: Reading) -> Iterator[Vanished]:
        first, end = bisect_left(self.known, reading.lo), bisect_left(self.known, reading.hi)
        expected = self.known[first:end]
        self.observations += len(expected)
        there = set(reading.items)
        if there.issuperset(expected):
            return
        for item in reversed(expected):
            if item not in there:
                yield Vanished(item, self.seen.pop(item), reading.op)
                del self.known[bisect_left(self.known, item)]
