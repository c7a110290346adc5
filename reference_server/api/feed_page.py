"""One page of a feed, made from a timeline: own posts merged in, filters, seen ids, cursor, bodies.

Pure but for the bodies it asks for. Works through the timeline in small chunks, so that a page costs what it shows.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import numpy as np
import numpy.typing as npt

from reference_server.api.bodies import Bodies
from reference_server.api.cursors import Key
from reference_server.queue import RecentPost
from reference_server.timeline.entry import Status

Slots = npt.NDArray[np.void]
_VISIBLE = int(Status.VISIBLE)
_SPARE = 6
"""candidates fetched beyond a page, as some may turn out to be deleted"""


@dataclass(frozen=True)
class Filters:
    """What must not show."""

    user: int
    excluded: frozenset[int] = frozenset()
    seen: frozenset[bytes] = frozenset()


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


def pending_posts(slots: Slots, own: Sequence[RecentPost]) -> list[RecentPost]:
    """The caller's own posts that fan-out has not brought into the timeline yet, newest first."""
    if not own:
        return []
    times = slots["ts_us"].astype(np.int64)
    places = np.searchsorted(-times, [-post.ts_us for post in own])
    return [post for post, place in zip(own, places.tolist(), strict=True) if not _stands_at(slots, times, place, post)]


def _stands_at(slots: Slots, times: npt.NDArray[np.int64], place: int, post: RecentPost) -> bool:
    while place < len(times) and times[place] == post.ts_us:
        if slots["id"][place].tobytes() == post.id:
            return True
        place += 1
    return False


def _first_behind(slots: Slots, after: Key | None) -> int:
    if after is None:
        return 0
    times = slots["ts_us"].astype(np.int64)
    ts_us, post_id = after
    place = int(np.searchsorted(-times, -ts_us))
    while place < len(times) and times[place] == ts_us and slots["id"][place].tobytes() >= post_id:
        place += 1
    return place


def candidates(slots: Slots, own: Sequence[RecentPost], filters: Filters, after: Key | None) -> Iterator[Key]:
    """Keys that may show, in display order (newest first), behind `after`."""
    behind = [post for post in own if (after is None or post < after) and post.id not in filters.seen]
    pending: list[Key] = sorted(pending_posts(slots, behind))
    excluded, seen = filters.excluded - {filters.user}, filters.seen
    start, step = _first_behind(slots, after), 64
    while start < len(slots):
        rows: list[Any] = slots[start : start + step].tolist()
        for _, post_id, ts_us, author, _, status in rows:
            while pending and pending[-1] > (ts_us, post_id):
                yield pending.pop()
            if status == _VISIBLE and author not in excluded and post_id not in seen:
                yield ts_us, post_id
        start, step = start + step, 256
    yield from reversed(pending)


async def make_page(keys: Iterator[Key], limit: int, bodies: Bodies) -> Page:
    """The first `limit` items of `keys` that still exist, past deleted ones: a page is short only at the end."""
    page = Page()
    while True:
        chunk = list(islice(keys, limit + 1 - len(page.keys) + _SPARE))
        if not chunk:
            return page
        hydrated = await bodies.get([post_id for _, post_id in chunk])
        page.degraded |= hydrated.degraded
        for key in chunk:
            body = hydrated.visible(key[1])
            if body is None:
                continue
            if len(page.keys) == limit:
                page.more, page.cursor = key, page.keys[-1]
                return page
            page.keys.append(key)
            page.bodies.append(body)


def arrived_after(slots: Slots, anchor: bytes, user: int, limit: int) -> tuple[Slots, bool] | None:
    """The entries that arrived after the post `anchor`, in display order; None when it is not in the timeline.

    At most the `limit` that arrived first; the flag tells whether that is all. A user's own post is read before it
    arrives (reads merge it in), so behind an own anchor whatever was posted later counts as arrived later.
    """
    at = np.flatnonzero(slots["id"] == np.void(anchor))
    if not len(at):
        return None
    place = int(at[0])
    later = slots["seq"] > slots["seq"][place]
    newer = slots[later]
    if len(newer) > limit:
        order = np.argsort(newer["seq"], kind="stable")[:limit]
        return newer[np.sort(order)], False
    if slots["author"][place] == user:
        wider = slots[later | (slots["ts_us"] > slots["ts_us"][place])]
        newer = wider if len(wider) <= limit else newer
    return newer, True
