"""What a scenario file says, as data, and its validation: all problems at once, each with its path.

Pure: reads no file, knows no target. `harness.run.scenario_file` reads TOML and applies `--set`;
handles, fault kinds and metrics are checked where they are known (`harness.run.validate`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from harness.core.catalogue import CATALOGUE, DRAFT, SCHEDULED, Catalogue
from harness.core.catalogue import REQUIRED as CATALOGUE_REQUIRED
from harness.core.errors import UsageError, nearest
from harness.core.listening import LISTENERS, Listening, listening_problems
from harness.core.load_rates import Load as Load
from harness.core.load_rates import load_problems
from harness.core.load_table import read_load
from harness.core.population import POPULATION, population_problems
from harness.core.population import Population as Population
from harness.core.random_plan import RANDOM_PLAN, REQUIRED, RandomPlan
from harness.core.scaling import SCALE, Scale
from harness.core.units import parse_duration_s
from harness.core.values import Parser, list_of, positive_duration, text, whole


class FaultSpec(msgspec.Struct, kw_only=True, frozen=True):
    """One fault on the timeline of its phase. `params` are the fault kind's own (still unparsed) values."""

    kind: str
    handle: str
    hold_s: float
    at_s: float = 0.0
    params: dict[str, Any] = msgspec.field(default_factory=dict)


class Phase(msgspec.Struct, kw_only=True, frozen=True):
    """A stretch of the run. Phases follow each other on a fixed timeline."""

    name: str
    duration_s: float
    faults: tuple[FaultSpec, ...] = ()


class Stop(msgspec.Struct, kw_only=True, frozen=True):
    """When a run is ended while it is under way: as soon as one of the expressions does not hold."""

    delay_s: float = 5.0
    """from the first phase on, nothing is looked at for this long"""
    expressions: dict[str, tuple[str, ...]] = msgspec.field(default_factory=dict)
    """metric selector -> threshold expressions, as in `Scenario.expect`"""


class Scenario(msgspec.Struct, kw_only=True, frozen=True):
    """A resolved scenario."""

    name: str
    about: str
    phases: tuple[Phase, ...]
    tags: tuple[str, ...] = ()
    seed: int = 42
    target: str = "reference"
    warmup_s: float = 5.0
    population: Population = Population()
    load: Load = Load()
    listeners: Listening = Listening()
    expect: dict[str, tuple[str, ...]] = msgspec.field(default_factory=dict)
    """metric selector -> threshold expressions; "invariants" -> ("all",) or names; "recovery" -> ("<= 10s",)"""
    chaos: RandomPlan | None = None
    """faults to draw beside those of the phases"""
    stop: Stop = Stop()
    tolerance: dict[str, tuple[str, ...]] = msgspec.field(default_factory=dict)
    """how much worse than a baseline is still as good (`harness.judge.tolerance`)"""
    flags: tuple[str, ...] = ()
    """NAME=VALUE: flags of the target that the scenario is about, set before it starts"""
    catalogue: Catalogue | None = None
    """what people are told of it"""
    scale: Scale = Scale()
    """what of its size stays under `--scale`"""

    @property
    def duration_s(self) -> float:
        """Length of the phases together, warm-up not included."""
        return sum(p.duration_s for p in self.phases)


def _setting(value: Any) -> str:
    if not isinstance(value, str) or not all(value.partition("=")):
        raise ValueError(f"must look like NAME=VALUE, got {value!r}")
    return value


def _expressions(value: Any) -> tuple[str, ...]:
    return (_expression(value),) if not isinstance(value, list | tuple) else list_of(_expression)(value)


def _expression(value: Any) -> str:
    if isinstance(value, Mapping):
        raise ValueError(
            f"must be a text such as p(95) <= 200ms, got {dict(value)!r}; a threshold that ends the run as soon as it "
            "breaks (k6's abortOnFail) stands in [stop], with stop.delay for all of them (k6's delayAbortEval)"
        )
    return text(value)


# key in the file -> (field of the struct, parser)
_PHASE: dict[str, tuple[str, Parser]] = {
    "name": ("name", text),
    "duration": ("duration_s", positive_duration),
}
_TOP: dict[str, tuple[str, Parser]] = {
    "name": ("name", text),
    "about": ("about", text),
    "tags": ("tags", list_of(text)),
    "seed": ("seed", whole(0)),
    "target": ("target", text),
    "warmup": ("warmup_s", parse_duration_s),
    "flags": ("flags", list_of(_setting)),
}
_STOP: dict[str, tuple[str, Parser]] = {"delay": ("delay_s", parse_duration_s)}
_SECTIONS = ("population", "load", "listeners", "phase", "expect", "chaos", "stop", "tolerance", "catalogue", "scale")


