"""The table [listeners] of a scenario: how those who keep a stream open read, vanish, and come back. Pure.

How many there are is `population.listeners`; how long they wait before they come back, `population.reconnect_jitter`.
Times count from the first phase.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Any

import msgspec

from harness.core.units import parse_duration_s, parse_rate_per_s
from harness.core.values import Parser, flag, list_of, positive_duration, whole


class Habit(StrEnum):
    """What one listener does differently from the others."""

    HTTP2 = "http2"
    """its stream comes over HTTP/2 and TLS, through its region's edge"""
    SLOW = "slow"
    """reads so many bytes a second and no more"""
    STALLED = "stalled"
    """reads nothing; its connection stays open"""
    HALF_OPEN = "half-open"
    """vanishes once, without a word to the server, and comes back on another connection"""


LATE_READERS = (Habit.SLOW, Habit.STALLED)
"""whose events may be late by their own doing"""


class Listening(msgspec.Struct, kw_only=True, frozen=True):
    """How listeners behave."""

    slow_ratio: float = 0.0
    slow_bytes_per_s: float = 100.0
    stalled_ratio: float = 0.0
    half_open_ratio: float = 0.0
    from_s: float = 0.0
    until_s: float | None = None
    """slow and stalled listeners are so from `from_s` until then, half-open ones vanish in between; None: the end"""
    disconnect_at_s: tuple[float, ...] = ()
    """when listeners close their connections, all at once"""
    disconnect_ratio: float = 1.0
    """how many of them do"""
    http2: int = 0
    """listeners over HTTP/2"""
    open_per_s: float = 2000.0
    """streams opened a second before the run, over all engines"""
    honour_retry: bool | None = None
    """whether a listener waits at least as long as the server's `retry:` says; None: only when there is no jitter"""
    backoff_s: float = 1.0
    """wait after a failed attempt; twice as long after each further one, a random half to all of it"""
    backoff_cap_s: float = 2.0
    resume: bool = True
    """listeners send Last-Event-ID"""


def _ratio(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
        raise ValueError(f"must be a number from 0 to 1, got {value!r}")
    return float(value)


def _positive_rate(value: Any) -> float:
    rate = parse_rate_per_s(value)
    if rate <= 0:
        raise ValueError(f"must be more than 0, got {value!r}")
    return rate


# key in the file -> (field of the struct, parser)
LISTENERS: dict[str, tuple[str, Parser]] = {
    "slow": ("slow_ratio", _ratio),
    "slow_bytes": ("slow_bytes_per_s", _positive_rate),
    "stalled": ("stalled_ratio", _ratio),
    "half_open": ("half_open_ratio", _ratio),
    "from": ("from_s", parse_duration_s),
    "until": ("until_s", positive_duration),
    "disconnect_at": ("disconnect_at_s", list_of(parse_duration_s)),
    "disconnect": ("disconnect_ratio", _ratio),
    "http2": ("http2", whole(0)),
    "open": ("open_per_s", _positive_rate),
    "honour_retry": ("honour_retry", flag),
    "backoff": ("backoff_s", positive_duration),
    "backoff_cap": ("backoff_cap_s", positive_duration),
    "resume": ("resume", flag),
}


def listening_problems(listening: Listening, *, listeners: int, duration_s: float) -> list[str]:
    """What the table asks for that this population, or the phases, cannot give: each with its path."""
    problems = []
    if not listeners and listening != Listening():
        problems.append("listeners: needs population.listeners")
    if listening.http2 > listeners > 0:
        problems.append(f"listeners.http2: must be <= population.listeners ({listeners}), got {listening.http2}")
    shares = listening.slow_ratio + listening.stalled_ratio + listening.half_open_ratio
    others = max(0.0, 1 - listening.http2 / listeners) if listeners else 1.0
    if shares > others + 1e-9:
        problems.append(f"listeners.slow, stalled and half_open together: must be <= {others:g}, got {shares:g}")
    if listening.until_s is not None and listening.until_s <= listening.from_s:
        problems.append(f"listeners.until: must be later than listeners.from ({listening.from_s:g}s)")
    late = {"from": listening.from_s, "until": listening.until_s or 0.0}
    late |= {f"disconnect_at[{i}]": at_s for i, at_s in enumerate(listening.disconnect_at_s)}
    problems += [
        f"listeners.{key}: must be within the phases ({duration_s:g}s)"
        for key, at_s in late.items()
        if at_s > duration_s
    ]
    if listening.backoff_cap_s < listening.backoff_s:
        problems.append(f"listeners.backoff_cap: must be >= listeners.backoff ({listening.backoff_s:g}s)")
    return problems
