"""What happened to the graph since the population was made: sign-ups, imports, follows, interactions, blocks.

Pure memory: applies one event and tells what changed, as rows for the store and as the authors whose followers
may differ. For one (user, other) pair the event with the highest hybrid clock wins, in whatever order events come.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import numpy as np

from reference_server.events import GraphEvent, Reader
from reference_server.graph.interactions import Interactions
from reference_server.queue.clocks import REGION_BITS
from reference_server.seeding import EVERYTHING, Population

Pair = tuple[int, int]


@dataclass(frozen=True)
class Versioned:
    """A switch with the clock of its last change."""

    hlc: int
    on: bool


_NEVER = Versioned(-1, False)


@dataclass
class Applied:
    """What one batch of events changed."""

    users: set[int] = field(default_factory=set)
    follows: set[Pair] = field(default_factory=set)
    likes: set[Pair] = field(default_factory=set)
    """whose last interaction is a like, or is one again"""
    ended: set[Pair] = field(default_factory=set)
    """whose interactions do not count any more"""
    blocks: set[Pair] = field(default_factory=set)
    readers: set[Pair] = field(default_factory=set)
    """(user, bit of `events.Reader`)"""
    authors: set[int] = field(default_factory=set)
    """whose list of followers, or its hot part, may differ now"""
    joined: set[int] = field(default_factory=set)
    """authors whose whole list may differ"""
    followers: defaultdict[int, set[int]] = field(default_factory=lambda: defaultdict(set))
    """other authors: the followers who may differ"""

    def touch(self, author: int, follower: int) -> None:
        """The edge between the two may differ."""
        self.authors.add(author)
        self.followers[author].add(follower)


class Switches:
    """Last-writer-wins switches of (user, other) pairs, found from either side."""

    def __init__(self) -> None:
        self.outgoing: defaultdict[int, dict[int, Versioned]] = defaultdict(dict)
        self.incoming: defaultdict[int, dict[int, Versioned]] = defaultdict(dict)

    def get(self, user: int, other: int) -> Versioned:
        """The pair's switch; hlc -1 when it was never touched."""
        row = self.outgoing.get(user)
        return row.get(other, _NEVER) if row else _NEVER

    def put(self, user: int, other: int, value: Versioned) -> bool:
        """Set the switch unless a later change is known; whether it was set."""
        if value.hlc <= self.get(user, other).hlc:
            return False
        self.outgoing[user][other] = value
        self.incoming[other][user] = value
        return True

    def out(self, user: int, *, on: bool) -> list[int]:
        """Others to which the user's switch is on (or off again)."""
        return [other for other, value in self.outgoing.get(user, {}).items() if value.on is on]

    def into(self, other: int, *, on: bool, among: Iterable[int] | None = None) -> list[int]:
        """Users whose switch to `other` is on (or off again); `among` these alone."""
        row = self.incoming.get(other, {})
        found = row.items() if among is None else [(user, row[user]) for user in among if user in row]
        return [user for user, value in found if value.on is on]


_ALL_READER_BITS = int(Reader.MINOR | Reader.SAFE_MODE)


