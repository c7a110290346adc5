"""The table [population] of a scenario: who there is, who has joined, and who follows how many. Pure."""

from __future__ import annotations

from typing import Any

import msgspec

from harness.core.units import parse_duration_s
from harness.core.values import Parser, list_of, one_of, whole

DEFAULT_USERS = 1000
"""of a scenario that does not say how many"""
MOST_USERS = 2**32 - 1
"""numbers of users have 32 bits"""
EDGES = "edges:"


class Population(msgspec.Struct, kw_only=True, frozen=True):
    """Who there is. Users are numbered 0 .. users-1: celebrities first, then late celebrities, then hyper-followers;
    newcomers are the last.
    """

    users: int = DEFAULT_USERS
    graph: str = "power-law"
    """ "power-law" or "edges:PATH" """
    mean_follows: int = 50
    celebrities: tuple[int, ...] = ()
    """follower count of each celebrity"""
    late_celebrities: tuple[int, ...] = ()
    """follower count of each celebrity who has not signed up before the run: until he does, these follows pend"""
    hyper_followers: tuple[int, ...] = ()
    """how many others each of some users follows: they are the first in the panel, half of them listen as well"""
    newcomers: int = 0
    """ordinary users who have not signed up before the run"""
    hot_ratio: float = 0.3
    """share of follow edges with an interaction in the last 30 days"""
    listeners: int = 0
    """users with an open stream, spread evenly over the target's regions"""
    history: int = 0
    """mean number of entries in each timeline before the run"""
    panel: int = 0
    """active sessions: 80 % of reads and a share of posts, pages of 5 and 50, walks"""
    fetch_ratio: float = 0.0
    """an event is followed by a jittered fetch this often"""
    joined: str = "all"
    """ "all" users have signed up before the run (but those who are late), or "none" """
    reconnect_jitter_s: float = 2.0
    """a listener whose stream ended waits a uniform time up to this before it reconnects"""

    @property
    def all_celebrities(self) -> tuple[int, ...]:
        """Follower count of each celebrity, whenever he joins."""
        return self.celebrities + self.late_celebrities

    @property
    def late(self) -> int:
        """How many have not signed up before a run, where all others have."""
        return len(self.late_celebrities) + self.newcomers

    @property
    def may_listen(self) -> int:
        """The most listeners there can be: celebrities, the late, and half of the hyper-followers never listen."""
        return self.users - len(self.celebrities) - self.late - len(self.hyper_followers) // 2


def _ratio(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
        raise ValueError(f"must be a number from 0 to 1, got {value!r}")
    return float(value)


def _graph(value: Any) -> str:
    if value == "power-law" or (isinstance(value, str) and len(value) > len(EDGES) and value.startswith(EDGES)):
        return str(value)
    raise ValueError(f'must be "power-law" or "edges:PATH", got {value!r}')


# key in the file -> (field of the struct, parser)
POPULATION: dict[str, tuple[str, Parser]] = {
    "users": ("users", whole(2, MOST_USERS)),
    "graph": ("graph", _graph),
    "mean_follows": ("mean_follows", whole(1)),
    "celebrities": ("celebrities", list_of(whole(1))),
    "late_celebrities": ("late_celebrities", list_of(whole(1))),
    "hyper_followers": ("hyper_followers", list_of(whole(1))),
    "newcomers": ("newcomers", whole(0)),
    "hot_ratio": ("hot_ratio", _ratio),
    "listeners": ("listeners", whole(0)),
    "history": ("history", whole(0)),
    "panel": ("panel", whole(0)),
    "fetch_ratio": ("fetch_ratio", _ratio),
    "joined": ("joined", one_of("all", "none")),
    "reconnect_jitter": ("reconnect_jitter_s", parse_duration_s),
}


def population_problems(population: Population) -> list[str]:
    """Keys that do not fit each other, each with its path."""
    users, problems = population.users, listener_problems(population)
    if population.panel > users:
        problems.append(f"population.panel: must be <= population.users ({users})")
    elif population.late and population.panel > users - population.late:
        problems.append(f"population.panel: must be <= the users who have joined ({users - population.late})")
    for key in ("celebrities", "late_celebrities"):
        for i, count in enumerate(getattr(population, key)):
            if count >= users:
                problems.append(f"population.{key}[{i}]: must be < population.users ({users}), got {count}")
    for key in ("late_celebrities", "newcomers"):
        if getattr(population, key) and population.joined == "none":
            problems.append(f'population.{key}: needs population.joined = "all"; with "none" everybody is late')
    return problems + _number_problems(population) + _hyper_problems(population)


def listener_problems(population: Population) -> list[str]:
    """Whether more are to listen than may."""
    most = max(0, population.may_listen)
    if population.listeners <= most:
        return []
    never = {
        "celebrities": len(population.celebrities),
        "who have not joined": population.late,
        "hyper-followers": len(population.hyper_followers) // 2,
    }
    told = "".join(f" - {count} {who}" for who, count in never.items() if count)
    return [
        f"population.listeners: must be <= {most}, the number of those who may listen "
        f"({population.users} users{told}), got {population.listeners}"
    ]


def _number_problems(population: Population) -> list[str]:
    special = len(population.all_celebrities) + len(population.hyper_followers) + population.newcomers
    if special <= population.users:
        return []
    what = "celebrities, late_celebrities, hyper_followers and newcomers"
    return [f"population.users: must be >= the number of {what} ({special}), got {population.users}"]


def _hyper_problems(population: Population) -> list[str]:
    hyper = population.hyper_followers
    if not hyper:
        return []
    problems = []
    if population.graph.startswith(EDGES):
        problems.append("population.hyper_followers: an edge list says by itself who follows how many")
    if population.panel < len(hyper):
        problems.append(f"population.panel: must be >= the number of hyper_followers ({len(hyper)}): they read with it")
    celebrities = len(population.all_celebrities)
    others = population.users - celebrities - 1
    return problems + [
        f"population.hyper_followers[{i}]: must be from {celebrities} (who may be celebrities) to {others} "
        f"(all other ordinary users), got {count}"
        for i, count in enumerate(hyper)
        if not celebrities <= count <= others
    ]
