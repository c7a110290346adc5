"""What happened to the graph since the population was made: sign-ups, imports, follows, likes, blocks.

Pure memory: applies one event and tells what changed, as rows for the store and as the authors whose followers
may differ. For one (user, other) pair the event with the highest hybrid clock wins, in whatever order events come.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from reference_server.events import GraphEvent
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
    blocks: set[Pair] = field(default_factory=set)
    authors: set[int] = field(default_factory=set)
    """whose list of followers, or its hot part, may differ now"""


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

    def into(self, other: int, *, on: bool) -> list[int]:
        """Users whose switch to `other` is on (or off again)."""
        return [user for user, value in self.incoming.get(other, {}).items() if value.on is on]


class Changes:
    """The state behind the changes."""

    def __init__(self, population: Population) -> None:
        self.population = population
        self.follows = Switches()
        self.blocks = Switches()
        self.likes_out: defaultdict[int, set[int]] = defaultdict(set)
        self.likes_in: defaultdict[int, set[int]] = defaultdict(set)
        everyone = population.all_joined
        self.joined = np.full(population.users, everyone, np.bool_)
        self.covered = np.full(population.users, EVERYTHING if everyone else 0, np.uint32)
        """how many of a user's inherited follows were imported"""

    def knows(self, user: int) -> bool:
        """Whether there is such an identity."""
        return 0 <= user < self.population.users

    def apply(self, event: GraphEvent, applied: Applied) -> bool:
        """Apply one event, noting what it changed; False when it names users or a verb that do not exist."""
        if event.verb == "join":
            return self.knows(event.user) and self._join(event.user, applied)
        if not self.knows(event.user) or not self.knows(event.other) or event.user == event.other:
            return False
        pair = (event.user, event.other)
        if event.verb in ("follow", "unfollow"):
            if self.follows.put(*pair, Versioned(event.hlc, event.verb == "follow")):
                applied.follows.add(pair)
                applied.authors.add(event.other)
        elif event.verb in ("block", "unblock"):
            if self.blocks.put(*pair, Versioned(event.hlc, event.verb == "block")):
                applied.blocks.add(pair)
                applied.authors.update(pair)
        elif event.verb == "like":
            if self.like(*pair):
                applied.likes.add(pair)
                applied.authors.add(event.other)
        else:
            return False
        return True

    def like(self, user: int, other: int) -> bool:
        """Note an interaction; whether it is the pair's first."""
        if other in self.likes_out[user]:
            return False
        self.likes_out[user].add(other)
        self.likes_in[other].add(user)
        return True

    def _join(self, user: int, applied: Applied) -> bool:
        if not self.joined[user]:
            self.joined[user] = True
            applied.users.add(user)
            applied.authors.add(user)
            applied.authors.update(self._may_follow(user))
        return True

    def _may_follow(self, user: int) -> Iterator[int]:
        yield from self.population.follows(user)[: int(self.covered[user])].tolist()
        yield from self.follows.out(user, on=True)

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
                applied.authors.update(inherited[covered:end].tolist())
            covered = end
        return covered, total
