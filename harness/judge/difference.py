"""One row of a comparison: a statistic of one selection in one phase, on both sides, and what its change shows. Pure.

The bounds of the change are held against the tolerance: beyond it as a whole is a regression. Where the data are too
few the row is skipped, unless a line of the tolerances asks for it, or they are too few only now: then it is
inconclusive.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from enum import StrEnum

import msgspec

from harness.core.units import format_duration
from harness.core.verdict import Outcome
from harness.judge.bootstrap import (
    CONFIDENCE,
    FEWEST_WINDOWS,
    Bounds,
    FailedShare,
    Quantile,
    Rate,
    Recording,
    Statistic,
    pooled,
    window_count,
)
from harness.judge.tolerance import Allowance

BLIND = {"failures": 0.05, "rate": 0.5}
"""a row nobody asked for whose bounds do not even exclude so large a change for the worse tells nothing"""
BLIND_TIMES = 1.0

Sides = Sequence[Sequence[Recording]]
"""the runs before, the runs after"""


class Finding(StrEnum):
    """What the bounds of a change show."""

    BETTER = "better"
    WORSE = "worse"
    SAME = "no difference shown"
    UNKNOWN = "too little data"


class Difference(msgspec.Struct, kw_only=True):
    """One statistic of one selection in one phase: on both sides, and its change."""

    selector: str
    phase: str
    aggregation: str
    unit: str
    """of the values: "ms", "share" or "/s" """
    before: float | None
    after: float | None
    change: float | None = None
    """relative to before (0.1: 10 % more); of shares the difference"""
    low: float | None = None
    high: float | None = None
    tolerance: float = 0.0
    """change for the worse that is as good, as a positive share"""
    samples: tuple[int, int] = (0, 0)
    finding: Finding = Finding.UNKNOWN
    verdict: Outcome = Outcome.INCONCLUSIVE
    skipped: bool = False
    """nobody asked, and the data do not tell"""
    reason: str = ""

    @property
    def is_unchanged(self) -> bool:
        """Whether no difference is shown, and none had to be excluded either."""
        return self.finding is Finding.SAME and self.verdict is Outcome.PASS


def statistic_of(aggregation: str) -> Statistic:
    """The statistic that is called so: p(N), med, failures or rate."""
    if aggregation == "failures":
        return FailedShare()
    if aggregation == "rate":
        return Rate()
    return Quantile(0.5 if aggregation == "med" else float(aggregation[2:-1]) / 100)


def measured(selector: str, phase: str, aggregation: str, runs: Sides) -> Difference:
    """The row as far as it can be read off: values and numbers of samples."""
    length_s = min(recording.length_s for side in runs for recording in side)
    before, after = (pooled(side, length_s) for side in runs)
    values = [statistic_of(aggregation).of(side) for side in (before, after)]
    is_time = aggregation not in BLIND
    return Difference(
        selector=selector,
        phase=phase,
        aggregation=aggregation,
        unit={"failures": "share", "rate": "/s"}.get(aggregation, "ms"),
        before=None if math.isnan(values[0]) else values[0],
        after=None if math.isnan(values[1]) else values[1],
        samples=(len(before.values), len(after.values)) if is_time else (before.count, after.count),
    )


def lack(aggregation: str, runs: Sides) -> tuple[str, str]:
    """What each side lacks to be compared, in words; empty: nothing."""
    length_s = min(recording.length_s for side in runs for recording in side)
    windows = window_count(length_s)
    if windows < FEWEST_WINDOWS:
        short = f"the phase is {length_s:.3g} s long; bounds need {FEWEST_WINDOWS} s"
        return short, short
    statistic = statistic_of(aggregation)
    counts = [sum(len(r.values) if isinstance(statistic, Quantile) else r.count for r in side) for side in runs]
    needed = statistic.needs() if isinstance(statistic, Quantile) else 1
    if isinstance(statistic, Rate):
        counts[1] = max(counts[1], 1)  # that nothing came any more is a rate as well
    before, after = counts
    return (
        f"{before:,} samples before; its bounds need {needed:,}" if before < needed else "",
        f"{after:,} samples after; its bounds need {needed:,}" if after < needed else "",
    )


def judged(
    row: Difference, found: Bounds | None, own: Allowance | None, general: Allowance, lacking: tuple[str, str]
) -> Difference:
    """The row with what its bounds show. `own`: the tolerance that asks for just this row; `lacking`: see `lack`."""
    row.tolerance = (own or general).of(row.before or 0.0)
    if found is None or any(lacking):
        is_lost = 2 * row.samples[1] < row.samples[0] and not lacking[0]
        row.skipped = own is None and not is_lost
        row.reason = "; ".join(dict.fromkeys(text for text in lacking if text)) or "nothing to compare with"
        return row
    row.change, row.low, row.high = found.change, found.low, found.high
    worse = found if row.aggregation != "rate" else Bounds(-found.change, -found.high, -found.low)
    row.finding = Finding.WORSE if worse.low > 0 else Finding.BETTER if worse.high < 0 else Finding.SAME
    if worse.low > row.tolerance:
        row.verdict, row.reason = Outcome.FAIL, "worse by more than the tolerance"
    elif worse.high <= row.tolerance or own is None:
        row.verdict = Outcome.PASS
    else:
        row.reason = "not shown to be within the tolerance: a longer phase or repeats narrow the bounds"
    if own is None and row.finding is Finding.SAME and worse.high > BLIND.get(row.aggregation, BLIND_TIMES):
        row.verdict, row.finding, row.skipped = Outcome.INCONCLUSIVE, Finding.UNKNOWN, True
        row.reason = "so wide are the bounds that a large change could hide"
    return row


def machine_quantile(aggregation: str) -> str:
    """Which time of echoes on the machine alone goes with an aggregation: a field of `MachinePhase`; empty: none."""
    statistic = statistic_of(aggregation)
    if not isinstance(statistic, Quantile):
        return ""
    return "p50_ms" if statistic.share <= 0.5 else "p95_ms" if statistic.share <= 0.95 else "p99_ms"


def weigh_machine(row: Difference, before_ms: float | None, after_ms: float | None) -> None:
    """A regression that may be all the machine's is inconclusive.

    That is when the row would be within its tolerance without what the machine alone took more than before. None: it
    was not measured.
    """
    if row.verdict is not Outcome.FAIL or row.before is None or row.after is None:
        return
    if before_ms is None or after_ms is None or after_ms <= before_ms:
        return
    if row.after - (after_ms - before_ms) <= row.before * (1 + row.tolerance):
        row.verdict = Outcome.INCONCLUSIVE
        alone = f"{amount(before_ms, 'ms')} before, {amount(after_ms, 'ms')} after"
        row.reason = f"{row.reason}; but the machine alone took {alone} (docs/noise.md)"


def told(row: Difference) -> str:
    """The row in a sentence."""
    words = f"{amount(row.before, row.unit)} before, {amount(row.after, row.unit)} after"
    if row.change is None or row.low is None or row.high is None:
        return f"{words}; {row.reason}"
    spread = f"{signed(row.low, row.unit)} to {signed(row.high, row.unit)}"
    words += f": {signed(row.change, row.unit)} ({spread} with {CONFIDENCE:.0%} confidence), {row.finding}"
    return "; ".join(part for part in (words, row.reason) if part)


def amount(value: float | None, unit: str) -> str:
    """A value of a row as people read it."""
    if value is None:
        return "nothing"
    if unit == "ms":
        return format_duration(value / 1000)
    return f"{100 * value:.3g} %" if unit == "share" else f"{value:.3g}{unit}"


def signed(change: float, unit: str) -> str:
    """A change: +12.3 %; of a share in points."""
    number = f"{100 * change:+,.0f}" if abs(change) >= 10 else f"{100 * change:+.3g}"
    return f"{number} {'pp' if unit == 'share' else '%'}"
