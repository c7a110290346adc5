"""The cold tier: finding the posts that fan-out left for a user's next visit.

Owed to a user are the posts of followees that have a record in the lane, younger than the user's watermark (all before
it was settled by an earlier merge) and than the floor of the user's list (what was cut stays cut), that the list does
not hold yet. Hot followees are looked at too: an edge may have been cold when the post came, or younger than a cached
follower page. They are written as records of their own, so they have arrival numbers like everything else.
"""

from __future__ import annotations

import asyncio
import logging
import time
from bisect import bisect_right
from collections.abc import Awaitable, Callable, Iterable

import numpy as np

from reference_server.rpc import RpcError, RpcTimeout, RpcUnavailable
from reference_server.timeline.entry import Status
from reference_server.timeline.measures import COLD_MERGES
from reference_server.timeline.owner import LaneOwner

_log = logging.getLogger(__name__)
Followees = Callable[[int], Awaitable[list[int]]]
"""asks the graph whom a user follows; raises RpcUnavailable, RpcTimeout, RpcError"""
GRAPH_FAILED = (RpcUnavailable, RpcTimeout, RpcError)
FRESH_S = 30.0
"""a user who is active and was merged this lately is not merged again for a session"""
RETRY_S = 0.25


class ColdMerge:
    """Settles what one lane owes to its users."""

    def __init__(self, owner: LaneOwner, followees: Followees, depth: int) -> None:
        """`depth`: at most so many posts, the newest, are handed over at once."""
        self._owner = owner
        self._followees = followees
        self._depth = depth
        self._unsettled: set[int] = set()
        self._retry: asyncio.Task[None] | None = None

    def is_fresh(self, user: int) -> bool:
        """Whether the user is active since a merge that is not long ago."""
        activity, now_s = self._owner.activity, time.time()
        return activity.is_covered(user, now_s) and now_s - float(activity.merged_at[user]) < FRESH_S

    async def settle(self, user: int, *, everything: bool = False) -> int:
        """Write what is owed; returns how many posts. The user must be marked active before.

        `everything`: also posts that earlier merges passed by, as the user did not follow their authors then.
        Raises RpcUnavailable, RpcTimeout, RpcError when the graph does not tell.
        """
        try:
            followees = await self._followees(user)
        except GRAPH_FAILED:
            COLD_MERGES.labels("failed").inc()
            raise
        await self._owner.wait_room()
        numbers, watermark = self._owed(user, followees, everything)
        if numbers or watermark > self._owner.merged.get(user, 0):
            self._owner.write_owed(user, numbers, watermark)
        self._owner.activity.merged_at[user] = time.time()
        self._unsettled.discard(user)
        COLD_MERGES.labels("done").inc()
        return len(numbers)

    async def settle_all(self, users: Iterable[int], limit_s: float) -> None:
        """Settle what can be settled within the limit; the rest follows in the background, and is notified."""
        wanted = list(users)
        if not wanted:
            return
        self._unsettled.update(wanted)
        tasks = [asyncio.ensure_future(self.settle(user)) for user in wanted]
        _, late = await asyncio.wait(tasks, timeout=limit_s)
        for task in late:
            task.cancel()
        if late:
            await asyncio.wait(late)
        for task in tasks:
            if not task.cancelled() and (error := task.exception()) and not isinstance(error, GRAPH_FAILED):
                raise error
        if self._unsettled and (self._retry is None or self._retry.done()):
            self._retry = asyncio.ensure_future(self._settle_later())

    async def close(self) -> None:
        """End the background work."""
        if self._retry is not None:
            self._retry.cancel()
            await asyncio.wait([self._retry])

    async def _settle_later(self) -> None:
        while self._unsettled:
            await asyncio.sleep(RETRY_S)
            for user in list(self._unsettled):
                if not self._owner.activity.presence[user]:
                    self._unsettled.discard(user)  # gone; the next visit settles
                    continue
                try:
                    await self.settle(user)
                except GRAPH_FAILED as error:
                    _log.info("lane %d: %d users wait for a merge: %s", self._owner.lane, len(self._unsettled), error)
                    break

    def _owed(self, user: int, followees: list[int], everything: bool) -> tuple[list[int], int]:
        """Records to hand over, and the watermark afterwards."""
        owner, index = self._owner, self._owner.index
        watermark = index.next - 1
        after = max(owner.history, index.floors.get(user, 1) - 1, 0 if everything else owner.merged.get(user, 0))
        found: list[int] = []
        for author in {*followees, user}:
            records = index.by_author.get(author)
            if records and records[-1] > after:
                found += records[bisect_right(records, after) :]
        if not found:
            return [], watermark
        slots = index.take(np.array(sorted(found), np.uint32))
        slots = slots[slots["status"] == Status.VISIBLE]
        held = set(index.slots["id"][index.records_of(user)].tolist())
        seqs = (slots["seq"].astype(np.uint64) & np.uint64((1 << 48) - 1)).tolist()
        owed = [number for number, post_id in zip(seqs, slots["id"].tolist(), strict=True) if post_id not in held]
        return owed[-self._depth :], watermark
