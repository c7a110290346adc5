"""Series for the report: latency over time, a row a second, exact percentile curves, and the staleness curve.

Written as series.json.
"""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import msgspec

from harness.core.clock import NS_PER_S
from harness.judge.case import Case, Fault
from harness.judge.staleness import staleness
from harness.judge.trial import Trial

CURVE = (0, 10, 25, 50, 75, 90, 95, 99, 99.5, 99.9, 99.99, 100)
DEFAULT_COLOUR = "#7f7f7f"

# metric -> (columns that make the key, the second quantile shown)
_SHOWN = {
    "post_to_event": ("region || '|' || scope", 0.95),
    "feed_read": ("region", 0.99),
    "post_accept": ("region", 0.99),
    "signup": ("region", 0.99),
}
_PER_SECOND = """
SELECT {key}, (due_ns - $t0) // 1000000000, quantile_disc(value_ns, 0.5) FILTER (ok) / 1e6,
       quantile_disc(value_ns, {high}) FILTER (ok) / 1e6, max(value_ns) FILTER (ok) / 1e6, count(*),
       count(*) FILTER (NOT ok)
FROM sample WHERE metric = $metric AND due_ns >= $from AND due_ns < $until GROUP BY 1, 2 ORDER BY 1, 2
"""
_CURVES = """
SELECT concat_ws('|', metric, nullif(scope, ''), nullif(author, ''), phase), quantile_disc(value_ns, {quantiles})
FROM sample WHERE ok AND phase <> '' AND metric IN (SELECT unnest($metrics))
GROUP BY metric, scope, author, phase ORDER BY 1
"""


def write_series(trial: Trial) -> None:
    """Write series.json of the run."""
    trial.case.run.series.write_bytes(msgspec.json.encode(make_series(trial)))


def make_series(trial: Trial) -> dict[str, Any]:
    """The document: times in seconds from t0, values in milliseconds."""
    case = trial.case
    return {
        "t0_ns": case.t0_ns,
        "per_second": {metric: _per_second(trial, metric) for metric in _SHOWN},
        "phases": phases_in_seconds(case),
        "faults": [_fault(case, f) for f in case.faults if f.injected_ns is not None],
        "percentiles": _curves(trial),
        "staleness": staleness(trial),
    }


def phases_in_seconds(case: Case) -> list[dict[str, Any]]:
    """The phases with times in seconds from t0."""
    return [
        {
            "name": p.name,
            "kind": p.kind,
            "start_s": (p.start_ns - case.t0_ns) / NS_PER_S,
            "end_s": (p.end_ns - case.t0_ns) / NS_PER_S,
            "faults": p.faults,
        }
        for p in case.phases
    ]


def _per_second(trial: Trial, metric: str) -> dict[str, list[list[float | None]]]:
    key, high = _SHOWN[metric]
    case = trial.case
    first = case.phases[0].start_ns if case.phases else 0
    rows = trial.rows(
        _PER_SECOND.format(key=key, high=high), metric=metric, t0=case.t0_ns, **{"from": first, "until": case.end_ns}
    )
    series: dict[str, list[list[float | None]]] = defaultdict(list)
    for name, second, *values in rows:
        shown = values if metric != "post_to_event" else values[:-1]
        series[name].append([second, *(round(v, 3) if v is not None else None for v in shown)])
    return dict(series)


def _curves(trial: Trial) -> dict[str, list[list[float]]]:
    sql = _CURVES.format(quantiles=[p / 100 for p in CURVE])
    rows = trial.rows(sql, metrics=[*_SHOWN, "post_to_rendered", "cross_region"])
    return {name: [[p, round(v / 1e6, 3)] for p, v in zip(CURVE, values, strict=True)] for name, values in rows}


def _fault(case: Case, fault: Fault) -> dict[str, Any]:
    end = case.end_ns if fault.undone_ns is None else fault.undone_ns
    return {
        "id": fault.id,
        "kind": fault.kind,
        "handle": fault.handle,
        "start_s": ((fault.injected_ns or 0) - case.t0_ns) / NS_PER_S,
        "end_s": (end - case.t0_ns) / NS_PER_S,
        "colour": fault.colour or DEFAULT_COLOUR,
    }
