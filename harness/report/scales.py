"""From values to pixels, and where axes have their ticks. Pure."""

from __future__ import annotations

import math
from dataclasses import dataclass

TIME_STEPS_S = (1, 2, 5, 10, 15, 20, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 28800)
PERCENTILES = (0.0, 50.0, 75.0, 90.0, 95.0, 99.0, 99.9, 99.99, 99.999)


@dataclass(frozen=True)
class Linear:
    """Values low..high on pixels from..to."""

    low: float
    high: float
    start: float
    end: float

    def __call__(self, value: float) -> float:
        """Pixel of a value, kept within the axis."""
        span = (self.high - self.low) or 1.0
        ratio = min(1.0, max(0.0, (value - self.low) / span))
        return round(self.start + ratio * (self.end - self.start), 1)


@dataclass(frozen=True)
class Log:
    """Positive values low..high on pixels, by their logarithm."""

    low: float
    high: float
    start: float
    end: float

    def __call__(self, value: float) -> float:
        """Pixel of a value, kept within the axis."""
        span = math.log10(self.high / self.low) or 1.0
        ratio = min(1.0, max(0.0, math.log10(max(value, self.low) / self.low) / span))
        return round(self.start + ratio * (self.end - self.start), 1)


def log_axis(values: list[float]) -> tuple[float, float, list[float]]:
    """Low, high and ticks (1, 2, 5 times powers of ten, at most about seven) that hold all positive values."""
    positive = [v for v in values if v > 0] or [1.0, 10.0]
    steps = [m * 10.0**e for e in range(-3, 7) for m in (1, 2, 5)]
    low = max((s for s in steps if s <= min(positive)), default=steps[0])
    high = min((s for s in steps if s >= max(positive) * 1.05), default=steps[-1])
    if high / low < 10:
        high = low * 10
    ticks = [s for s in steps if low <= s <= high * 1.001]
    if len(ticks) > 8:
        ticks = [t for t in ticks if f"{t:e}"[0] in "1"]
    return low, high, ticks


def linear_axis(highest: float) -> tuple[float, list[float]]:
    """High end and ticks of an axis from 0."""
    highest = highest if highest > 0 else 1.0
    raw = highest / 4
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(m * power for m in (1, 2, 2.5, 5, 10) if m * power >= raw)
    top = max(1, math.ceil(highest / step - 1e-9))
    return step * top, [step * i for i in range(top + 1)]


def time_ticks(low_s: float, high_s: float, most: int = 12) -> list[int]:
    """Whole seconds to label between two times."""
    step = next((s for s in TIME_STEPS_S if (high_s - low_s) / s <= most), TIME_STEPS_S[-1])
    return list(range(math.ceil(low_s / step) * step, math.floor(high_s) + 1, step))


def percentile_position(percentile: float, highest: float) -> float:
    """0..1 along an axis on which each further nine takes the same space, as HdrHistogram plots it."""
    return min(1.0, _nines(percentile) / _nines(highest))


def percentile_ticks(highest: float) -> list[float]:
    """Percentiles to label up to `highest`."""
    return [p for p in PERCENTILES if p <= highest]


def milliseconds(value: float) -> str:
    """A duration on an axis or in a table: 0.5 ms, 12 ms, 1.5 s."""
    if value >= 1000:
        return f"{value / 1000:.3g} s"
    return f"{value:.3g} ms" if value < 100 else f"{value:.0f} ms"


def _nines(percentile: float) -> float:
    return math.log10(1 / (1 - min(percentile, 99.9999) / 100)) + 1e-9
