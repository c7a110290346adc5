"""Histograms and counters of the target's own /metrics, between two scrapes. Pure.

What happened in a phase is the difference of the counters at its end and its start, summed over the target's processes
(series) and regions; a counter that fell was reset by a restart and counts from 0. A quantile is interpolated
linearly within its bucket, as Prometheus' histogram_quantile does; the last, unbounded bucket answers infinity.
"""

from __future__ import annotations

import math
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from harness.judge.case import Scrape

_LINE = re.compile(r"^([A-Za-z_:][A-Za-z0-9_:]*)(?:\{(.*)\})?\s+(\S+)")
_LABEL = re.compile(r'([A-Za-z_][A-Za-z0-9_]*)="((?:[^"\\]|\\.)*)"')
Labels = tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Distribution:
    """A histogram over some time: cumulative count by upper bound, ascending, the last bound infinite."""

    buckets: tuple[tuple[float, float], ...]
    total: float

    @property
    def count(self) -> float:
        """Number of observations."""
        return self.buckets[-1][1] if self.buckets else 0.0

    def quantile(self, q: float) -> float:
        """The q-quantile (0 <= q <= 1), in the histogram's own unit; NaN without observations."""
        if not self.count:
            return math.nan
        rank, lower, below = q * self.count, 0.0, 0.0
        for upper, cumulative in self.buckets:
            if cumulative >= rank and cumulative > below:
                if math.isinf(upper):
                    return math.inf
                return lower + (upper - lower) * max(0.0, rank - below) / (cumulative - below)
            lower, below = upper, cumulative
        return math.inf


def parse(text: str) -> Iterator[tuple[str, Labels, float]]:
    """(name, sorted labels, value) of each sample in Prometheus' text format; lines that are none are passed over."""
    for line in text.splitlines():
        match = None if line.startswith("#") else _LINE.match(line)
        if match is None:
            continue
        try:
            value = float(match[3])
        except ValueError:
            continue
        yield match[1], tuple(sorted(_LABEL.findall(match[2] or ""))), value


def distribution(
    scrapes: Iterable[Scrape], name: str, phase: str, region: str, labels: Mapping[str, str]
) -> Distribution | None:
    """What histogram `name` saw in a phase; `region` "" = all. None when no region has both scrapes with it.

    A counter or gauge of that name answers a distribution without buckets, `total` being its difference.
    """
    texts: dict[tuple[str, str], str] = {}
    for s in scrapes:
        if s.phase == phase and region in ("", s.region) and s.text:
            texts[s.region, s.at] = s.text
    buckets: defaultdict[float, float] = defaultdict(float)
    total, found = 0.0, False
    for where in {r for r, _ in texts}:
        if (where, "start") not in texts or (where, "end") not in texts:
            continue
        before = {(n, ls): v for n, ls, v in parse(texts[where, "start"])}
        for series, tags, value in parse(texts[where, "end"]):
            if not series.startswith(name) or not _matches(tags, labels):
                continue
            rise = value - before.get((series, tags), 0.0)
            rise = value if rise < 0 else rise
            if series == f"{name}_bucket":
                buckets[float(dict(tags)["le"])] += rise
                found = True
            elif series in (f"{name}_sum", name, f"{name}_total"):
                total, found = total + rise, True
    return Distribution(tuple(sorted(buckets.items())), total) if found else None


def shown_by(scrapes: Iterable[Scrape], name: str) -> bool:
    """Whether any scrape has a series of that metric."""
    return any(series.startswith(name) for scrape in scrapes for series, _, _ in parse(scrape.text))


def _matches(tags: Labels, wanted: Mapping[str, str]) -> bool:
    have = dict(tags)
    return all(have.get(k) == v for k, v in wanted.items())
