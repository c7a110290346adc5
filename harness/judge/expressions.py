"""Expectations of a scenario: SLO expressions in k6's syntax, metric selectors, invariants, recovery bound. Pure.

    "post_to_event{scope:local,author:ordinary}" = ["p(95) <= 200ms", "max <= 500ms"]
    "feed_read"      = ["failures == 0", "failures < 0.1%", "rate >= 100/s"]
    "target:timeline_rebuild_seconds{phase:fault}" = ["p(99) <= 50ms"]
    "invariants"     = "all"            (or a list of names; [] for none; all when absent)
    "recovery"       = "<= 10s"

Aggregations: p(N), med, avg, min, max (times of successful ops), count, rate (of successful ops, a second), failures
(number, or share when the bound has a %). A time without a unit is in milliseconds, as in k6.
"""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Callable, Iterable, Mapping

import msgspec

from harness.core.errors import UsageError, nearest
from harness.core.op import OP_METRICS
from harness.core.units import parse_duration_s, parse_rate_per_s
from harness.judge.invariants import CHECKERS
from harness.judge.power import needed_for

OPERATORS: dict[str, Callable[[float, float], bool]] = {
    "<=": operator.le,
    "<": operator.lt,
    ">=": operator.ge,
    ">": operator.gt,
    "==": operator.eq,
    "===": operator.eq,
    "!=": operator.ne,
}
TIMES = ("avg", "max", "med", "min", "p(95)")
COMMON_TAGS = {"phase", "region"}
METRICS: dict[str, frozenset[str]] = {
    "post_to_event": frozenset(COMMON_TAGS | {"scope", "author"}),
    "post_to_rendered": frozenset(COMMON_TAGS | {"scope", "author"}),
    "cross_region": frozenset(COMMON_TAGS | {"author"}),
    **{metric: frozenset(COMMON_TAGS) for metric in OP_METRICS.values()},
    "post_accept": frozenset(COMMON_TAGS | {"author"}),
}
"""metric -> tags it can be selected by"""
DELIVERY_METRICS = ("post_to_event", "post_to_rendered", "cross_region")
"""metrics of deliveries: only what arrived has a time, so they have no failures (invariants judge what is missing)"""
TAG_VALUES = {"scope": ("local", "remote"), "author": ("ordinary", "celebrity")}
PHASE_KINDS = ("baseline", "fault", "recovered")
RECOVERY = "recovery"
SECTIONS = ("invariants", RECOVERY)

_SELECTOR = re.compile(r"^\s*((?:target:)?[A-Za-z_][A-Za-z0-9_:]*)\s*(?:\{([^{}]*)\})?\s*$")
_THRESHOLD = re.compile(
    r"^\s*(p\(\s*[0-9.]+\s*\)|[A-Za-z_]+)\s*(<=|>=|===|==|!=|<|>)\s*([0-9][0-9_.]*)\s*(%|/\s*\w+|[a-z]+)?\s*$"
)


class Threshold(msgspec.Struct, frozen=True, kw_only=True):
    """One expression. `bound` is in nanoseconds for times, a share (0..1) when `unit` is "%", else a plain number."""

    text: str
    aggregation: str
    """ "p", "med", "avg", "min", "max", "count", "rate", "failures" """
    quantile: float = 0.0
    comparison: str
    bound: float
    unit: str
    """ "ns", "%", "/s" or "" """

    def holds(self, value: float) -> bool:
        """Whether `value`, in the unit of `bound`, meets the threshold."""
        return OPERATORS[self.comparison](value, self.bound)

    @property
    def needed_samples(self) -> int:
        """How many it takes to be meaningful: for a percentile one beyond it, for a share the rule of three."""
        if self.aggregation == "failures" and self.unit == "%" and self.comparison in ("<", "<="):
            return max(1, needed_for(self.bound))
        if self.aggregation == "p" and 0.5 < self.quantile < 1:
            return math.ceil(round(1 / (1 - self.quantile), 6))
        return 1


