"""What a dashboard is made of, as data, and its Grafana JSON.

A board has rows, a row has panels, a panel has queries. Queries of one region's data say `$region` (see `REGION`).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from string import ascii_uppercase
from typing import Any

REGION = 'region=~"$region"'
"""the label match of every query"""
TAG = "feedstorm"
SCHEMA_VERSION = 42
_SOURCE = {"type": "prometheus", "uid": "${source}"}
_COLUMNS, _GRAPH_HEIGHT, _NUMBER_HEIGHT = 24, 8, 4
_Json = dict[str, Any]
_METRIC = re.compile(r"\b(?:feed|api|jobs|process|python|haproxy|up)(?:[_:][a-z0-9_:]+)?\b")


@dataclass(frozen=True)
class Panel:
    """One graph or one number."""

    title: str
    about: str
    """what a reader learns from it"""
    queries: Mapping[str, str]
    """legend -> PromQL; "{{label}}" in a legend is the label's value"""
    unit: str = "short"
    """Grafana's name of the unit: s, ops, bytes, percentunit, ..."""
    bound: float | None = None
    """drawn as a line: beyond it the value is bad"""
    below: bool = False
    """the bad side of the bound is below it"""
    number: bool = False
    """a number instead of a graph"""


@dataclass(frozen=True)
class Row:
    """Panels side by side."""

    title: str
    panels: tuple[Panel, ...]


@dataclass(frozen=True)
class Board:
    """One dashboard; `uid` names its file too."""

    uid: str
    title: str
    about: str
    rows: tuple[Row, ...]

    def queries(self) -> Iterator[str]:
        """Every PromQL expression of the board."""
        for row in self.rows:
            for panel in row.panels:
                yield from panel.queries.values()


def quantile(q: float, histogram: str, by: str = "", match: str = "") -> str:
    """The quantile of a histogram over the last minute (the longer of that and four scrapes), by labels if given."""
    wanted = ", ".join(filter(None, [REGION, match]))
    labels = ", ".join(filter(None, ["le", by]))
    rate = f"sum by ({labels}) (rate({histogram}_bucket{{{wanted}}}[$__rate_interval]))"
    return f"histogram_quantile({q:g}, {rate})"


def rate(counter: str, by: str = "", match: str = "") -> str:
    """What a counter gains a second, added up by labels."""
    wanted = ", ".join(filter(None, [REGION, match]))
    return f"sum{f' by ({by}) ' if by else ''}(rate({counter}{{{wanted}}}[$__rate_interval]))"


def metrics_in(expression: str) -> set[str]:
    """Names of the metrics a PromQL expression asks for (recorded ones, which have a colon, included)."""
    without_strings = re.sub(r'"[^"]*"', '""', expression)
    without_labels = re.sub(r"\{[^}]*\}|\b(?:by|without|on|ignoring|group_left)\s*\([^)]*\)", " ", without_strings)
    return set(_METRIC.findall(without_labels))


def to_json(board: Board) -> str:
    """The dashboard as Grafana imports it (its classic JSON model)."""
    document = {
        "uid": board.uid,
        "title": board.title,
        "description": board.about,
        "tags": [TAG],
        "schemaVersion": SCHEMA_VERSION,
        "editable": True,
        "graphTooltip": 1,
        "refresh": "10s",
        "time": {"from": "now-15m", "to": "now"},
        "timezone": "browser",
        "links": [_link()],
        "templating": {"list": [_source_variable(), _region_variable()]},
        "panels": list(_panels(board)),
    }
    return json.dumps(document, indent=1, ensure_ascii=False) + "\n"


def _link() -> _Json:
    """To the other boards, with the same region and time."""
    shown = {"asDropdown": True, "includeVars": True, "keepTime": True}
    return {"type": "dashboards", "title": TAG, "tags": [TAG], "icon": "external link"} | shown


def _source_variable() -> _Json:
    return {"type": "datasource", "name": "source", "label": "Data source", "query": "prometheus"}


def _region_variable() -> _Json:
    return {
        "type": "query",
        "name": "region",
        "label": "Region",
        "datasource": _SOURCE,
        "query": "label_values(feed_loop_lag_seconds_count, region)",
        "refresh": 2,
        "multi": True,
        "includeAll": True,
        "allValue": ".*",
        "current": {"text": "All", "value": "$__all"},
    }


def _panels(board: Board) -> Iterator[_Json]:
    """Rows from top to bottom, each with its panels side by side."""
    y = number = 0
    for row in board.rows:
        number += 1
        place = {"x": 0, "y": y, "w": _COLUMNS, "h": 1}
        yield {"id": number, "type": "row", "title": row.title, "collapsed": False, "panels": [], "gridPos": place}
        y += 1
        width = _COLUMNS // len(row.panels)
        for column, panel in enumerate(row.panels):
            number += 1
            place = {"x": column * width, "y": y, "w": width, "h": _height(panel)}
            yield {"id": number, "gridPos": place} | _panel(panel)
        y += max(_height(panel) for panel in row.panels)


def _height(panel: Panel) -> int:
    return _NUMBER_HEIGHT if panel.number else _GRAPH_HEIGHT


def _panel(panel: Panel) -> _Json:
    defaults: _Json = {"unit": panel.unit} | ({} if panel.number else {"min": 0, "custom": _line(panel)})
    if panel.bound is not None:
        defaults["thresholds"] = _thresholds(panel.bound, panel.below)
    queries = zip(ascii_uppercase, panel.queries.items(), strict=False)
    return {
        "type": "stat" if panel.number else "timeseries",
        "title": panel.title,
        "description": panel.about,
        "datasource": _SOURCE,
        "fieldConfig": {"defaults": defaults, "overrides": []},
        "options": _number_options() if panel.number else _graph_options(),
        "targets": [
            {"refId": reference, "datasource": _SOURCE, "expr": expression, "legendFormat": legend}
            for reference, (legend, expression) in queries
        ],
    }


def _line(panel: Panel) -> _Json:
    line: _Json = {"lineWidth": 1, "fillOpacity": 8}
    return line if panel.bound is None else line | {"thresholdsStyle": {"mode": "dashed"}}


def _graph_options() -> _Json:
    return {
        "legend": {"displayMode": "list", "placement": "bottom", "showLegend": True, "calcs": []},
        "tooltip": {"mode": "multi", "sort": "desc"},
    }


def _number_options() -> _Json:
    return {"reduceOptions": {"calcs": ["lastNotNull"]}, "colorMode": "value", "graphMode": "area"}


def _thresholds(bound: float, below: bool) -> _Json:
    good, bad = ("red", "green") if below else ("green", "red")
    return {"mode": "absolute", "steps": [{"value": None, "color": good}, {"value": bound, "color": bad}]}