class _Reader:
    """Collects problems while tables are read."""

    def __init__(self) -> None:
        self.problems: list[str] = []

    def table(
        self, path: str, raw: Any, keys: Mapping[str, tuple[str, Parser]], also: tuple[str, ...] = ()
    ) -> dict[str, Any]:
        """Parsed fields of one table; unknown keys and bad values become problems."""
        if not isinstance(raw, Mapping):
            self.problems.append(f"{path or 'scenario'}: must be a table, got {raw!r}")
            return {}
        fields: dict[str, Any] = {}
        for key, value in raw.items():
            where = f"{path}.{key}" if path else key
            if key in also:
                continue
            if key not in keys:
                self.problems.append(f"{where}: unknown key{nearest(key, [*keys, *also])}")
                continue
            field, parse = keys[key]
            try:
                fields[field] = parse(value)
            except (ValueError, TypeError) as error:
                self.problems.append(f"{where}: {error}")
        return fields

    def rows(self, path: str, raw: Any) -> list[Any]:
        """A list of tables; anything else becomes a problem."""
        if isinstance(raw, list):
            return raw
        self.problems.append(f"{path}: must be a list of tables, got {raw!r}")
        return []

    def fault(self, path: str, raw: Any) -> FaultSpec | None:
        """One fault; keys that are not ours are parameters of its kind."""
        if not isinstance(raw, Mapping):
            self.problems.append(f"{path}: must be a table, got {raw!r}")
            return None
        own: dict[str, tuple[str, Parser]] = {
            "kind": ("kind", text),
            "handle": ("handle", text),
            "hold": ("hold_s", positive_duration),
            "at": ("at_s", parse_duration_s),
        }
        params = {k: v for k, v in raw.items() if k not in own}
        fields = self.table(path, {k: v for k, v in raw.items() if k in own}, own)
        for key in ("kind", "handle", "hold"):
            if key not in raw:
                self.problems.append(f"{path}.{key}: is required")
        if {"kind", "handle", "hold_s"} - fields.keys():
            return None
        return FaultSpec(**fields, params=params)

    def whole_table(
        self, path: str, raw: Any, keys: Mapping[str, tuple[str, Parser]], required: tuple[str, ...]
    ) -> dict[str, Any] | None:
        """Parsed fields of a table that needs some of its keys; None: it had a problem."""
        before = len(self.problems)
        fields = self.table(path, raw, keys)
        missing = [key for key in required if isinstance(raw, Mapping) and key not in raw]
        self.problems += [f"{path}.{key}: is required" for key in missing]
        return fields if len(self.problems) == before else None

    def chaos(self, raw: Any) -> RandomPlan | None:
        """The table [chaos]."""
        fields = self.whole_table("chaos", raw, RANDOM_PLAN, REQUIRED)
        return RandomPlan(**fields) if fields is not None else None

    def catalogue(self, raw: Any) -> Catalogue | None:
        """The table [catalogue]."""
        fields = self.whole_table("catalogue", raw, CATALOGUE, CATALOGUE_REQUIRED)
        return Catalogue(**fields) if fields is not None else None

    def stop(self, raw: Any) -> Stop:
        """The table [stop]: every key but `delay` is a selector."""
        names = [key for key in raw if key not in _STOP] if isinstance(raw, Mapping) else []
        fields = self.table("stop", raw, {**_STOP, **{name: (name, _expressions) for name in names}})
        return Stop(
            **{field: fields[field] for field, _ in _STOP.values() if field in fields},
            expressions={name: fields[name] for name in names if name in fields},
        )

    def expressions(self, path: str, raw: Any) -> dict[str, Any]:
        """A table in which every key is a selector."""
        names = raw if isinstance(raw, Mapping) else ()
        return self.table(path, raw, {name: (name, _expressions) for name in names})

    def phase(self, path: str, raw: Any) -> Phase | None:
        """One phase with its faults."""
        fields = self.table(path, raw, _PHASE, also=("faults",))
        specs = self.rows(f"{path}.faults", raw.get("faults", [])) if isinstance(raw, Mapping) else []
        faults = [self.fault(f"{path}.faults[{i}]", f) for i, f in enumerate(specs)]
        for key in ("name", "duration"):
            if isinstance(raw, Mapping) and key not in raw:
                self.problems.append(f"{path}.{key}: is required")
        if {"name", "duration_s"} - fields.keys():
            return None
        return Phase(**fields, faults=tuple(f for f in faults if f is not None))


