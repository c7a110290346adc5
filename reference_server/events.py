"""What goes through the region's queues and over replication links: msgpack, one tagged struct an event.

Streams of redis-queue (each entry has one field, `e`, the encoded event):
    posts    posts and deletes of ordinary authors, local and replicated   -> fan-out, archiver
    celeb    posts and deletes of authors over the celebrity threshold     -> fan-out's slow lane, archiver
    graph    sign-ups, follows, blocks, likes, local and replicated        -> graph service
    jobs     imports to run                                                -> jobs
    dead     entries that no consumer can use, for people to look at       (bounded)
    outbox   every event that originated in this region, in order          -> peers' replicators
Keys beside them:
    idem:{author}:{key}   post id an Idempotency-Key stands for (24 h)
    author:{author}       hash: last = last display timestamp used (µs)
    recent:{author}       list of "{ts_us}:{post id hex}", newest first, at most 200: read-your-writes
    body:{post id hex}    the encoded PostEvent, until the archiver has it in the durable store
    hwm:{origin}          outbox position of a peer up to which its events were applied here
    status:{post id hex}  see queue.post_status; kept for a day after it was archived
    clock:graph           latest time (µs) in the hybrid clock of a change of the graph, own or replicated
    flags, flags:version  see flags.watch
    position:{consumer}   where a consumer of a stream stands, when it has no better place for it
"""

from __future__ import annotations

from enum import IntFlag

import msgspec

STREAM_POSTS = "posts"
STREAM_CELEB = "celeb"
STREAM_GRAPH = "graph"
STREAM_JOBS = "jobs"
STREAM_OUTBOX = "outbox"
STREAM_DEAD = "dead"
FIELD = "e"


class PostEvent(msgspec.Struct, tag="post", array_like=True):
    """A post. `id` is the 16 bytes of a UUIDv7; `celeb` chose the stream at its origin."""

    id: bytes
    author: int
    ts_us: int
    text: str
    origin: str
    reply_to: bytes = b""
    celeb: bool = False
    labels: int = 0
    """bits of `Label`"""


class Label(IntFlag):
    """What a post is marked with by its author; readers may be kept from it by age or by choice."""

    ADULT = 1
    """not for minors"""
    SENSITIVE = 2
    """not for those who read in safe mode"""


class DeleteEvent(msgspec.Struct, tag="delete", array_like=True):
    """The author took the post back."""

    id: bytes
    author: int
    origin: str


class StatusEvent(msgspec.Struct, tag="status", array_like=True):
    """A post is hidden, moderated, or visible again. `status` is a number of timeline.entry.Status.

    For one post the event with the highest hybrid clock wins; a delete wins over all of them.
    """

    id: bytes
    author: int
    status: int
    hlc: int
    origin: str


class FlagEvent(msgspec.Struct, tag="flag", array_like=True):
    """A feature flag was set; `value` is JSON, null: back to what the stack was started with. Highest clock wins."""

    name: str
    value: bytes
    hlc: int
    origin: str


class GraphEvent(msgspec.Struct, tag="graph", array_like=True):
    """A change of the graph. `verb`: join, follow, unfollow, block, unblock, like (user interacted with other), profile
    (`other` has the `Reader` bits named in `mask` as they are from now on).

    `hlc` is a hybrid clock: µs << 8 | region index; for one (user, other) edge, or bit of a user, the highest wins.
    """

    verb: str
    user: int
    hlc: int
    origin: str
    other: int = -1
    mask: int = 3
    """of a profile: the bits that are set, one way or the other; events without it are from when all were"""


class Reader(IntFlag):
    """What a user's profile says about what may be shown to him."""

    MINOR = 1
    SAFE_MODE = 2


def hidden_labels(reader: Reader) -> Label:
    """What must not be shown to such a reader."""
    labels = Label.ADULT if Reader.MINOR in reader else Label(0)
    return labels | Label.SENSITIVE if Reader.SAFE_MODE in reader else labels


class ImportEvent(msgspec.Struct, tag="import", array_like=True):
    """Import the inherited follows of a user who joined."""

    user: int


Event = PostEvent | DeleteEvent | StatusEvent | FlagEvent | GraphEvent | ImportEvent

_encoder = msgspec.msgpack.Encoder()
_decoder: msgspec.msgpack.Decoder[Event] = msgspec.msgpack.Decoder(Event)


def encode(event: Event) -> bytes:
    """The event as stored in a stream."""
    return _encoder.encode(event)


def decode(data: bytes) -> Event:
    """The event in `data`. Raises msgspec.ValidationError or msgspec.DecodeError on anything else."""
    return _decoder.decode(data)
