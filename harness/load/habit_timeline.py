"""When listeners do what they do differently: read late and catch up, vanish, disconnect all at once.

Times are fixed once t0 is known. What needs the listeners' state is done by `harness.load.stream_fleet`.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator

import numpy as np

from harness.core.clock import NS_PER_S, now_ns
from harness.load.plan import LoadPlan
from harness.load.stream_fleet import StreamFleet

log = logging.getLogger(__name__)

Turn = tuple[int, Callable[[], None]]
"""nanoseconds from t0, and what is done then"""


class HabitTimeline:
    """Of one engine's listeners."""

    def __init__(self, fleet: StreamFleet, plan: LoadPlan, randomness: np.random.Generator) -> None:
        self._fleet, self._listening = fleet, plan.listening
        self._end_ns = plan.end_ns
        self._randomness = randomness
        self._t0_ns: int | None = None
        self._timers: list[asyncio.TimerHandle] = []

    def start(self, t0_ns: int) -> None:
        """Now it is known when the first phase begins. Call inside the loop."""
        self._t0_ns = t0_ns
        turns = list(self._turns())
        self._timers = [self._timer(at_ns, act) for at_ns, act in turns if at_ns < self._end_ns]
        self._timers.append(self._timer(self._until_ns, self._catch_up))

    def end_at(self, end_ns: int) -> None:
        """The plan ends then already: nothing begins any more, late readers catch up."""
        self._end_ns = end_ns
        if self._t0_ns is not None:
            self.stop()
            self._timers = [self._timer(self._until_ns, self._catch_up)]

    def stop(self) -> None:
        """Forget what was to come."""
        for timer in self._timers:
            timer.cancel()
        self._timers = []
        if never := self._fleet.lose_no_more():
            log.warning("%d half-open listeners never vanished: they had no stream from their moment on", never)

    @property
    def _until_ns(self) -> int:
        until_s = self._listening.until_s
        return self._end_ns if until_s is None else min(self._end_ns, round(until_s * NS_PER_S))

    def _turns(self) -> Iterator[Turn]:
        from_ns = round(self._listening.from_s * NS_PER_S)
        yield from_ns, lambda: self._fleet.be_late(True)
        for at_s in self._listening.disconnect_at_s:
            yield round(at_s * NS_PER_S), lambda: self._fleet.disconnect(self._listening.disconnect_ratio)
        for listener in self._fleet.half_open:
            share = float(self._randomness.random())
            at_ns = round(from_ns + share * (self._until_ns - from_ns))
            yield at_ns, lambda one=listener: self._fleet.lose(one)  # type: ignore[misc]

    def _timer(self, at_ns: int, act: Callable[[], None]) -> asyncio.TimerHandle:
        assert self._t0_ns is not None
        wait_s = max(0, self._t0_ns + at_ns - now_ns()) / NS_PER_S
        return asyncio.get_running_loop().call_later(wait_s, act)

    def _catch_up(self) -> None:
        self._fleet.be_late(False)
