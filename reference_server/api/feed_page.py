"""One page of a feed: own posts merged in, filters, seen ids, what is older than the lane keeps, cursor, bodies.

    cached part of the timeline  ->  all the lane's owner has, down to where that is complete
        ->  durable store from there on, merged with what the lane still has
Works through the timeline in small chunks, so that a page costs what it shows. The cursor is a place in display order
and nothing else, so a walk neither skips nor repeats, wherever its pages come from.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Protocol

import msgspec
import numpy as np

from reference_server.api.bodies import TOMBSTONE, Hydrated
from reference_server.timeline.cached import Slots
from reference_server.timeline.display import Key, Row, TimelineView, newest_first
from reference_server.timeline.entry import STATUS_BITS, Status

_DELETED = int(Status.DELETED)
_SPARE = 6
"""candidates fetched beyond a page, as some may turn out to be deleted"""
_OLDER_COUNT = 200
"""posts asked of the durable store at once"""


class Deeper(Protocol):
    """What is asked of the timeline reader."""

    async def deeper(self, user: int, after: Key | None) -> TimelineView:
        """All that the lane's owner has, or what the durable store has behind the place."""


class Older(Protocol):
    """What is asked of the durable store."""

    @property
    def is_lacking(self) -> bool:
        """See DurableReader."""

    async def older(self, user: int, before: Key, count: int) -> list[Row] | None:
        """The newest `count` posts of the user's feed behind a place, in display order; None: it does not answer."""


class BodySource(Protocol):
    """Where bodies come from."""

    def at_hand(self, ids: Sequence[bytes]) -> list[bytes] | None:
        """See Bodies.at_hand."""

    async def get(self, ids: Sequence[bytes], sure: Collection[bytes] = ()) -> Hydrated:
        """See Bodies.get."""


class Filters(msgspec.Struct, frozen=True):
    """What must not show."""

    user: int
    excluded: frozenset[int] = frozenset()
    """authors"""
    seen: frozenset[bytes] = frozenset()
    labels: int = 0
    """bits of `events.Label`; a user's own posts show whatever their labels"""


@dataclass
class Page:
    """What a read found."""

    keys: list[Key] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)
    """their JSON"""
    more: Key | None = None
    """key of the first item of the next page; None at the end"""
    cursor: Key | None = None
    """behind which the next page begins; None at the end"""
    degraded: bool = False
    """posts may be missing, as a part did not answer"""
    reduced: bool = False
    """left out under pressure: what cold followees owe, or the rest of a long page"""

    @property
    def mark(self) -> str:
        """What Feed-Degraded says; "": nothing."""
        if not (self.degraded or self.reduced):
            return ""
        return ", ".join(word for word, holds in (("stale", self.degraded), ("reduced", self.reduced)) if holds)


class Walk:
    """The places that a page behind `after` may show, newest first."""

    def __init__(
        self,
        view: TimelineView,
        own: Iterable[Key],
        filters: Filters,
        after: Key | None,
        deeper: Deeper,
        older: Older,
        *,
        doubts_own: bool = False,
    ) -> None:
        """`own`: the caller's newest posts, newest first; those that fan-out has not brought yet are merged in.

        `doubts_own`: there are other apis, through which the caller may have deleted a post just now.
        """
        self.doubtful: set[bytes] = set()
        """ids met so far whose bodies must be looked up afresh"""
        self._doubts_own = doubts_own
        self.went_to: set[str] = set()
        """"owner", "durable": where it went on below what is cached"""
        self.is_stale = False
        """a part that was needed did not answer, and another stood in"""
        self.is_broken = False
        """the durable store does not answer: the walk ends early"""
        self._view, self._filters, self._after = view, filters, after
        self._deeper, self._older = deeper, older
        self._own = (mine for mine in own if (after is None or mine < after) and mine[1] not in filters.seen)
        self._pending = next(self._own, None)
        """the newest of the caller's posts that the rows have not come to yet"""
        self._rest: list[Row] = []
        """rows of the timeline below its horizon: others may belong between them"""
        self._reached: Key | None = None
        """the durable store was asked down to this place"""
        self._ended = False
        sure_us = max(view.horizon_us, view.cut_us + 1 if view.cut_us else 0)
        self._chunks = _down_to(newest_first(view.raw, after), sure_us, self._rest)
        self._ready: list[Key] = []
        self._taken = 0

    async def take(self, count: int) -> list[Key]:
        """The next `count` places; fewer at the end."""
        while len(self._ready) - self._taken < count:
            rows = next(self._chunks, None)
            if rows is not None:
                self._ready += self._visible(rows)
            elif not self._ended:
                await self._go_on()
            elif self._pending is not None:
                self._ready += self._visible([(self._pending[1], self._pending[0], self._filters.user, 0)])
            else:
                break
        start, self._taken = self._taken, min(self._taken + count, len(self._ready))
        return self._ready[start : self._taken]

    def _visible(self, rows: list[Row]) -> list[Key]:
        """The places of these rows that may show, and the pending posts between them.

        What a row says of a hidden post may be out of date, as it may show again: its body tells.
        """
        user, excluded, seen = self._filters.user, self._filters.excluded, self._filters.seen
        labels = self._filters.labels << 4
        special = STATUS_BITS | labels
        places = [
            (ts_us, post_id)
            for post_id, ts_us, author, state in rows
            if (not state & special and author not in excluded)
            or (author == user and state & STATUS_BITS != _DELETED)
            or (0 < state & STATUS_BITS < _DELETED and not state & labels and author not in excluded)
        ]
        if self._doubts_own:
            self.doubtful.update([post_id for post_id, _, author, _ in rows if author == user])
        if seen:
            places = [place for place in places if place[1] not in seen]
        if self._pending is not None and rows and self._pending >= (rows[-1][1], rows[-1][0]):
            places += self._not_brought(rows)
            places.sort(reverse=True)
        return places

    def _not_brought(self, rows: list[Row]) -> list[Key]:
        """The caller's posts down to the last of these rows that are not among them."""
        held, last = {row[0] for row in rows}, (rows[-1][1], rows[-1][0])
        missing: list[Key] = []
        while self._pending is not None and self._pending >= last:
            if self._pending[1] not in held:
                missing.append(self._pending)
            self._pending = next(self._own, None)
        if self._doubts_own:
            self.doubtful.update([post_id for _, post_id in missing])
        return missing

    async def _go_on(self) -> None:
        """Find out what follows where the last rows ended."""
        if self._view.cut_us:
            await self._go_deeper()
            return
        before = self._reached or self._end_of_complete()
        found = None
        if before is not None:
            self.went_to.add("durable")
            found = await self._older.older(self._filters.user, before, _OLDER_COUNT)
            self.is_stale |= self._older.is_lacking
        if found is not None and len(found) == _OLDER_COUNT:
            reached = self._reached = found[-1][1], found[-1][0]
            above = [row for row in self._rest if (row[1], row[0]) >= reached]
            self._rest = self._rest[len(above) :]
            self._chunks = iter([_once(above, found)])
            return
        self._ended = True
        self.is_broken = before is not None and found is None
        self._chunks = iter([_once(self._rest, found or [])])

    async def _go_deeper(self) -> None:
        """Go on in all that the owner has, behind what was cached."""
        view = self._view
        place = max(view.horizon_us, view.cut_us + 1), b""
        self._after = place if self._after is None else min(place, self._after)
        self._view = await self._deeper.deeper(self._filters.user, self._after)
        self.went_to.add(self._view.source)
        self.is_stale |= bool(self._view.degraded)
        self._rest = []
        self._chunks = _down_to(newest_first(self._view.raw, self._after), self._view.horizon_us, self._rest)

    def _end_of_complete(self) -> Key | None:
        """Behind this place posts may be missing in the timeline; None: none is."""
        view = self._view
        if view.is_whole:
            return None
        ends: list[Key] = [(view.horizon_us, b"")] if view.horizon_us else []
        if not view.has_all_since_horizon and (last := view.last()) is not None:
            ends.append(last)
        end = max(ends, default=self._after)
        return end if self._after is None or end is None else min(end, self._after)