class Changes:
    """The state behind the changes."""

    def __init__(self, population: Population, interactions: Interactions | None = None) -> None:
        """`interactions`: none so far, by wall time, unless given."""
        self.population = population
        self.follows = Switches()
        self.blocks = Switches()
        self.interactions = interactions or Interactions()
        self.readers = Switches()
        """(user, bit of `events.Reader`): what users said about themselves"""
        self.joined = population.joined
        self.covered = np.where(self.joined, np.uint32(EVERYTHING), np.uint32(0))
        """how many of a user's inherited follows were imported"""

    def knows(self, user: int) -> bool:
        """Whether there is such an identity."""
        return 0 <= user < self.population.users

    def fits(self, user: int, other: int) -> bool:
        """Whether there can be an edge between the two."""
        return self.knows(user) and self.knows(other) and user != other

    def apply(self, event: GraphEvent, applied: Applied) -> bool:
        """Apply one event, noting what it changed; False when it names users or a verb that do not exist."""
        if event.verb == "join":
            return self.knows(event.user) and self._join(event.user, applied)
        if event.verb == "profile":
            return self.knows(event.user) and self._describe(event, applied)
        if not self.fits(event.user, event.other):
            return False
        pair = (event.user, event.other)
        if event.verb in ("follow", "unfollow"):
            if self.put_follow(*pair, Versioned(event.hlc, event.verb == "follow")):
                applied.follows.add(pair)
                applied.touch(event.other, event.user)
        elif event.verb in ("block", "unblock"):
            if self.blocks.put(*pair, Versioned(event.hlc, event.verb == "block")):
                applied.blocks.add(pair)
                applied.touch(event.other, event.user)
                applied.touch(event.user, event.other)
        elif event.verb == "like":
            self._like(*pair, event.hlc >> REGION_BITS, applied)
        else:
            return False
        self._forget(self.interactions.make_room(), applied)
        return True

    def put_follow(self, user: int, other: int, value: Versioned) -> bool:
        """Follow or unfollow unless a later change is known; whether it was done. A follow is an interaction."""
        if not self.follows.put(user, other, value):
            return False
        if value.on:
            self.interactions.note(user, other, value.hlc >> REGION_BITS)
        return True

    def _like(self, user: int, other: int, at_us: int, applied: Applied) -> None:
        was_hot = self.interactions.last_us(user, other) >= 0
        if self.interactions.note(user, other, at_us):
            applied.likes.add((user, other))
            if not was_hot:
                applied.touch(other, user)

    def end_interactions(self, most: int, applied: Applied) -> bool:
        """Forget interactions that are over, `most` of them at most; whether there may be more."""
        ended = self.interactions.end(most)
        self._forget(ended, applied)
        return len(ended) == most

    def _forget(self, ended: list[Pair], applied: Applied) -> None:
        applied.ended.update(ended)
        for user, author in ended:
            applied.touch(author, user)

    def _describe(self, event: GraphEvent, applied: Applied) -> bool:
        if not (0 <= event.other <= _ALL_READER_BITS and 0 < event.mask <= _ALL_READER_BITS):
            return False
        for bit in Reader:
            if bit & event.mask and self.readers.put(event.user, bit, Versioned(event.hlc, bool(bit & event.other))):
                applied.readers.add((event.user, int(bit)))
        return True

    def reader(self, user: int) -> Reader:
        """What the user said about himself."""
        return Reader(sum(self.readers.out(user, on=True)))

    def fits_reader(self, user: int, bit: int) -> bool:
        """Whether the user can have said that."""
        return self.knows(user) and bit in set(Reader)

    def _join(self, user: int, applied: Applied) -> bool:
        if not self.joined[user]:
            self.joined[user] = True
            applied.users.add(user)
            applied.authors.add(user)
            applied.joined.add(user)
            for author in self._may_follow(user):
                applied.touch(author, user)
        return True

    def _may_follow(self, user: int) -> Iterator[int]:
        yield from self.population.follows(user)[: int(self.covered[user])].tolist()
        yield from self.follows.out(user, on=True)

    def unfinished(self) -> list[int]:
        """Users who joined and whose inherited follows are not all imported."""
        follows = np.diff(self.population.offsets)
        found: list[int] = np.flatnonzero(self.joined & (self.covered < follows)).tolist()
        return found

    def cover(self, user: int, start: int, count: int, applied: Applied) -> tuple[int, int]:
        """Import the user's inherited follows start .. start+count; (imported in all, total).

        Imports run from the front: a batch that starts behind a gap changes nothing.
        """
        inherited = self.population.follows(user)
        total = len(inherited)
        covered = min(int(self.covered[user]), total)
        end = min(start + count, total)
        if start <= covered < end:
            self.covered[user] = end
            applied.users.add(user)
            if self.joined[user]:
                for author in inherited[covered:end].tolist():
                    applied.touch(author, user)
            covered = end
        return covered, total
