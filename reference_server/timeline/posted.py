"""Who posted when, in one lane: author and record of every post, in the order of arrival.

What a merge for a user with many followees looks through: eight bytes a post, a chunk at a time from the newest on,
instead of one look at every followee.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

CHUNK = 1 << 16
Numbers = npt.NDArray[np.uint32]


class Posted:
    """First records of posts, ascending, each with its author."""

    def __init__(self) -> None:
        self._records = array("I")
        self._authors = array("I")

    def __len__(self) -> int:
        return len(self._records)

    def add(self, author: int, number: int) -> None:
        """The record, newer than all others, is the first of a post by the author."""
        self._records.append(number)
        self._authors.append(author)

    def drop(self, upto: int) -> None:
        """Let go of the records before `upto`."""
        gone = bisect_left(self._records, upto)
        del self._records[:gone], self._authors[:gone]

    def backwards(self, after: int) -> Iterator[tuple[Numbers, Numbers]]:
        """(authors, records) of the posts behind record `after`, up to CHUNK at a time, the newest chunk first."""
        first, end = bisect_right(self._records, after), len(self._records)
        while end > first:
            start = max(first, end - CHUNK)
            yield _copy(self._authors, start, end), _copy(self._records, start, end)
            end = start


def _copy(numbers: array[int], start: int, end: int) -> Numbers:
    return np.frombuffer(numbers[start:end], np.uint32)  # a view would keep the array from growing
