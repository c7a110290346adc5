"""The graph as the api needs it: cached for moments, honest about what it does not know.

Whom a user must not see is kept for longer, as the graph tells for whom that changes (see exclusion_changes).

While the graph is away, the last known answers stand in, however old, and at once (see graph_silence); where there is
none, nothing is guessed.

One api sees its own changes at once: a change invalidates the caller's entry, and one that the graph service has
accepted but not applied yet (it is away) is laid over what it answers (see pending_changes).
"""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any, TypeVar

import msgspec
import numpy as np

from reference_server.api.exclusion_changes import ExclusionChanges
from reference_server.api.graph_silence import GraphSilence, GraphUnavailable
from reference_server.api.pending_changes import SYNC_TIMEOUT_S, Excluded, Overlay, PendingChanges, edge_overlays
from reference_server.events import Reader
from reference_server.graph.followees import all_followees
from reference_server.rpc import RpcClient, RpcError, RpcTimeout, RpcUnavailable

__all__ = ["Excluded", "GraphUnavailable", "GraphView", "UserState"]
EXCLUDED_TTL_S = 1.0
COUNT_TTL_S = 5.0
READ_TIMEOUT_S = 0.25
UNKNOWN_TIMEOUT_S = 0.75
"""longer where there is no last known answer to fall back on"""
_MAX_CACHED = 50_000
V = TypeVar("V")
_Known = tuple[float, Excluded, bool]
"""(moment until which it holds by itself, answer, whether it holds for longer while changes are told)"""


class UserState(msgspec.Struct, rename={"import_": "import"}):
    """Answer of graph `user()`."""

    exists: bool
    joined: bool
    import_: str
    done: int
    total: int
    reader: int = 0
    """bits of `events.Reader`"""


