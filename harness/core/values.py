"""Parsers of values as they stand in TOML tables, shared by scenarios and target profiles.

Each raises ValueError with what was expected and what was got; the reader of a table adds the path.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

from harness.core.errors import nearest
from harness.core.units import parse_duration_s

MOST_WHOLE = 2**63 - 1
"""as far as TOML has them"""
Parser = Callable[[Any], Any]


def text(value: Any) -> str:
    """A text with something in it."""
    if not isinstance(value, str) or not value.strip():
        raise ValueError(f"must be a non-empty text, got {value!r}")
    return value


def flag(value: Any) -> bool:
    """True or false."""
    if not isinstance(value, bool):
        raise ValueError(f"must be true or false, got {value!r}")
    return value


def one_of(*choices: str) -> Parser:
    """A parser that takes one of the choices; an error names the nearest."""

    def parse(value: Any) -> str:
        if value not in choices:
            raise ValueError(f"must be one of {', '.join(choices)}, got {value!r}{_near(value, choices)}")
        return str(value)

    return parse


def whole(minimum: int, most: int = MOST_WHOLE) -> Parser:
    """A parser of whole numbers from `minimum` to `most`."""

    def parse(value: Any) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or value < minimum:
            raise ValueError(f"must be a whole number >= {minimum}, got {value!r}")
        if value > most:
            raise ValueError(f"must be a whole number <= {most}, got {value!r}")
        return value

    return parse


def list_of(item: Parser) -> Parser:
    """A parser of lists, each member taken by `item`; gives a tuple."""

    def parse(value: Any) -> tuple[Any, ...]:
        if not isinstance(value, list | tuple):
            raise ValueError(f"must be a list, got {value!r}")
        return tuple(item(member) for member in value)

    return parse


def positive_duration(value: Any) -> float:
    """Seconds in a duration longer than 0."""
    seconds = parse_duration_s(value)
    if seconds <= 0:
        raise ValueError(f"must be longer than 0, got {value!r}")
    return seconds


def _near(value: Any, choices: Collection[str]) -> str:
    hint = nearest(value, choices) if isinstance(value, str) else ""
    return hint if "did you mean" in hint else ""
