"""How late the timers of a loop were: also when one was later than can be told."""

from __future__ import annotations

from harness.load.lateness import Lateness


def test_every_timer_counts_however_late_it_was() -> None:
    found = Lateness()
    for late_ns in (-5, 0, 3_000_000, 500 * 1_000_000_000):
        found.add(late_ns)
    assert found.p99_ms == found.max_ms
    assert 119_000 <= found.max_ms <= 121_000
