"""Words and numbers of a verdict, the same in every report: terminal, page, JUnit and summary."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence

from harness.core.verdict import Check, CheckKind, Outcome, Verdict

RANK = {Outcome.FAIL: 0, Outcome.INCONCLUSIVE: 1, Outcome.PASS: 2}
KINDS = (
    CheckKind.STOP,
    CheckKind.BASELINE,
    CheckKind.INVARIANT,
    CheckKind.SLO,
    CheckKind.RECOVERY,
    CheckKind.WITNESS,
    CheckKind.GENERATOR,
)
HOW_TO_LIST = "--all lists them"
_SELECTOR = re.compile(r"^([^{]*)(\{[^}]*\})?(.*)$", re.DOTALL)


def number_of(count: int, what: str) -> str:
    """1 figure, 2 figures."""
    return f"{count} {what}" if count == 1 else f"{count} {what}s"


def unchanged_text(count: int) -> str:
    """How many figures did not change."""
    return f"{number_of(count, 'figure')} unchanged"


def failing_first(checks: Iterable[Check]) -> list[Check]:
    """Failed, then inconclusive, then passed, then skipped; the gravest kind first, else in the judge's order."""
    return sorted(checks, key=lambda c: (c.skipped, RANK[c.verdict], KINDS.index(c.kind)))


def counted(checks: Iterable[Check]) -> Counter[str]:
    """How many checks passed, failed, were inconclusive or were skipped."""
    return Counter(map(word, checks))


def word(check: Check) -> str:
    """What became of a check, in a word."""
    return "skipped" if check.skipped else str(check.verdict)


def number(value: float) -> str:
    """A number with as many digits as help: 0.0421, 3.57, 142, 12,345."""
    if value == int(value) and abs(value) < 1e15:
        return f"{int(value):,}"
    size = abs(value)
    if size < 1:
        return f"{value:.3g}"
    digits = 0 if size >= 100 else 1 if size >= 10 else 2
    return f"{value:,.{digits}f}"


def split_name(check: Check) -> tuple[str, str, str]:
    """A check's name in three: metric, selector in braces, the rest."""
    match = _SELECTOR.match(check.name)
    return (match[1], match[2] or "", match[3]) if match else (check.name, "", "")


def with_unit(value: float | None, unit: str) -> str:
    """A quantity; a share is shown in per cent. Empty for None."""
    if value is None:
        return ""
    if unit == "share":
        return f"{number(value * 100)} %"
    gap = "" if unit.startswith("/") else " "
    if value == 1 and len(unit) > len("ms"):
        unit = unit.removesuffix("s")
    return f"{number(value)}{gap}{unit}" if unit else number(value)


def value_text(check: Check) -> str:
    """What was measured."""
    return with_unit(check.value, check.unit)


def machine_text(check: Check) -> str:
    """What the machine alone took meanwhile; empty: it is no time, or the machine was not measured."""
    return f"machine alone: {with_unit(check.machine, check.unit)}" if check.machine is not None else ""


def measured_text(check: Check) -> str:
    """The same in one: "12.3 ms (machine alone: 0.4 ms)"."""
    beside = machine_text(check)
    return f"{value_text(check)} ({beside})" if beside and check.value is not None else value_text(check)


def against_text(check: Check) -> str:
    """And what it is held against: "12.3 ms (machine alone: 0.4 ms) against 10 ms"."""
    against = f" against {bound_text(check)}" if check.bound is not None else ""
    return measured_text(check) + against


def machine_range_text(checks: Sequence[Check]) -> str:
    """The most that the machine alone took beside several checks."""
    measured = [c for c in checks if c.machine is not None]
    most = max(measured, key=lambda c: c.machine or 0.0, default=None)
    return with_unit(most.machine, most.unit) if most is not None else ""


def machine_sentences(verdict: Verdict) -> list[str]:
    """What the machine alone did: the noise floor, of the first phase without a fault, and when it starved the run."""
    calm = [m for m in verdict.machine if m.echoes and m.kind == "baseline"] or [m for m in verdict.machine if m.echoes]
    if not calm:
        return ["The machine was not measured beside the run: no time is excused by its noise."]
    floor = calm[0]
    taken = f"others took {with_unit(floor.outside + floor.steal, 'share')} of its processors"
    said = [
        f"Noise floor ({floor.phase}): an echo on this machine alone took {number(floor.p50_ms)} ms at the median, "
        f"{number(floor.p99_ms)} ms at p99, {number(floor.max_ms)} ms at most; {taken}."
    ]
    starved = [f"{number(m.starved_s)} s of {m.phase}" for m in verdict.machine if m.starved_s]
    return said + ([f"Others kept the run from the processors for {', '.join(starved)}."] if starved else [])


def range_text(checks: Sequence[Check]) -> str:
    """What several checks of one name measured: the least to the most."""
    measured = sorted((c for c in checks if c.value is not None), key=lambda c: c.value or 0.0)
    if not measured:
        return ""
    least, most = measured[0], measured[-1]
    if least.value is None or least.value == most.value:
        return value_text(most)
    return f"{value_text(least).partition(' ')[0]} – {value_text(most)}"


def bound_text(check: Check) -> str:
    """What it is held against."""
    return with_unit(check.bound, check.unit)


def sentences(check: Check) -> list[str]:
    """Reason and evidence; the reason only if it says more than the evidence joined."""
    said = "; ".join(check.evidence).startswith(check.reason) if check.evidence else not check.reason
    return list(check.evidence) if said else [check.reason, *check.evidence]


def baseline_sentences(verdict: Verdict) -> list[str]:
    """With which run it was compared, and what makes that hard; none when it was not."""
    together = [c for c in verdict.checks if c.kind is CheckKind.BASELINE and not c.phase]
    return [f"{c.reason[:1].upper()}{c.reason[1:]}." for c in together]


def headline(verdict: Verdict) -> str:
    """The verdict in one sentence."""
    judged = [c for c in failing_first(verdict.checks) if not c.skipped]
    count = counted(verdict.checks)
    skipped = f", {count['skipped']} skipped" if count["skipped"] else ""
    if verdict.verdict == Outcome.PASS:
        return f"{verdict.scenario}: all {len(judged)} checks passed{skipped}."
    names = ", ".join(dict.fromkeys(c.name for c in judged if c.verdict == verdict.verdict))
    if verdict.verdict == Outcome.FAIL:
        return f"{verdict.scenario}: {count['fail']} of {len(judged)} checks failed: {names}."
    if not judged:
        return f"{verdict.scenario}: nothing was checked."
    return f"{verdict.scenario}: {count['inconclusive']} of {len(judged)} checks could not be decided: {names}."
