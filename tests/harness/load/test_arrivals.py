"""Schedules: pure, seeded, and of the rate they promise."""

from __future__ import annotations

import numpy as np
import pytest

from harness.core.clock import NS_PER_S
from harness.core.seeds import rng
from harness.load.arrivals import constant, curve, poisson, ramp

MINUTE_NS = 60 * NS_PER_S


@pytest.mark.parametrize(
    ("rate", "start_s", "end_s", "wanted_s"),
    [
        (1, 0, 3, [0, 1, 2]),  # none at the end
        (0.2, -5, 10, [-5, 0, 5]),  # slower than one a second, from before t0
        (3, 0, 1, [0, 1 / 3, 2 / 3]),  # no drift from rounding
        (0, 0, 10, []),
        (5, 2, 2, []),
        (5, 2, 1, []),
    ],
)
def test_constant(rate: float, start_s: int, end_s: int, wanted_s: list[float]) -> None:
    due = constant(rate, start_s * NS_PER_S, end_s * NS_PER_S)
    assert due.tolist() == pytest.approx([s * NS_PER_S for s in wanted_s], abs=1)


def test_constant_keeps_its_interval_for_long() -> None:
    due = constant(40, 0, 1000 * NS_PER_S)
    assert len(due) == 40_000
    assert set(np.diff(due)) == {NS_PER_S // 40}


def test_same_seed_same_schedule() -> None:
    first, again, other = (poisson(rng(seed, "x"), 100, 0, MINUTE_NS) for seed in (1, 1, 2))
    assert first.tolist() == again.tolist()
    assert first.tolist() != other.tolist()


def test_poisson_has_its_rate_and_exponential_gaps() -> None:
    due = poisson(rng(42, "x"), 200, -MINUTE_NS, MINUTE_NS)
    assert due[0] >= -MINUTE_NS
    assert due[-1] < MINUTE_NS
    assert len(due) == pytest.approx(24_000, rel=0.02)
    gaps_s = np.diff(due) / NS_PER_S
    assert (gaps_s >= 0).all()
    assert gaps_s.mean() == pytest.approx(1 / 200, rel=0.02)
    assert gaps_s.std() == pytest.approx(1 / 200, rel=0.05)


@pytest.mark.parametrize(("first", "last"), [(0, 100), (100, 0), (20, 80), (50, 50)])
def test_ramp(first: float, last: float) -> None:
    due = ramp(first, last, 0, 10 * NS_PER_S)
    assert len(due) == (first + last) * 5
    assert (np.diff(due) > 0).all()
    early = np.count_nonzero(due < 5 * NS_PER_S)
    assert early == pytest.approx((first + (first + last) / 2) / 2 * 5, abs=1)


def test_curve_follows_the_inverse() -> None:
    due = curve(lambda share: np.sqrt(share), 100, 0, 10 * NS_PER_S)
    assert len(due) == 100
    assert np.count_nonzero(due < 5 * NS_PER_S) == 25
    assert due.max() < 10 * NS_PER_S
