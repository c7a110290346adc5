"""The real sign-up curve: 100 million users in 102 hours, from publicly reported milestones.

It accelerates for sixteen hours and then slows down; there is no spike at the start. Interpolated by a
monotone cubic (PCHIP), so users never un-join between milestones. Only its shape is used: a run squeezes it
into any duration and any number of users.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

HOURS = np.array([0, 1.25, 2, 4, 7, 16, 25, 40, 41, 46, 102], dtype=np.float64)
"""hours since the launch, 2023-07-05 23:00 UTC; the 16 h point is inferred (14-17 h)"""
USERS = np.array([0, 1, 2, 5, 10, 30, 49, 70, 71, 75, 100], dtype=np.float64) * 1e6
"""cumulative users at `HOURS`"""
_BISECTIONS = 50


def pchip_slopes(x: Floats, y: Floats) -> Floats:
    """Slopes at the knots of the monotone cubic through (x, y).

    Weighted harmonic means of neighbouring secants inside, the three-point formula at the ends.
    Source: Fritsch and Butland 1984; Moler, Numerical Computing with MATLAB, section 3.4 (pchip).
    """
    h = np.diff(x)
    secants = np.diff(y) / h
    slopes = np.zeros_like(y)
    before, after = secants[:-1], secants[1:]
    w1, w2 = 2 * h[1:] + h[:-1], h[1:] + 2 * h[:-1]
    rising = before * after > 0
    slopes[1:-1][rising] = ((w1 + w2)[rising]) / (w1[rising] / before[rising] + w2[rising] / after[rising])
    slopes[0] = _end_slope(h[0], h[1], secants[0], secants[1])
    slopes[-1] = _end_slope(h[-1], h[-2], secants[-1], secants[-2])
    return slopes


def _end_slope(h0: float, h1: float, d0: float, d1: float) -> float:
    slope = ((2 * h0 + h1) * d0 - h0 * d1) / (h0 + h1)
    if slope * d0 <= 0:
        return 0.0
    if d0 * d1 < 0 and abs(slope) > 3 * abs(d0):
        return 3 * d0
    return float(slope)


def pchip(x: Floats, y: Floats, at: Floats) -> Floats:
    """The monotone cubic through (x, y), evaluated at `at` (within the range of x)."""
    slopes = pchip_slopes(x, y)
    i = np.clip(np.searchsorted(x, at, side="right") - 1, 0, len(x) - 2)
    h = x[i + 1] - x[i]
    t = (at - x[i]) / h
    value: Floats = (
        y[i] * (1 + 2 * t) * (1 - t) ** 2
        + slopes[i] * h * t * (1 - t) ** 2
        + y[i + 1] * t**2 * (3 - 2 * t)
        + slopes[i + 1] * h * t**2 * (t - 1)
    )
    return value


def users_at(hours: Floats) -> Floats:
    """Cumulative users `hours` after the launch."""
    return pchip(HOURS, USERS, np.clip(hours, HOURS[0], HOURS[-1]))


def time_share(user_share: Floats) -> Floats:
    """Inverse of the curve: the share of the 102 hours at which this share of all users had joined.

    By bisection on the monotone curve, to 1e-13 of its length.
    """
    wanted = np.clip(user_share, 0, 1) * USERS[-1]
    low, high = np.zeros_like(wanted), np.full_like(wanted, HOURS[-1])
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2
        early = users_at(middle) < wanted
        low, high = np.where(early, middle, low), np.where(early, high, middle)
    share: Floats = (low + high) / 2 / HOURS[-1]
    return share
