"""Metrics for hot paths: an addition or two when something happens, Prometheus families only when they are asked for.

For one event loop: there are no locks.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Sequence

from prometheus_client import REGISTRY, CollectorRegistry
from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily, Metric

SECONDS = (0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0)
"""upper bounds of the buckets, in s"""


class Durations:
    """How long things took, in buckets of `SECONDS`."""

    def __init__(self) -> None:
        self.counts = [0] * (len(SECONDS) + 1)
        self.sum_s = 0.0

    def add(self, seconds: float) -> None:
        """One of them."""
        self.counts[bisect_left(SECONDS, seconds)] += 1
        self.sum_s += seconds

    def buckets(self) -> list[tuple[str, float]]:
        """(upper bound, how many took no longer), as Prometheus counts."""
        total = 0.0
        buckets = []
        for bound, count in zip((*map(str, SECONDS), "+Inf"), self.counts, strict=True):
            total += count
            buckets.append((bound, total))
        return buckets


class DurationMetric(Durations):
    """A histogram of its own in the metrics."""

    def __init__(self, name: str, about: str, registry: CollectorRegistry = REGISTRY) -> None:
        super().__init__()
        self._name, self._about = name, about
        registry.register(self)

    def collect(self) -> Iterable[Metric]:
        """For prometheus_client."""
        yield HistogramMetricFamily(self._name, self._about, buckets=self.buckets(), sum_value=self.sum_s)


class CountMetric:
    """A counter by the values of one label."""

    def __init__(
        self, name: str, about: str, label: str, values: Sequence[str], registry: CollectorRegistry = REGISTRY
    ) -> None:
        self.counts = dict.fromkeys(values, 0)
        self._name, self._about, self._label = name, about, label
        registry.register(self)

    def collect(self) -> Iterable[Metric]:
        """For prometheus_client."""
        family = CounterMetricFamily(self._name, self._about, labels=[self._label])
        for value, count in self.counts.items():
            family.add_metric([value], count)
        yield family
