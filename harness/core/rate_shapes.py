r"""How a rate of arrivals may change while a run lasts. Pure.

Time is in seconds from the start of the first phase. Before it, in the warm-up, a rate is what it is at 0.

    constant ________    ramp ___/‾‾‾    spike ___|‾|___    sine /\/\/\

A shape tells its count: the integral of its rate from 0 on. Arrivals come where the count says
(`harness.load.arrivals`), so the same few lines make a schedule of every shape.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from harness.core.units import parse_duration_s, parse_rate_per_s
from harness.core.values import Parser, one_of, positive_duration

Floats = NDArray[np.float64]
POISSON, EVEN = "poisson", "even"
"""spacings: gaps at random, as of many users who know nothing of each other; or all alike for a steady rate"""


class _Shape(msgspec.Struct, kw_only=True, frozen=True, tag_field="shape"):
    """What all shapes have."""

    spacing: str = ""
    """empty: as is usual for what arrives"""


class Constant(_Shape, kw_only=True, frozen=True, tag="constant"):
    """One rate."""

    rate_per_s: float

    @property
    def peak_per_s(self) -> float:
        """The highest rate."""
        return self.rate_per_s

    def highest_per_s(self, until_s: float) -> float:
        """The highest rate from 0 to then."""
        return self.rate_per_s

    def count(self, at_s: Floats) -> Floats:
        """Integral of the rate from 0 to these times."""
        return self.rate_per_s * at_s

    def problems(self, length_s: float) -> Iterator[str]:
        """What cannot be, each with its key; `length_s`: of the phases together, 0: not known."""
        if self.rate_per_s <= 0:
            yield "rate: must be more than 0/s"


class Ramp(_Shape, kw_only=True, frozen=True, tag="ramp"):
    """From one rate to another in a straight line, which begins at `at_s` and takes `over_s`."""

    from_per_s: float
    to_per_s: float
    over_s: float
    at_s: float = 0.0

    @property
    def peak_per_s(self) -> float:
        """The highest rate."""
        return max(self.from_per_s, self.to_per_s)

    def highest_per_s(self, until_s: float) -> float:
        """The highest rate from 0 to then."""
        climbed = min(1.0, max(0.0, (until_s - self.at_s) / self.over_s))
        return max(self.from_per_s, self.from_per_s + (self.to_per_s - self.from_per_s) * climbed)

    def count(self, at_s: Floats) -> Floats:
        """Integral of the rate from 0 to these times."""
        since = at_s - self.at_s
        climbed: Floats = np.clip(since, 0, self.over_s) ** 2 / (2 * self.over_s) + np.maximum(since - self.over_s, 0)
        return self.from_per_s * at_s + (self.to_per_s - self.from_per_s) * climbed

    def problems(self, length_s: float) -> Iterator[str]:
        """What cannot be, each with its key; `length_s`: of the phases together, 0: not known."""
        if self.peak_per_s <= 0:
            yield "to: a ramp from 0/s to 0/s has no arrivals"
        if length_s and self.at_s >= length_s:
            yield f"at: must be before the end of the phases ({length_s:g}s)"
        elif length_s and self.at_s + self.over_s > length_s:
            yield f"over: at + over must end within the phases ({length_s:g}s)"


class Spike(_Shape, kw_only=True, frozen=True, tag="spike"):
    """One rate, and a higher one from `at_s` on for `for_s`."""

    base_per_s: float
    peak_per_s: float
    at_s: float
    for_s: float

    def highest_per_s(self, until_s: float) -> float:
        """The highest rate from 0 to then."""
        return self.peak_per_s if self.at_s < until_s else self.base_per_s

    def count(self, at_s: Floats) -> Floats:
        """Integral of the rate from 0 to these times."""
        high: Floats = np.clip(at_s - self.at_s, 0, self.for_s)
        return self.base_per_s * at_s + (self.peak_per_s - self.base_per_s) * high

    def problems(self, length_s: float) -> Iterator[str]:
        """What cannot be, each with its key; `length_s`: of the phases together, 0: not known."""
        if self.peak_per_s <= self.base_per_s:
            yield f"peak: must be more than base ({self.base_per_s:g}/s), got {self.peak_per_s:g}/s"
        if length_s and self.at_s + self.for_s > length_s:
            yield f"for: at + for must end within the phases ({length_s:g}s)"


class Sine(_Shape, kw_only=True, frozen=True, tag="sine"):
    """A wave around `mean_per_s`; it begins at the mean, and rises first."""

    mean_per_s: float
    amplitude_per_s: float
    period_s: float

    @property
    def peak_per_s(self) -> float:
        """The highest rate."""
        return self.mean_per_s + self.amplitude_per_s

    def highest_per_s(self, until_s: float) -> float:
        """The highest rate from 0 to then."""
        return self.mean_per_s + self.amplitude_per_s * math.sin(2 * math.pi * min(0.25, until_s / self.period_s))

    def count(self, at_s: Floats) -> Floats:
        """Integral of the rate from 0 to these times."""
        wave = self.amplitude_per_s * self.period_s / (2 * np.pi)
        return self.mean_per_s * at_s + wave * (1 - np.cos(self._angle(at_s)))

    def _angle(self, at_s: Floats) -> Floats:
        angle: Floats = 2 * np.pi / self.period_s * np.maximum(at_s, 0)
        return angle

    def problems(self, length_s: float) -> Iterator[str]:
        """What cannot be, each with its key; `length_s`: of the phases together, 0: not known."""
        if self.mean_per_s <= 0:
            yield "mean: must be more than 0/s"
        elif self.amplitude_per_s > self.mean_per_s:
            yield f"amplitude: must be <= mean ({self.mean_per_s:g}/s), got {self.amplitude_per_s:g}/s"


Shape = Constant | Ramp | Spike | Sine
Rate = float | Constant | Ramp | Spike | Sine
"""events per second: always as many, or as a shape says; 0: none"""


def peak_per_s(rate: Rate) -> float:
    """The highest rate."""
    return rate if isinstance(rate, int | float) else rate.peak_per_s


def highest_per_s(rate: Rate, until_s: float) -> float:
    """The highest rate from the first phase on until then."""
    return rate if isinstance(rate, int | float) else rate.highest_per_s(until_s)


def mean_per_s(rate: Rate, length_s: float) -> float:
    """The mean rate over the phases, which last `length_s` together."""
    if isinstance(rate, int | float) or length_s <= 0:
        return peak_per_s(rate)
    start, end = rate.count(np.array([0.0, length_s]))
    return float(end - start) / length_s


def is_even(rate: Rate, usual: str) -> bool:
    """Whether arrivals are spaced evenly; `usual`: the spacing where nothing else was said."""
    said = "" if isinstance(rate, int | float) else rate.spacing
    return (said or usual) == EVEN


class ShapeKeys(NamedTuple):
    """How a shape stands in a scenario file."""

    made: type[Any]
    keys: Mapping[str, tuple[str, Parser]]
    """key in the file -> (field of the struct, parser)"""
    required: tuple[str, ...]


_SPACING: dict[str, tuple[str, Parser]] = {"spacing": ("spacing", one_of(POISSON, EVEN))}
SHAPES: dict[str, ShapeKeys] = {
    "constant": ShapeKeys(Constant, {"rate": ("rate_per_s", parse_rate_per_s), **_SPACING}, ("rate",)),
    "ramp": ShapeKeys(
        Ramp,
        {
            "from": ("from_per_s", parse_rate_per_s),
            "to": ("to_per_s", parse_rate_per_s),
            "at": ("at_s", parse_duration_s),
            "over": ("over_s", positive_duration),
            **_SPACING,
        },
        ("from", "to"),
    ),
    "spike": ShapeKeys(
        Spike,
        {
            "base": ("base_per_s", parse_rate_per_s),
            "peak": ("peak_per_s", parse_rate_per_s),
            "at": ("at_s", parse_duration_s),
            "for": ("for_s", positive_duration),
            **_SPACING,
        },
        ("base", "peak", "at", "for"),
    ),
    "sine": ShapeKeys(
        Sine,
        {
            "mean": ("mean_per_s", parse_rate_per_s),
            "amplitude": ("amplitude_per_s", parse_rate_per_s),
            "period": ("period_s", positive_duration),
            **_SPACING,
        },
        ("mean", "amplitude", "period"),
    ),
}


def made_shape(shape: str, fields: dict[str, Any], length_s: float) -> Shape:
    """A shape of the fields its keys gave; a ramp that says nothing else goes on until the end of the phases.

    Whether it can be within phases of `length_s` together is told by its `problems`.
    """
    if shape == "ramp":
        left_s = length_s - fields.get("at_s", 0.0)
        fields = {"over_s": left_s if left_s > 0 else 1.0, **fields}
    made: Shape = SHAPES[shape].made(**fields)
    return made
