"""The drawings of a report: a metric over time, and percentile curves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import msgspec
from markupsafe import Markup

from harness.report.run_data import FaultWindow, PhaseWindow, Rows
from harness.report.scales import (
    Linear,
    Log,
    linear_axis,
    log_axis,
    milliseconds,
    percentile_position,
    percentile_ticks,
    time_ticks,
)
from harness.report.svg import band, figure, path, safe_colour, tag

WIDTH = 1080
LEFT, RIGHT = 62, 1068
TOP = 31
LANE_HEIGHT, MOST_LANES, LETTER_WIDTH = 15, 3, 7.2
PANE_HEIGHT, RATE_HEIGHT, GAP = 168, 54, 22
CURVE_WIDTH, CURVE_HEIGHT = 520, 250
LONGEST_STEP_S = 1.5
"""a longer step between two rows is a gap in the line"""
LABEL_HEIGHT = 15
BOUND_LABEL_WIDTH = 108


class Bound(msgspec.Struct, frozen=True):
    """A threshold to draw across a chart, or over the time of the one phase it is for."""

    label: str
    milliseconds: float
    phase: str = ""
    """empty: it holds all the time"""


@dataclass(frozen=True)
class TimeFrame:
    """What all charts over time share: the stretch of time, its phases and faults."""

    phases: Sequence[PhaseWindow]
    faults: Sequence[FaultWindow]

    @property
    def ends(self) -> tuple[float, float]:
        """First and last second of the axis."""
        if not self.phases:
            return 0.0, 1.0
        return min(p.start_s for p in self.phases), max(p.end_s for p in self.phases)

    def ends_of(self, phase: str) -> tuple[float, float] | None:
        """First and last second of a phase; of no phase: of the axis; None: there was no such phase."""
        if not phase:
            return self.ends
        return next(((p.start_s, p.end_s) for p in self.phases if p.name == phase), None)

    def lanes(self) -> list[tuple[FaultWindow, int]]:
        """Faults that began, each with the row of its label: 0 unless it would touch an earlier one."""
        x, ends, found = self.scale(), list[float](), list[tuple[FaultWindow, int]]()
        for fault in sorted((f for f in self.faults if f.start_s is not None), key=lambda f: f.start_s or 0.0):
            left = x(fault.start_s or 0.0)
            lane = next((i for i, end in enumerate(ends) if end < left), len(ends))
            lane = min(lane, MOST_LANES - 1)
            ends[lane : lane + 1] = [left + LETTER_WIDTH * len(_fault_label(fault)) + 12]
            found.append((fault, lane))
        return found

    @property
    def top(self) -> int:
        """Where charts begin, below the names of phases and faults."""
        return TOP + LANE_HEIGHT * (1 + max((lane for _, lane in self.lanes()), default=0))

    def scale(self) -> Linear:
        """Seconds to pixels."""
        return Linear(*self.ends, LEFT, RIGHT)


@dataclass(frozen=True)
class Metric:
    """One series over time: rows [second, p50, upper percentile, max, count, failed?], each of the second it begins."""

    title: str
    rows: Rows
    upper: str
    """name of the upper percentile: "p95" or "p99" """
    counted: str
    """what the count counts: "events", "reads" """
    bounds: Sequence[Bound] = ()
    beside: Sequence[float] = ()
    """values of the charts beside it, which share its latency axis"""


def time_chart(metric: Metric, frame: TimeFrame) -> Markup:
    """Latency (median, upper percentile, maximum; log scale) above, rate and failures below."""
    x = frame.scale()
    top = frame.top
    bottom = top + PANE_HEIGHT
    height = bottom + GAP + RATE_HEIGHT + 26
    parts = _faults(frame, x, top, height - 26)
    parts += _latency_pane(metric, frame, top, bottom)
    parts += _rate_pane(metric, x, bottom + GAP, height - 26)
    parts += _phases(frame, x, height - 26)
    parts += _time_axis(frame, x, height - 26)
    parts += [tag("line", class_="cursor", x1=0, x2=0, y1=top, y2=height - 26)]
    return figure(WIDTH, height, _described(metric), parts, class_="time-chart", data_chart=_tooltip(metric, frame))


def percentile_chart(title: str, curves: Mapping[str, Sequence[tuple[float, float]]], colours: Sequence[str]) -> Markup:
    """Latency by percentile, each further nine as wide as the one before; one line a phase."""
    values = [ms for curve in curves.values() for _, ms in curve if ms > 0]
    highest = max((p for curve in curves.values() for p, _ in curve if p < 100), default=99.0)
    low, high, ticks = log_axis(values)
    left, right, top, bottom = 58, CURVE_WIDTH - 14, 12, CURVE_HEIGHT - 30
    y = Log(low, high, bottom, top)

    def x(percentile: float) -> float:
        return round(left + percentile_position(percentile, highest) * (right - left), 1)

    parts = _y_axis(ticks, y, left, right)
    for tick in (labelled := percentile_ticks(highest)):
        unit = " %" if tick == labelled[-1] else ""
        anchor = "end" if x(tick) > right - 12 else "middle"
        parts += [tag("line", class_="grid", x1=x(tick), x2=x(tick), y1=top, y2=bottom)]
        parts += [tag("text", f"{tick:g}{unit}", class_="tick", x=x(tick), y=bottom + 17, text_anchor=anchor)]
    for name, colour in zip(curves, colours, strict=True):
        points = [(x(p), y(ms)) for p, ms in curves[name] if p < 100 and ms > 0]
        parts += [path(points, class_=f"curve {colour}")]
    label = f"{title}: latency by percentile. " + "; ".join(
        f"{name}: maximum {milliseconds(max((ms for _, ms in curve), default=0.0))}" for name, curve in curves.items()
    )
    return figure(CURVE_WIDTH, CURVE_HEIGHT, label, parts, class_="percentile-chart")


def _latency_pane(metric: Metric, frame: TimeFrame, top: int, bottom: int) -> list[str]:
    x = frame.scale()
    values = [v for row in metric.rows for v in row[1:4] if v]
    low, high, ticks = log_axis([*values, *metric.beside, *(b.milliseconds for b in metric.bounds)])
    y = Log(low, high, bottom, top)
    parts = _y_axis(ticks, y, LEFT, RIGHT)
    parts += _bounds(metric.bounds, frame, y)
    for stretch in _stretches(metric.rows):
        median, upper, peak = (
            [(x(_number(row[0]) + 0.5), y(_number(row[i]))) for row in stretch if row[i]] for i in (1, 2, 3)
        )
        parts += [band(upper, median, class_="spread"), path(peak, class_="line max")]
        parts += [path(upper, class_="line upper"), path(median, class_="line median")]
    return parts


def _bounds(bounds: Sequence[Bound], frame: TimeFrame, y: Log) -> list[str]:
    """Dashed lines, each labelled at its right; a label that would touch another moves to its left."""
    parts: list[str] = []
    x, placed = frame.scale(), list[tuple[float, float]]()
    for bound in sorted(bounds, key=lambda b: (-b.milliseconds, b.phase)):
        if (ends := frame.ends_of(bound.phase)) is None:
            continue
        at, right = y(bound.milliseconds), _label_right(x(ends[1]) - 4.0, y(bound.milliseconds), placed)
        placed.append((at, right))
        parts += [tag("line", class_="bound", x1=x(ends[0]), x2=x(ends[1]), y1=at, y2=at)]
        parts += [tag("text", bound.label, class_="bound-label", x=right, y=at - 4, text_anchor="end")]
    return parts


def _label_right(right: float, at: float, placed: Sequence[tuple[float, float]]) -> float:
    """Where a label ends that is wanted to end at `right`: left of those at its height, inside the chart."""
    leftmost = LEFT + BOUND_LABEL_WIDTH
    right = max(right, leftmost)
    for height, end in sorted(placed, key=lambda p: -p[1]):
        if abs(at - height) < LABEL_HEIGHT and abs(right - end) < BOUND_LABEL_WIDTH:
            right = max(end - BOUND_LABEL_WIDTH, leftmost)
    return right


def _rate_pane(metric: Metric, x: Linear, top: int, bottom: int) -> list[str]:
    counts = [_number(row[4]) for row in metric.rows]
    high, ticks = linear_axis(max(counts, default=1.0) or 1.0)
    y = Linear(0, high, bottom, top)
    last = ticks[-1]
    parts = [tag("line", class_="axis", x1=LEFT, x2=RIGHT, y1=bottom, y2=bottom)]
    parts += [tag("text", f"{last:,.0f}/s", class_="tick", x=LEFT - 8, y=top + 8, text_anchor="end")]
    parts += [tag("text", metric.counted, class_="tick", x=LEFT - 8, y=bottom, text_anchor="end")]
    width = max(1.0, x(x.low + 1) - x(x.low) - 1)
    for row in metric.rows:
        left = x(_number(row[0])) + 0.5
        if left + width > RIGHT + 1:
            continue
        failed = _number(row[5]) if len(row) > 5 else 0.0
        parts += [_bar("rate", left, width, y(_number(row[4])), bottom)]
        if failed:
            parts += [_bar("failed", left, width, min(y(failed), bottom - 3), bottom)]
    return parts


def _bar(kind: str, left: float, width: float, top: float, bottom: float) -> str:
    return tag("rect", class_=kind, x=round(left, 1), y=top, width=round(width, 1), height=round(bottom - top, 1))


def _phases(frame: TimeFrame, x: Linear, bottom: int) -> list[str]:
    parts: list[str] = []
    for phase in frame.phases:
        left, right = x(phase.start_s), x(phase.end_s)
        parts += [tag("line", class_="phase", x1=left, x2=left, y1=10, y2=bottom)]
        if right - left > 7 * len(phase.name):
            parts += [tag("text", phase.name, class_="phase-name", x=left + 7, y=19)]
    return parts


def _faults(frame: TimeFrame, x: Linear, top: int, bottom: int) -> list[str]:
    """Shaded windows, each with its name above it."""
    parts: list[str] = []
    for fault, lane in frame.lanes():
        left = x(_number(fault.start_s))
        right = max(x(fault.end_s if fault.end_s is not None else frame.ends[1]), left + 2)
        colour = safe_colour(fault.colour)
        window = {"x": left, "width": round(right - left, 1), "fill": colour}
        parts += [tag("rect", class_="fault", y=top, height=bottom - top, **window)]
        parts += [tag("rect", y=top - 3, height=3, **window)]
        label = _fault_label(fault)
        late = left + LETTER_WIDTH * len(label) > RIGHT
        place = {"x": right, "text_anchor": "end"} if late else {"x": left}
        at = top - 8 - LANE_HEIGHT * lane
        parts += [tag("text", label, class_="fault-name", y=at, style=f"fill:{colour}", **place)]
    return parts


def _fault_label(fault: FaultWindow) -> str:
    return f"{fault.kind} {fault.handle}"


def _time_axis(frame: TimeFrame, x: Linear, bottom: int) -> list[str]:
    ticks = time_ticks(*frame.ends)
    parts = []
    for tick in ticks:
        parts += [tag("line", class_="axis", x1=x(tick), x2=x(tick), y1=bottom, y2=bottom + 4)]
        unit = " s" if tick == ticks[-1] else ""
        anchor = "end" if x(tick) > RIGHT - 8 else "middle"
        parts += [tag("text", f"{tick}{unit}", class_="tick", x=x(tick), y=bottom + 18, text_anchor=anchor)]
    return parts


def _y_axis(ticks: Sequence[float], y: Log, left: float, right: float) -> list[str]:
    parts: list[str] = []
    for tick in ticks:
        parts += [tag("line", class_="grid", x1=left, x2=right, y1=y(tick), y2=y(tick))]
        parts += [tag("text", milliseconds(tick), class_="tick", x=left - 8, y=y(tick) + 4, text_anchor="end")]
    return parts


def _stretches(rows: Rows) -> list[Rows]:
    """Rows without a gap in time between them."""
    found: list[Rows] = []
    for row in rows:
        if not found or _number(row[0]) - _number(found[-1][-1][0]) > LONGEST_STEP_S:
            found.append([])
        found[-1].append(row)
    return found


def _described(metric: Metric) -> str:
    medians = [_number(row[1]) for row in metric.rows if row[1]]
    peak = max((_number(row[3]) for row in metric.rows), default=0.0)
    if not medians:
        return f"{metric.title}: nothing measured"
    low, high = milliseconds(min(medians)), milliseconds(max(medians))
    return f"{metric.title}: median between {low} and {high} in each second, maximum {milliseconds(peak)}"


def _tooltip(metric: Metric, frame: TimeFrame) -> str:
    """What the page's script shows under the pointer."""
    low, high = frame.ends
    return msgspec.json.encode(
        {
            "low": low,
            "high": high,
            "left": LEFT / WIDTH,
            "right": RIGHT / WIDTH,
            "columns": ["p50", metric.upper, "max", metric.counted, "failed"],
            "rows": metric.rows,
        }
    ).decode()


def _number(value: float | None) -> float:
    return value or 0.0
