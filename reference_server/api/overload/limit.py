"""How many requests a process works on at once: a limit that follows what the process can do. Pure.

The rule is Netflix's Gradient2 (github.com/Netflix/concurrency-limits, Gradient2Limit), once a window of 100 ms:

    gradient = min(1, max(1/2, 1 / strain))          strain > 1: work takes longer than it should
    limit   += 1/5 * (limit * gradient + sqrt(limit) - limit)

and, as there, nothing changes while less than half of the limit is used. `strain` is ours. It is the larger of
    mean latency / (4 * baseline)   both a route: routes differ, so their mix must not look like congestion
    loop lag / 15 ms                one event loop does all the work, so a request's wait for the loop is the wait for
                                    the processor, whatever it does there. It must stay well below the 30 ms after which
                                    a read gives up the lane's owner for the dearer durable store.
A baseline is a route's latency while less than half of the limit is used. When more is used it follows a fall at
once, and a rise by 2 % a second only: what is slower for good becomes normal in the end, an overload does not.
"""

from __future__ import annotations

import math
from typing import NamedTuple

LOWEST, FIRST, HIGHEST = 40, 128, 512
"""bounds, and what a process starts with: some 40 ms of work, of which 64 writes at once may be a part"""
SMOOTHING = 0.2
LATENCY_TOLERANCE = 4.0
LAG_TARGET_S = 0.015
LOWEST_BASELINE_S = 0.001
OUTLIER = 10.0
"""a latency counts as at most so many baselines: some requests wait on purpose"""
_FALL, _RISE, _DRIFT = 0.3, 0.1, 0.002


class Limit:
    """The limit; `now` is a float, its whole part counts."""

    def __init__(self) -> None:
        self.now = float(FIRST)

    def update(self, peak: int, latency_ratio: float, lag_s: float) -> None:
        """End a window in which up to `peak` requests were worked on at once, at `latency_ratio` times the baseline."""
        if peak < self.now / 2:
            return
        strain = max(latency_ratio / LATENCY_TOLERANCE, lag_s / LAG_TARGET_S, 1.0)
        goal = self.now * max(0.5, 1.0 / strain) + math.sqrt(self.now)
        self.now = min(HIGHEST, max(LOWEST, self.now + SMOOTHING * (goal - self.now)))


class Window(NamedTuple):
    """What a window showed."""

    requests: int
    latency_ratio: float
    """mean latency in baselines; 0 when nothing ended"""


class Latencies:
    """Latency of each route, against its baseline."""

    def __init__(self, routes: int) -> None:
        self._counts = [0] * routes
        self._totals_s = [0.0] * routes
        self._caps_s = [math.inf] * routes
        self.baselines_s: list[float | None] = [None] * routes

    def add(self, route: int, seconds: float) -> None:
        """A request has ended."""
        cap_s = self._caps_s[route]
        self._counts[route] += 1
        self._totals_s[route] += seconds if seconds < cap_s else cap_s

    def close_window(self, is_calm: bool) -> Window:
        """End the window; `is_calm`: less than half of the limit was used."""
        requests, ratios = 0, 0.0
        for route, count in enumerate(self._counts):
            if count:
                mean_s = max(LOWEST_BASELINE_S, self._totals_s[route] / count)
                ratios += count * self._learn(route, mean_s, is_calm)
                requests += count
                self._counts[route], self._totals_s[route] = 0, 0.0
        return Window(requests, ratios / requests if requests else 0.0)

    def _learn(self, route: int, mean_s: float, is_calm: bool) -> float:
        """The mean in baselines; then the baseline follows."""
        baseline_s = self.baselines_s[route] or mean_s
        ratio = mean_s / baseline_s
        if ratio < 1.0:
            baseline_s += _FALL * (mean_s - baseline_s)
        elif is_calm:
            baseline_s += _RISE * (mean_s - baseline_s)
        else:
            baseline_s = min(mean_s, baseline_s * (1.0 + _DRIFT))
        self.baselines_s[route] = baseline_s
        self._caps_s[route] = OUTLIER * baseline_s
        return ratio
