from __future__ import annotations

import pytest

from harness.judge.power import bound_reached, needed_for, percent, power_text


@pytest.mark.parametrize(
    ("clean", "share"),
    [(0, 1.0), (2, 1.0), (3, 1.0), (300, 0.01), (300_000, 1e-5)],
)
def test_the_rule_of_three(clean, share):
    assert bound_reached(clean) == pytest.approx(share)
    assert clean < 3 or (1 - bound_reached(clean)) ** clean < 0.05


@pytest.mark.parametrize(("share", "needed"), [(1e-5, 300_000), (0.01, 300), (0.001, 3_000), (0.0, 0)])
def test_five_nines_take_300_000(share, needed):
    assert needed_for(share) == needed


@pytest.mark.parametrize(
    ("share", "text"), [(1e-5, "0.0010"), (3 / 8, "38"), (0.00301, "0.31"), (1.0, "100"), (0, "0")]
)
def test_a_share_is_rounded_up(share, text):
    assert percent(share) == text


def test_what_observations_say():
    assert power_text(300) == "at 95 % confidence fewer than 1.0 % would show one"
