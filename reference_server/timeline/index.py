"""What the lane's owner keeps in memory: who has which records, and their slots.

A user's list is a bytearray of u32 record numbers, ascending: four bytes an entry, appended without allocation most of
the time. The slots of all records stand in one array by record number, so a timeline is one indexed copy.
Rebuilt from the log at takeover.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Sequence
from operator import itemgetter
from typing import Any

import numpy as np
import numpy.typing as npt

from reference_server.timeline.entry import SLOT_BYTES, SLOT_DTYPE, Status, make_seq

Users = npt.NDArray[np.uint32]
LONGEST = 1200
"""lists longer than this are cut"""
_NUMBERS = np.dtype(np.uint32)
_SWEEP_RECORDS = 1024
"""within so many records each user's list is looked at once"""


def _nothing(_: tuple[int, ...]) -> tuple[Any, ...]:
    return ()


def picker(users: Sequence[int]) -> Callable[[Any], tuple[Any, ...]]:
    """The fastest way to take the elements at these places out of a list."""
    if len(users) > 1:
        return itemgetter(*users)
    if users:
        (only,) = users
        return lambda values: (values[only],)
    return _nothing


class Index:
    """Lists, slots and per-author records of one lane."""

    def __init__(self, epoch: int, users: Sequence[int], population: int, kept: int) -> None:
        """`users`: those of the lane, out of 0 .. population-1; `kept`: length that a long list is cut to."""
        self.epoch = epoch
        self.kept = kept
        self.users = users
        self.next = 1
        """number of the next record"""
        self.lists: list[bytearray] = [_ABSENT] * population
        for user in users:
            self.lists[user] = bytearray()
        self.floors: dict[int, int] = {}
        """user -> first record kept, for lists that were cut"""
        self.by_author: dict[int, array[int]] = {}
        """author -> first records of the author's posts, ascending"""
        self.statuses: dict[bytes, Status] = {}
        """post id -> status other than visible; newer than what the post's slots say"""
        self._capacity = 0
        self._buffer = bytearray()
        self.slots = np.zeros(0, SLOT_DTYPE)
        self._grow(1024)
        self._swept = 0

    def _grow(self, capacity: int) -> None:
        buffer = bytearray(capacity * SLOT_BYTES)
        buffer[: len(self._buffer)] = self._buffer
        self._buffer, self._capacity = buffer, capacity
        self.slots = np.frombuffer(buffer, SLOT_DTYPE)

    def reserve(self, last: int) -> None:
        """Make room for slots up to that record."""
        if last >= self._capacity:
            self._grow(max(2 * self._capacity, last + 1))

    def put_slot(self, slot: bytes) -> int:
        """Store the next record's slot; returns the record's number."""
        number = self.next
        if number >= self._capacity:
            self._grow(2 * self._capacity)
        self._buffer[number * SLOT_BYTES : (number + 1) * SLOT_BYTES] = slot
        self.next = number + 1
        return number

    def put_slots(self, slots: npt.NDArray[np.void]) -> None:
        """Store the next records' slots at once."""
        self.reserve(self.next + len(slots))
        start = self.next * SLOT_BYTES
        self._buffer[start : start + len(slots) * SLOT_BYTES] = slots.tobytes()
        self.next += len(slots)

    def append(self, number: int, users: Sequence[int]) -> None:
        """The record reached these users (of the lane)."""
        word = number.to_bytes(4, "little")
        for numbers in picker(users)(self.lists):
            numbers += word

    def note_author(self, author: int, number: int) -> None:
        """The record is the lane's first of a post by the author."""
        records = self.by_author.get(author)
        if records is None:
            records = self.by_author[author] = array("I")
        records.append(number)

    def fill(self, users: Users, numbers: npt.NDArray[np.uint32]) -> None:
        """Append many (user, record) pairs at once; a user's records must come in ascending order."""
        if not len(users):
            return
        order = np.argsort(users, kind="stable")
        users, numbers = users[order], numbers[order]
        starts = np.flatnonzero(np.r_[True, users[1:] != users[:-1]])
        words = numbers.astype("<u4").tobytes()
        ends = np.r_[starts[1:], len(users)]
        for user, start, end in zip(users[starts].tolist(), starts.tolist(), ends.tolist(), strict=True):
            if self.lists[user] is not _ABSENT:
                self.lists[user] += words[4 * start : 4 * end]

    def owns(self, user: int) -> bool:
        """Whether the user belongs to the lane."""
        return 0 <= user < len(self.lists) and self.lists[user] is not _ABSENT

    def records_of(self, user: int) -> Users:
        """The user's record numbers, ascending (a copy)."""
        return np.frombuffer(bytes(self.lists[user]), _NUMBERS)

    def slots_of(self, user: int) -> bytes:
        """The user's newest LONGEST slots, in arrival order."""
        return self.take(self.records_of(user)[-LONGEST:]).tobytes()

    def take(self, numbers: Users) -> npt.NDArray[np.void]:
        """The slots of these records, with their posts' present statuses (a copy)."""
        slots: npt.NDArray[np.void] = self.slots[numbers]
        if self.statuses:
            known, status = self.statuses, slots["status"]
            for place, post_id in enumerate(slots["id"].tolist()):
                if post_id in known:
                    status[place] = known[post_id]
        return slots

    def floor(self, user: int) -> int:
        """The first arrival number from which on `slots_of` is complete."""
        numbers = self.lists[user]
        if len(numbers) > 4 * LONGEST:
            return make_seq(self.epoch, int.from_bytes(numbers[-4 * LONGEST :][:4], "little"))
        return make_seq(self.epoch, self.floors.get(user, 0))

    def set_status(self, post_id: bytes, status: Status) -> None:
        """Mark a post. Its slots are not looked for, there may be a million others: `take` hands them out marked."""
        self.statuses[post_id] = status

    def sweep(self, records: int) -> list[int]:
        """Cut lists that grew too long; look at as many users as `records` new records warrant. Returns users cut."""
        if not self.users:
            return []
        count = min(len(self.users), len(self.users) * records // _SWEEP_RECORDS + 1)
        places = range(self._swept, self._swept + count)
        self._swept = (self._swept + count) % len(self.users)
        lists, users, total = self.lists, self.users, len(self.users)
        long = [user for user in (users[place % total] for place in places) if len(lists[user]) > 4 * LONGEST]
        for user in long:
            self.cut(user)
        return long

    def cut(self, user: int) -> None:
        """Shorten a list to the newest `kept` records."""
        numbers = self.lists[user]
        del numbers[: len(numbers) - 4 * self.kept]
        self.floors[user] = int.from_bytes(numbers[:4], "little")


_ABSENT = bytearray()
"""stands for the list of a user of another lane"""
