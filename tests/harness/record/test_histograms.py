"""Histograms: recorded in microseconds, saved as a standard log, merged without loss."""

from __future__ import annotations

import msgspec
import pytest

from harness.core.clock import NS_PER_MS, NS_PER_S
from harness.record.histograms import HIGHEST_US, Histograms, merge_histograms
from harness.record.run_directory import RunDirectory


def _merged(run: RunDirectory) -> dict[str, dict[str, float]]:
    return dict(msgspec.json.decode(merge_histograms(run).read_bytes()))


def test_processes_add_up(run: RunDirectory) -> None:
    for name, latencies_ms in (("a", range(1, 51)), ("b", range(51, 101))):
        histograms = Histograms()
        for latency in latencies_ms:
            histograms.record("feed", "us-east", "baseline", latency * NS_PER_MS)
        histograms.save(run.histograms / f"{name}.hlog")
    entry = _merged(run)["feed|us-east|baseline"]
    assert entry["count"] == 100
    assert entry["p50_ms"] == pytest.approx(50, rel=0.002)
    assert entry["p99_ms"] == pytest.approx(99, rel=0.002)
    assert entry["max_ms"] == pytest.approx(100, rel=0.002)


def test_keys_stay_apart(run: RunDirectory) -> None:
    histograms = Histograms()
    histograms.record("feed", "us-east", "baseline", NS_PER_MS)
    histograms.record("feed", "us-east", "cache-down", NS_PER_MS)
    histograms.record("post", "ap-tokyo", "baseline", NS_PER_MS)
    histograms.save(run.histograms / "a.hlog")
    assert sorted(_merged(run)) == ["feed|us-east|baseline", "feed|us-east|cache-down", "post|ap-tokyo|baseline"]


def test_out_of_range_is_clamped_and_counted(run: RunDirectory) -> None:
    for name in ("a", "b"):
        histograms = Histograms()
        histograms.record("feed", "us-east", "x", 1000 * NS_PER_S)
        histograms.record("feed", "us-east", "x", 0)
        histograms.save(run.histograms / f"{name}.hlog")
    entry = _merged(run)["feed|us-east|x"]
    assert (entry["count"], entry["clamped"]) == (4, 2)
    assert entry["max_ms"] == pytest.approx(HIGHEST_US / 1000, rel=0.002)


def test_no_logs_merge_to_nothing(run: RunDirectory) -> None:
    assert _merged(run) == {}