class GraphView:
    """Reads of the graph service with small caches."""

    def __init__(self, client: RpcClient, celebrity_threshold: int) -> None:
        self._client = client
        self._threshold = celebrity_threshold
        self._excluded: dict[int, _Known] = {}
        self._following = ExclusionChanges(client, self._forget)
        self._counts: dict[int, tuple[float, int]] = {}
        self._silence = GraphSilence(client)
        self._pending = PendingChanges(client, self._applied)
        self._changes = 0

    async def excluded(self, user: int) -> Excluded:
        """Authors hidden from `user`; at most 1 s old unless marked degraded.

        Raises GraphUnavailable: the graph is away and never told about the user.
        """
        now = time.monotonic()
        cached = self._excluded.get(user)
        if cached is not None and (cached[0] > now or (self._following.is_current(now) and cached[2])):
            return cached[1]
        changes, looks, pending = self._changes, self._following.looks, self._pending.of(user)
        try:
            with self._silence.noticed(insists=cached is None):
                patience_s = UNKNOWN_TIMEOUT_S if cached is None else READ_TIMEOUT_S
                answer = await self._client.call("excluded", user, timeout_s=patience_s)
        except GraphUnavailable:
            cached = self._excluded.get(user)  # a change may have been made while the graph was asked
            if cached is None:
                raise
            return replace(cached[1], degraded=True)
        pending = self._pending.of(user) or pending  # it may have been applied since the graph answered
        fresh = _excluded_of(answer) if pending is None else pending.over(_excluded_of(answer))
        if changes == self._changes:  # else a change was made while the graph was asked
            is_followed = looks == self._following.looks and pending is None
            _put(self._excluded, user, (now + EXCLUDED_TTL_S, fresh, is_followed))
        return fresh

    def _forget(self, users: list[int] | None) -> None:
        """What is known about these users (None: all) holds no longer, but as the last known."""
        for user in list(self._excluded) if users is None else users:
            known = self._excluded.get(user)
            if known is not None:
                self._excluded[user] = (0.0, known[1], False)

    def _applied(self, users: list[int]) -> None:
        """The graph has applied what was pending of these users."""
        self._changes += 1
        self._forget(users)

    async def is_celebrity(self, author: int) -> bool:
        """Whether the author takes the throttled path; the last known answer when the graph is away.

        Raises GraphUnavailable: it is away and never told. (A guess would let posts of one author overtake each other.)
        """
        now = time.monotonic()
        cached = self._counts.get(author)
        if cached is None or cached[0] < now:
            try:
                patience_s = UNKNOWN_TIMEOUT_S if cached is None else READ_TIMEOUT_S
                with self._silence.noticed(insists=cached is None):
                    count = int(await self._client.call("follower_count", author, timeout_s=patience_s))
            except GraphUnavailable:
                if cached is None:
                    raise
                count = cached[1]
            cached = (now + COUNT_TTL_S, count)
            _put(self._counts, author, cached)
        return cached[1] >= self._threshold

    async def followees(self, user: int) -> list[int]:
        """Authors the user follows. Raises GraphUnavailable."""
        with self._silence.noticed():
            users = await all_followees(self._client, user, READ_TIMEOUT_S)
        return [int(author) for author in users]

    async def following(self, user: int, other: int) -> tuple[int, bool]:
        """How many the user follows, and whether `other` is among them. Raises GraphUnavailable."""
        with self._silence.noticed():
            count, already = await self._client.call("following", user, other, timeout_s=READ_TIMEOUT_S)
        return int(count), bool(already)

    async def counts(self, user: int) -> tuple[int, int]:
        """(followers, following). Raises GraphUnavailable."""
        with self._silence.noticed():
            followers, following = await self._client.call("counts", user)
        return int(followers), int(following)

    async def user(self, user: int) -> UserState:
        """Whether the user joined, and how far the import is. Raises GraphUnavailable."""
        with self._silence.noticed():
            answer = await self._client.call("user", user)
        try:
            return msgspec.convert(answer, UserState)
        except msgspec.ValidationError as error:
            raise GraphUnavailable(str(error)) from error

    async def changed(self, verb: str, user: int, other: int, stream_id: str) -> bool:
        """A change of (user, other) was accepted: wait until the graph has it, forget what it makes stale.

        False: the graph is away; the change is kept in mind here until it has applied it.
        """
        overlays = edge_overlays(verb, user, other)
        return await self._accepted({user: Overlay(), other: Overlay()} | overlays, overlays, stream_id)

    async def profile_changed(self, user: int, stream_id: str, mask: Reader, reader: Reader) -> bool:
        """The bits of `mask` in the user's profile were set to `reader`'s: the same."""
        overlays = {user: Overlay(mask=mask, reader=reader)}
        return await self._accepted(overlays, overlays, stream_id)

    async def _accepted(self, touched: dict[int, Overlay], overlays: dict[int, Overlay], stream_id: str) -> bool:
        applied = True
        try:
            with self._silence.noticed():
                await self._client.call("sync", stream_id, timeout_s=SYNC_TIMEOUT_S)
        except GraphUnavailable:
            applied = False
            self._pending.add(overlays, stream_id)
        self._changes += 1
        for user, overlay in touched.items():
            cached = self._excluded.get(user)
            if cached is not None:
                self._excluded[user] = (0.0, overlay.over(cached[1]), False)
        return applied

    async def ping(self) -> bool:
        """Whether the graph service answers."""
        try:
            return bool(await self._client.call("ping", timeout_s=READ_TIMEOUT_S) == "pong")
        except (RpcUnavailable, RpcTimeout, RpcError):
            return False

    async def close(self) -> None:
        """End what goes on in the background."""
        await self._silence.close()
        await self._pending.close()


def _excluded_of(answer: list[Any]) -> Excluded:
    unfollowed, blocked, labels = answer
    hidden = frozenset(np.frombuffer(blocked, "<u4").tolist())
    return Excluded(hidden.union(np.frombuffer(unfollowed, "<u4").tolist()), labels=labels, blocked=hidden)


def _put(cache: dict[int, V], key: int, value: V) -> None:
    """Store; the entry stored longest ago makes room."""
    cache.pop(key, None)
    if len(cache) >= _MAX_CACHED:
        del cache[next(iter(cache))]
    cache[key] = value
