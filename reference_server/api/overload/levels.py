"""How much is left out under pressure: levels 0 (nothing) to 3. Pure; the caller brings the clock.

Pressure is the share of requests above the optional ones that had to be refused, or, where nothing is limited, how
late the event loop is; smoothed over a second. A level is entered when pressure passes its bound, and left when
pressure has been below a quarter of the bound, and the level has held for a while. That while is a second when the
process has idle time, so that all is normal a few seconds after the load ends. When it is busy, leaving a level may
bring the pressure back: then the while begins with two seconds, and doubles up to 16 s each time that happened.
"""

from __future__ import annotations

import math

BOUNDS = (0.02, 0.15, 0.4)
"""pressure from which level 1, 2, 3 holds"""
BELOW = 0.25
SMOOTHING_S = 1.0
CALM_HOLD_S, FIRST_HOLD_S, LONGEST_HOLD_S = 1.0, 2.0, 16.0
CALM_BUSY_RATIO = 0.6
RELAPSE_S = 10.0


class Levels:
    """The level now."""

    def __init__(self, now_s: float) -> None:
        self.level = 0
        self.pressure = 0.0
        self._updated_s = self._since_s = now_s
        self._left_s = -math.inf
        self._hold_s = FIRST_HOLD_S

    def update(self, sample: float, busy_ratio: float, now_s: float) -> None:
        """Take in the pressure of the time since the last call, and how busy the process was."""
        weight = 1.0 - math.exp((self._updated_s - now_s) / SMOOTHING_S)
        self._updated_s = now_s
        self.pressure += weight * (sample - self.pressure)
        if self.level < len(BOUNDS) and self.pressure >= BOUNDS[self.level]:
            self._rise(now_s)
        elif self.level and self.pressure < BELOW * BOUNDS[self.level - 1]:
            hold_s = CALM_HOLD_S if busy_ratio < CALM_BUSY_RATIO else self._hold_s
            if now_s - self._since_s >= hold_s:
                self.level, self._since_s, self._left_s = self.level - 1, now_s, now_s

    def reset(self, now_s: float) -> None:
        """Back to level 0 (degradation was switched off)."""
        self.level, self.pressure, self._since_s = 0, 0.0, now_s

    def _rise(self, now_s: float) -> None:
        relapsed = now_s - self._left_s < RELAPSE_S
        self._hold_s = min(LONGEST_HOLD_S, 2 * self._hold_s) if relapsed else FIRST_HOLD_S
        self.level, self._since_s, self._left_s = self.level + 1, now_s, -math.inf
