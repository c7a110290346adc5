"""The real sign-up curve: its milestones, its shape, its inverse."""

from __future__ import annotations

import numpy as np
import pytest

from harness.load.signup_curve import HOURS, USERS, pchip, time_share, users_at


def test_milestones_are_met() -> None:
    assert users_at(HOURS).tolist() == pytest.approx(USERS.tolist())


def test_nobody_leaves() -> None:
    assert (np.diff(users_at(np.linspace(0, 102, 20_001))) > 0).all()


@pytest.mark.parametrize(
    ("start_h", "end_h", "per_s"),
    [(0, 1.25, 222), (2, 4, 417), (4, 7, 463), (7, 16, 617), (16, 25, 586), (25, 40, 389), (46, 102, 124)],
)
def test_mean_rates_of_segments(start_h: float, end_h: float, per_s: float) -> None:
    before, after = users_at(np.array([start_h, end_h], dtype=np.float64))
    assert (after - before) / (end_h - start_h) / 3600 == pytest.approx(per_s, rel=0.01)


def test_it_accelerates_for_hours_and_has_no_spike_at_the_start() -> None:
    hours = np.linspace(0, 102, 10_201)
    rates = np.diff(users_at(hours)) / np.diff(hours) / 3600
    assert 7 < hours[rates.argmax()] < 16
    assert 600 < rates.max() < 700
    assert rates[:10].max() < rates.max() / 2


def test_inverse() -> None:
    shares = np.linspace(0, 1, 1001)
    times = time_share(shares)
    assert users_at(times * 102) / 1e8 == pytest.approx(shares, abs=1e-9)
    assert time_share(np.array([0.1, 0.3, 0.7])) * 102 == pytest.approx([7, 16, 40])


def test_pchip_keeps_flat_parts_flat_and_lines_straight() -> None:
    x = np.array([0.0, 1.0, 2.0, 3.0, 4.0])
    flat = pchip(x, np.array([0.0, 1.0, 1.0, 1.0, 2.0]), np.linspace(1, 3, 50))
    assert flat == pytest.approx(np.ones(50))
    line = pchip(x, 3 * x + 1, np.linspace(0, 4, 50))
    assert line == pytest.approx(3 * np.linspace(0, 4, 50) + 1)


def test_pchip_known_value() -> None:
    """Against MATLAB's and SciPy's pchip: knots 0, 1, 3 with values 0, 1, 2."""
    value = pchip(np.array([0.0, 1.0, 3.0]), np.array([0.0, 1.0, 2.0]), np.array([0.5, 2.0]))
    d1 = 9 / (5 / 1 + 4 / 0.5)
    d0 = ((2 + 2) * 1 - 1 * 0.5) / 3
    d2 = ((4 + 1) * 0.5 - 2 * 1) / 3
    at_half = 0.125 * d0 + 0.5 - 0.125 * d1
    at_two = 1.5 + 2 * (d1 - d2) / 8
    assert value.tolist() == pytest.approx([at_half, at_two])
