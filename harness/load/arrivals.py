r"""When ops are due: pure, seeded schedules, computed before the run. Knows no clock and no target.

A schedule is a rising int64 array of nanoseconds from t0. Arrivals are open loop: they come whether or
not earlier ops have finished, so a slow target meets the load it would meet in life.

    rate | constant  | | | | | | | |     due_k = start + k / rate
         | poisson   || |  | ||   |      gaps exponential with mean 1 / rate
         | ramp      |   |  | | ||||     rate(t) rises linearly
         | curve     given by its cumulative count (the real sign-ups)
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from harness.core.clock import NS_PER_S

Schedule = NDArray[np.int64]


def constant(rate_per_s: float, start_ns: int, end_ns: int) -> Schedule:
    """One arrival every 1/rate seconds, the first at `start_ns`; none at or after `end_ns`."""
    if rate_per_s <= 0 or end_ns <= start_ns:
        return _none()
    gap_ns = NS_PER_S / rate_per_s
    count = int(np.ceil((end_ns - start_ns) / gap_ns - 1e-9))
    return start_ns + np.round(np.arange(count) * gap_ns).astype(np.int64)


def poisson(rng: np.random.Generator, rate_per_s: float, start_ns: int, end_ns: int) -> Schedule:
    """A Poisson process: a Poisson number of independent uniform times.

    Source: a homogeneous Poisson process given its count is that many uniform order statistics.
    """
    if rate_per_s <= 0 or end_ns <= start_ns:
        return _none()
    count = int(rng.poisson(rate_per_s * (end_ns - start_ns) / NS_PER_S))
    return np.sort(rng.integers(start_ns, end_ns, count, dtype=np.int64))


def ramp(first_per_s: float, last_per_s: float, start_ns: int, end_ns: int) -> Schedule:
    """Arrivals whose rate goes linearly from `first_per_s` to `last_per_s`.

    N(t) = a t + (b - a) t^2 / (2 T); arrival k is due where N(t) = k + 1/2, the positive root.
    """
    length_s = (end_ns - start_ns) / NS_PER_S
    total = int((first_per_s + last_per_s) / 2 * length_s)
    if total <= 0 or length_s <= 0:
        return _none()
    wanted = np.arange(total) + 0.5
    slope = (last_per_s - first_per_s) / length_s
    root = np.sqrt(np.maximum(first_per_s**2 + 2 * slope * wanted, 0))
    times_s = np.minimum(2 * wanted / (first_per_s + root), length_s)
    due: Schedule = start_ns + np.round(times_s * NS_PER_S).astype(np.int64)
    return due


def curve(
    inverse: Callable[[NDArray[np.float64]], NDArray[np.float64]], count: int, start_ns: int, end_ns: int
) -> Schedule:
    """`count` arrivals along a growth curve squeezed into [start, end).

    `inverse` maps a share of all arrivals (0..1) to a share of the time (0..1), rising.
    """
    if count <= 0 or end_ns <= start_ns:
        return _none()
    shares = (np.arange(count) + 0.5) / count
    return start_ns + np.floor(inverse(shares) * (end_ns - start_ns)).astype(np.int64)


def _none() -> Schedule:
    return np.empty(0, dtype=np.int64)
