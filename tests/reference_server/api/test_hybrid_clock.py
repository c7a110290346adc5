from __future__ import annotations

import pytest

from reference_server.api import hybrid_clock
from reference_server.api.hybrid_clock import HybridClock
from reference_server.queue.clocks import clock_above

NOW_US = 1_700_000_000_000_000


@pytest.fixture
def wall(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The wall clock, as a list of one."""
    now = [NOW_US]
    monkeypatch.setattr(hybrid_clock, "now_us", lambda: now[0])
    return now


def test_it_rises_whatever_the_wall_clock_does(wall: list[int]) -> None:
    clock = HybridClock(3)
    times = []
    for step_us in (0, 0, -500_000, 7, 1_000_000):
        wall[0] += step_us
        times.append(clock.next())
    assert times == sorted(set(times))
    assert {time & 0xFF for time in times} == {3}


def test_it_is_later_than_what_it_has_heard_of(wall: list[int]) -> None:
    behind, ahead = HybridClock(0), (NOW_US + 500_000) << 8 | 1
    behind.update(ahead)
    assert ahead < behind.next() < ahead + (10 << 8)
    behind.update(5 << 8)
    assert behind.next() > ahead


def test_a_lead_or_what_is_only_compared_does_not_move_it(wall: list[int]) -> None:
    clock, far = HybridClock(1), (NOW_US + 600_000_000) << 8
    assert clock.next(600_000_000) >> 8 == NOW_US + 600_000_000
    assert clock.next_above(far) == clock_above(far, 1) > far
    assert clock.next_above(5) >> 8 < NOW_US + 100
    assert clock.next() >> 8 < NOW_US + 100
