"""The cold tier: finding the posts that fan-out left for a user's next visit.

Owed to a user are the posts of followees that have a record in the lane, younger than the user's watermark (all before
it was settled by an earlier merge) and than the floor of the user's list (what was cut stays cut), that the list does
not hold yet. Hot followees are looked at too: an edge may have been cold when the post came, or younger than a cached
follower page. They are written as records of their own, so they have arrival numbers like everything else. What would
stand below the depth of the feed is passed by.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import time
from bisect import bisect_right
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence

import numpy as np

from reference_server.rpc import RpcError, RpcTimeout, RpcUnavailable
from reference_server.timeline.entry import STATUS_BITS, Status
from reference_server.timeline.index import Users
from reference_server.timeline.measures import COLD_MERGES
from reference_server.timeline.memcached import Reply
from reference_server.timeline.owner import LaneOwner
from reference_server.timeline.posted import Numbers

_log = logging.getLogger(__name__)
Followees = Callable[[int], Awaitable[Users | Sequence[int]]]
"""asks the graph whom a user follows; raises RpcUnavailable, RpcTimeout, RpcError"""
GRAPH_FAILED = (RpcUnavailable, RpcTimeout, RpcError)
FRESH_S = 30.0
"""a user who is active and was merged this lately is not merged again for a session"""
RETRY_S = 0.25
SETTLED_AT_ONCE = 16
FEW_AUTHORS = 512
MANY_RECORDS = 20_000
"""a merge is to take no longer than 10 ms with 7,500 followees, 100 ms with 100,000"""
PIECE = 2048
"""records looked at together: what limits how much more than needed is looked at"""
_UNPUSHED = "unpushed"
"""number in the log: 1 while users with a session may be owed posts"""


class ColdMerge:
    """Settles what one lane owes to its users."""

    def __init__(self, owner: LaneOwner, followees: Followees, depth: int, *, never: bool = False) -> None:
        """`depth`: at most so many posts, the newest, are handed over at once.

        `never` is the planted defect "cold-never-merged".
        """
        self._never = never
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
        """Write what is owed; how many posts. The user must be marked active before.

        When posts may have been dropped that were owed, what is cached goes too: only what is made from now on has the
        present horizon, and so gets them from the durable store.

        `everything`: also posts that earlier merges passed by, as the user did not follow their authors then.
        Raises RpcUnavailable, RpcTimeout, RpcError when the graph does not tell.
        """
        try:
            followees = np.asarray(await self._followees(user), np.uint32)
        except GRAPH_FAILED:
            COLD_MERGES.labels("failed").inc()
            raise
        await self._owner.wait_room()
        dropped = self._drop_cached(user)
        numbers, watermark = self._owed(user, followees, everything)
        if numbers or watermark > self._owner.merged.get(user, 0):
            self._owner.write_owed(user, numbers, watermark)
        self._owner.activity.note_merged(user, time.time())
        self._unsettled.discard(user)
        COLD_MERGES.labels("done").inc()
        if dropped is not None:
            await asyncio.wait([dropped])
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
        self._begin_settling()

    def set_fanout(self, fanout: str) -> None:
        """The flag `fanout` has this value from now on (and had it, or another one, when the lane was left).

        When pushing begins again, those who have a session and were passed over are merged first: until then later
        posts are left for that merge too, so that no post of an author overtakes an earlier one.
        """
        owner, pushes = self._owner, fanout == "push"
        if not pushes:
            owner.activity.stop_pushing()
            self._note_unpushed(1)
        elif owner.wal.number(_UNPUSHED):
            behind = owner.activity.push_again(time.time())
            self._unsettled.update(behind)
            _log.info("lane %d: posts are pushed again, %d users are merged first", owner.lane, len(behind))
            self._begin_settling()

    async def close(self) -> None:
        """End the background work."""
        if self._retry is not None:
            self._retry.cancel()
            await asyncio.wait([self._retry])

    def _note_unpushed(self, value: int) -> None:
        """Have the log tell whether users with a session may be owed posts."""
        wal = self._owner.wal
        if wal.number(_UNPUSHED) != value:
            batch = wal.batch()
            batch.number(_UNPUSHED, value)
            wal.write(batch)

    def _begin_settling(self) -> None:
        activity = self._owner.activity
        if (self._unsettled or activity.behind is not None) and (self._retry is None or self._retry.done()):
            self._retry = asyncio.ensure_future(self._settle_later())

    async def _settle_later(self) -> None:
        """Settle whoever is left, for as long as it takes."""
        while self._unsettled:
            self._unsettled = {user for user in self._unsettled if self._waits(user)}
            some = list(itertools.islice(self._unsettled, SETTLED_AT_ONCE))
            done = await asyncio.gather(*(self.settle(user) for user in some), return_exceptions=True)
            failures = [one for one in done if isinstance(one, BaseException)]
            for error in failures:
                if not isinstance(error, GRAPH_FAILED):
                    raise error
            if failures:
                _log.info("lane %d: %d users wait for a merge: %s", self._owner.lane, len(self._unsettled), failures[0])
                await asyncio.sleep(RETRY_S)
        if self._owner.activity.sessions_cover:
            self._owner.activity.behind = None
            self._note_unpushed(0)

    def _waits(self, user: int) -> bool:
        """Whether a merge is still wanted: those who are gone are merged at their next visit."""
        activity = self._owner.activity
        return bool(activity.presence[user]) or (activity.behind is not None and bool(activity.behind[user]))

    def _drop_cached(self, user: int) -> asyncio.Future[list[Reply]] | None:
        owner = self._owner
        settled_upto = max(owner.history, owner.merged.get(user, 0))
        if owner.cache is None or settled_upto >= owner.index.first - 1:
            return None
        return owner.cache.drop(user)

    def _owed(self, user: int, followees: Users, everything: bool) -> tuple[list[int], int]:
        """Records to hand over, and the watermark afterwards."""
        owner, index = self._owner, self._owner.index
        watermark = index.next - 1
        after = max(owner.history, index.floors.get(user, 1) - 1, 0 if everything else owner.merged.get(user, 0))
        owed: list[int] = []
        held: set[bytes] | None = None
        if self._never:
            return owed, watermark
        for numbers in self._candidates(np.append(followees, np.uint32(user)), after):
            if held is None:
                held = set(index.ids_of(user))
            slots = index.take(numbers)
            there = slots["status"] & STATUS_BITS != Status.DELETED  # a hidden one may show again
            pairs = zip(numbers[there].tolist(), slots["id"][there].tolist(), strict=True)
            owed = [number for number, post_id in pairs if post_id not in held] + owed
            if len(owed) >= self._depth:
                break
        return self._shown(user, owed[-self._depth :]), watermark

    def _shown(self, user: int, owed: list[int]) -> list[int]:
        """Those that are among the newest `depth` posts of the feed once it has them.

        A long list is cut by arrival: what is handed over arrives last, and older posts would push newer ones out.
        """
        index = self._owner.index
        held = index.records_of(user)
        below = len(held) + len(owed) - self._depth
        if not owed or below <= 0:
            return owed
        times = index.times_of(np.append(held, np.asarray(owed, np.uint32)))
        oldest = np.partition(times, below)[below]
        return [number for number, ts_us in zip(owed, times[len(held) :].tolist(), strict=True) if ts_us >= oldest]

    def _candidates(self, authors: Users, after: int) -> Iterator[Numbers]:
        """First records of posts by these authors behind `after`; ascending pieces, the newest piece first.

        A few authors are looked up one by one; for many, and for those who posted a lot, all that was posted is
        looked through from the newest on, which ends as soon as enough was found.
        """
        index = self._owner.index
        numbers = self._by_author(authors, after) if len(authors) <= FEW_AUTHORS else None
        if numbers is not None:
            yield from _pieces(numbers)
            return
        wanted = np.zeros(len(index.lists), np.bool_)
        wanted[authors[authors < len(wanted)]] = True
        for posters, posted in index.posted.backwards(after):
            yield from _pieces(posted[wanted[posters]])

    def _by_author(self, authors: Users, after: int) -> Numbers | None:
        """First records of the authors' posts behind `after`, ascending; None: more than MANY_RECORDS."""
        by_author, found, count = self._owner.index.by_author, [], 0
        for author in set(authors.tolist()):
            records = by_author.get(author)
            if records and records[-1] > after:
                start = bisect_right(records, after)
                count += len(records) - start
                if count > MANY_RECORDS:
                    return None
                found.append(np.frombuffer(records[start:], np.uint32))
        numbers = np.concatenate(found) if found else np.zeros(0, np.uint32)
        numbers.sort()
        return numbers


def _pieces(numbers: Numbers) -> Iterator[Numbers]:
    for end in range(len(numbers), 0, -PIECE):
        yield numbers[max(0, end - PIECE) : end]