def _down_to(chunks: Iterator[list[Row]], horizon_us: int, rest: list[Row]) -> Iterator[list[Row]]:
    """The rows that are not older than the horizon; those that are go to `rest`."""
    for rows in chunks:
        if rows and rows[-1][1] < horizon_us:
            below = [*rows, *chain.from_iterable(chunks)]
            rest += [row for row in below if row[1] < horizon_us]
            yield [row for row in below if row[1] >= horizon_us]
            return
        yield rows


def _once(one: list[Row], other: list[Row]) -> list[Row]:
    """The rows of both lists in display order; a post in both comes once."""
    if not one or not other:
        return one or other
    rows = {row[0]: row for row in (*other, *one)}
    return sorted(rows.values(), key=lambda row: (row[1], row[0]), reverse=True)


async def make_page(walk: Walk, limit: int, source: BodySource) -> Page:
    """The first `limit` items of the walk that still exist, past deleted ones: a page is short only at the end."""
    page = Page()
    while True:
        chunk = await walk.take(limit + 1 - len(page.keys) + _SPARE)
        page.degraded |= walk.is_stale
        if not chunk:
            if walk.is_broken:
                page.degraded, page.cursor = True, page.keys[-1] if page.keys else None
            return page
        ids = [post_id for _, post_id in chunk]
        values: Sequence[bytes | None] | None = None if walk.doubtful else source.at_hand(ids)
        if values is None:
            hydrated = await source.get(ids, walk.doubtful)
            page.degraded |= hydrated.degraded
            values = list(map(hydrated.values.get, ids))
        bodies = [body for body in values if body and body[0] != TOMBSTONE]
        if len(bodies) < len(chunk):
            pairs = zip(chunk, values, strict=True)
            chunk = [key for key, body in pairs if body and body[0] != TOMBSTONE]
        room = limit - len(page.keys)
        page.keys += chunk[:room]
        page.bodies += bodies[:room]
        if len(chunk) > room:
            page.more, page.cursor = chunk[room], page.keys[-1]
            return page


def arrived_after(slots: Slots, anchor: bytes, user: int, limit: int, floor: int = 0) -> tuple[Slots, bool] | None:
    """The entries that arrived after the post `anchor`, in display order; None when it is not in the timeline.

    Nor when it arrived before `floor`: what came between may be missing.
    At most the `limit` that arrived first; the flag tells whether that is all. A user's own post is read before it
    arrives (reads merge it in), so behind an own anchor whatever was posted later counts as arrived later.
    """
    at = np.flatnonzero(slots["id"] == np.void(anchor))
    if not len(at):
        return None
    place = int(at[0])
    if slots["seq"][place] < floor:
        return None
    later = slots["seq"] > slots["seq"][place]
    newer = slots[later]
    if len(newer) > limit:
        order = np.argsort(newer["seq"], kind="stable")[:limit]
        return newer[np.sort(order)], False
    if slots["author"][place] == user:
        wider = slots[later | (slots["ts_us"] > slots["ts_us"][place])]
        newer = wider if len(wider) <= limit else newer
    return newer, True
