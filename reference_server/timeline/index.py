"""What the lane's owner keeps in memory: who has which records, and their slots.

A user's list is a bytearray of u32 record numbers, ascending: four bytes an entry, appended without allocation most of
the time. The slots of all records stand in one ring by record number, so a timeline is one indexed copy, and dropping
the oldest moves a number. Rebuilt from the log at takeover.

Bounds: 45 bytes a record kept, times two at most (the ring's capacity is a power of two); 4 bytes a list entry, at most
LONGEST entries a user, times 1.1 (a bytearray grows by an eighth); 12 bytes a post for its author; a status is kept as
long as its post. So the index of a lane of 100,000 users that each have 800 entries stays below 0.5 GB of lists, and
its slots below 90 bytes times the records of the retention.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Callable, Iterable, Sequence
from operator import itemgetter
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from reference_server.timeline.entry import SLOT_BYTES, Status, make_seq, with_status
from reference_server.timeline.posted import Posted
from reference_server.timeline.slots import SLOT_DTYPE

Users = npt.NDArray[np.uint32]
LONGEST = 1200
"""lists longer than this are cut"""
_NUMBERS = np.dtype(np.uint32)
_LEAST_CAPACITY = 1024
_SWEEP_RECORDS = 1024
"""within so many records each user's list is looked at once"""


