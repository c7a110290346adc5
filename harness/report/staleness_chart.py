"""The staleness curve of a run: one drawing a fault and pair of regions, with its numbers as a table."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
from markupsafe import Markup

from harness.judge.staleness import AGES_MS, StalenessCurve
from harness.report.scales import Linear, Log, milliseconds
from harness.report.svg import figure, path, tag

WIDTH, HEIGHT = 520, 220
PERIOD_COLOURS = {"whole run": "c0", "before": "c0", "during": "c1", "after": "c2"}
"""stretch of time -> class of its lines"""
FIRST_MS = 25.0
"""where posts younger than the first step are drawn: an axis by the logarithm has no 0"""
_SHARES = (0.0, 0.25, 0.5, 0.75, 1.0)
_LABELLED_MS = (50, 150, 500, 1_000, 2_000, 5_000, 10_000, 30_000)


class StalenessPanel(msgspec.Struct):
    """The curves of one pair of regions about one fault."""

    title: str
    chart: Markup
    ages: list[int]
    """milliseconds, of the table's columns"""
    rows: list[tuple[str, list[str]]]
    """stretch of time, and a cell an age: share and number of looks"""


def staleness_panels(curves: Sequence[StalenessCurve]) -> list[StalenessPanel]:
    """A panel a fault and pair of regions, in the order of the curves."""
    grouped: dict[str, list[StalenessCurve]] = {}
    for curve in curves:
        pair = f"{curve.home} → {curve.region}"
        grouped.setdefault(f"{pair} · {curve.fault}" if curve.fault else pair, []).append(curve)
    return [_panel(title, found) for title, found in grouped.items()]


def _panel(title: str, curves: Sequence[StalenessCurve]) -> StalenessPanel:
    ages = [age for age in AGES_MS if any(p.age_ms == age for curve in curves for p in curve.points)]
    rows = []
    for curve in curves:
        at = {p.age_ms: p for p in curve.points}
        cells = [f"{100 * at[age].share:.4g} % of {at[age].looks:,}" if age in at else "" for age in ages]
        rows.append((curve.period, cells))
    return StalenessPanel(title, _chart(title, curves), ages, rows)


def _chart(title: str, curves: Sequence[StalenessCurve]) -> Markup:
    """Share of pages that show a post, by its age (log scale); one line a period."""
    left, right, top, bottom = 58, WIDTH - 14, 12, HEIGHT - 30
    x, y = Log(FIRST_MS, AGES_MS[-1], left, right), Linear(0.0, 1.0, bottom, top)
    parts: list[str] = []
    for share in _SHARES:
        parts += [tag("line", class_="grid", x1=left, x2=right, y1=y(share), y2=y(share))]
        parts += [tag("text", f"{100 * share:g} %", class_="tick", x=left - 8, y=y(share) + 4, text_anchor="end")]
    for age in _LABELLED_MS:
        anchor = "end" if x(age) > right - 12 else "middle"
        parts += [tag("line", class_="grid", x1=x(age), x2=x(age), y1=top, y2=bottom)]
        parts += [tag("text", milliseconds(age), class_="tick", x=x(age), y=bottom + 17, text_anchor=anchor)]
    for curve in curves:
        points = [(x(max(p.age_ms, FIRST_MS)), y(p.share)) for p in curve.points]
        parts += [path(points, class_=f"curve {PERIOD_COLOURS[curve.period]}")]
    return figure(WIDTH, HEIGHT, _described(title, curves), parts, class_="percentile-chart")


def _described(title: str, curves: Sequence[StalenessCurve]) -> str:
    words = [
        f"{curve.period}: {100 * curve.points[0].share:.3g} % at {milliseconds(curve.points[0].age_ms)}, "
        f"{100 * curve.points[-1].share:.3g} % at {milliseconds(curve.points[-1].age_ms)}"
        for curve in curves
    ]
    return f"{title}: share of reads that show a post, by its age. " + "; ".join(words)
