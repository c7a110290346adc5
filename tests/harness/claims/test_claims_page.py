"""Figures of claims in words: every one has a unit that people read."""

from __future__ import annotations

import pytest

from harness.claims.page import bound_text, value_text
from harness.claims.readings import Read


@pytest.mark.parametrize(
    ("value", "unit", "bound", "told"),
    [
        (21.44, "ms", "<= 50", ("21.4 ms", "<= 50")),
        (4312.0, "looked at", "", ("4,312 looked at", "")),
        (0.9871, "share", ">= 0.987", ("98.7 %", ">= 98.7 %")),
        (1.0, "share", ">= 0.987", ("100 %", ">= 98.7 %")),
        (0.999991, "share", ">= 0.99999", ("99.9991 %", ">= 99.999 %")),
        (0.00001, "share", "<= 0.001%", ("0.001 %", "<= 0.001%")),
        (None, "share", "0.1 .. 0.2", ("-", "10 % .. 20 %")),
    ],
)
def test_a_figure_and_its_bound_are_told_in_one_unit(
    value: float | None, unit: str, bound: str, told: tuple[str, str]
) -> None:
    figure = Read(label="x", value=value, unit=unit, bound=bound)
    assert (value_text(figure), bound_text(figure)) == told