class StatusMark(NamedTuple):
    """What became of a post after it was accepted."""

    status: Status
    hlc: int = 0
    """hybrid clock of the change"""
    at_s: int = 0
    """Unix second at which the lane learnt of it"""


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
        self.first = 1
        """number of the oldest record kept"""
        self.next = 1
        """number of the next record"""
        self.lists: list[bytearray] = [_ABSENT] * population
        for user in users:
            self.lists[user] = bytearray()
        self.floors: dict[int, int] = {}
        """user -> first record kept, for lists that were cut"""
        self.by_author: dict[int, array[int]] = {}
        """author -> first records of the author's posts, ascending"""
        self.posted = Posted()
        """the same in the order of arrival"""
        self.statuses: dict[bytes, StatusMark] = {}
        """posts that were hidden, shown or deleted; newer than what the posts' slots say"""
        self.horizon_us = 0
        """posts from before this time may have been dropped; 0: none was"""
        self._capacity = 0
        self._buffer = bytearray()
        self._slots = np.zeros(0, SLOT_DTYPE)
        """a ring: record n stands at n modulo the capacity, which is a power of two"""
        self._resize(_LEAST_CAPACITY)
        self._swept = 0

    def _resize(self, capacity: int) -> None:
        """Move the ring to one of another size."""
        buffer = bytearray(capacity * SLOT_BYTES)
        number = self.first
        while number < self.next:
            here, there = number % self._capacity, number % capacity
            count = min(self.next - number, self._capacity - here, capacity - there)
            part = memoryview(self._buffer)[here * SLOT_BYTES : (here + count) * SLOT_BYTES]
            buffer[there * SLOT_BYTES : (there + count) * SLOT_BYTES] = part
            number += count
        self._buffer, self._capacity = buffer, capacity
        self._slots = np.frombuffer(buffer, SLOT_DTYPE)

    def _reserve(self, records: int) -> None:
        """Make room for that many more."""
        wanted = self.next - self.first + records
        if wanted > self._capacity:
            self._resize(1 << (wanted - 1).bit_length())

    def start(self, first: int) -> None:
        """(An empty index) The next record is `first`; those before it are gone."""
        self.first = self.next = first

    def put_slot(self, slot: bytes) -> int:
        """Store the next record's slot; returns the record's number."""
        number = self.next
        if number - self.first >= self._capacity:
            self._resize(2 * self._capacity)
        place = number % self._capacity * SLOT_BYTES
        self._buffer[place : place + SLOT_BYTES] = slot
        self.next = number + 1
        return number

    def put_slots(self, slots: npt.NDArray[np.void]) -> None:
        """Store the next records' slots at once."""
        self._reserve(len(slots))
        data, done = memoryview(slots.tobytes()), 0
        while done < len(slots):
            there = self.next % self._capacity
            count = min(len(slots) - done, self._capacity - there)
            part = data[done * SLOT_BYTES : (done + count) * SLOT_BYTES]
            self._buffer[there * SLOT_BYTES : (there + count) * SLOT_BYTES] = part
            self.next += count
            done += count

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
        self.posted.add(author, number)

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
        numbers = np.frombuffer(bytes(self.lists[user]), _NUMBERS)
        if len(numbers) and numbers[0] < self.first:
            numbers = numbers[np.searchsorted(numbers, self.first) :]
        return numbers

    def ids_of(self, user: int) -> list[bytes]:
        """Ids of the posts in the user's list, in arrival order."""
        ids: list[bytes] = self._at(self.records_of(user))["id"].tolist()
        return ids

    def slot(self, number: int) -> bytes:
        """A record's slot as it was stored."""
        place = number % self._capacity * SLOT_BYTES
        return bytes(self._buffer[place : place + SLOT_BYTES])

    def _at(self, numbers: Users) -> npt.NDArray[np.void]:
        slots: npt.NDArray[np.void] = self._slots[numbers & np.uint32(self._capacity - 1)]
        return slots

    def times_of(self, numbers: Users) -> npt.NDArray[np.uint64]:
        """When the posts of these records were written, in µs."""
        return self._at(numbers)["ts_us"].astype(np.uint64)

    def slots_of(self, user: int) -> bytes:
        """The user's newest LONGEST slots, in arrival order."""
        return self.take(self.records_of(user)[-LONGEST:]).tobytes()

    def take(self, numbers: Users) -> npt.NDArray[np.void]:
        """The slots of these records, with their posts' present statuses (a copy)."""
        slots = self._at(numbers)
        if self.statuses:
            known, last = self.statuses, slots["status"]
            for place, post_id in enumerate(slots["id"].tolist()):
                if post_id in known:
                    last[place] = with_status(int(last[place]), known[post_id].status)
        return slots

    def floor(self, user: int) -> int:
        """The first arrival number from which on `slots_of` is complete."""
        record = max(self.floors.get(user, 0), self.first if self.first > 1 else 0)
        numbers = self.lists[user]
        if len(numbers) > 4 * LONGEST:
            record = max(record, int.from_bytes(numbers[-4 * LONGEST :][:4], "little"))
        return make_seq(self.epoch, record)

    def set_status(self, post_id: bytes, mark: StatusMark) -> bool:
        """Mark a post; returns whether that changed anything. The later clock wins, a delete wins for good.

        Its slots are not looked for, there may be a million others: `take` hands them out marked.
        """
        held = self.statuses.get(post_id)
        if held is not None and (
            held.status is Status.DELETED or (mark.hlc < held.hlc and mark.status is not Status.DELETED)
        ):
            return False
        self.statuses.pop(post_id, None)  # so that the marks stand in the order in which they came
        self.statuses[post_id] = mark
        return True

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

    # --- letting go

    def drop(self, upto: int) -> list[bytes]:
        """Let go of the records before `upto`; returns the ids of their posts.

        Lists still name them, until `prune` comes by; nobody is told.
        """
        slots = self._at(np.arange(self.first, upto, dtype=np.uint32))
        self.first = upto
        self.posted.drop(upto)
        if not len(slots):
            return []
        self.horizon_us = max(self.horizon_us, int(slots["ts_us"].max()) + 1)
        for author in set(slots["author"].tolist()):
            records = self.by_author.get(author)
            if records is None:
                continue
            del records[: bisect_left(records, upto)]
            if not records:
                del self.by_author[author]
        if self._capacity > _LEAST_CAPACITY and 4 * (self.next - self.first) < self._capacity:
            self._resize(self._capacity // 2)
        ids: list[bytes] = slots["id"].tolist()
        return ids

    def prune(self, users: Iterable[int]) -> None:
        """Take dropped records out of these users' lists."""
        first = self.first
        for user in users:
            numbers = self.lists[user]
            if numbers and int.from_bytes(numbers[:4], "little") < first:
                del numbers[: 4 * int(np.searchsorted(np.frombuffer(bytes(numbers), _NUMBERS), first))]
            if self.floors.get(user, first) < first:
                del self.floors[user]

    def drop_statuses(self, before_s: float) -> list[bytes]:
        """Forget what was learnt before that time; all records of these posts must have been dropped. Returns ids."""
        gone = []
        for post_id, mark in self.statuses.items():
            if mark.at_s >= before_s:
                break
            gone.append(post_id)
        for post_id in gone:
            del self.statuses[post_id]
        return gone


_ABSENT = bytearray()
"""stands for the list of a user of another lane"""
