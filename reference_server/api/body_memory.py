"""Posts at hand in this process, so that a page need not fetch what the one before it fetched.

Two generations of PERIOD_S: what is read goes to the new one, which becomes the old one, which is dropped. So a value
is believed for two periods at most, and a post that disappears through another process is gone from here that much
later; what disappears through this one is gone at once. Bounded: a generation that is full is ended early.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

PERIOD_S = 0.5
LIMIT_BYTES = 64 << 20
GONE_KEPT = 50_000
NOTED_ONE_IN = 4
"""takes whose posts count as in use: what many ask for is among them, and the rest is not worth reading again"""
_OVERHEAD_BYTES = 150
"""of an entry: key, value's head, place in the dict"""


class BodyMemory:
    """Values by post id: JSON, or a tombstone."""

    def __init__(self, limit_bytes: int = LIMIT_BYTES) -> None:
        self._new: dict[bytes, bytes] = {}
        self._old: dict[bytes, bytes] = {}
        self._new_bytes = self._old_bytes = 0
        self._limit_bytes = limit_bytes
        self._since_s = 0.0
        """when the new generation began"""
        self._used: list[Sequence[bytes]] = []
        self._takes = 0
        self._gone: dict[bytes, bytes] = {}
        """tombstones of posts deleted here: they stay, whatever others still say"""
        self.changes = 0
        """how many times something was put here that an older reading must not replace"""

    def take(self, ids: Sequence[bytes], now_s: float) -> list[bytes | None]:
        """What is believed of these posts, in order; None: nothing."""
        if now_s > self._since_s + PERIOD_S:
            self.turn(now_s)
        if not self._takes % NOTED_ONE_IN:
            self._used.append(ids)
        self._takes += 1
        values: list[bytes | None] = list(map(self._new.get, ids))
        if not all(values):  # no value is empty
            old = self._old
            return [value or old.get(post_id) for post_id, value in zip(ids, values, strict=True)]
        return values

    def turn(self, now_s: float) -> None:
        """Begin a generation."""
        is_late = now_s > self._since_s + 2 * PERIOD_S
        self._old, self._new = ({} if is_late else self._new), {}
        self._old_bytes, self._new_bytes = (0 if is_late else self._new_bytes), 0
        self._since_s = now_s

    @property
    def size_bytes(self) -> int:
        """Roughly what all this takes."""
        return self._new_bytes + self._old_bytes

    def aging(self) -> list[bytes]:
        """What was used since the last call, and is of the old generation only."""
        used: set[bytes] = set().union(*self._used)
        self._used.clear()
        return [post_id for post_id in used if post_id in self._old and post_id not in self._new]

    def keep(self, values: Mapping[bytes, bytes], asked_s: float) -> None:
        """Remember what was asked for at that moment."""
        gone = self._gone
        if gone and not gone.keys().isdisjoint(values):
            values = {post_id: gone.get(post_id, value) for post_id, value in values.items()}
        if asked_s < self._since_s:
            self._old.update(
                (post_id, value) for post_id, value in values.items() if asked_s > self._since_s - PERIOD_S
            )
            return
        self._new.update(values)
        self._new_bytes += sum(map(len, values.values())) + _OVERHEAD_BYTES * len(values)
        if self._new_bytes > self._limit_bytes // 2:
            self.turn(asked_s)

    def change(self, post_id: bytes, value: bytes) -> None:
        """A post became this, here and now."""
        self.changes += 1
        self._new[post_id] = value
        self._new_bytes += len(value) + _OVERHEAD_BYTES

    def bury(self, post_id: bytes, tombstone: bytes) -> None:
        """A post was deleted, for good."""
        self.change(post_id, tombstone)
        self._gone[post_id] = tombstone
        if len(self._gone) > GONE_KEPT:
            del self._gone[next(iter(self._gone))]

    def forget(self, post_ids: Iterable[bytes]) -> None:
        """Posts changed in a way that is not known here."""
        self.changes += 1
        for post_id in post_ids:
            if post_id not in self._gone:
                self._new.pop(post_id, None)
                self._old.pop(post_id, None)
