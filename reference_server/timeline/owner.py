"""The owner of one lane: log, index, cache and activity of its users, and the one order in which they change.

    write:  log -> index -> quiet appends -> barrier -> applied -> notify
All changes happen between two awaits, so whatever reads index and activity sees whole groups of records. A group that
was written twice (a queue delivers again, a worker died between log and barrier) is recognised by its queue position
or by the post's id; what reaches the cache twice is dropped by readers.

Does not read queues or the graph: fan-out hands in posts with their followers, `merge` what is owed to a user.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from enum import IntEnum
from functools import partial
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from reference_server.timeline.activity import Activity
from reference_server.timeline.cache_writer import NO_GEN
from reference_server.timeline.defects import SOUND, LaneDefects
from reference_server.timeline.entry import EPOCH_SHIFT, STATUS_BITS, Status, make_seq, with_status
from reference_server.timeline.index import Index, StatusMark, Users
from reference_server.timeline.lane_cache import Appends, LaneCache, gen_name
from reference_server.timeline.measures import DEFERRED_ENTRIES, ENTRIES, OWED_ENTRIES, RECORDS
from reference_server.timeline.reached import Reached
from reference_server.timeline.wal import Kind, LogBatch, Progress, Wal

NOTIFY_KEPT = 100_000
"""records whose notification is pending at most"""


class Wake(IntEnum):
    """Which cold followers are written at once."""

    ACTIVE = 0
    """those with a session or an open stream"""
    PRESENT = 1
    """those with an open stream only: they must be notified"""


class PostPage(NamedTuple):
    """One page of a post's followers, those of this lane."""

    source: bytes
    """the queue entry, "posts:1700000000000-0" """
    post_id: bytes
    author: int
    entry: bytes
    hot: Users
    cold: Users
    part: int
    last: bool
    wake: Wake = Wake.ACTIVE
    is_repeat: bool = False
    """the list is gone through once more, as it changed meanwhile"""


class Removal(NamedTuple):
    """A change of a post's status: it must not show any more, or (VISIBLE) it may again.

    For one post the highest clock wins; DELETED wins for good.
    """

    post_id: bytes
    status: Status
    hlc: int = 0
    """hybrid clock of the change"""


class Notice(NamedTuple):
    """A record that has arrived in the cached timelines."""

    number: int
    post_id: bytes
    users: Users
    owed: bool = False
    """the users were owed the post; it may be an old one"""


class Lost(LookupError):
    """The owner does not know the timeline (planted defect "no-wal")."""