class Selection(msgspec.Struct, frozen=True, kw_only=True):
    """The samples of a metric that have these tags."""

    metric: str
    tags: dict[str, str]

    @property
    def selector(self) -> str:
        """The selector as text, tags in the order given, without a phase."""
        tags = ",".join(f"{k}:{v}" for k, v in self.tags.items() if k != "phase")
        return f"{self.metric}{{{tags}}}" if tags else self.metric


class Slo(Selection, frozen=True, kw_only=True):
    """The thresholds on one selection of a metric."""

    thresholds: tuple[Threshold, ...]


class Expectations(msgspec.Struct, frozen=True, kw_only=True):
    """Everything a scenario expects."""

    slos: tuple[Slo, ...]
    invariants: tuple[str, ...]
    recovery_s: float | None
    """longest time from the undo of a fault to normal service; None: not judged"""


def parse_expectations(
    expect: Mapping[str, Iterable[str]], *, phases: Iterable[str] = (), regions: Iterable[str] = ()
) -> Expectations:
    """The expectations in a scenario's [expect] table. Raises UsageError with every problem, each with its path.

    `phases` and `regions` are the names that selectors may use; empty: any name is taken.
    """
    allowed = {"phase": {*phases, *PHASE_KINDS} if phases else set(), "region": set(regions)}
    slos, problems = parse_slos("expect", {k: v for k, v in expect.items() if k not in SECTIONS}, allowed)
    invariants = _invariants(expect.get("invariants"), problems)
    recovery_s = _recovery(expect.get(RECOVERY), problems)
    if problems:
        raise UsageError(problems)
    return Expectations(slos=slos, invariants=invariants, recovery_s=recovery_s)


def parse_slos(
    section: str, table: Mapping[str, Iterable[str]], allowed: Mapping[str, set[str]]
) -> tuple[tuple[Slo, ...], list[str]]:
    """The SLOs in a table of selectors and thresholds, and its problems, each with its path.

    `allowed`: values that a tag may have; absent or empty: any.
    """
    problems: list[str] = []
    slos = [_slo(f"{section}.{key}", key, tuple(texts), allowed, problems) for key, texts in table.items()]
    return tuple(slo for slo in slos if slo is not None), problems


def _slo(
    path: str, key: str, expressions: tuple[str, ...], allowed: Mapping[str, set[str]], problems: list[str]
) -> Slo | None:
    before = len(problems)
    selection = parse_selection(path, key, allowed, problems)
    if selection is None:
        return None
    if not expressions:
        problems.append(f"{path}: needs at least one threshold such as p(95) <= 200ms")
    thresholds = [_collect(path, selection.metric, text, problems) for text in expressions]
    if len(problems) > before:
        return None
    kept = tuple(t for t in thresholds if t is not None)
    return Slo(metric=selection.metric, tags=selection.tags, thresholds=kept)


def parse_selection(
    path: str, key: str, allowed: Mapping[str, set[str]], problems: list[str], also: Iterable[str] = SECTIONS
) -> Selection | None:
    """What a selector such as feed_read{region:us-east} chooses; None: no metric of ours. Adds to the problems.

    `also`: other names that could stand in its place.
    """
    match = _SELECTOR.match(key)
    metric = match[1] if match else re.split(r"[{\s]", key, maxsplit=1)[0]
    if not metric.startswith("target:") and metric not in METRICS:
        problems.append(f"{path}: unknown metric{nearest(metric, [*METRICS, *also, 'target:NAME'])}")
        return None
    if match is None:
        problems.append(f"{path}: must be metric or metric{{tag:value,...}}")
        return None
    return Selection(metric=metric, tags=_tags(path, metric, match[2] or "", allowed, problems))


def _tags(path: str, metric: str, text: str, allowed: Mapping[str, set[str]], problems: list[str]) -> dict[str, str]:
    tags: dict[str, str] = {}
    for part in (p.strip() for p in text.split(",") if p.strip()):
        name, separator, value = (x.strip() for x in part.partition(":"))
        if not separator or not value:
            problems.append(f"{path}: tag {part!r} must be name:value")
            continue
        if metric in METRICS and name not in METRICS[metric]:
            problems.append(f"{path}: {metric} has no tag {name!r}{nearest(name, METRICS[metric])}")
            continue
        choices = allowed.get(name) or set(TAG_VALUES.get(name, ()) if metric in METRICS else ())
        if choices and value not in choices:
            problems.append(f"{path}: {name} cannot be {value!r}{nearest(value, choices)}")
        if name in tags:
            problems.append(f"{path}: tag {name!r} stands twice; each selector chooses one value")
        tags[name] = value
    return tags


