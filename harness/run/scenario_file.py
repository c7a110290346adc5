"""Finds and reads a scenario file, applies `--set` overrides, and gives back a validated `Scenario`.

A scenario is named (`celebrity-cache-kill`: a file of the scenarios folder) or given as a path.
"""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

import scenarios as scenarios_package
from harness.core.errors import UsageError, nearest
from harness.core.load_rates import trace_problems
from harness.core.population import EDGES
from harness.core.scaling import scaled
from harness.core.scenario import Scenario, parse_scenario
from harness.load.trace import known

SCENARIOS = Path(scenarios_package.__file__).parent


def scenario_paths() -> dict[str, Path]:
    """Name -> file of every scenario that ships with feedstorm."""
    return {path.stem: path for path in sorted(SCENARIOS.glob("*.toml"))}


def find_scenario(name_or_path: str) -> Path:
    """The file a user means. Raises UsageError naming the nearest scenario."""
    known = scenario_paths()
    if name_or_path in known:
        return known[name_or_path]
    path = Path(name_or_path)
    if path.suffix == ".toml" and path.is_file():
        return path
    if path.suffix == ".toml" or "/" in name_or_path:
        what = "is no .toml file" if path.exists() else "no such file"
        raise UsageError(f"scenario {name_or_path}: {what}")
    raise UsageError(f"scenario {name_or_path!r}: unknown{nearest(name_or_path, known)}; a path ends in .toml")


def read_document(path: Path) -> dict[str, Any]:
    """The raw TOML of a scenario file. Raises UsageError on a syntax error, with its place."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"{path.name}: not valid TOML: {error}") from error
    except UnicodeDecodeError as error:
        raise UsageError(f"{path.name}: not UTF-8 text: {error}") from error
    except OSError as error:
        raise UsageError(f"{path.name}: cannot be read: {error.strerror}") from error


def override(document: dict[str, Any], assignments: Sequence[str]) -> None:
    """Apply `key.path=value` assignments in place; a value is TOML, or else plain text (80/s).

    `phase.NAME.key` reaches into the phase of that name. Raises UsageError for every assignment that cannot be applied.
    """
    problems = []
    for assignment in assignments:
        path, equals, text = assignment.partition("=")
        keys = path.strip().split(".")
        if not equals or not all(keys):
            problems.append(f"--set {assignment}: must look like load.posts=80/s")
            continue
        try:
            _assign(document, keys, toml_value(text))
        except KeyError as error:
            problems.append(f"--set {path}: {error.args[0]}")
    if problems:
        raise UsageError(problems)


def load_scenario(
    name_or_path: str, assignments: Sequence[str] = (), seed: int | None = None, scale: float = 1.0
) -> Scenario:
    """The scenario at `scale` times its size, with overrides applied: what they say is not scaled.

    Raises UsageError with every problem found.
    """
    path = find_scenario(name_or_path)
    document = scaled(read_document(path), scale)
    anchor(document, path.parent)
    override(document, assignments)
    if seed is not None:
        document["seed"] = seed
    return with_known_trace(parse_scenario(document))


def anchor(document: dict[str, Any], folder: Path) -> None:
    """Make relative paths of a scenario file relative to its own folder, in place."""
    load, population = (document.get(key) for key in ("load", "population"))
    if isinstance(load, dict):
        table, key = (load["trace"], "path") if isinstance(load.get("trace"), dict) else (load, "trace")
        if isinstance(table.get(key), str) and table[key]:
            table[key] = str(folder / table[key])
    if isinstance(population, dict):
        graph = population.get("graph")
        if isinstance(graph, str) and graph.startswith(EDGES):
            population["graph"] = f"{EDGES}{folder / graph.removeprefix(EDGES)}"


def with_known_trace(scenario: Scenario) -> Scenario:
    """The scenario with what its trace holds. Raises UsageError when it cannot be played."""
    trace = scenario.load.trace
    if trace is None:
        return scenario
    load = msgspec.structs.replace(scenario.load, trace=known(trace))
    population = scenario.population
    if problems := trace_problems(load, panel=population.panel, celebrities=len(population.celebrities)):
        raise UsageError(problems)
    return msgspec.structs.replace(scenario, load=load)


def toml_value(text: str) -> Any:
    """What the text stands for in a scenario file: `3`, `0.5`, `true`, `[1, 2]`; else a text."""
    try:
        return tomllib.loads(f"v = {text.strip()}")["v"]
    except tomllib.TOMLDecodeError:
        return text.strip()


def _assign(node: Any, keys: list[str], value: Any) -> None:
    """Set a nested key. Raises KeyError with a sentence."""
    for i, key in enumerate(keys[:-1]):
        if isinstance(node, dict) and isinstance(node.get(key), list):
            named = {item.get("name"): item for item in node[key] if isinstance(item, dict)}
            valid = nearest(keys[i + 1], [str(n) for n in named])
            if i + 2 >= len(keys):
                raise KeyError(f"name the {key}: {key}.NAME.key{valid}")
            if keys[i + 1] not in named:
                raise KeyError(f"no {key} is called {keys[i + 1]!r}{valid}")
            _assign(named[keys[i + 1]], keys[i + 2 :], value)
            return
        node = node.setdefault(key, {}) if isinstance(node, dict) else None
        if not isinstance(node, dict):
            raise KeyError(f"{key} is not a table")
    node[keys[-1]] = value
