"""Quantities as people write them: `10s`, `150ms`, `40/s`, `20_000`, `30%`.

Each parser raises ValueError with what was expected and what was got; callers add the path.
"""

from __future__ import annotations

import re

_DURATION = re.compile(r"^\s*([0-9]+(?:\.[0-9]+)?)\s*(us|ms|s|m|min|h)\s*$")
_RATE = re.compile(r"^\s*([0-9]+(?:\.[0-9]+)?)\s*/\s*(s|min|m|h)\s*$")
_SECONDS = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0}


def parse_duration_s(text: str) -> float:
    """Seconds in "10s", "150ms", "250us", "2m", "1h". Raises ValueError."""
    match = _DURATION.match(text) if isinstance(text, str) else None
    if match is None:
        raise ValueError(f"must be a duration such as 10s, 150ms or 2m, got {text!r}")
    return float(match[1]) * _SECONDS[match[2]]


def parse_rate_per_s(text: str) -> float:
    """Events per second in "40/s", "0.2/s", "12/min". Raises ValueError."""
    match = _RATE.match(text) if isinstance(text, str) else None
    if match is None:
        raise ValueError(f"must be a rate such as 40/s or 12/min, got {text!r}")
    return float(match[1]) / _SECONDS[match[2]]


def format_duration(seconds: float) -> str:
    """A short human form: 0.000250 -> "250 µs", 0.0123 -> "12.3 ms", 75 -> "75.0 s"."""
    if seconds < 1e-3:
        return f"{seconds * 1e6:.0f} µs"
    if seconds < 1:
        return f"{seconds * 1e3:.1f} ms"
    return f"{seconds:.1f} s"