def _collect(path: str, metric: str, text: str, problems: list[str]) -> Threshold | None:
    try:
        return parse_threshold(text, metric)
    except ValueError as error:
        problems.append(f"{path}: {error}")
        return None


def parse_threshold(text: str, metric: str = "feed_read") -> Threshold:
    """One expression such as "p(95) <= 200ms". Raises ValueError saying what was expected."""
    match = _THRESHOLD.match(text)
    if match is None:
        raise ValueError(f"{text!r} must be an aggregation, a comparison and a bound, such as p(95) <= 200ms")
    name, comparison, number, unit = match[1].replace(" ", ""), match[2], match[3], (match[4] or "").replace(" ", "")
    if name.startswith("p("):
        quantile = float(name[2:-1])
        if not 0 <= quantile <= 100:
            raise ValueError(f"{text!r}: the percentile must be from 0 to 100")
        return _made(text, "p", comparison, _time_ns(text, number, unit), "ns", quantile / 100)
    if name in ("avg", "max", "med", "min"):
        quantile = 0.5 if name == "med" else 0.0
        return _made(text, name, comparison, _time_ns(text, number, unit), "ns", quantile)
    if name == "count" and not unit:
        return _made(text, name, comparison, float(number), "")
    if name == "rate" and (not unit or unit.startswith("/")):
        return _made(text, name, comparison, parse_rate_per_s(f"{number.replace('_', '')}{unit or '/s'}"), "/s")
    if name == "failures" and unit in ("", "%"):
        if metric in DELIVERY_METRICS or metric.startswith("target:"):
            raise ValueError(f"{text!r}: {metric} counts no failures; what never arrived is judged by the invariants")
        return _made(text, name, comparison, float(number) / (100 if unit else 1), unit)
    known = (*TIMES, "count", "rate", "failures")
    if name == "rate" and unit == "%":
        raise ValueError(f"{text!r}: rate is ops per second; a share of failed ops is failures {comparison} {number}%")
    if name in known:
        raise ValueError(f"{text!r}: {name} cannot be compared with {number}{unit}")
    raise ValueError(f"{text!r}: unknown aggregation {name!r}{nearest(name, known)}")


def _made(text: str, name: str, comparison: str, bound: float, unit: str, quantile: float = 0.0) -> Threshold:
    return Threshold(
        text=" ".join(text.split()), aggregation=name, quantile=quantile, comparison=comparison, bound=bound, unit=unit
    )


def _time_ns(text: str, number: str, unit: str) -> float:
    try:
        return parse_duration_s(f"{number.replace('_', '')}{unit or 'ms'}") * 1e9
    except ValueError as error:
        raise ValueError(f"{text!r}: the bound {error}") from None


def _invariants(value: Iterable[str] | None, problems: list[str]) -> tuple[str, ...]:
    names = ("all",) if value is None else tuple(value)
    unknown = [n for n in names if n != "all" and n not in CHECKERS]
    problems += [f"expect.invariants: unknown invariant {n!r}{nearest(n, [*CHECKERS, 'all'])}" for n in unknown]
    return tuple(CHECKERS) if "all" in names else tuple(n for n in CHECKERS if n in names)


def _recovery(value: Iterable[str] | None, problems: list[str]) -> float | None:
    if value is None:
        return None
    texts = tuple(value)
    match = re.match(r"^\s*(?:<=?)\s*(\S+)\s*$", texts[0]) if len(texts) == 1 else None
    try:
        if match is None:
            raise ValueError(f"must be one bound such as <= 10s, got {', '.join(texts) or 'nothing'}")
        return parse_duration_s(match[1])
    except ValueError as error:
        problems.append(f"expect.recovery: {error}")
        return None
