"""From what was measured to what is known of a claim. Pure.

A claim is reproduced when every figure that decides meets its bound, not reproduced when one misses it, and not
decidable here when one of them is unknown, or misses a bound that only a larger machine can meet.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from enum import StrEnum
from statistics import median
from typing import Any

import msgspec

from harness.claims.model import (
    Asked,
    Claim,
    Field,
    Figure,
    Invariant,
    Measured,
    Properties,
    Quotient,
    Source,
    Threshold,
)
from harness.core.errors import ExitCode
from harness.core.verdict import Check, Outcome, worst
from harness.judge.expressions import OPERATORS, Slo, parse_slos

MOST_OTHERS = 0.15
"""share of the processors from which on others may be why a benchmark misses its bound (runs measure that closer)"""
_RANK = {Outcome.FAIL: 0, Outcome.INCONCLUSIVE: 1, Outcome.PASS: 2}
_FOUND = {
    Outcome.PASS: "looked at, none of them",
    Outcome.FAIL: "looked at, some of them",
    Outcome.INCONCLUSIVE: "looked at",
}
_BOUND = re.compile(r"^(<=|>=|==|<|>)\s*(-?[\d_.]+)$")
_RANGE = re.compile(r"^(-?[\d.]+) \.\. (-?[\d.]+)$")


class Standing(StrEnum):
    """What is known of a claim."""

    REPRODUCED = "reproduced"
    NOT_REPRODUCED = "not reproduced"
    UNDECIDED = "not decidable here"
    UNMEASURED = "not measured yet"


class Read(msgspec.Struct, kw_only=True):
    """One figure, as it was measured."""

    label: str
    value: float | None = None
    unit: str = ""
    bound: str = ""
    outcome: Outcome = Outcome.INCONCLUSIVE
    decides: bool = True
    reason: str = ""


class Finding(msgspec.Struct, kw_only=True):
    """What is known of one claim, and where that was measured."""

    claim: str
    standing: Standing
    figures: list[Read] = []
    date: str = ""
    machine: str = ""
    commit: str = ""
    others: float | None = None
    """most that others took of the processors while a source was measured; None: not known"""


def finding_of(claim: Claim, found: Mapping[Source, Measured]) -> Finding:
    """What was measured says so much of a claim."""
    figures = [read(figure, found) for figure in claim.figures]
    known = [found[source] for source in claim.sources if source in found and not found[source].problem]
    return Finding(
        claim=claim.id,
        standing=_standing(figures) if known else Standing.UNMEASURED,
        figures=figures,
        date=max((measured.date for measured in known), default=""),
        machine="; ".join(dict.fromkeys(measured.machine for measured in known)),
        commit=", ".join(dict.fromkeys(measured.commit for measured in known)),
        others=max((measured.others for measured in known if measured.others is not None), default=None),
    )


def _standing(figures: Iterable[Read]) -> Standing:
    outcome = worst(figure.outcome for figure in figures if figure.decides)
    return {Outcome.PASS: Standing.REPRODUCED, Outcome.FAIL: Standing.NOT_REPRODUCED}.get(outcome, Standing.UNDECIDED)


def exit_code_of(findings: Iterable[Finding]) -> ExitCode:
    """0 all reproduced, 1 one is not, 3 one could not be decided or measured."""
    standings = {finding.standing for finding in findings}
    if Standing.NOT_REPRODUCED in standings:
        return ExitCode.FAIL
    return ExitCode.PASS if standings == {Standing.REPRODUCED} else ExitCode.INCONCLUSIVE


def read(figure: Figure, found: Mapping[Source, Measured]) -> Read:
    """One figure, with whether it meets its bound."""
    made = Read(label=figure.label, unit=figure.unit, bound=figure.bound, decides=figure.decides)
    for source in figure.sources:
        if source not in found or found[source].problem:
            made.reason = found[source].problem if source in found else "not measured"
            return made
    if isinstance(figure.of, Quotient):
        _read_quotient(figure.of, figure.bound, found, made)
    else:
        _read_single(figure.of, found[figure.of.source], made)
        if figure.bound and made.value is not None and isinstance(figure.of, Asked | Field):
            made.outcome = _outcome(figure.bound, made.value)
    _weaken(figure, [found[source] for source in figure.sources], made)
    return made


def is_told(figure: Figure, source: Source, measured: Measured) -> bool:
    """Whether what was measured of a source answers the figure: what is kept of an older program may not."""
    parts = (figure.of.over, figure.of.under) if isinstance(figure.of, Quotient) else (figure.of,)
    return all(_answers(measured, part) for part in parts if part.source == source)


def _answers(measured: Measured, of: Threshold | Invariant | Asked | Field | Properties) -> bool:
    match of:
        case Threshold():
            return threshold_check(of, measured) is not None
        case Invariant():
            return any(check.name == of.name for check in measured.checks)
        case Asked():
            return of.sql in measured.answers
        case Field():
            told = [_field(result, of.path) is not None for result in measured.results]
            return len(told) >= of.source.times and all(told)
        case Properties():
            return True


def _weaken(figure: Figure, measured: Sequence[Measured], made: Read) -> None:
    """What is doubted decides nothing, except what must never be.

    Nor does it count that a benchmark misses its bound beside others, or a figure that is too large for here.
    """
    doubt = next((one.doubt for one in measured if one.doubt), "")
    others = max(one.others or 0.0 for one in measured)
    if isinstance(figure.of, Field) and made.outcome is Outcome.FAIL and others > MOST_OTHERS:
        doubt = f"others took {100 * others:.0f} % of the processors meanwhile"
    if doubt and not (isinstance(figure.of, Invariant) and made.outcome is Outcome.FAIL):
        made.outcome, made.reason = Outcome.INCONCLUSIVE, doubt
    if figure.absolute and made.outcome is Outcome.FAIL:
        made.outcome, made.reason = Outcome.INCONCLUSIVE, "an absolute figure, of more or larger machines"


def _outcome(bound: str, value: float) -> Outcome:
    return Outcome.PASS if meets(bound, value) else Outcome.FAIL


def _read_single(of: Threshold | Invariant | Asked | Field | Properties, measured: Measured, made: Read) -> None:
    match of:
        case Threshold():
            _take(made, threshold_check(of, measured))
        case Invariant():
            check = _worst_of([c for c in measured.checks if c.name == of.name])
            _take(made, check)
            made.value, made.unit = (float(check.observations), _FOUND[check.verdict]) if check else (None, "")
        case Asked():
            made.value = measured.answers.get(of.sql)
            made.reason = "" if made.value is not None else "the history has no answer"
        case Field():
            _take_field([_field(result, of.path) for result in measured.results], of.path, made)
        case Properties():
            _take_properties(of.names, measured.checks, made)


def _take(made: Read, check: Check | None) -> None:
    """What the judge says of a check."""
    if check is None:
        made.reason = "the run was not asked"
        return
    made.value, made.outcome, made.reason = check.value, check.verdict, check.reason
    made.unit = made.unit or check.unit


def _take_properties(names: tuple[str, ...], checks: list[Check], made: Read) -> None:
    chosen = [check for check in checks if check.name in names and not check.skipped]
    held = sum(check.verdict is Outcome.PASS for check in chosen)
    made.value, made.unit, made.bound = float(held), f"of {len(names)} properties", f"== {len(names)}"
    made.outcome = worst(check.verdict for check in chosen) if len(chosen) == len(names) else Outcome.INCONCLUSIVE
    made.reason = "; ".join(check.reason or check.name for check in chosen if check.verdict is not Outcome.PASS)


def slo_of(of: Threshold) -> Slo:
    """The threshold as the judge knows it. Raises ValueError when it is none."""
    slos, problems = parse_slos("claims", {of.selector: (of.expression,)}, {})
    if problems:
        raise ValueError("; ".join(problems))
    return slos[0]


def threshold_check(of: Threshold, measured: Measured) -> Check | None:
    """The check of a threshold; of several phases, the worst."""
    slo = slo_of(of)
    name, phase = f"{slo.selector} {slo.thresholds[0].text}", slo.tags.get("phase", "")
    return _worst_of([c for c in measured.checks if c.name == name and phase in ("", c.phase)])


def _worst_of(checks: list[Check]) -> Check | None:
    """The gravest; of those, that with the largest value."""
    return min(checks, key=lambda c: (_RANK[c.verdict], -(c.value or 0.0)), default=None)


def _read_quotient(of: Quotient, bound: str, found: Mapping[Source, Measured], made: Read) -> None:
    """A ratio. What misses the bound only by what the machine alone took is not decided."""
    parts = []
    for part in (of.over, of.under):
        piece = Read(label=made.label)
        _read_single(part, found[part.source], piece)
        if piece.value is None or (isinstance(part, Threshold) and piece.outcome is not Outcome.PASS):
            made.reason = piece.reason or "not known"
            return
        parts.append(piece)
    over, under = (piece.value or 0.0 for piece in parts)
    unit, made.unit = parts[0].unit, made.unit or "times"
    if not under:
        made.reason = "nothing to compare with"
        return
    made.value, made.reason = over / under, f"{number(over)} over {number(under)} {unit}".rstrip()
    if not bound:
        return
    made.outcome = _outcome(bound, made.value)
    if made.outcome is Outcome.FAIL and isinstance(of.over, Threshold):
        check = threshold_check(of.over, found[of.over.source])
        alone = (check.machine if check else None) or 0.0
        if meets(bound, max(0.0, over - alone) / under):
            made.outcome = Outcome.INCONCLUSIVE
            made.reason += f"; of the first the machine alone took {number(alone)} {unit}".rstrip()


def meets(bound: str, value: float) -> bool:
    """Whether a value is within a bound such as "<= 2" or "-75 .. -65". Raises ValueError."""
    if match := _RANGE.match(bound):
        return float(match[1]) <= value <= float(match[2])
    if match := _BOUND.match(bound):
        return OPERATORS[match[1]](value, float(match[2]))
    raise ValueError(f"no bound: {bound!r}")


def _take_field(values: list[float | None], path: str, made: Read) -> None:
    """The median of what a benchmark told, each time."""
    known = [value for value in values if value is not None]
    if not known or len(known) < len(values):
        made.reason = f"the benchmark tells no {path}"
        return
    made.value = median(known)
    made.reason = f"median of {', '.join(map(number, known))}" if len(known) > 1 else ""


def _field(result: Mapping[str, Any], path: str) -> float | None:
    value: Any = result
    for key in path.split("."):
        value = value.get(key) if isinstance(value, Mapping) else None
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def number(value: float) -> str:
    """Three digits of what is small, all of what is large: "0.0123", "1.87", "1,870"."""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
