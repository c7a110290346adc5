"""Cheap metrics say the same as prometheus_client's own."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest

from reference_server.observability.tallies import SECONDS, CountMetric, DurationMetric


def text(registry: CollectorRegistry) -> str:
    """Without the moment of creation, which only prometheus_client's own metrics tell."""
    lines = generate_latest(registry).decode().splitlines()
    return "\n".join(line for line in lines if "_created" not in line)


def test_durations_are_those_of_a_histogram() -> None:
    ours, theirs = CollectorRegistry(), CollectorRegistry()
    cheap = DurationMetric("d", "About it", ours)
    histogram = Histogram("d", "About it", buckets=SECONDS, registry=theirs)
    for seconds in (0.0, 0.001, 0.0011, 0.3, 5.0, 5.1, 77.0):
        cheap.add(seconds)
        histogram.observe(seconds)
    assert text(ours) == text(theirs)
    assert 'd_bucket{le="5.0"} 5.0' in text(ours)


def test_counts_are_those_of_a_counter_and_begin_at_zero() -> None:
    ours, theirs = CollectorRegistry(), CollectorRegistry()
    cheap = CountMetric("c", "About it", "kind", ("one", "other"), ours)
    counter = Counter("c", "About it", ["kind"], registry=theirs)
    counter.labels("one").inc(3)
    counter.labels("other")
    cheap.counts["one"] += 3
    assert text(ours) == text(theirs)
    assert 'c_total{kind="other"} 0.0' in text(ours)
