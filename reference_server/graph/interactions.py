"""Who interacted with an author in the last 30 days: what makes the edge between them hot.

A like counts, and a follow made by hand, each at its own time (that of its hybrid clock); a later one renews it. What
is over is forgotten when `end` is called, in the order of time. What the population file calls hot has no time: it says
what was so when the file was made, and stays.

A pair waits in the slot of time of the interaction it came with; was it renewed meanwhile, it moves on when the slot's
turn comes. So a pair takes one place, some 120 bytes in all, however often it interacts.
"""

from __future__ import annotations

import heapq
import time
from array import array
from collections.abc import Callable, Collection

INTERACTION_DAYS = 30
"""the first article's hot followers: "users who have interacted with the author in the last 30 days"."""
LASTING_US = INTERACTION_DAYS * 24 * 3600 * 1_000_000
SLOT_US = 20_000_000
KEPT = 8_000_000
"""pairs at most (1 GB): of more, those whose time is over first make room"""
ALL_SLOTS = 1 << 62


def wall_us() -> int:
    """Wall time, microseconds since 1970."""
    return time.time_ns() // 1000


class Interactions:
    """The last interaction of each pair, while it counts."""

    def __init__(self, now_us: Callable[[], int] = wall_us, kept: int = KEPT) -> None:
        self._now_us = now_us
        self._kept = kept
        self._of: dict[int, dict[int, int]] = {}
        """author -> user -> time of the last interaction (µs)"""
        self._slots: dict[int, array[int]] = {}
        """slot of time -> pairs, packed"""
        self._order: list[int] = []
        """a heap of the slots"""
        self.count = 0

    def since_us(self) -> int:
        """What is older than this does not count any more."""
        return self._now_us() - LASTING_US

    def last_us(self, user: int, author: int) -> int:
        """When the user last interacted with the author, -1: not lately."""
        row = self._of.get(author)
        return row.get(user, -1) if row else -1

    def users(self, author: int) -> Collection[int]:
        """Who interacted with the author lately."""
        return self._of.get(author, ())

    def note(self, user: int, author: int, at_us: int) -> bool:
        """Remember an interaction; False: it is over, or a later one is known."""
        last_us = self.last_us(user, author)
        if at_us <= last_us or at_us <= self.since_us():
            return False
        self._of.setdefault(author, {})[user] = at_us
        if last_us < 0:
            self.count += 1
            self._wait(user, author, at_us)
        return True

    def end(self, most: int) -> list[tuple[int, int]]:
        """Forget what is over, `most` pairs at most; the (user, author) forgotten. A full list: there may be more."""
        return self._forget(self.since_us() // SLOT_US, most)

    def make_room(self) -> list[tuple[int, int]]:
        """Forget what is too much; the (user, author) forgotten."""
        return self._forget(ALL_SLOTS, self.count - self._kept) if self.count > self._kept else []

    def _wait(self, user: int, author: int, at_us: int) -> None:
        slot = at_us // SLOT_US
        if slot not in self._slots:
            self._slots[slot] = array("Q")
            heapq.heappush(self._order, slot)
        self._slots[slot].append(user << 32 | author)

    def _forget(self, before: int, most: int) -> list[tuple[int, int]]:
        """Forget pairs of the slots before that one, the oldest first."""
        forgotten: list[tuple[int, int]] = []
        while self._order and self._order[0] < before and len(forgotten) < most:
            slot = self._order[0]
            if not self._slots[slot]:
                del self._slots[heapq.heappop(self._order)]
                continue
            packed = self._slots[slot].pop()
            user, author = packed >> 32, packed & 0xFFFFFFFF
            at_us = self._of[author][user]
            if at_us // SLOT_US > slot:
                self._wait(user, author, at_us)
                continue
            del self._of[author][user]
            if not self._of[author]:
                del self._of[author]
            self.count -= 1
            forgotten.append((user, author))
        return forgotten
