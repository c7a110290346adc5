"""Reads the table [load]: rates, rates that change (`harness.core.rate_shapes`), and a trace. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from harness.core.errors import nearest
from harness.core.load_rates import LOAD, TRACE, Load, Trace
from harness.core.rate_shapes import SHAPES, Shape, made_shape
from harness.core.units import parse_rate_per_s
from harness.core.values import Parser

_RATES = {key for key, (_, parse) in LOAD.items() if parse is parse_rate_per_s}


class TableReader(Protocol):
    """Reads tables of a scenario, and collects their problems."""

    problems: list[str]

    def table(
        self, path: str, raw: Any, keys: Mapping[str, tuple[str, Parser]], also: tuple[str, ...] = ()
    ) -> dict[str, Any]:
        """Parsed fields of one table; keys that are in `also` are somebody else's."""
        ...


def read_load(reader: TableReader, raw: Any, length_s: float) -> Load:
    """The table [load]. `length_s`: of the phases together; 0: not known, as they have problems of their own."""
    tables = raw if isinstance(raw, Mapping) else {}
    shaped = [key for key, value in tables.items() if isinstance(value, Mapping) and key in _RATES]
    fields = reader.table("load", raw, LOAD, also=("trace", *shaped))
    for key in shaped:
        if (shape := _shape(reader, f"load.{key}", tables[key], length_s)) is not None:
            fields[LOAD[key][0]] = shape
    return Load(**fields, trace=_trace(reader, tables["trace"]) if "trace" in tables else None)


def _shape(reader: TableReader, path: str, raw: Mapping[str, Any], length_s: float) -> Shape | None:
    before, shape = len(reader.problems), raw.get("shape")
    if not isinstance(shape, str) or shape not in SHAPES:
        what = f"unknown{nearest(str(shape), SHAPES)}" if "shape" in raw else f"is required{nearest('', SHAPES)}"
        reader.problems.append(f"{path}.shape: {what}")
        return None
    fields = reader.table(path, raw, SHAPES[shape].keys, also=("shape",))
    reader.problems += [f"{path}.{key}: is required" for key in SHAPES[shape].required if key not in raw]
    if len(reader.problems) > before:
        return None
    made = made_shape(shape, fields, length_s)
    reader.problems += [f"{path}.{problem}" for problem in made.problems(length_s)]
    return made


def _trace(reader: TableReader, raw: Any) -> Trace | None:
    """The path of a recorded trace, or a table."""
    fields = reader.table("load.trace", raw if isinstance(raw, Mapping) else {"path": raw}, TRACE)
    if isinstance(raw, Mapping) and "path" not in raw:
        reader.problems.append("load.trace.path: is required")
    return Trace(**fields) if "path" in fields else None
