"""How sure a difference between two recordings is: a block bootstrap over windows of time. Pure.

A phase is cut into windows of about a second. Neighbouring windows are alike (a burst, a pause of the collector), so
they are drawn in blocks of sqrt(n) neighbours (Künsch 1989, circular: Politis and Romano 1992), and the same blocks on
both sides: what the time line does to both (the fault, the ramp) is no difference. The spread of the redrawn
differences is their standard error; the bounds are Student's, with a degree of freedom for each block but one.

Several runs a side: window k of all runs of a side is one window, and the bounds are at least as wide as the runs of a
side differ among each other (pooled variance). A single run a side cannot tell how runs differ: bounds hold for it.

Times are compared by their ratio, rates relative to the first side, shares of failures by their difference, which is
bounded by Newcombe's interval as well (1998, his method 10): that nothing failed proves little when little was tried.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Protocol

import numpy as np
import numpy.typing as npt

CONFIDENCE = 0.99
"""of the bounds, both sides together. Of a hundred rows without any difference one shows one; up to four do where the
level wanders from second to second (half of it stays for the next: tests/harness/judge/test_bootstrap.py)"""
RESAMPLES = 400
FEWEST_WINDOWS = 8
"""with fewer the spread of a metric over time is not known"""
MOST_WINDOWS = 120
BEYOND = 10
"""samples that must lie beyond a percentile before bounds of it mean anything"""
GRAIN = 0.001
"""relative: times are redrawn rounded to this"""

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Recording:
    """One metric in one phase of one run; times from the phase's start, in seconds."""

    length_s: float
    values: Floats
    """of each op that succeeded, greater than 0"""
    at_s: Floats
    """when it was due, same order"""
    failed_at_s: Floats
    runs: int = 1
    """how many were put together; all begin at 0"""

    @property
    def count(self) -> int:
        """Ops, failed ones included."""
        return len(self.values) + len(self.failed_at_s)


@dataclass(frozen=True)
class Windows:
    """How often each window is drawn, a row a resample."""

    drawn: Floats
    width_s: float
    freedom: float
    """blocks that are free to vary"""

    @property
    def count(self) -> int:
        """Windows of the recordings."""
        return int(self.drawn.shape[1])

    def number(self, at_s: Floats) -> Ints:
        """The window of each time."""
        numbers: Ints = np.minimum((at_s / self.width_s).astype(np.int64), self.count - 1)
        return numbers

    def totals(self, per_window: Floats) -> Floats:
        """What a row of draws holds of something counted in each window (its first axis)."""
        # not `@`: the threads of a matrix product cost ten times the work on a machine that is busy
        totals: Floats = np.einsum("rw,w...->r...", self.drawn, per_window)
        return totals


class Statistic(Protocol):
    """What is compared."""

    def of(self, recording: Recording) -> float:
        """Its value; nan when there is nothing to tell it from."""

    def redrawn(self, recording: Recording, windows: Windows) -> Floats:
        """Its value for each row of draws."""

    def score(self, value: Floats, first: float) -> Floats:
        """Where the values lie on the scale on which they are subtracted; `first` is the value of the first side."""

    def change(self, score: float) -> float:
        """A difference of scores as a change: 0.1 is 10 % more (of shares: 10 points more)."""


@dataclass(frozen=True)
class Quantile:
    """The smallest time that at least this share of ops does not exceed."""

    share: float

    def of(self, recording: Recording) -> float:
        """The value, exact."""
        count = len(recording.values)
        if not count:
            return math.nan
        place = max(0, math.ceil(round(self.share * count, 9)) - 1)
        return float(np.partition(recording.values, place)[place])

    def redrawn(self, recording: Recording, windows: Windows) -> Floats:
        """Its value for each row of draws, to a thousandth; nan where nothing was drawn."""
        grid, place = np.unique(np.round(np.log(recording.values) / GRAIN), return_inverse=True)
        cells = windows.number(recording.at_s) * len(grid) + place
        counts = np.bincount(cells, minlength=windows.count * len(grid)).reshape(windows.count, len(grid))
        below = windows.totals(np.cumsum(counts, axis=1, dtype=np.float64))
        wanted = np.maximum(self.share * below[:, -1:], 1.0) - 1e-6
        found: Floats = np.exp(GRAIN * grid[np.minimum((below < wanted).sum(axis=1), len(grid) - 1)])
        return np.where(below[:, -1] > 0, found, np.nan)

    def score(self, value: Floats, first: float) -> Floats:
        """Ratios become differences."""
        scores: Floats = np.log(value)
        return scores

    def change(self, score: float) -> float:
        """How much slower."""
        return math.exp(min(score, 50.0)) - 1

    def needs(self) -> int:
        """Samples that its bounds need."""
        return math.ceil(round(BEYOND / max(min(self.share, 1 - self.share), 1e-9), 6))


@dataclass(frozen=True)
class FailedShare:
    """The share of ops that failed."""

    def of(self, recording: Recording) -> float:
        """From 0 to 1."""
        return len(recording.failed_at_s) / recording.count if recording.count else math.nan

    def redrawn(self, recording: Recording, windows: Windows) -> Floats:
        """Its value for each row of draws; nan where nothing was drawn."""
        failed, good = (windows.totals(per_window(at_s, windows)) for at_s in (recording.failed_at_s, recording.at_s))
        total = failed + good
        shares: Floats = np.divide(failed, total, out=np.full(len(total), np.nan), where=total > 0)
        return shares

    def score(self, value: Floats, first: float) -> Floats:
        """As it is."""
        return value

    def change(self, score: float) -> float:
        """Points more."""
        return score


