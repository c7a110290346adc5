"""Who is there: sessions (hot marks) and open streams (presence) of one lane, and what was told to each edge.

An active user is written to at once even by authors whose posts the user would otherwise be owed. While a user is
active without a break since a merge, nothing is owed, so opening another stream needs no merge. With the flag fanout at
pull or hybrid only an open stream counts: posts pass over those who just have a session, every first page merges.
"""

from __future__ import annotations

import secrets

import numpy as np
import numpy.typing as npt

from reference_server.settings import MAX_FEPS
from reference_server.timeline.index import Users


class TooManyEdges(ValueError):
    """More than MAX_FEPS edges subscribed to a lane."""


class Activity:
    """Marks by user number; all times in Unix seconds."""

    def __init__(self, population: int) -> None:
        self.session = secrets.randbits(53)
        """identity of this owner's incarnation"""
        self.hot_until = np.zeros(population, np.float64)
        self.merged_at = np.zeros(population, np.float64)
        self.presence = np.zeros(population, np.uint64)
        """bit k: has a stream at edge k"""
        self.sessions_cover = True
        """whether a session keeps a user from being owed anything; False: fan-out does not push to all"""
        self.behind: npt.NDArray[np.bool_] | None = None
        """users with a session who are owed posts that were not pushed: later ones wait with them for a merge"""
        self.counts: dict[str, int] = {}
        """edge -> messages sent to it in this session"""
        self._edges: list[str] = []

    def active(self, users: Users, now_s: float) -> npt.NDArray[np.bool_]:
        """Which of the users are active."""
        result: npt.NDArray[np.bool_] = (self.hot_until[users] > now_s) | (self.presence[users] != 0)
        return result

    def is_covered(self, user: int, now_s: float) -> bool:
        """Whether the user was active without a break since a merge."""
        in_session = self.sessions_cover and self.hot_until[user] > now_s
        return bool(self.merged_at[user] and (self.presence[user] or in_session))

    def stop_pushing(self) -> None:
        """From now on posts may pass over users who have a session but no stream."""
        self.sessions_cover = False
        self.behind = None

    def push_again(self, now_s: float) -> list[int]:
        """From now on sessions count again; returns those that are behind until they are merged."""
        self.sessions_cover = True
        absent = self.presence == 0
        self.merged_at[absent] = 0
        self.behind = absent & (self.hot_until > now_s)
        users: list[int] = np.flatnonzero(self.behind).tolist()
        return users

    def note_merged(self, user: int, now_s: float) -> None:
        """Nothing is owed to the user at this moment."""
        self.merged_at[user] = now_s
        if self.behind is not None:
            self.behind[user] = False

    def mark_hot(self, user: int, until_s: float, now_s: float) -> None:
        """The user has a session until then. A lapse before it makes the user owed again."""
        if not self.is_covered(user, now_s):
            self.merged_at[user] = 0
        self.hot_until[user] = max(self.hot_until[user], until_s)

    def join(self, edge: str, users: list[int], now_s: float) -> None:
        """The users have streams at the edge from now on. Raises TooManyEdges."""
        bit = self._bit(edge)
        for user in users:
            if not self.is_covered(user, now_s):
                self.merged_at[user] = 0
            self.presence[user] |= bit

    def leave(self, edge: str, users: list[int], now_s: float) -> None:
        """The users have no stream at the edge any more."""
        bit = self._bit(edge)
        there = np.array(users, np.uint32)
        for user in there[self.presence[there] & bit != 0].tolist():
            self.presence[user] &= ~bit
            if not self.is_covered(user, now_s):
                self.merged_at[user] = 0

    def edges_of(self, users: Users) -> list[tuple[str, bytes]]:
        """The edges at which some of the users have a stream, each with those users as u32 LE."""
        presence = self.presence[users]
        if not presence.any():
            return []
        found = []
        for place, edge in enumerate(self._edges):
            there = users[(presence >> np.uint64(place)) & np.uint64(1) != 0]
            if len(there):
                found.append((edge, there.astype("<u4").tobytes()))
        return found

    def everywhere(self, users: Users) -> list[tuple[str, bytes]]:
        """Every edge that ever subscribed, each with all of the users as u32 LE."""
        packed = users.astype("<u4", copy=False).tobytes()
        return [(edge, packed) for edge in self._edges]

    def count(self, edge: str) -> int:
        """Messages sent to the edge in this session."""
        return self.counts.get(edge, 0)

    def _bit(self, edge: str) -> np.uint64:
        if edge not in self._edges:
            if len(self._edges) == MAX_FEPS:
                raise TooManyEdges(f"{edge}: a lane serves {MAX_FEPS} edges")
            self._edges.append(edge)
        return np.uint64(1) << np.uint64(self._edges.index(edge))