class LaneOwner:
    """See the module. `takeover` makes one from a log."""

    def __init__(
        self,
        lane: int,
        wal: Wal,
        index: Index,
        notify: Callable[[LaneOwner, list[Notice]], None],
        *,
        defects: LaneDefects = SOUND,
    ) -> None:
        """`notify` gets each group of records once it is applied; `defects` are planted ones."""
        self.lane, self.wal, self.index, self._defects = lane, wal, index, defects
        self.activity = Activity(len(index.lists))
        self.applied = index.next - 1
        """number of the newest applied record"""
        self.history = wal.number("history")
        """last record of the bulk-loaded history: nothing up to it is owed to anybody"""
        self.merged: dict[int, int] = wal.merged()
        self.handed_over: dict[int, int] = {}
        """user -> newest record that a merge wrote"""
        self.reached: dict[bytes, Reached] = {}
        """posts whose pages are being written -> users that have them"""
        self._lane_users = np.asarray(index.users, np.uint32)
        self.cache: LaneCache | None = None
        self._notify = notify
        self._notices: deque[Notice] = deque(maxlen=NOTIFY_KEPT)
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()

    # --- writing

    async def wait_room(self) -> None:
        """Return when the cache can take another group."""
        if self.cache is not None:
            await self.cache.wait_room()

    def write(
        self,
        items: Iterable[PostPage | Removal],
        stream: str,
        position: str,
        progresses: Sequence[Progress] = (),
    ) -> int:
        """Write a group and note the queue position with it, in one batch; returns the newest record's number."""
        batch, appends = self.wal.batch(), self._appends()
        now_s, before = time.time(), self.index.next
        fresh: dict[bytes, bytes] = {}
        for item in items:
            if isinstance(item, Removal):
                mark = StatusMark(item.status, item.hlc, int(now_s))
                if self.index.set_status(item.post_id, mark):
                    batch.status(item.post_id, mark)
            elif self._is_new(item, fresh):
                self._add_page(item, batch, appends, now_s)
                if item.last and self._defects.twice():
                    self._add_record(item, self._at_once(item, now_s), Kind.CONTINUED, batch, appends)
        batch.position(stream, position, progresses)
        return self._commit(batch, appends, self.index.next - before)

    def write_owed(self, user: int, numbers: Sequence[int], watermark: int) -> int:
        """Hand the posts of these records to the user, as records of their own; returns the newest record's number."""
        batch, appends = self.wal.batch(), self._appends()
        page = int(user).to_bytes(4, "little")
        users = np.array([user], np.uint32)
        slots = []
        for number in numbers:
            entry = self.index.slot(number)[8:]
            new, slot = self._put(entry, batch, Kind.OWED, page)
            self.index.append(new, (user,))
            post_id = entry[:16]
            if post_id in self.reached:
                self.reached[post_id].add(users)
            self._notices.append(Notice(new, post_id, users, owed=True))
            self.handed_over[user] = new
            slots.append(slot)
        if slots:
            appends.slots(b"".join(slots), user)
            OWED_ENTRIES.inc(len(slots))
        batch.merged(user, watermark)
        self.merged[user] = watermark
        return self._commit(batch, appends, len(slots))

    def mark_hot(self, user: int, until_s: float) -> None:
        """The user has a session until that Unix second."""
        self.activity.mark_hot(user, until_s, time.time())
        batch = self.wal.batch()
        batch.hot(user, int(self.activity.hot_until[user]))
        self.wal.write(batch)

    def mark_all_hot(self, until_s: float, batch: LogBatch) -> None:
        """All users of the lane count as active until then: readers may know of sessions that the log has lost."""
        now_s = time.time()
        for user in self.index.users:
            self.activity.mark_hot(user, until_s, now_s)
            batch.hot(user, int(until_s))

    def store_gen(self, node: int, gen: int) -> None:
        """Make the key generation of a cache node durable."""
        batch = self.wal.batch()
        batch.number(gen_name(node), gen)
        self.wal.write(batch)

    def _appends(self) -> Appends:
        assert self.cache is not None
        return self.cache.appends()

    def _is_new(self, item: PostPage, fresh: dict[bytes, bytes]) -> bool:
        source = fresh.get(item.post_id) or self.wal.seen(item.post_id)
        if source is None:
            fresh[item.post_id] = item.source
            return True
        return source == item.source and (item.part > 0 or item.post_id in self.reached)

    def _add_page(self, item: PostPage, batch: LogBatch, appends: Appends, now_s: float) -> None:
        followers, users = len(item.hot) + len(item.cold), self._at_once(item, now_s)
        if not item.is_repeat:
            DEFERRED_ENTRIES.inc(followers - len(users))
        reached = self.reached.get(item.post_id)
        if reached is not None:
            users = reached.lacking(users)
        if len(users) or (reached is None and followers):
            kind = Kind.POST if reached is None else Kind.CONTINUED
            self._add_record(item, users, kind, batch, appends)
            if not item.last:
                self.note_reached(item.post_id, users)
        if item.last:
            self.reached.pop(item.post_id, None)

    def note_reached(self, post_id: bytes, users: Users) -> None:
        """These users have a post whose pages are still being written."""
        reached = self.reached.get(post_id)
        if reached is None:
            reached = self.reached[post_id] = Reached(self._lane_users)
        reached.add(users)

    def _at_once(self, item: PostPage, now_s: float) -> Users:
        """The followers that are written to now; the others are owed the post."""
        users = item.hot
        if len(item.cold):
            woken = item.cold[self._wakes(item, now_s)]
            if len(woken):
                users = np.concatenate((users, woken))
        users, behind = self._defects.reached(users), self.activity.behind
        return users if behind is None else users[~behind[users]]

    def _wakes(self, item: PostPage, now_s: float) -> npt.NDArray[np.bool_]:
        if item.wake is Wake.ACTIVE:
            return self.activity.active(item.cold, now_s)
        present: npt.NDArray[np.bool_] = self.activity.presence[item.cold] != 0
        return present

    def _add_record(self, item: PostPage, users: Users, kind: Kind, batch: LogBatch, appends: Appends) -> None:
        number, slot = self._put(item.entry, batch, kind, users.astype("<u4", copy=False).tobytes())
        if kind is Kind.POST:
            batch.seen(item.post_id, item.source)
            self.index.note_author(item.author, number)
        if len(users):
            self.index.append(number, users.tolist())
            appends.slot(slot, users)
            self._notices.append(Notice(number, item.post_id, users))
            ENTRIES.inc(len(users))

    def _put(self, entry: bytes, batch: LogBatch, kind: Kind, page: bytes) -> tuple[int, bytes]:
        mark = self.index.statuses.get(entry[:16])
        if mark is not None:
            entry = entry[:-1] + bytes([with_status(entry[-1], mark.status)])
        number = self.index.next
        slot = make_seq(self.index.epoch, number).to_bytes(8, "big") + entry
        self.index.put_slot(slot)
        batch.record(number, entry, kind, page)
        return number, slot

    def _commit(self, batch: LogBatch, appends: Appends, records: int) -> int:
        assert self.cache is not None
        batch.number("applied", self.applied)
        self.wal.write(batch)
        last = self.index.next - 1
        if records:
            RECORDS.inc(records)
            for user in self.index.sweep(records):
                appends.curb(user)
            self._defects.send(partial(self.cache.send, appends, last), partial(self.note_applied, last))
        return last

    # --- applied

    def note_applied(self, last: int) -> None:
        """The cache holds (or nobody can read) everything up to that record: notify."""
        self.applied = max(self.applied, last)
        notices = []
        while self._notices and self._notices[0].number <= last:
            notices.append(self._notices.popleft())
        while self._waiting and self._waiting[0][0] <= last:
            future = self._waiting.popleft()[1]
            if not future.done():
                future.set_result(None)
        if notices:
            self._notify(self, notices)

    async def wait_applied(self, number: int) -> None:
        """Return when the record, and so all before it, has been applied."""
        if number <= self.applied:
            return
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((number, future))
        await future

    # --- reading

    @property
    def head(self) -> int:
        """Newest applied arrival number: all later ones are notified."""
        return make_seq(self.index.epoch, self.applied)

    def rebuild(self, user: int) -> tuple[int, int, int, int, bytes, int]:
        """[generation or NO_GEN, epoch, floor, upto, slots, horizon_us]. Raises Lost."""
        gen = NO_GEN if self.cache is None else self.cache.lend(user)
        if self._defects.forgets:
            raise Lost(str(user))
        upto = make_seq(self.index.epoch, self.index.next - 1)
        index = self.index
        slots = self._defects.refilled(index.slots_of(user))
        return gen, index.epoch, index.floor(user), upto, slots, index.horizon_us

    def missed(self, user: int, since: int) -> list[tuple[int, bytes]] | None:
        """(arrival number, post id) of what reached the user after `since` up to the head; None: cannot be told."""
        epoch, number = since >> EPOCH_SHIFT, since & ((1 << EPOCH_SHIFT) - 1)
        if epoch != self.index.epoch or number > self.applied:
            return None
        if number + 1 < max(self.index.floors.get(user, 0), self.index.first):
            return None
        numbers = self.index.records_of(user)
        wanted = numbers[np.searchsorted(numbers, number, "right") : np.searchsorted(numbers, self.applied, "right")]
        slots = self.index.take(wanted)
        visible = slots[slots["status"] & STATUS_BITS == Status.VISIBLE]
        return list(zip(visible["seq"].tolist(), visible["id"].tolist(), strict=True))

    async def close(self) -> None:
        """Let go of cache and log."""
        if self.cache is not None:
            await self.cache.close()
        self.wal.close()
