"""Quantities as people write them: `10s`, `150ms`, `40/s`, `512MiB`, `20_000`, `30%`.

Each parser raises ValueError with what was expected and what was got; callers add the path.
"""

from __future__ import annotations

import re

_DURATION = re.compile(r"^\s*([0-9]+(?:\.[0-9]+)?)\s*(us|ms|s|m|min|h)\s*$")
_RATE = re.compile(r"^\s*([0-9]+(?:\.[0-9]+)?)\s*/\s*(s|min|m|h)\s*$")
_SIZE = re.compile(r"^\s*([0-9]+(?:\.[0-9]+)?)\s*(B|kB|MB|GB|KiB|MiB|GiB)\s*$")
_SECONDS = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0}
_BYTES = {"B": 1, "kB": 10**3, "MB": 10**6, "GB": 10**9, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30}


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


def parse_size_bytes(text: str) -> int:
    """Bytes in "512MiB", "1.5GiB" (powers of 1024), "64kB", "20MB" (powers of 1000), "100B". Raises ValueError."""
    match = _SIZE.match(text) if isinstance(text, str) else None
    if match is None:
        raise ValueError(f"must be a size such as 512MiB, 2GiB or 64kB, got {text!r}")
    return round(float(match[1]) * _BYTES[match[2]])


def format_size(size_bytes: int) -> str:
    """A short human form: 4096 -> "4.0 KiB", 1.5 * 2**30 -> "1.5 GiB"."""
    for unit in ("GiB", "MiB", "KiB"):
        if size_bytes >= _BYTES[unit]:
            return f"{size_bytes / _BYTES[unit]:.1f} {unit}"
    return f"{size_bytes} B"


def format_duration(seconds: float) -> str:
    """A short human form: 0.000250 -> "250 µs", 0.0123 -> "12.3 ms", 75 -> "75.0 s"."""
    if seconds < 1e-3:
        return f"{seconds * 1e6:.0f} µs"
    if seconds < 1:
        return f"{seconds * 1e3:.1f} ms"
    return f"{seconds:.1f} s"
