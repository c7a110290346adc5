"""report.html: one file, no network. Everything is drawn here; the page's script only adds a read-out to the charts."""

from __future__ import annotations

import base64
import hashlib
import re
import shlex
from collections.abc import Sequence
from typing import Any

import msgspec
from markupsafe import Markup

from harness.core.verdict import CheckKind, Outcome
from harness.judge.staleness import StalenessCurve
from harness.report.charts import Bound, Metric, TimeFrame, percentile_chart, time_chart
from harness.report.layout import TEMPLATES, environment, style, tallied
from harness.report.run_data import Curve, PhaseWindow, Rows, RunData
from harness.report.scales import milliseconds
from harness.report.staleness_chart import PERIOD_COLOURS, StalenessPanel, staleness_panels
from harness.report.wording import counted, failing_first, headline, machine_sentences, number, split_name

KIND_TITLES = {
    CheckKind.STOP: "Stop conditions",
    CheckKind.SLO: "Service levels",
    CheckKind.INVARIANT: "Invariants",
    CheckKind.RECOVERY: "Recovery",
    CheckKind.WITNESS: "Faults took effect",
    CheckKind.GENERATOR: "Load generator",
    CheckKind.BASELINE: "Against the baseline",
}
METRIC_TITLES = {
    "post_to_event": ("Post to event", "From the due time of a post to its event on a follower's stream.", "events"),
    "feed_read": ("Feed reads", "From the due time of a read to its last byte.", "reads"),
    "signup": ("Sign-ups", "From the due time of a sign-up to its answer.", "sign-ups"),
    "post_accept": ("Posting", "From the due time of a post to its acknowledgement.", "posts"),
}
PHASE_COLOURS = {"baseline": "c0", "fault": "c1", "recovered": "c2"}
_AGGREGATION = re.compile(r"(p\(\s*[0-9.]+\s*\)|med|avg|max)\s*<")


class Panel(msgspec.Struct):
    """One chart with its heading."""

    title: str
    chart: Markup


class Section(msgspec.Struct):
    """Charts of one metric."""

    id: str
    title: str
    about: str
    upper: str
    failures: bool
    panels: list[Panel]


class Legend(msgspec.Struct):
    """A name with its colour class."""

    name: str
    colour: str


class Curves(msgspec.Struct):
    """Percentile charts that share their phases."""

    legend: list[Legend]
    panels: list[Panel]


class Staleness(msgspec.Struct):
    """Staleness charts that share their stretches of time."""

    legend: list[Legend]
    panels: list[StalenessPanel]


def render(data: RunData) -> str:
    """The page."""
    script = (TEMPLATES / "report.js").read_text(encoding="utf-8")
    frame = TimeFrame(data.phases, data.faults)
    checks = failing_first(data.verdict.checks)
    return (
        environment()
        .get_template("report.html.j2")
        .render(
            run=data,
            verdict=data.verdict,
            outcome=data.verdict.verdict,
            title=data.verdict.scenario,
            brand=data.name,
            headline=headline(data.verdict),
            about=data.about,
            versions=data.manifest.versions,
            tally=tallied(counted(data.verdict.checks)),
            facts=_facts(data),
            troubles=[c for c in checks if c.verdict != Outcome.PASS and not c.skipped],
            groups=[(title, [c for c in checks if c.kind == kind]) for kind, title in KIND_TITLES.items()],
            sections=_sections(data, frame),
            curves=_curves(data.percentiles, data.phases),
            staleness=_staleness(data.staleness),
            op_curves=_curves({k: c.curve for k, c in data.histograms.items()}, data.phases),
            histograms=_histogram_rows(data.histograms),
            machine_words=machine_sentences(data.verdict),
            machine_chart=_machine_chart(data, frame),
            counts=_flat(data.verdict.counts),
            commands=_commands(data),
            style=style(),
            script=Markup(script),
            script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        )
    )


def _facts(data: RunData) -> list[tuple[str, str]]:
    made = data.manifest
    facts = [
        ("Target", made.target),
        ("Seed", str(data.verdict.seed)),
        ("Started", made.started_text),
        ("Length", f"{data.length_s:.0f} s" if data.phases else ""),
        ("Machine", made.machine_text),
        ("Commit", made.commit),
        ("Planted defects", ", ".join(made.defects)),
    ]
    return [(name, value) for name, value in facts if value]


def _sections(data: RunData, frame: TimeFrame) -> list[Section]:
    sections = []
    for name, series in data.per_second.items():
        title, about, events = METRIC_TITLES.get(name, (name.replace("_", " ").capitalize(), "", "ops"))
        upper = "p95" if name == "post_to_event" else "p99"
        panels = []
        ends = _extent(series)
        for key, rows in sorted(series.items(), key=lambda item: item[0].split("|")[::-1]):
            full = " · ".join(key.split("|"))
            metric = Metric(f"{title}, {full}", rows, upper, events, _bounds(data, name, key.split("|")), ends)
            panels.append(Panel(full, time_chart(metric, frame)))
        failures = any(len(row) > 5 and row[5] for rows in series.values() for row in rows)
        if panels:
            sections.append(Section(name, title, about, upper, failures, panels))
    return sections


