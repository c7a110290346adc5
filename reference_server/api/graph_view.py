"""The graph as the api needs it: cached for moments, honest about what it does not know.

While the graph is away, the last known answers stand in, however old; where there is none, nothing is guessed.

One api sees its own changes at once: a change invalidates the caller's entry, and one that the graph service has
accepted but not applied yet (it is away) is laid over what it answers.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TypeVar

import msgspec
import numpy as np

from reference_server.rpc import RpcClient, RpcError, RpcTimeout, RpcUnavailable

EXCLUDED_TTL_S = 1.0
COUNT_TTL_S = 5.0
OVERLAY_TTL_S = 60.0
READ_TIMEOUT_S = 0.25
UNKNOWN_TIMEOUT_S = 0.75
"""longer where there is no last known answer to fall back on"""
SYNC_TIMEOUT_S = 2.0
_MAX_CACHED = 50_000
V = TypeVar("V")
FAILURES = (RpcUnavailable, RpcTimeout, RpcError)


class GraphUnavailable(ConnectionError):
    """The graph service gave no usable answer."""


class UserState(msgspec.Struct, rename={"import_": "import"}):
    """Answer of graph `user()`."""

    exists: bool
    joined: bool
    import_: str
    done: int
    total: int


@dataclass(frozen=True)
class Excluded:
    """Authors whose posts a user must not see."""

    authors: frozenset[int]
    degraded: bool = False
    """the graph could not be asked: this is the last known state"""


@dataclass
class _Overlay:
    until_s: float
    excluded: dict[int, bool] = field(default_factory=dict)


class GraphView:
    """Reads of the graph service with small caches."""

    def __init__(self, client: RpcClient, celebrity_threshold: int) -> None:
        self._client = client
        self._threshold = celebrity_threshold
        self._excluded: dict[int, tuple[float, Excluded]] = {}
        self._counts: dict[int, tuple[float, int]] = {}
        self._overlays: dict[int, _Overlay] = {}
        self._changes = 0

    async def excluded(self, user: int) -> Excluded:
        """Authors hidden from `user`; at most 1 s old unless marked degraded.

        Raises GraphUnavailable: the graph is away and never told about the user.
        """
        now = time.monotonic()
        cached = self._excluded.get(user)
        if cached is not None and cached[0] > now:
            return cached[1]
        changes = self._changes
        try:
            patience_s = UNKNOWN_TIMEOUT_S if cached is None else READ_TIMEOUT_S
            unfollowed, blocked = await self._client.call("excluded", user, timeout_s=patience_s)
            authors = frozenset(np.frombuffer(unfollowed + blocked, "<u4").tolist())
            fresh = Excluded(self._overlaid(user, authors, now))
        except FAILURES as error:
            cached = self._excluded.get(user)  # a change may have been made while the graph was asked
            if cached is None:
                raise GraphUnavailable(str(error)) from error
            return Excluded(self._overlaid(user, cached[1].authors, now), degraded=True)
        if changes == self._changes:  # else a change was made while the graph was asked
            _put(self._excluded, user, (now + EXCLUDED_TTL_S, fresh))
        return fresh

    def _overlaid(self, user: int, authors: frozenset[int], now: float) -> frozenset[int]:
        overlay = self._overlays.get(user)
        if overlay is None:
            return authors
        if overlay.until_s < now:
            del self._overlays[user]
            return authors
        hidden = {other for other, excluded in overlay.excluded.items() if excluded}
        return authors - overlay.excluded.keys() | hidden

    async def is_celebrity(self, author: int) -> bool:
        """Whether the author takes the throttled path; the last known answer when the graph is away.

        Raises GraphUnavailable: it is away and never told. (A guess would let posts of one author overtake each other.)
        """
        now = time.monotonic()
        cached = self._counts.get(author)
        if cached is None or cached[0] < now:
            try:
                patience_s = UNKNOWN_TIMEOUT_S if cached is None else READ_TIMEOUT_S
                count = int(await self._client.call("follower_count", author, timeout_s=patience_s))
            except FAILURES as error:
                if cached is None:
                    raise GraphUnavailable(str(error)) from error
                count = cached[1]
            cached = (now + COUNT_TTL_S, count)
            _put(self._counts, author, cached)
        return cached[1] >= self._threshold

    async def followees(self, user: int) -> list[int]:
        """Authors the user follows. Raises GraphUnavailable."""
        try:
            users, _ = await self._client.call("followees", user, timeout_s=READ_TIMEOUT_S)
        except FAILURES as error:
            raise GraphUnavailable(str(error)) from error
        return [int(author) for author in np.frombuffer(users, "<u4")]

    async def counts(self, user: int) -> tuple[int, int]:
        """(followers, following). Raises GraphUnavailable."""
        try:
            followers, following = await self._client.call("counts", user)
        except FAILURES as error:
            raise GraphUnavailable(str(error)) from error
        return int(followers), int(following)

    async def user(self, user: int) -> UserState:
        """Whether the user joined, and how far the import is. Raises GraphUnavailable."""
        try:
            return msgspec.convert(await self._client.call("user", user), UserState)
        except (*FAILURES, msgspec.ValidationError) as error:
            raise GraphUnavailable(str(error)) from error

    async def changed(self, user: int, other: int, stream_id: str, excludes: bool | None) -> bool:
        """A change of (user, other) was accepted: wait until the graph has it, forget what it makes stale.

        `excludes`: whether `other` is hidden from `user` from now on (None: the change does not touch that).
        False: the graph is away; the change is kept in mind here until it is back.
        """
        try:
            await self._client.call("sync", stream_id, timeout_s=SYNC_TIMEOUT_S)
            applied = True
        except FAILURES:
            applied = False
        self._changes += 1
        for touched in (user, other):
            cached = self._excluded.get(touched)
            if cached is not None:
                known = cached[1].authors | {other} if excludes and touched == user else cached[1].authors
                self._excluded[touched] = (0.0, Excluded(known))
        if not applied and excludes is not None:
            overlay = self._overlays.setdefault(user, _Overlay(0.0))
            overlay.until_s = time.monotonic() + OVERLAY_TTL_S
            overlay.excluded[other] = excludes
        elif user in self._overlays:
            self._overlays[user].excluded.pop(other, None)
        return applied

    async def ping(self) -> bool:
        """Whether the graph service answers."""
        try:
            return bool(await self._client.call("ping", timeout_s=READ_TIMEOUT_S) == "pong")
        except FAILURES:
            return False


def _put(cache: dict[int, V], key: int, value: V) -> None:
    """Store; the entry stored longest ago makes room."""
    cache.pop(key, None)
    if len(cache) >= _MAX_CACHED:
        del cache[next(iter(cache))]
    cache[key] = value
