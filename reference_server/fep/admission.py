"""Which streams may open now: so many a second, and so many at once. The rest is told when to come back.

A token bucket, filled with the rate, holding a second's worth. Everyone refused is given a place behind those refused
before, as if they queued for the same rate: so a storm of reconnects returns spread out, whatever its size.
"""

from __future__ import annotations

import random

LONGEST_RETRY_S = 30
JITTER_S = 2


class Admission:
    """One process's. Times are those of the event loop."""

    def __init__(self, opens_per_s: int, now_s: float) -> None:
        self._per_s = float(opens_per_s)
        self._tokens = float(opens_per_s)
        self._owed = 0.0
        """streams refused that are still to come back"""
        self._seen_s = now_s
        self._jitter = random.Random()

    def set_rate(self, opens_per_s: int) -> None:
        """Change the rate; tokens above the new second's worth are gone."""
        self._per_s = float(opens_per_s)
        self._tokens = min(self._tokens, self._per_s)

    def may_open(self, opening: int, now_s: float) -> bool:
        """Whether one more may open while `opening` are at it; nothing is taken yet."""
        passed = max(0.0, now_s - self._seen_s) * self._per_s
        self._seen_s = now_s
        self._tokens = min(self._per_s, self._tokens + passed)
        self._owed = max(0.0, self._owed - passed)
        return self._tokens >= 1.0 and opening < self._per_s

    def take(self) -> None:
        """One opens."""
        self._tokens -= 1.0

    def retry_after_s(self) -> int:
        """When the one who was just refused should come back: 1 to 30 s."""
        self._owed += 1.0
        wait_s = 1 + int(self._owed / self._per_s) + self._jitter.randint(0, JITTER_S)
        return min(LONGEST_RETRY_S, wait_s)
