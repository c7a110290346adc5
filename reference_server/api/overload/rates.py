"""Token buckets, one a key, kept as one number each.

A bucket of rate r that holds `BURST_S` seconds' worth is the same as a clock that runs ahead (the generic cell rate
algorithm, ITU-T I.371): each request advances the key's clock by 1/r, and is refused when that would put it more than
`BURST_S` ahead of now. A clock that lies behind is a full bucket, so forgetting idle keys forgets nothing, and a change
of the rate holds from the next request on.
"""

from __future__ import annotations

from collections import OrderedDict

BURST_S = 5.0


class Rates:
    """The buckets of up to `capacity` keys; the one unused for longest is forgotten (becomes full) first."""

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._clocks: OrderedDict[int, float] = OrderedDict()

    def __len__(self) -> int:
        return len(self._clocks)

    def take(self, key: int, now_s: float, per_s: float) -> float:
        """Take one token: 0.0. None left: the seconds until there is one, and nothing is taken."""
        clocks = self._clocks
        clock = clocks.get(key, 0.0)
        if clock < now_s:
            clock = now_s
        clock += 1.0 / per_s
        wait_s = clock - now_s - BURST_S
        if wait_s > 1e-9:
            return wait_s
        clocks[key] = clock
        clocks.move_to_end(key)
        if len(clocks) > self._capacity:
            clocks.popitem(last=False)
        return 0.0
