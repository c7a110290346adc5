"""Which arrivals of a run each of several load processes does. Pure: the same plan gives the same shares.

Every process computes all arrivals, and does those whose user is its own. A user and all that hangs on it stay with one
process: its session and where that is in its walk, its posts and what later deletes, hides or repeats them, its sign-up
and its import. So the ops of a run are the same whoever does them, but for what depends on answers: who stands in for
a session that is still busy, which page of a walk is next, which post is answered, liked or looked up, who has joined.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

from harness.load.arrival_kinds import Arrival, ArrivalKind
from harness.load.plan import LoadPlan, Member

_BY_USER = (ArrivalKind.EDGE, ArrivalKind.SIGNUP)
"""kinds whose actor is the number of a user"""


@dataclass(frozen=True)
class Shard:
    """The share of process `index` of `count`."""

    plan: LoadPlan
    index: int = 0
    count: int = 1

    def owns(self, user: int) -> bool:
        """Whether a user is ours. Those who act in a plan are dealt out in turn, group by group, others by number."""
        return self._places.get(user, user) % self.count == self.index

    def of(self, arrivals: Iterable[Arrival]) -> list[Arrival]:
        """The arrivals that are ours."""
        if self.count == 1:
            return list(arrivals)
        return [arrival for arrival in arrivals if self.owns(self.user_of(arrival))]

    def user_of(self, arrival: Arrival) -> int:
        """The user who is to act. What is done to a post belongs to its author; somebody who joins during the run is
        known by nobody before: then the actor is just a number.
        """
        if arrival.kind in _BY_USER:
            return arrival.actor
        group = self._group_of(arrival)
        return group[arrival.actor % len(group)][0] if group else arrival.actor

    def _group_of(self, arrival: Arrival) -> Sequence[Member]:
        if arrival.kind is ArrivalKind.CELEBRITY:
            return self.plan.all_celebrities
        if arrival.panel:
            return self.plan.panel
        return self.plan.readers if arrival.kind is ArrivalKind.READ else self.plan.posters

    @cached_property
    def _places(self) -> dict[int, int]:
        groups = (self.plan.panel, self.plan.posters, self.plan.all_celebrities, self.plan.readers)
        users = dict.fromkeys(user for group in groups for user, _ in group)
        return {user: place for place, user in enumerate(users)}
