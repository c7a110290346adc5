"""`--scale FACTOR`: a scenario made larger or smaller with its ratios kept. Pure; works on the document in the file.

Amounts grow, everything else stays:

    grows   users, followers of each celebrity, follows of each hyper-follower, newcomers, listeners, panel, every rate
            of [load] but those of celebrities, whatever its shape; `streams` of a fault; the bounds of thresholds on
            `count` and `rate`
    stays   what holds for one user (mean_follows, history, hot_ratio, fetch_ratio), times, shares, the number of
            celebrities, how often they post and when they join: each post of theirs reaches more followers already

So the work of a second grows by the factor, and what it means for one user stays. A scenario keeps more of it as it
is with `[scale] fixed`, a list of the paths in `GROWING`.
"""

from __future__ import annotations

import copy
import math
import re
from collections.abc import Mapping
from typing import Any

import msgspec

from harness.core.errors import UsageError
from harness.core.load_rates import LOAD
from harness.core.population import DEFAULT_USERS
from harness.core.units import parse_rate_per_s
from harness.core.values import Parser, list_of, one_of

_STAYS = {"celebrity_posts", "celebrity_signups"}
_AMOUNT = re.compile(r"^(\s*(?:count|rate)\s*(?:<=|>=|===|==|!=|<|>)\s*)([0-9][0-9_.]*)(\s*(?:/\s*\w+)?\s*)$")
_NUMBER = re.compile(r"^\s*([0-9][0-9.]*)(\s*/\s*\w+\s*)$")
GROWING = (
    "population.users",
    "population.celebrities",
    "population.late_celebrities",
    "population.hyper_followers",
    "population.newcomers",
    "population.listeners",
    "population.panel",
    "listeners.http2",
    *(f"load.{key}" for key, (_, parse) in LOAD.items() if parse is parse_rate_per_s and key not in _STAYS),
)
"""keys that grow with the factor, unless [scale] says otherwise"""


class Scale(msgspec.Struct, kw_only=True, frozen=True):
    """The table [scale]."""

    fixed: tuple[str, ...] = ()
    """members of GROWING that stay"""


# key in the file -> (field of the struct, parser)
SCALE: dict[str, tuple[str, Parser]] = {"fixed": ("fixed", list_of(one_of(*GROWING)))}


def scaled(document: Mapping[str, Any], factor: float) -> dict[str, Any]:
    """The document of a scenario of `factor` times the size. What is malformed stays as it is, for its parser to tell.

    Raises UsageError for a factor that is none, and when the size is not the scenario's to say.
    """
    if not (math.isfinite(factor) and factor > 0):
        raise UsageError(f"--scale: must be a number above 0, got {factor:g}")
    made: dict[str, Any] = copy.deepcopy(dict(document))
    if factor == 1:
        return made
    made.setdefault("population", {})
    population = _table(made, "population")
    population.setdefault("users", DEFAULT_USERS)
    if str(population.get("graph", "")).startswith("edges:"):
        raise UsageError("--scale: population.graph is an edge list, which says by itself how many users there are")
    if "trace" in _table(made, "load"):
        raise UsageError("--scale: load.trace is a recording, which says by itself what arrives")
    fixed = _table(made, "scale").get("fixed")
    stays = fixed if isinstance(fixed, list) else []
    for path in GROWING:
        section, _, key = path.partition(".")
        table = _table(made, section)
        if key in table and path not in stays:
            table[key] = _grown(table[key], factor)
    for table in _fault_tables(made):
        if "streams" in table:
            table["streams"] = _grown(table["streams"], factor)
    for section in ("expect", "stop"):
        table = _table(made, section)
        for selector, value in table.items():
            table[selector] = _bounds(value, factor)
    return made


def _table(document: dict[str, Any], key: str) -> dict[str, Any]:
    found = document.get(key)
    return found if isinstance(found, dict) else {}


def _fault_tables(document: Mapping[str, Any]) -> list[dict[str, Any]]:
    phases = document.get("phase")
    faults = [
        fault
        for phase in (phases if isinstance(phases, list) else ())
        if isinstance(phase, dict) and isinstance(phase.get("faults"), list)
        for fault in phase["faults"]
    ]
    return [fault for fault in faults if isinstance(fault, dict)]


def _grown(value: Any, factor: float) -> Any:
    if isinstance(value, list):
        return [_grown(member, factor) for member in value]
    if isinstance(value, dict):  # a rate that changes: each rate in it
        return {key: _grown(member, factor) if isinstance(member, str) else member for key, member in value.items()}
    if isinstance(value, int) and not isinstance(value, bool):
        return max(1, round(value * factor)) if value > 0 else value
    match = _NUMBER.match(value) if isinstance(value, str) else None
    return f"{_times(match[1], factor)}{match[2]}" if match else value


def _bounds(value: Any, factor: float) -> Any:
    """Thresholds on amounts, with their bounds grown."""
    if isinstance(value, list):
        return [_bounds(member, factor) for member in value]
    match = _AMOUNT.match(value) if isinstance(value, str) else None
    return f"{match[1]}{_times(match[2].replace('_', ''), factor)}{match[3]}" if match else value


def _times(number: str, factor: float) -> str:
    """The product as plain digits; what is no number stays."""
    try:
        return f"{float(number) * factor:.6f}".rstrip("0").rstrip(".")
    except ValueError:
        return number
