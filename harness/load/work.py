"""Open-loop work: hands each arrival to a free Locust user when it is due, and keeps the honest counts.

One queue for each class of users. An arrival that finds no free user makes the pool grow; beyond the limit it
waits, and counts as late; when as many wait as there may be users, it is dropped, and counted. Nothing here talks HTTP.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence

import gevent
import gevent.event
import gevent.queue

from harness.core.clock import NS_PER_S, now_ns
from harness.load.arrival_kinds import Arrival, ArrivalKind
from harness.load.lateness import LATE_NS

GROWTH = 10
"""users added at a time"""
IDLE_POLL_S = 0.02


class Pool:
    """The users of one class and the arrivals waiting for them."""

    def __init__(self) -> None:
        self.queue: gevent.queue.Queue[Arrival] = gevent.queue.Queue()
        self.users = 0
        self.busy = 0

    @property
    def waiting(self) -> int:
        """Arrivals nobody has taken yet."""
        return int(self.queue.qsize())

    @property
    def exhausted(self) -> bool:
        """The next arrival would have to wait."""
        return self.busy + self.waiting >= self.users


class Work:
    """The arrivals of this process and how they went."""

    def __init__(
        self,
        schedule: Sequence[Arrival],
        pools: Mapping[ArrivalKind, str],
        limit: int,
        grow: Callable[[str, int], None],
    ) -> None:
        """`pools` names the user class of each kind; `grow(class, n)` adds users to it, up to `limit`."""
        self.schedule = schedule
        self.planned = len(schedule)
        """arrivals that were asked for"""
        self.pools = {name: Pool() for name in pools.values()}
        self._pool_of = {kind: self.pools[name] for kind, name in pools.items()}
        self._name_of = dict(pools)
        self._limit = limit
        self._grow = grow
        self.t0_ns = 0
        self.next = 0
        self.sent = self.late = self.dropped = self.skipped = self.max_late_ns = 0
        self.stopped = gevent.event.Event()
        self._pending_polls = 0

    @property
    def completed(self) -> bool:
        """Every arrival that was asked for was handed out."""
        return self.next >= self.planned

    @property
    def outstanding(self) -> int:
        """Ops waiting, in flight, or to be polled again."""
        return self._pending_polls + sum(pool.busy + pool.waiting for pool in self.pools.values())

    def dispatch(self, t0_ns: int) -> None:
        """Hand out the schedule in real time; returns at its end, where it was cut, or when stopped."""
        self.t0_ns = t0_ns
        for arrival in self.schedule:
            wait_s = (t0_ns + arrival.due_ns - now_ns()) / NS_PER_S
            if wait_s > 0 and self.stopped.wait(wait_s):
                return
            if self.stopped.is_set() or self.completed:
                return
            self.next += 1
            self.offer(arrival)

    def cut(self, end_ns: int) -> None:
        """End the schedule `end_ns` after t0, before its time: later arrivals are not asked for."""
        self.planned = bisect_left(self.schedule, end_ns, key=lambda arrival: arrival.due_ns)

    def offer(self, arrival: Arrival) -> None:
        """Queue one arrival that is due now; grow the pool, or drop the arrival, when nobody is free."""
        pool = self._pool_of[arrival.kind]
        if pool.exhausted and pool.users < self._limit:
            self._add_users(pool, self._name_of[arrival.kind], min(GROWTH, self._limit - pool.users))
        if pool.busy + pool.waiting >= pool.users + self._limit:
            self.dropped += 1
            return
        pool.queue.put(arrival)

    def _add_users(self, pool: Pool, name: str, count: int) -> None:
        pool.users += count
        self._grow(name, count)

    def poll_later(self, arrival: Arrival, delay_s: float) -> None:
        """Queue a follow-up op after a while. Follow-ups count as outstanding until then."""
        self._pending_polls += 1
        gevent.spawn_later(delay_s, self._poll_now, arrival)

    def _poll_now(self, arrival: Arrival) -> None:
        self._pending_polls -= 1
        self.offer(arrival)

    def take(self, pool_name: str) -> Arrival:
        """The next arrival for a user of that class; blocks. Call `done` afterwards."""
        pool = self.pools[pool_name]
        arrival: Arrival = pool.queue.get()
        pool.busy += 1
        if arrival.kind is not ArrivalKind.IMPORT_POLL:
            late_ns = now_ns() - self.t0_ns - arrival.due_ns
            self.sent += 1
            self.late += late_ns > LATE_NS
            self.max_late_ns = max(self.max_late_ns, late_ns)
        return arrival

    def skip(self) -> None:
        """Nobody can do the arrival taken last: it was not sent after all."""
        self.sent -= 1
        self.skipped += 1

    def done(self, pool_name: str) -> None:
        """The op of a user of that class is over."""
        self.pools[pool_name].busy -= 1

    def wait_idle(self, limit_s: Callable[[], float]) -> bool:
        """Wait until nothing is outstanding. False when the time, which may shrink meanwhile, was not enough."""
        begun_ns = now_ns()
        while self.outstanding and now_ns() - begun_ns < limit_s() * NS_PER_S:
            gevent.sleep(IDLE_POLL_S)
        return self.outstanding == 0