def parse_scenario(raw: Mapping[str, Any]) -> Scenario:
    """The scenario in a parsed TOML document. Raises UsageError with every problem found."""
    reader = _Reader()
    top = reader.table("", raw, _TOP, also=_SECTIONS)
    for key in ("name", "about"):
        if key not in raw:
            reader.problems.append(f"{key}: is required")
    population = Population(**reader.table("population", raw.get("population", {}), POPULATION))
    listeners = Listening(**reader.table("listeners", raw.get("listeners", {}), LISTENERS))
    phases = [reader.phase(f"phase[{i}]", p) for i, p in enumerate(reader.rows("phase", raw.get("phase", [])))]
    if raw.get("phase", []) == []:
        reader.problems.append("phase: at least one [[phase]] is required")
    length_s = sum(phase.duration_s for phase in phases if phase is not None) if all(phases) else 0.0
    load = read_load(reader, raw.get("load", {}), length_s)
    expect = reader.expressions("expect", raw.get("expect", {}))
    tolerance = reader.expressions("tolerance", raw.get("tolerance", {}))
    chaos = reader.chaos(raw["chaos"]) if "chaos" in raw else None
    stop = reader.stop(raw.get("stop", {}))
    catalogue = reader.catalogue(raw["catalogue"]) if "catalogue" in raw else None
    scale = Scale(**reader.table("scale", raw.get("scale", {}), SCALE))
    reader.problems += _tag_problems(top.get("tags", ()))
    played = tuple(p for p in phases if p is not None)
    duration_s = sum(phase.duration_s for phase in played)
    wrong = {problem.partition(":")[0] for problem in reader.problems}
    between = _cross_checks(population, load, list(played))
    reader.problems += [p for p in between if p.partition(": needs ")[2] not in wrong]  # it is there, but wrong
    reader.problems += listening_problems(listeners, listeners=population.listeners, duration_s=duration_s)
    if reader.problems:
        raise UsageError(reader.problems)
    made = Scenario(**top, population=population, load=load, expect=expect, phases=played, chaos=chaos, stop=stop)
    return msgspec.structs.replace(made, listeners=listeners, tolerance=tolerance, catalogue=catalogue, scale=scale)


def parse_expect(raw: Mapping[str, Any]) -> dict[str, tuple[str, ...]]:
    """The table [expect] of a document, as `Scenario.expect`: of a scenario, or of a file that has only this table.

    Raises UsageError with every problem found.
    """
    reader = _Reader()
    reader.table("", {key: value for key, value in raw.items() if key not in {*_TOP, *_SECTIONS}}, {}, also=("expect",))
    if "expect" not in raw:
        reader.problems.append("expect: is required")
    expect = reader.expressions("expect", raw.get("expect", {}))
    if reader.problems:
        raise UsageError(reader.problems)
    return expect


def _tag_problems(tags: tuple[str, ...]) -> list[str]:
    """A draft's result is not believed yet, so it is not run unattended."""
    both = [tag for tag in SCHEDULED if tag in tags and DRAFT in tags]
    return [f"tags: {tag!r} and {DRAFT!r} exclude each other: a draft has not been seen to pass" for tag in both]


def _cross_checks(population: Population, load: Load, phases: list[Phase]) -> list[str]:
    """Problems that involve more than one key."""
    problems = population_problems(population)
    problems += load_problems(load, population=population, length_s=sum(phase.duration_s for phase in phases))
    names = [p.name for p in phases]
    problems += [f"phase: name {n!r} is used twice" for n in sorted({n for n in names if names.count(n) > 1})]
    for i, phase in enumerate(phases):
        for j, fault in enumerate(phase.faults):
            if fault.at_s + fault.hold_s > phase.duration_s:
                problems.append(
                    f"phase[{i}].faults[{j}].hold: at + hold must end within the phase ({phase.duration_s:g}s)"
                )
    return problems
