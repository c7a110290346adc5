r"""When ops are due: pure, seeded schedules, computed before the run. Knows no clock and no target.

A schedule is a rising int64 array of nanoseconds from t0. Arrivals are open loop: they come whether or
not earlier ops have finished, so a slow target meets the load it would meet in life.

    rate | constant  ________   ramp ___/‾‾   spike ___|‾|__   sine /\/\/\     (`harness.core.rate_shapes`)
         | curve     given by its cumulative count (the real sign-ups)
    gaps | even      | | | | | | | |
         | poisson   || |  | ||   |
         | a trace   as recorded (`harness.load.trace`)

One way for all shapes: N(t) is the integral of the rate, how many arrivals are owed by then. Points on the axis of N,
at 0, 1, 2, ... or at random, are carried to the axis of time by the inverse of N. For a steady rate that is a straight
line.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from harness.core.clock import NS_PER_S
from harness.core.rate_shapes import POISSON, Floats, Rate, Shape, is_even

Schedule = NDArray[np.int64]
_BISECTIONS = 60
"""halve a day of nanoseconds to far less than one"""


def due_times(
    rng: np.random.Generator, rate: Rate, start_ns: int, end_ns: int, usual_spacing: str = POISSON
) -> Schedule:
    """When ops of this rate are due, spaced as the rate says, or as is usual."""
    make_even = is_even(rate, usual_spacing)
    return even(rate, start_ns, end_ns) if make_even else poisson(rng, rate, start_ns, end_ns)


def even(rate: Rate, start_ns: int, end_ns: int) -> Schedule:
    """Arrival k where the integral of the rate from `start_ns` on is k; the first at once, none at or after `end_ns`.

    For a steady rate: one arrival every 1/rate seconds.
    """
    owed = expected(rate, start_ns, end_ns)
    if owed <= 0:
        return _none()
    if isinstance(rate, int | float):
        owed = (end_ns - start_ns) / (NS_PER_S / rate)  # as the times below: none of them is lost to rounding
    return _times_at(rate, np.arange(int(np.ceil(owed - 1e-9)), dtype=np.float64), start_ns, end_ns)


def one_interval_on(rate: Rate, start_ns: int, end_ns: int) -> int:
    """When one arrival is owed since `start_ns`; `end_ns` when that is later."""
    return int(_times_at(rate, np.ones(1), start_ns, end_ns)[0]) if expected(rate, start_ns, end_ns) > 1 else end_ns


def poisson(rng: np.random.Generator, rate: Rate, start_ns: int, end_ns: int) -> Schedule:
    """A Poisson process: a Poisson number of independent times, each as likely as the rate is high then.

    Source: given its count, a Poisson process is that many order statistics of the density rate / integral; these are
    uniform ones, carried over by the inverse of its distribution.
    """
    owed = expected(rate, start_ns, end_ns)
    if owed <= 0:
        return _none()
    drawn = np.sort(rng.integers(start_ns, end_ns, int(rng.poisson(owed)), dtype=np.int64))
    if isinstance(rate, int | float):
        return drawn
    return _times_at(rate, (drawn - start_ns) / (end_ns - start_ns) * owed, start_ns, end_ns)


def expected(rate: Rate, start_ns: int, end_ns: int) -> float:
    """How many arrivals this rate brings from `start_ns` to `end_ns`: its integral; 0 when there is no such time."""
    if end_ns <= start_ns:
        return 0.0
    if isinstance(rate, int | float):
        return rate * (end_ns - start_ns) / NS_PER_S
    first, last = rate.count(np.array([start_ns, end_ns]) / NS_PER_S)
    return float(last - first)


def _times_at(rate: Rate, counts: Floats, start_ns: int, end_ns: int) -> Schedule:
    """Where the integral of the rate from `start_ns` on goes beyond these counts."""
    if isinstance(rate, int | float):
        return start_ns + np.round(counts * (NS_PER_S / rate)).astype(np.int64)
    due_ns = start_ns + np.round(_inverse(rate, counts, start_ns / NS_PER_S, end_ns / NS_PER_S) * NS_PER_S)
    return np.clip(due_ns, start_ns, end_ns - 1).astype(np.int64)


def _inverse(shape: Shape, counts: Floats, start_s: float, end_s: float) -> Floats:
    """Seconds after `start_s` at which the shape's count has risen by `counts`, by bisection: counts never fall."""
    wanted = shape.count(np.array([start_s]))[0] + counts
    low, high = np.zeros_like(counts), np.full_like(counts, end_s - start_s)
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2
        is_early = shape.count(start_s + middle) <= wanted
        low, high = np.where(is_early, middle, low), np.where(is_early, high, middle)
    return low


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
