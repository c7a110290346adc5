"""Changes of the graph that were accepted here and that it has not applied yet, as it was away or slow.

They are laid over what it answers, and over what it answered last, until it has applied them; then its word alone
counts, as others may have changed the same since. What a block hides, no follow shows.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from reference_server.events import Reader, hidden_labels
from reference_server.rpc import RpcClient, RpcError, RpcTimeout, RpcUnavailable

SYNC_TIMEOUT_S = 2.0
PAUSE_S = 0.25
KEPT_USERS, KEPT_OTHERS = 50_000, 1_000
"""users with changes, and changes a user, of either kind; the oldest make room"""
_NOTHING = Reader(0)
_Position = tuple[int, int]


@dataclass(frozen=True)
class Excluded:
    """What a user must not see: posts of these authors, posts with these labels."""

    authors: frozenset[int]
    """unfollowed, or blocked either way"""
    degraded: bool = False
    """the graph could not be asked: this is the last known state"""
    labels: int = 0
    """bits of `events.Label`"""
    blocked: frozenset[int] = frozenset()
    """those of the authors whom a block hides"""


@dataclass
class Overlay:
    """Changes of one user."""

    follows: dict[int, bool] = field(default_factory=dict)
    """by author; False: unfollowed"""
    blocked: dict[int, None] = field(default_factory=dict)
    mask: Reader = _NOTHING
    """what the user said anew about himself"""
    reader: Reader = _NOTHING
    position: _Position = (0, 0)
    """place of the last one in the graph's stream"""

    def over(self, known: Excluded) -> Excluded:
        """What is excluded after these changes."""
        followed = {author for author, follows in self.follows.items() if follows}
        blocked = known.blocked | self.blocked.keys()
        authors = known.authors - followed | (self.follows.keys() - followed) | blocked
        labels = known.labels & ~hidden_labels(self.mask) | hidden_labels(self.reader)
        return replace(known, authors=authors, blocked=blocked, labels=int(labels))

    def add(self, later: Overlay) -> None:
        """Take in what came later."""
        _add(self.follows, later.follows)
        _add(self.blocked, later.blocked)
        self.reader = self.reader & ~later.mask | later.reader
        self.mask |= later.mask
        self.position = max(self.position, later.position)


def _add(changes: dict[int, Any], later: dict[int, Any]) -> None:
    for other, change in later.items():
        changes.pop(other, None)
        changes[other] = change
    while len(changes) > KEPT_OTHERS:
        del changes[next(iter(changes))]


def edge_overlays(verb: str, user: int, other: int) -> dict[int, Overlay]:
    """What a change of an edge means, by user. An unblock shows nothing before the graph says so."""
    if verb in ("follow", "unfollow"):
        return {user: Overlay(follows={other: verb == "follow"})}
    if verb == "block":
        return {user: Overlay(blocked={other: None}), other: Overlay(blocked={user: None})}
    return {}


class PendingChanges:
    """The overlays of all users."""

    def __init__(self, client: RpcClient, on_applied: Callable[[list[int]], None]) -> None:
        """`on_applied` gets the users whose changes the graph has applied."""
        self._client, self._on_applied = client, on_applied
        self._overlays: dict[int, Overlay] = {}
        self._waiting: asyncio.Task[None] | None = None

    def of(self, user: int) -> Overlay | None:
        """The user's changes, if there are any."""
        return self._overlays.get(user)

    def add(self, overlays: dict[int, Overlay], stream_id: str) -> None:
        """These were accepted as that entry of the graph's stream."""
        ms, _, sequence = stream_id.partition("-")
        for user, overlay in overlays.items():
            overlay.position = int(ms), int(sequence)
            self._overlays.setdefault(user, Overlay()).add(overlay)
        while len(self._overlays) > KEPT_USERS:
            del self._overlays[next(iter(self._overlays))]
        if overlays and self._waiting is None:
            self._waiting = asyncio.create_task(self._wait())

    async def _wait(self) -> None:
        """Until the graph has applied them all."""
        try:
            while self._overlays:
                newest = max(overlay.position for overlay in self._overlays.values())
                if await self._is_applied(newest):
                    applied = [user for user, overlay in self._overlays.items() if overlay.position <= newest]
                    for user in applied:
                        del self._overlays[user]
                    self._on_applied(applied)
        finally:
            self._waiting = None

    async def _is_applied(self, position: _Position) -> bool:
        """Whether the graph has come so far; it is waited for a while."""
        try:
            await self._client.call("sync", "{}-{}".format(*position), timeout_s=SYNC_TIMEOUT_S)
        except RpcTimeout:
            return False
        except (RpcUnavailable, RpcError):
            await asyncio.sleep(PAUSE_S)
            return False
        return True

    async def close(self) -> None:
        """Wait no more."""
        if self._waiting is not None:
            self._waiting.cancel()
            await asyncio.wait([self._waiting])
