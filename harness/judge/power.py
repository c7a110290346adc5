"""What clean observations prove: the rule of three. Pure.

When none of n independent observations shows a failure, its share is below 3 / n with 95 % confidence: the chance of n
clean ones is (1 - 3 / n) ** n < e ** -3 < 0.05. (Hanley, Lippman-Hand: If nothing goes wrong, is everything all right?
JAMA 249, 1983.)
"""

from __future__ import annotations

import math


def bound_reached(clean: int) -> float:
    """The share of failures that `clean` observations without any rule out, 0..1; 1: none."""
    return min(1.0, 3 / clean) if clean else 1.0


def needed_for(share: float) -> int:
    """How many clean observations it takes to rule out that share of failures."""
    return math.ceil(round(3 / share, 6)) if share > 0 else 0


def power_text(clean: int) -> str:
    """What clean observations say about all others."""
    return f"at 95 % confidence fewer than {percent(bound_reached(clean))} % would show one"


def percent(share: float) -> str:
    """A small share in per cent, two digits, rounded up so that it still holds."""
    if share <= 0:
        return "0"
    value = 100 * share
    digits = max(0, 1 - math.floor(math.log10(value)))
    return f"{math.ceil(round(value * 10**digits, 6)) / 10**digits:.{digits}f}"
