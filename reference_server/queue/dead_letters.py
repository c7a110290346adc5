"""Entries that no consumer can use: put aside in the stream `dead`, for people to look at, so that the others go on.

Each consumer puts aside what it cannot use itself, before its position moves on: an entry may stand there once for
every consumer, and again when one of them died in between. The stream keeps the newest DEAD_KEPT or so.

    stream, id   where the entry stood       e   what it held, at most KEPT_BYTES of it
    error        what is wrong with it       part   which process put it aside
"""

from __future__ import annotations

from typing import NamedTuple

import msgspec
from prometheus_client import Counter

from reference_server.events import (
    STREAM_CELEB,
    STREAM_DEAD,
    STREAM_GRAPH,
    STREAM_JOBS,
    STREAM_POSTS,
    DeleteEvent,
    Event,
    FlagEvent,
    GraphEvent,
    ImportEvent,
    PostEvent,
    StatusEvent,
    decode,
)
from reference_server.observability.logs import post
from reference_server.queue.clocks import REGION_BITS
from reference_server.timeline.entry import Status

DEAD_KEPT = 10_000
KEPT_BYTES = 4096
DEAD_LETTERS = Counter("feed_dead_letters", "Entries of queue streams put aside as they cannot be used", ["stream"])
Command = tuple[str | bytes | int, ...]
_TIMELINE = (PostEvent, DeleteEvent, StatusEvent)
_KINDS: dict[str, tuple[type[Event], ...]] = {
    STREAM_POSTS: _TIMELINE,
    STREAM_CELEB: _TIMELINE,
    STREAM_GRAPH: (GraphEvent,),
    STREAM_JOBS: (ImportEvent,),
}
"""what each stream holds"""
_MOST = (1 << 63) - 1
"""largest time and clock: the durable store's integers are signed"""
_MOST_TIME_US = (1 << 53) - 1
"""largest time in the clock of a change of the graph: scripts reckon with it in doubles"""
_MOST_USER = (1 << 32) - 1
_LABEL_BITS = 0x0F
_STATUSES = frozenset(Status)


class DeadLetter(NamedTuple):
    """An entry that cannot be used."""

    stream: str
    id: str
    data: bytes
    error: str

    def command(self, part: str) -> Command:
        """The redis command that puts it aside on behalf of a process; counts it."""
        DEAD_LETTERS.labels(self.stream).inc()
        fields = ("stream", self.stream, "id", self.id, "e", self.data[:KEPT_BYTES], "error", self.error, "part", part)
        return ("XADD", STREAM_DEAD, "MAXLEN", "~", DEAD_KEPT, "*", *fields)


def post_in(data: bytes) -> dict[str, str]:
    """The post an entry is about, as `extra` of a log line; empty when that cannot be told."""
    try:
        event = decode(data)
    except msgspec.MsgspecError:
        return {}
    return post(event.id) if isinstance(event, _TIMELINE) else {}


class Unusable(ValueError):
    """What stands in an entry is no event, or none that makes sense; the message says why."""


def read_event(stream: str, data: bytes | None) -> Event:
    """The event in an entry of a stream. Raises Unusable."""
    if data is None:
        raise Unusable("it holds no event")
    try:
        event = decode(data)
    except msgspec.MsgspecError as error:
        raise Unusable(str(error)) from None
    if not isinstance(event, _KINDS.get(stream, object)):
        raise Unusable(f"a {type(event).__name__} does not belong into {stream}")
    flaw = _flaw_of(event)
    if flaw:
        raise Unusable(flaw)
    return event


def _flaw_of(event: Event) -> str:
    """What is wrong with an event that decodes; "" nothing."""
    if isinstance(event, FlagEvent):
        return _flaw_of_flag(event)
    if isinstance(event, GraphEvent) and not 0 <= event.hlc >> REGION_BITS <= _MOST_TIME_US:
        return f"clock {event.hlc}"
    if isinstance(event, GraphEvent | ImportEvent):
        return "" if 0 <= event.user <= _MOST_USER else f"user {event.user}"
    if len(event.id) != 16:
        return f"a post id of {len(event.id)} bytes"
    if not 0 <= event.author <= _MOST_USER:
        return f"author {event.author}"
    if isinstance(event, PostEvent):
        return _flaw_of_post(event)
    if isinstance(event, StatusEvent):
        known = event.status in _STATUSES and 0 <= event.hlc <= _MOST
        return "" if known else f"status {event.status}, clock {event.hlc}"
    return ""


def _flaw_of_flag(event: FlagEvent) -> str:
    if not 0 <= event.hlc <= _MOST:
        return f"clock {event.hlc}"
    try:
        msgspec.json.decode(event.value)
    except msgspec.MsgspecError as error:
        return f"flag {event.name}: {error}"
    return ""


def _flaw_of_post(event: PostEvent) -> str:
    if not 0 <= event.ts_us <= _MOST:
        return f"time {event.ts_us}"
    if event.labels & ~_LABEL_BITS:
        return f"labels {event.labels}"
    if event.reply_to and len(event.reply_to) != 16:
        return f"a parent id of {len(event.reply_to)} bytes"
    return ""
