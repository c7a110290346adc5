"""`Overload`: all that one api process knows of its load, and what handlers may ask about it."""

from __future__ import annotations

import time
from collections import Counter

from prometheus_client import REGISTRY

from reference_server.api.overload.body import Bodies
from reference_server.api.overload.callers import Callers
from reference_server.api.overload.levels import BOUNDS, Levels
from reference_server.api.overload.limit import Latencies, Limit
from reference_server.api.overload.limiter import Limiter
from reference_server.api.overload.overload_measures import LAG_SECONDS, StateCollector
from reference_server.api.overload.pulse import Pulse
from reference_server.api.overload.rates import Rates
from reference_server.api.overload.routes import ROUTES, Priority
from reference_server.flags import Flags
from reference_server.flags.watch import FlagWatch

KEPT_USERS = 50_000
REDUCED_PAGE = 20
BARE_LEVEL = len(BOUNDS)
"""level at which posting, joining and the beginning of feeds go on, and nothing else"""
REDUCED = "reduced"
"""the word of Feed-Degraded for answers that optional work was left out of"""
SIGN_UPS_PER_S, STRANGERS_PER_S, IDENTITY_PER_S = 5000.0, 1000.0, 10.0
LATE_LOOP_S, VERY_LATE_LOOP_S = 0.05, 0.25
_SIGN_UPS, _STRANGERS = -1, -2


class Overload:
    """One a process. Everything but the flags belongs to the event loop's thread."""

    def __init__(self, flags: FlagWatch, secret: bytes, users: int) -> None:
        now_s = time.monotonic()
        self.callers = Callers(secret, users)
        self.limit = Limit()
        self.limiter = Limiter(self.limit.now)
        self.latencies = Latencies(len(ROUTES))
        self.levels = Levels(now_s)
        self.pulse = Pulse(self.limiter.sweep, self._end_window)
        self.admitted = [0] * len(Priority)
        self.refused: Counter[tuple[str, Priority]] = Counter()
        """by reason (see REASONS) and priority"""
        self.turned_away = 0
        """those of them, but for optional ones, for whom there was no room"""
        self.bodies = Bodies()
        self._flags = flags
        self._reads, self._writes, self._identities = Rates(KEPT_USERS), Rates(KEPT_USERS), Rates(KEPT_USERS)
        self._all = Rates(2)
        self._counted = 0
        self._turned_away = 0
        self._window_s, self._thread_s = now_s, time.thread_time()
        self._collector = StateCollector(self._gauges, self.admitted, self.refused)

    def register(self) -> None:
        """Show the gauges in this process's metrics."""
        REGISTRY.register(self._collector)

    def close(self) -> None:
        """Stop the clock."""
        self.pulse.stop()
        REGISTRY.unregister(self._collector)

    @property
    def flags(self) -> Flags:
        """The flags now."""
        return self._flags.now

    # --- what handlers ask

    @property
    def level(self) -> int:
        """How much is left out: 0 nothing, 1 optional writes, 2 also long pages and sessions, 3 all but the core."""
        return self.levels.level

    @property
    def skips_sessions(self) -> bool:
        """Whether a first page goes without what cold followees owe its reader (marked `reduced` if that was so)."""
        return self.levels.level >= 2

    def page_limit(self, limit: int) -> int:
        """How many of the `limit` items asked for a page may hold (marked `reduced` if there are more)."""
        return min(limit, REDUCED_PAGE) if self.levels.level >= 2 else limit

    def leaves_out_page(self) -> bool:
        """Whether a page behind the first is left out now; it is counted. (The gate sees cursors in queries only.)"""
        if self.levels.level < BARE_LEVEL:
            return False
        self.refused["level", Priority.ESSENTIAL] += 1
        return True

    def identity_wait_s(self, user: int) -> float:
        """0.0: the identity may sign up now; else the seconds until it may. Signing up needs no token, hence this."""
        if not self.flags.auto_throttle:
            return 0.0
        wait_s = self._identities.take(user, time.monotonic(), IDENTITY_PER_S)
        if wait_s:
            self.refused["identity_rate", Priority.ESSENTIAL] += 1
        return wait_s

    # --- what the gate asks

    def user_wait_s(self, user: int, writes: bool, now_s: float) -> float:
        """Take a token of the user's bucket: 0.0, or the seconds until there is one."""
        flags = self._flags.now
        if writes:
            return self._writes.take(user, now_s, flags.user_writes_per_s)
        return self._reads.take(user, now_s, flags.user_reads_per_s)

    def stranger_wait_s(self, signs_up: bool, now_s: float) -> float:
        """The same for requests without a good token, which share a bucket; sign-ups have one of their own."""
        if signs_up:
            return self._all.take(_SIGN_UPS, now_s, SIGN_UPS_PER_S)
        return self._all.take(_STRANGERS, now_s, STRANGERS_PER_S)

    def turn_away(self, reason: str, priority: Priority) -> None:
        """Count one who was refused for want of room."""
        self.refused[reason, priority] += 1
        self.turned_away += priority is not Priority.OPTIONAL

    # --- ten times a second, while there is load

    def _end_window(self, now_s: float, lag_s: float) -> bool:
        """Learn from the last window; False when there is nothing to watch any more."""
        LAG_SECONDS.observe(lag_s)
        limiter, flags = self.limiter, self._flags.now
        peak = limiter.take_peak()
        window = self.latencies.close_window(peak < limiter.limit / 2)
        if flags.auto_throttle:
            self.limit.update(peak, window.latency_ratio, lag_s)
            limiter.set_limit(self.limit.now)
        sample = self._pressure(peak, lag_s)
        busy_ratio = self._busy_ratio(now_s)
        if flags.degrade:
            self.levels.update(sample, busy_ratio, now_s)
        else:
            self.levels.reset(now_s)
        load = window.requests or limiter.in_flight or limiter.waiting
        return bool(load or self.level or self.levels.pressure > 1e-3)

    def _pressure(self, peak: int, lag_s: float) -> float:
        """Share of the requests refused, or what the loop's lateness says, while much is under way."""
        admitted = self.admitted[Priority.ESSENTIAL] + self.admitted[Priority.STANDARD]
        asked = admitted + self.turned_away - self._counted - self._turned_away
        share = (self.turned_away - self._turned_away) / asked if asked else 0.0
        self._counted, self._turned_away = admitted, self.turned_away
        if peak < self.limiter.limit / 2:
            return share
        lateness = (lag_s - LATE_LOOP_S) / (VERY_LATE_LOOP_S - LATE_LOOP_S)
        return max(share, min(1.0, lateness))

    def _busy_ratio(self, now_s: float) -> float:
        """Share of the time for which the loop's thread had the processor."""
        thread_s = time.thread_time()
        busy_s, passed_s = thread_s - self._thread_s, max(1e-6, now_s - self._window_s)
        self._thread_s, self._window_s = thread_s, now_s
        return busy_s / passed_s

    def _gauges(self) -> dict[str, float]:
        return {
            "limit": int(self.limiter.limit),
            "in_flight": self.limiter.in_flight,
            "waiting": self.limiter.waiting,
            "bodies": len(self.bodies),
            "level": self.level,
            "pressure": round(self.levels.pressure, 4),
            "users": len(self._reads) + len(self._writes),
        }
