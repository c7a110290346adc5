"""Slots to work in, and a short queue before them.

There is a lane for the reads and one for the writes of each priority. A lane gets a slot while fewer than its share of
the limit are taken: all of them for essential work, 85 % for standard, 60 % for optional. So low priorities are turned
away first, and never keep the others out. Writes together get at most 70 %, so that a stalled post queue leaves room
for reads, and an eighth for half a second after an essential read had to be turned away: a post costs the stack as much
as five pages or more (log, fan-out), so with all of the posts served first few could read what was posted.

The queue is that of "Fail at Scale" (Maurer, ACM Queue 13(8), 2015), CoDel for servers. A burst may wait 100 ms, first
in, first out. A queue that was never empty for 100 ms is no burst: then the wait is 30 ms, the newest goes first (its
client is still there), and the room shrinks to a quarter of the limit. Whoever is refused has had no effect.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from typing import NamedTuple

from reference_server.api.overload.routes import Priority

SHARES = {Priority.ESSENTIAL: 1.0, Priority.STANDARD: 0.85, Priority.OPTIONAL: 0.6}
WRITE_SHARE, PRESSED_WRITE_SHARE = 0.7, 0.125
PRESSED_S = 0.5
"""for so long after an essential read was turned away writes have the smaller share"""
BURST_WAIT_S, STANDING_WAIT_S = 0.1, 0.03
STANDING_AFTER_S = 0.1
LANES = 2 * len(Priority)
_READS = 2 * Priority.ESSENTIAL
_HAND_ON = tuple(lane for priority in Priority for lane in (2 * priority + 1, 2 * priority))
"""lanes in the order in which they are served: a priority's writes, which are rarer and capped, before its reads"""
_LATER = tuple(tuple(reversed(_HAND_ON[_HAND_ON.index(lane) + 1 :])) for lane in range(LANES))
"""for each lane those served later, the last first: they make room for it"""


class _Waiter(NamedTuple):
    slot: asyncio.Future[bool]
    since_s: float


class Limiter:
    """Hands out slots in one event loop."""

    def __init__(self, limit: float) -> None:
        self.in_flight = 0
        self.peak = 0
        """most slots taken at once since `take_peak`"""
        self.waiting = 0
        self.is_standing = False
        """whether the queue is one that does not empty"""
        self.limit = limit
        self._writing = 0
        self._caps = [0] * LANES
        self._write_cap = self._pressed_write_cap = self._room = 0
        self._queues: list[deque[_Waiter]] = [deque() for _ in range(LANES)]
        self._began_s = 0.0
        self._is_pressed = self._read_turned_away = False
        self._pressed_until_s = 0.0
        self._resize()

    # --- slots

    def try_enter(self, lane: int) -> bool:
        """Take a slot if the lane may have one now. Whoever has one must `leave`."""
        if self.in_flight >= self._caps[lane]:
            return False
        if lane & 1 and self._writing >= (self._pressed_write_cap if self._is_pressed else self._write_cap):
            return False
        self.enter(lane)
        return True

    def enter(self, lane: int) -> None:
        """Take a slot in any case."""
        self._writing += lane & 1
        self.in_flight += 1
        if self.in_flight > self.peak:
            self.peak = self.in_flight

    def leave(self, lane: int) -> None:
        """Give the slot back; it goes to whoever waits."""
        self._writing -= lane & 1
        self.in_flight -= 1
        if self.waiting:
            self._hand_on()

    def take_peak(self) -> int:
        """Most slots taken at once since the last call."""
        peak, self.peak = self.peak, self.in_flight
        return peak

    # --- queue

    def has_room(self, lane: int) -> bool:
        """Whether a request would get a slot, or at least a place in the queue, now. No: it is being turned away."""
        if not self._writes_yield(lane) and (
            self.in_flight < self._caps[lane] or self.waiting < self._room or self._may_push_in(lane)
        ):
            return True
        self._read_turned_away |= lane == _READS
        return False

    async def wait(self, lane: int) -> bool:
        """Wait for a slot; False: there is no room in the queue, or none came free in time."""
        if self._writes_yield(lane) or (self.waiting >= self._room and not self._make_room(lane)):
            self._read_turned_away |= lane == _READS
            return False
        slot: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        now_s = time.monotonic()
        if not self.waiting:
            self._began_s = now_s
        self._queues[lane].append(_Waiter(slot, now_s))
        self.waiting += 1
        try:
            return await slot
        except asyncio.CancelledError:
            if slot.done() and not slot.cancelled() and slot.result():
                self.leave(lane)
            raise

    def sweep(self, now_s: float) -> None:
        """Turn away who waited too long, and notice whether the queue stands. To be called every 20 ms or so."""
        if self._read_turned_away:
            self._read_turned_away, self._pressed_until_s = False, now_s + PRESSED_S
        self._is_pressed = now_s < self._pressed_until_s
        standing = self.waiting > 0 and now_s - self._began_s > STANDING_AFTER_S
        if standing != self.is_standing:
            self.is_standing = standing
            self._resize()
        oldest_s = now_s - (STANDING_WAIT_S if standing else BURST_WAIT_S)
        for lane, queue in enumerate(self._queues):
            while queue and queue[0].since_s < oldest_s:
                self._turn_away_oldest(lane)

    def set_limit(self, limit: float) -> None:
        """Change the number of slots; who may enter now does."""
        self.limit = limit
        self._resize()
        if self.waiting:
            self._hand_on()

    def _resize(self) -> None:
        for priority, share in SHARES.items():
            self._caps[2 * priority] = self._caps[2 * priority + 1] = max(1, int(self.limit * share))
        self._write_cap = max(1, int(self.limit * WRITE_SHARE))
        self._pressed_write_cap = max(1, int(self.limit * PRESSED_WRITE_SHARE))
        self._room = max(4, int(self.limit / 4 if self.is_standing else self.limit))

    def _hand_on(self) -> None:
        """Give free slots to waiters, the most important lane first."""
        for lane in _HAND_ON:
            queue = self._queues[lane]
            while queue and self.try_enter(lane):
                if not self._answer(queue.pop() if self.is_standing else queue.popleft(), True):
                    self._writing -= lane & 1
                    self.in_flight -= 1

    def _may_push_in(self, lane: int) -> bool:
        """Whether somebody waits in a lane that is served later."""
        return any(self._queues[later] for later in _LATER[lane])

    def _make_room(self, lane: int) -> bool:
        """Turn away the oldest waiter of the least important lane, if that is served later than this one."""
        for later in _LATER[lane]:
            if self._queues[later]:
                self._turn_away_oldest(later)
                return True
        return False

    def _turn_away_oldest(self, lane: int) -> None:
        self._read_turned_away |= lane == _READS
        self._answer(self._queues[lane].popleft(), False)

    def _writes_yield(self, lane: int) -> bool:
        """Whether this is a write, and writes have, or wait for, what they may have while reads are turned away."""
        return self._is_pressed and lane & 1 == 1 and self._writing + len(self._queues[lane]) >= self._pressed_write_cap

    def _answer(self, waiter: _Waiter, enters: bool) -> bool:
        """Whether the waiter was still there."""
        self.waiting -= 1
        if waiter.slot.done():
            return False
        waiter.slot.set_result(enters)
        return True