@dataclass(frozen=True)
class Rate:
    """Ops that succeeded, a second and run."""

    def of(self, recording: Recording) -> float:
        """Per second."""
        return len(recording.values) / (recording.length_s * recording.runs)

    def redrawn(self, recording: Recording, windows: Windows) -> Floats:
        """Its value for each row of draws."""
        return windows.totals(per_window(recording.at_s, windows)) / (recording.length_s * recording.runs)

    def score(self, value: Floats, first: float) -> Floats:
        """Relative to the first side."""
        return value / first

    def change(self, score: float) -> float:
        """How much more."""
        return score


def per_window(at_s: Floats, windows: Windows) -> Floats:
    """How many of these times lie in each window."""
    return np.bincount(windows.number(at_s), minlength=windows.count).astype(np.float64)


@dataclass(frozen=True)
class Bounds:
    """A change from the first side to the second, and where it lies with CONFIDENCE."""

    change: float
    low: float
    high: float


def pooled(recordings: Sequence[Recording], length_s: float) -> Recording:
    """Several runs of one side as one recording, as far as the shortest of both sides goes."""
    kept = [r.at_s < length_s for r in recordings]
    return Recording(
        length_s=length_s,
        values=np.concatenate([r.values[k] for r, k in zip(recordings, kept, strict=True)]),
        at_s=np.concatenate([r.at_s[k] for r, k in zip(recordings, kept, strict=True)]),
        failed_at_s=np.concatenate([r.failed_at_s[r.failed_at_s < length_s] for r in recordings]),
        runs=len(recordings),
    )


def window_count(length_s: float) -> int:
    """Into how many windows a phase of this length is cut."""
    return max(1, min(MOST_WINDOWS, round(length_s)))


def draw_windows(length_s: float, random: np.random.Generator) -> Windows:
    """RESAMPLES draws of blocks of neighbouring windows, each as long as the phase."""
    count = window_count(length_s)
    block = max(1, round(math.sqrt(count)))
    blocks = math.ceil(count / block)
    first = random.integers(0, count, size=(RESAMPLES, blocks))
    chosen = ((first[:, :, None] + np.arange(block)) % count).reshape(RESAMPLES, -1)[:, :count]
    cells = chosen + count * np.arange(RESAMPLES)[:, None]
    drawn = np.bincount(cells.ravel(), minlength=RESAMPLES * count).reshape(RESAMPLES, count)
    return Windows(drawn.astype(np.float64), length_s / count, max(1.0, count / block - 1))


def bounds(
    before: Sequence[Recording], after: Sequence[Recording], statistic: Statistic, random: np.random.Generator
) -> Bounds | None:
    """The change of a statistic from some runs to others; None where one side cannot tell it."""
    length_s = min(r.length_s for r in (*before, *after))
    sides = pooled(before, length_s), pooled(after, length_s)
    first = statistic.of(sides[0])
    if not first > 0 and not isinstance(statistic, FailedShare):
        return None
    with np.errstate(divide="ignore", invalid="ignore"):
        old, new = (float(statistic.score(np.array([statistic.of(side)]), first)[0]) for side in sides)
        if math.isnan(old) or math.isnan(new):
            return None
        windows = draw_windows(length_s, random)
        redrawn = [statistic.score(statistic.redrawn(side, windows), first) for side in sides]
        spread = redrawn[1] - redrawn[0]
        single = [statistic.score(np.array([statistic.of(r) for r in side]), first) for side in (before, after)]
    half = student(CONFIDENCE, windows.freedom) * float(np.std(spread[np.isfinite(spread)], ddof=1))
    half = max(half, _between_runs(single))
    found = Bounds(*(statistic.change(new - old + sign * half) for sign in (0, -1, 1)))
    return _newcombe(sides, found) if isinstance(statistic, FailedShare) else found


def _between_runs(sides: Sequence[Floats]) -> float:
    """Half the width of the bounds as the runs of each side differ among each other; 0 when too few tell."""
    known = [side[np.isfinite(side)] for side in sides]
    freedom = sum(len(side) for side in known) - 2
    if freedom < 2 or not all(len(side) for side in known):
        return 0.0
    variance = sum(float(((side - side.mean()) ** 2).sum()) for side in known) / freedom
    return student(CONFIDENCE, freedom) * math.sqrt(variance * sum(1 / len(side) for side in known))


def _newcombe(sides: Sequence[Recording], found: Bounds) -> Bounds:
    """The wider of these bounds and Newcombe's on the difference of two shares."""
    (p, p_low, p_high), (q, q_low, q_high) = (wilson(len(side.failed_at_s), side.count) for side in sides)
    low = q - p - math.hypot(q - q_low, p_high - p)
    high = q - p + math.hypot(q_high - q, p - p_low)
    return Bounds(found.change, min(found.low, low), max(found.high, high))


def wilson(failed: int, count: int) -> tuple[float, float, float]:
    """A share and its bounds (Wilson 1927) at CONFIDENCE."""
    z = NormalDist().inv_cdf((1 + CONFIDENCE) / 2)
    share = failed / count
    middle = (share + z * z / (2 * count)) / (1 + z * z / count)
    half = z / (1 + z * z / count) * math.sqrt(share * (1 - share) / count + (z / (2 * count)) ** 2)
    return share, max(0.0, min(share, middle - half)), min(1.0, max(share, middle + half))


def student(confidence: float, freedom: float) -> float:
    """How many standard errors Student's bounds are from the middle (Abramowitz and Stegun 26.7.5).

    Within 1 % from 3 degrees of freedom on, 5 % too small for 2.
    """
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    terms = (
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
        (79 * z**9 + 776 * z**7 + 1482 * z**5 - 1920 * z**3 - 945 * z) / 92160,
    )
    return z + sum(term / freedom**power for power, term in enumerate(terms, start=1))
