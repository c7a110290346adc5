"""How much worse than a baseline is still as good: the table [tolerance] of a scenario, and `--tolerance`. Pure.

    [tolerance]
    times    = "25% or 10ms"                     how much slower; of the two whichever is more
    failures = "0.5%"                            how many points more of all ops may fail
    rate     = "5%"                              how much fewer ops or events a second
    "feed_read{phase:recovered}" = ["p(95) <= +10%", "failures <= +0.1%", "rate >= -3%"]

The first three hold for everything that has no line of its own. A line of its own asks a question that must be
answered: where the data do not show that the change is within it, the comparison is inconclusive.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence

import msgspec

from harness.core.errors import UsageError, nearest
from harness.core.units import parse_duration_s
from harness.judge.expressions import DELIVERY_METRICS, PHASE_KINDS, Selection, parse_selection

MS_PER_S = 1000.0
CLASSES = ("times", "failures", "rate")
_LINE = re.compile(r"^\s*(p\(\s*[0-9.]+\s*\)|[A-Za-z_]+)\s*(<=|>=)\s*([+-])\s*(.+?)\s*$")


class Allowance(msgspec.Struct, frozen=True):
    """How much worse is still as good."""

    share: float
    """of the baseline's value; of shares of failures: points / 100"""
    ms: float = 0.0
    """the same as a time, whichever is more"""

    def of(self, before: float) -> float:
        """As a share of the baseline's value, which is in milliseconds."""
        return max(self.share, self.ms / before) if self.ms and before > 0 else self.share


class Line(msgspec.Struct, frozen=True):
    """A tolerance of its own."""

    selection: Selection
    aggregation: str
    """ "p(95)", "med", "failures" or "rate" """
    allowance: Allowance

    def is_for(self, phase: str, kind: str) -> bool:
        """Whether it holds in a phase of this name and kind."""
        return self.selection.tags.get("phase", phase) in (phase, kind)


class Tolerance(msgspec.Struct, frozen=True, kw_only=True):
    """All tolerances of a comparison."""

    times: Allowance = Allowance(0.25, 10.0)
    failures: Allowance = Allowance(0.005)
    rate: Allowance = Allowance(0.05)
    lines: tuple[Line, ...] = ()

    def general(self, aggregation: str) -> Allowance:
        """What holds for an aggregation without a line of its own."""
        return {"failures": self.failures, "rate": self.rate}.get(aggregation, self.times)


def parse_tolerance(
    table: Mapping[str, Iterable[str]],
    *,
    section: str = "tolerance",
    phases: Iterable[str] = (),
    regions: Iterable[str] = (),
) -> Tolerance:
    """The tolerances in a table. Raises UsageError with every problem, each with its path.

    `phases` and `regions` are the names that selectors may use; empty: any name is taken.
    """
    allowed = {"phase": {*phases, *PHASE_KINDS} if phases else set(), "region": set(regions)}
    problems: list[str] = []
    general: dict[str, Allowance] = {}
    lines: list[Line] = []
    for key, value in table.items():
        texts, path = tuple(value), f"{section}.{key}"
        if key in CLASSES:
            general[key] = _general(path, key, texts, problems)
        else:
            lines += _lines(path, key, texts, allowed, problems)
    if problems:
        raise UsageError(problems)
    return Tolerance(**general, lines=tuple(lines))


def with_assignments(table: Mapping[str, Sequence[str]], assignments: Iterable[str]) -> dict[str, tuple[str, ...]]:
    """The table with KEY=VALUE of `--tolerance` put in; lines of one key add up. Raises UsageError."""
    changed = {key: tuple(texts) for key, texts in table.items()}
    fresh: set[str] = set()
    for assignment in assignments:
        key, equals, text = (part.strip() for part in assignment.partition("="))
        if not equals or not key or not text:
            raise UsageError(f"--tolerance {assignment}: must look like times=10% or 'feed_read=p(95) <= +10%'")
        changed[key] = (*changed[key], text) if key in fresh else (text,)
        fresh.add(key)
    return changed


def _general(path: str, key: str, texts: tuple[str, ...], problems: list[str]) -> Allowance:
    try:
        if len(texts) != 1:
            raise ValueError("must be one amount such as 10%")
        return parse_allowance(texts[0], key)
    except ValueError as error:
        problems.append(f"{path}: {error}")
        return Allowance(0.0)


def _lines(
    path: str, key: str, texts: tuple[str, ...], allowed: Mapping[str, set[str]], problems: list[str]
) -> list[Line]:
    selection = parse_selection(path, key, allowed, problems, also=CLASSES)
    if selection is None:
        return []
    if selection.metric.startswith("target:"):
        problems.append(f"{path}: the target's own metrics are not compared")
    if not texts:
        problems.append(f"{path}: needs at least one line such as p(95) <= +10%")
    found = []
    for text in texts:
        try:
            found.append(_line(selection, text))
        except ValueError as error:
            problems.append(f"{path}: {error}")
    return found


def _line(selection: Selection, text: str) -> Line:
    match = _LINE.match(text)
    if match is None:
        raise ValueError(f"{text!r} must be an aggregation and a bound on its change, such as p(95) <= +10%")
    name = match[1].replace(" ", "")
    is_time = name == "med" or name.startswith("p(")
    if name.startswith("p(") and not 0 < float(name[2:-1]) < 100:
        raise ValueError(f"{text!r}: the percentile must lie between 0 and 100")
    if not is_time and name not in ("failures", "rate"):
        raise ValueError(f"{text!r}: {name} is not compared{nearest(name, ('med', 'p(95)', 'failures', 'rate'))}")
    if name == "failures" and selection.metric in DELIVERY_METRICS:
        raise ValueError(f"{text!r}: {selection.metric} counts no failures; what never arrived is judged by invariants")
    worse = ">= -" if name == "rate" else "<= +"
    if f"{match[2]} {match[3]}" != worse:
        raise ValueError(f"{text!r}: {name} gets worse the other way: {name} {worse}{match[4]}")
    return Line(selection, name, parse_allowance(match[4], "times" if is_time else name))


def parse_allowance(text: str, what: str) -> Allowance:
    """An amount: "10%", for times also "5ms" or "10% or 5ms". Raises ValueError."""
    share, ms = None, None
    for part in (p.strip().removeprefix("+") for p in text.split(" or ")):
        number = part.removesuffix("%").strip()
        if part.endswith("%") and share is None and re.fullmatch(r"[0-9]+(\.[0-9]+)?", number):
            share = float(number) / 100
        elif what == "times" and ms is None and not part.endswith("%"):
            try:
                ms = parse_duration_s(part) * MS_PER_S
            except ValueError as error:
                raise ValueError(f"{text!r}: {error}") from None
        else:
            usual = "10%, 5ms, or both: 10% or 5ms" if what == "times" else "0.5%"
            raise ValueError(f"{text!r} must be an amount such as {usual}")
    return Allowance(share or 0.0, ms or 0.0)
