"""Where a post stands, asked of those who decide: redis-queue and the durable store, never a cache.

For writes that hang on it: hiding, showing, moderating, deleting what is hidden.
"""

from __future__ import annotations

from typing import NamedTuple

from reference_server.api.parts import Parts
from reference_server.durable import DurableUnavailable, StoredStatus
from reference_server.queue import QueueUnavailable, Standing
from reference_server.timeline.entry import Status


class PostStanding(NamedTuple):
    """One post's author and visibility."""

    author: int
    """-1: not known, it was deleted before it was archived"""
    ts_us: int
    status: Status
    hlc: int
    """clock of the status, 0: it never changed"""
    hidden: bool
    """whether its author wants it hidden, also under a moderation"""


async def standing_of(parts: Parts, post_id: bytes) -> PostStanding | None:
    """None: there is no such post. Raises QueueUnavailable when that cannot be told."""
    (queued,) = await parts.queue.standings([post_id])
    if queued.event is not None and queued.status is None:
        return PostStanding(queued.event.author, queued.event.ts_us, Status.VISIBLE, 0, False)
    try:
        stored = (await parts.durable.statuses([post_id])).get(post_id)
    except DurableUnavailable as error:
        if queued.event is None:
            raise QueueUnavailable("cannot look the post up", definite=True) from error
        stored = None
    return _merged(queued, stored)


def _merged(queued: Standing, stored: StoredStatus | None) -> PostStanding | None:
    """What is known in both places; for the status the later one counts, and a delete before all."""
    author, ts_us = -1, 0
    if queued.event is not None:
        author, ts_us = queued.event.author, queued.event.ts_us
    elif stored is not None:
        author, ts_us = stored.author, stored.ts_us
    known = [PostStanding(author, ts_us, queued.status, queued.hlc, queued.hidden)] if queued.status is not None else []
    if stored is not None:
        known.append(PostStanding(author, ts_us, Status(stored.status), stored.hlc, stored.hidden))
    if not known:
        return None
    latest = max(known, key=lambda one: (one.status is Status.DELETED, one.hlc))
    if author < 0 and latest.status is not Status.DELETED:
        return None  # its status came before the post itself, from another region
    return latest
