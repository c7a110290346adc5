"""A random plan of faults, as a scenario gives it: the table [chaos].

    [chaos]
    kinds = ["kill", { kind = "latency", latency = "400ms" }]
    handles = ["us-east.*", "link.*"]
    rate = "2/min"

Pure data and its parsers. `chaos.random_plan` draws the faults; what a kind or a handle is, is known there.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from harness.core.units import parse_rate_per_s
from harness.core.values import Parser, list_of, positive_duration, text, whole


class DrawnKind(msgspec.Struct, kw_only=True, frozen=True):
    """A fault kind that may be drawn, with the (still unparsed) parameters it gets each time."""

    kind: str
    params: dict[str, Any] = msgspec.field(default_factory=dict)


class Hold(msgspec.Struct, frozen=True):
    """Faults are held for an evenly drawn time, seconds."""

    shortest_s: float
    longest_s: float


class RandomPlan(msgspec.Struct, kw_only=True, frozen=True):
    """What is drawn. The same plan on the same phases and handles gives the same faults."""

    kinds: tuple[DrawnKind, ...]
    handles: tuple[str, ...]
    """names or shell patterns"""
    rate_per_s: float
    """faults begun, over the phases together"""
    hold: Hold = Hold(5.0, 15.0)
    overlap: int = 1
    """most faults active at once, those of the scenario's own timeline included"""
    settle_s: float = 2.0
    """a fault counts as active for this long after its hold: the time its undo may take"""
    seed: int | None = None
    """default: the scenario's"""
    phases: tuple[str, ...] = ()
    """phases it may strike in; default: all but the first, or the only one"""


def _kind(value: Any) -> DrawnKind:
    if isinstance(value, Mapping) and "kind" in value:
        return DrawnKind(kind=text(value["kind"]), params={k: v for k, v in value.items() if k != "kind"})
    if isinstance(value, Mapping):
        raise ValueError(f'must name its kind, such as {{ kind = "latency", latency = "400ms" }}, got {dict(value)!r}')
    return DrawnKind(kind=text(value))


def _hold(value: Any) -> Hold:
    first, dots, last = value.partition("..") if isinstance(value, str) else (value, "", "")
    try:
        hold = Hold(positive_duration(first), positive_duration(last if dots else first))
    except ValueError as error:
        raise ValueError(f"must be a duration or a range such as 5s..15s: {error}") from None
    if hold.longest_s < hold.shortest_s:
        raise ValueError(f"must go from the shorter to the longer time, got {value!r}")
    return hold


def _rate(value: Any) -> float:
    rate = parse_rate_per_s(value)
    if rate <= 0:
        raise ValueError(f"must be more than 0, got {value!r}")
    return rate


def _some(item: Parser) -> Parser:
    def parse(value: Any) -> tuple[Any, ...]:
        found: tuple[Any, ...] = list_of(item)(value)
        if not found:
            raise ValueError("must name at least one")
        return found

    return parse


# key in the file -> (field of the struct, parser)
RANDOM_PLAN: dict[str, tuple[str, Parser]] = {
    "kinds": ("kinds", _some(_kind)),
    "handles": ("handles", _some(text)),
    "rate": ("rate_per_s", _rate),
    "hold": ("hold", _hold),
    "overlap": ("overlap", whole(1)),
    "settle": ("settle_s", positive_duration),
    "seed": ("seed", whole(0)),
    "phases": ("phases", _some(text)),
}
REQUIRED = ("kinds", "handles", "rate")
