"""Latency histograms (HdrHistogram, microseconds, three digits), one for each op, region and phase.

Every load process records its own and saves them as a standard HdrHistogram log (`histograms/<process>.hlog`,
tag `op|region|phase`); `merge_histograms` adds them up losslessly into `histograms/merged.json`.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import msgspec
from hdrh.histogram import HdrHistogram
from hdrh.log import HistogramLogReader, HistogramLogWriter

from harness.record.run_directory import RunDirectory

LOWEST_US = 1
HIGHEST_US = 120_000_000
DIGITS = 3
_CURVE = (0, 10, 25, 50, 75, 90, 95, 97.5, 99, 99.5, 99.9, 99.95, 99.99, 100)
_CLAMPED = re.compile(r"^#\[Clamped: (\d+) (.+)\]$")

Key = tuple[str, str, str]


def new_histogram() -> HdrHistogram:
    """An empty histogram of the range used everywhere: 1 µs to 120 s."""
    return HdrHistogram(LOWEST_US, HIGHEST_US, DIGITS)


class Histograms:
    """The histograms of one process."""

    def __init__(self) -> None:
        self._by_key: dict[Key, HdrHistogram] = {}
        self.clamped: Counter[Key] = Counter()

    def record(self, op: str, region: str, phase: str, latency_ns: int) -> None:
        """Count one latency. Beyond the range it is counted at the border, and as clamped."""
        key = (op, region, phase)
        histogram = self._by_key.get(key)
        if histogram is None:
            histogram = self._by_key[key] = new_histogram()
        value = max(LOWEST_US, (latency_ns + 500) // 1000)
        if value > HIGHEST_US:
            value = HIGHEST_US
            self.clamped[key] += 1
        histogram.record_value(value)

    def by_op(self) -> dict[str, HdrHistogram]:
        """One histogram an op, over regions and phases."""
        merged: dict[str, HdrHistogram] = {}
        for (op, _, _), histogram in self._by_key.items():
            merged.setdefault(op, new_histogram()).add(histogram)
        return merged

    def save(self, path: Path) -> None:
        """Write the log of this process."""
        with path.open("w", encoding="utf-8") as file:
            writer = HistogramLogWriter(file)
            writer.output_log_format_version()
            file.write("#[StartTime: 0.000 (seconds since epoch), tags are op|region|phase, values µs]\n")
            for key, count in sorted(self.clamped.items()):
                writer.output_comment(f"[Clamped: {count} {'|'.join(key)}]")
            writer.output_legend()
            for key, histogram in sorted(self._by_key.items()):
                file.write(f"Tag={_tag(key)},")
                writer.output_interval_histogram(histogram)


def _tag(key: Key) -> str:
    """Tags of the log format hold no commas, spaces or line breaks."""
    return "|".join(re.sub(r"[\s,|]", "_", part) for part in key)


def merge_histograms(run: RunDirectory) -> Path:
    """Add up the logs of all processes. Returns the path of merged.json."""
    merged: dict[str, HdrHistogram] = {}
    clamped: Counter[str] = Counter()
    for log in sorted(run.histograms.glob("*.hlog")):
        _add_log(log, merged, clamped)
    out = run.histograms / "merged.json"
    summary = {key: summarise(histogram, clamped[key]) for key, histogram in sorted(merged.items())}
    out.write_bytes(msgspec.json.encode(summary))
    return out


def _add_log(log: Path, merged: dict[str, HdrHistogram], clamped: Counter[str]) -> None:
    for line in log.read_text(encoding="utf-8").splitlines():
        if match := _CLAMPED.match(line):
            clamped[match[2]] += int(match[1])
    reader = HistogramLogReader(str(log), new_histogram())
    try:
        while (histogram := reader.get_next_interval_histogram()) is not None:
            merged.setdefault(histogram.get_tag() or "all", new_histogram()).add(histogram)
    finally:
        reader.close()


def summarise(histogram: HdrHistogram, clamped: int = 0) -> dict[str, Any]:
    """Counts, percentiles and the percentile curve of one histogram, milliseconds."""
    return {
        "count": histogram.get_total_count(),
        "clamped": clamped,
        "p50_ms": percentile_ms(histogram, 50),
        "p90_ms": percentile_ms(histogram, 90),
        "p95_ms": percentile_ms(histogram, 95),
        "p99_ms": percentile_ms(histogram, 99),
        "p999_ms": percentile_ms(histogram, 99.9),
        "max_ms": histogram.get_max_value() / 1000,
        "curve": curve_ms(histogram),
    }


def percentile_ms(histogram: HdrHistogram, percentile: float) -> float:
    """One percentile in milliseconds; 0 when nothing was recorded."""
    return float(histogram.get_value_at_percentile(percentile)) / 1000 if histogram.get_total_count() else 0.0


def curve_ms(histogram: HdrHistogram, percentiles: Iterable[float] = _CURVE) -> list[tuple[float, float]]:
    """[(percentile, milliseconds), ...] for a percentile plot; empty when nothing was recorded."""
    if not histogram.get_total_count():
        return []
    return [(float(p), percentile_ms(histogram, p)) for p in percentiles]
