"""What a search for capacity turns: the same scenario with more, or less, load. Pure.

    rates                  every rate of [load] together, whatever its shape: the mix stays
    load.KEY               one of them; the others stay
    population.listeners   how many streams are open; the share of each habit stays

The population stays in all cases, so one target can serve several steps of a search. (`--scale` grows it as well.)
A level is told as a factor on what the scenario says.
"""

from __future__ import annotations

from dataclasses import dataclass

import msgspec

from harness.core.errors import UsageError, nearest
from harness.core.load_rates import LOAD, Load, load_problems
from harness.core.rate_shapes import Rate, highest_per_s, peak_per_s
from harness.core.scenario import Scenario
from harness.core.units import parse_rate_per_s

RATES = "rates"
LISTENERS = "population.listeners"
_NO_AMOUNT = {"celebrity_signups"}
"""says when somebody joins"""
_FIELDS = {
    f"load.{key}": field for key, (field, parse) in LOAD.items() if parse is parse_rate_per_s and key not in _NO_AMOUNT
}
KNOBS = (RATES, *_FIELDS, LISTENERS)


@dataclass(frozen=True)
class Knob:
    """One of KNOBS on one scenario."""

    name: str
    scenario: Scenario

    @property
    def unit(self) -> str:
        """Of an amount."""
        return " streams" if self.name == LISTENERS else "/s"

    @property
    def most(self) -> float:
        """The largest factor that the population permits."""
        population = self.scenario.population
        return population.may_listen / population.listeners if self.name == LISTENERS else float("inf")

    def amount(self, factor: float) -> float:
        """How much that is: streams, or arrivals a second, all rates it turns at their highest within the phases."""
        if self.name == LISTENERS:
            return max(1, round(self.scenario.population.listeners * factor))
        return factor * sum(highest_per_s(rate, self.scenario.duration_s) for rate in self._rates.values())

    def at(self, factor: float) -> Scenario:
        """The scenario with that much. Raises UsageError when its other numbers do not permit it."""
        scenario = self.scenario
        if self.name == LISTENERS:
            population = msgspec.structs.replace(scenario.population, listeners=int(self.amount(factor)))
            listeners = msgspec.structs.replace(scenario.listeners, http2=round(scenario.listeners.http2 * factor))
            return msgspec.structs.replace(scenario, population=population, listeners=listeners)
        load = msgspec.structs.replace(scenario.load, **{f: grown(rate, factor) for f, rate in self._rates.items()})
        problems = load_problems(load, population=scenario.population, length_s=scenario.duration_s)
        if problems:
            raise UsageError([f"{problem} (at {factor:g} times {self.name})" for problem in problems])
        return msgspec.structs.replace(scenario, load=load)

    @property
    def _rates(self) -> dict[str, Rate]:
        return _rates_of(self.scenario.load, self.name)


def find_knob(name: str, scenario: Scenario) -> Knob:
    """The knob of that name. Raises UsageError when there is none, or nothing for it to turn."""
    if name not in KNOBS:
        raise UsageError(f"--find: unknown {name!r}{nearest(name, KNOBS)}")
    if scenario.load.signup_curve:
        raise UsageError(
            "--find: load.signup_curve has everybody join within a step, however short; "
            "--set load.signup_curve=false --set load.signups=RATE"
        )
    if name == LISTENERS:
        if not scenario.population.listeners:
            raise UsageError(f"--find {name}: scenario {scenario.name} has no listeners")
        return Knob(name, scenario)
    if name == RATES and scenario.load.trace is not None:
        raise UsageError("--find rates: load.trace says by itself what arrives; name one rate")
    if not _rates_of(scenario.load, name):
        raise UsageError(f"--find {name}: scenario {scenario.name} has no such load; --find one of its own")
    knob = Knob(name, scenario)
    if not knob.amount(1):
        raise UsageError(
            f"--find {name}: nothing of it arrives within a step of {scenario.duration_s:g}s; a longer --for"
        )
    return knob


def grown(rate: Rate, factor: float) -> Rate:
    """The rate times the factor: of one that changes, each of its rates; its times stay."""
    if isinstance(rate, int | float):
        return rate * factor
    rates = {name: getattr(rate, name) * factor for name in rate.__struct_fields__ if name.endswith("_per_s")}
    return msgspec.structs.replace(rate, **rates)


def _rates_of(load: Load, knob: str) -> dict[str, Rate]:
    """Field -> rate, of those that the knob turns and that the scenario has."""
    fields = [field for name, field in _FIELDS.items() if knob in (RATES, name)]
    return {field: getattr(load, field) for field in fields if peak_per_s(getattr(load, field))}