def _machine_chart(data: RunData, frame: TimeFrame) -> Markup:
    """What the machine alone took over time; empty when it was not measured."""
    begin, end = frame.ends
    rows = [row for row in data.machine if row[0] is not None and begin <= row[0] < end]
    return time_chart(Metric("The machine alone", rows, "p99", "echoes"), frame) if rows else Markup()


def _extent(series: dict[str, Rows]) -> list[float]:
    """Smallest and largest latency of all series: their charts share an axis."""
    values = [value for rows in series.values() for row in rows for value in row[1:4] if value]
    return [min(values), max(values)] if values else []


def _bounds(data: RunData, metric: str, key: Sequence[str]) -> list[Bound]:
    """Thresholds in milliseconds that hold for a series, or in a phase of it: same metric, no selector excludes it."""
    found: dict[tuple[str, str], Bound] = {}
    for check in data.verdict.checks:
        name, selector, expression = split_name(check)
        aggregation = _AGGREGATION.search(expression or name)
        factor = {"ms": 1.0, "s": 1000.0}.get(check.unit)
        if not name.startswith(metric) or aggregation is None or factor is None or check.bound is None:
            continue
        selected = dict(pair.partition(":")[::2] for pair in selector.strip("{}").replace(" ", "").split(",") if pair)
        if selected.get("author") == "celebrity":
            continue
        if any(selected.get(tag, value) not in key for tag, value in zip(("region", "scope"), key, strict=False)):
            continue
        label = f"{aggregation[1].replace(' ', '')} ≤ {milliseconds(check.bound * factor)}"
        phase = check.phase if "phase" in selected else ""
        found[label, phase] = Bound(label, check.bound * factor, phase)
    return [bound for (label, phase), bound in found.items() if not phase or (label, "") not in found]


def _curves(percentiles: dict[str, list[tuple[float, float]]], phases: Sequence[PhaseWindow]) -> Curves:
    """Charts of all that has curves, one line a phase."""
    grouped: dict[str, dict[str, list[tuple[float, float]]]] = {}
    for key, curve in percentiles.items():
        what, _, phase = key.rpartition("|")
        if curve and phase != "warmup":
            grouped.setdefault(what, {})[phase] = curve
    order = [p.name for p in phases]
    names = sorted({n for c in grouped.values() for n in c}, key=lambda n: order.index(n) if n in order else len(order))
    colour = _phase_colours(names, phases)
    panels = []
    for what, found in sorted(grouped.items()):
        shown = {name: found[name] for name in names if name in found}
        title = " · ".join(what.split("|"))
        panels.append(Panel(title, percentile_chart(title, shown, [colour[name] for name in shown])))
    return Curves([Legend(name, colour[name]) for name in names], panels)


def _staleness(curves: Sequence[StalenessCurve]) -> Staleness:
    periods = {curve.period for curve in curves}
    legend = [Legend(period, colour) for period, colour in PERIOD_COLOURS.items() if period in periods]
    return Staleness(legend, staleness_panels(curves))


def _phase_colours(names: Sequence[str], phases: Sequence[PhaseWindow]) -> dict[str, str]:
    kinds = {p.name: p.kind for p in phases}
    colours: dict[str, str] = {}
    for name in names:
        usual = PHASE_COLOURS.get(kinds.get(name, ""), PHASE_COLOURS.get(name, "c3"))
        free = [c for c in (usual, "c3", "c4", "c5", "c0", "c1", "c2") if c not in colours.values()]
        colours[name] = free[0] if free else usual
    return colours


def _histogram_rows(histograms: dict[str, Curve]) -> list[tuple[list[str], Curve]]:
    return [([*key.split("|"), "", ""][:3], curve) for key, curve in sorted(histograms.items()) if curve.count]


def _flat(counts: dict[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """Counts, nested ones with their path."""
    rows: list[tuple[str, str]] = []
    for key, value in counts.items():
        name = f"{prefix}{key}".replace("_", " ")
        if isinstance(value, dict):
            rows += _flat(value, f"{name} · ")
        elif isinstance(value, int | float) and not isinstance(value, bool):
            rows.append((name, number(value)))
        else:
            rows.append((name, str(value)))
    return rows


def _commands(data: RunData) -> list[tuple[str, str]]:
    """What to type to see it again, and what that does."""
    made = data.manifest
    again = ["feedstorm", "run", data.verdict.scenario, "--seed", str(data.verdict.seed)]
    again += ["--target", made.target] if made.target else []
    for defect in made.defects:
        again += ["--defect", defect]
    by_hand = made.command.startswith("feedstorm gameday")
    command = made.command if by_hand or made.command.startswith("feedstorm run") else shlex.join(again)
    if "--seed" not in command:
        command += f" --seed {data.verdict.seed}"
    run = shlex.quote(data.path)
    return [
        (command, "the same load again" if by_hand else "the same ops and the same faults again"),
        (f"feedstorm check {run}", "judge this recording again"),
        (f'feedstorm query {run} "select kind, outcome, count(*) from ops group by all"', "ask its history"),
    ]
