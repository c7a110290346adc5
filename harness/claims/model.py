"""What a claim is made of: sources that are measured, figures read off them, bounds that decide. Pure data.

A figure with a bound decides; one without is told only. The bound of an `absolute` figure is that of more or larger
machines: it may be met here, but missing it says nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import msgspec

from harness.core.verdict import Check

RUN_LIMIT_S = 900.0
BENCHMARK_LIMIT_S = 600.0


@dataclass(frozen=True)
class Run:
    """A run of a scenario, its own or with these options."""

    scenario: str
    flags: tuple[str, ...] = ()
    settings: tuple[str, ...] = ()
    limit_s: float = RUN_LIMIT_S

    @property
    def options(self) -> list[str]:
        """As they are typed."""
        pairs = [("--flag", flag) for flag in self.flags] + [("--set", setting) for setting in self.settings]
        return [word for pair in pairs for word in pair]

    @property
    def command(self) -> str:
        """As people type it."""
        return " ".join(["feedstorm run", self.scenario, *self.options])


@dataclass(frozen=True)
class Benchmark:
    """A module of benchmarks/, which prints one JSON line."""

    name: str
    limit_s: float = BENCHMARK_LIMIT_S
    times: int = 1
    """how often it is run; the median of a figure counts. More than once where it differs from run to run"""

    @property
    def command(self) -> str:
        """As people type it."""
        return f"python -m benchmarks.{self.name}"


@dataclass(frozen=True)
class Conformance:
    """All properties of the contract, one by one."""

    limit_s: float = RUN_LIMIT_S

    @property
    def command(self) -> str:
        """As people type it."""
        return "feedstorm conform"


Source = Run | Benchmark | Conformance


@dataclass(frozen=True)
class Threshold:
    """What a threshold measured, judged as in a scenario; in each phase, unless the selector names one."""

    source: Run
    selector: str
    expression: str


@dataclass(frozen=True)
class Invariant:
    """Whether an invariant held; how much was looked at."""

    source: Run
    name: str


@dataclass(frozen=True)
class Asked:
    """One number, asked of the history of a run (the tables of `feedstorm query`)."""

    source: Run
    sql: str


@dataclass(frozen=True)
class Field:
    """A number in the result of a benchmark: "ratio", "figures.skew"."""

    source: Benchmark
    path: str


@dataclass(frozen=True)
class Properties:
    """Properties of the contract that must hold."""

    source: Conformance
    names: tuple[str, ...]


@dataclass(frozen=True)
class Quotient:
    """One over another."""

    over: Threshold | Asked | Field
    under: Threshold | Asked | Field


Reading = Threshold | Invariant | Asked | Field | Properties | Quotient


@dataclass(frozen=True)
class Figure:
    """One number behind a claim."""

    label: str
    of: Reading
    bound: str = ""
    """such as "<= 2" or "-75 .. -65"; of a threshold its own; empty: it is told only, unless it holds or does not"""
    unit: str = ""
    absolute: bool = False

    @property
    def decides(self) -> bool:
        """Whether the verdict rests on it."""
        return bool(self.bound) or isinstance(self.of, Invariant | Properties)

    @property
    def sources(self) -> Iterator[Source]:
        """What has to be measured for it."""
        if isinstance(self.of, Quotient):
            yield from (self.of.over.source, self.of.under.source)
        else:
            yield self.of.source


@dataclass(frozen=True)
class Claim:
    """Something the articles say of a feed of a hundred million users, and how to see whether it is so."""

    id: str
    says: str
    """in our own words"""
    claimed: str
    """the figure, in a few words"""
    scaled: str
    """what a figure of a small machine says of it"""
    figures: tuple[Figure, ...]

    @property
    def sources(self) -> list[Source]:
        """Everything that has to be measured, each once."""
        return list(dict.fromkeys(source for figure in self.figures for source in figure.sources))


class Measured(msgspec.Struct, kw_only=True):
    """What came of one source, as stored in its folder."""

    command: str
    problem: str = ""
    """why nothing is known of it; empty: the rest holds"""
    exit_code: int = 0
    """of the program that measured it"""
    checks: list[Check] = []
    """of a run: what was asked of it; of the contract: its properties"""
    doubt: str = ""
    """of a run: why its figures prove nothing, such as a load generator that did not keep up"""
    answers: dict[str, float | None] = {}
    """SQL -> the number"""
    results: list[dict[str, Any]] = []
    """of a benchmark: its JSON line, each time"""
    took_s: float = 0.0
    others: float | None = None
    """share of the processors that others took meanwhile, the hypervisor too; None: not known"""
    date: str = ""
    machine: str = ""
    commit: str = ""
