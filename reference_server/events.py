"""What goes through the region's queues and over replication links: msgpack, one tagged struct an event.

Streams of redis-queue (each entry has one field, `e`, the encoded event):
    posts    posts and deletes of ordinary authors, local and replicated   -> fan-out, archiver
    celeb    posts and deletes of authors over the celebrity threshold     -> fan-out's slow lane, archiver
    graph    sign-ups, follows, blocks, likes, local and replicated        -> graph service
    jobs     imports to run                                                -> jobs
    outbox   every event that originated in this region, in order          -> peers' replicators
Keys beside them:
    idem:{author}:{key}   post id an Idempotency-Key stands for (24 h)
    author:{author}       hash: last = last display timestamp used (µs)
    recent:{author}       list of "{ts_us}:{post id hex}", newest first, at most 200: read-your-writes
    body:{post id hex}    the encoded PostEvent, until the archiver has it in the durable store
    hwm:{origin}          outbox position of a peer up to which its events were applied here
    position:{consumer}   where a consumer of a stream stands, when it has no better place for it
"""

from __future__ import annotations

import msgspec

STREAM_POSTS = "posts"
STREAM_CELEB = "celeb"
STREAM_GRAPH = "graph"
STREAM_JOBS = "jobs"
STREAM_OUTBOX = "outbox"
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


class DeleteEvent(msgspec.Struct, tag="delete", array_like=True):
    """The author took the post back."""

    id: bytes
    author: int
    origin: str


class GraphEvent(msgspec.Struct, tag="graph", array_like=True):
    """A change of the graph. `verb`: join, follow, unfollow, block, unblock, like (user interacted with other).

    `hlc` is a hybrid clock: µs << 8 | region index; for one (user, other) edge the highest wins.
    """

    verb: str
    user: int
    hlc: int
    origin: str
    other: int = -1


class ImportEvent(msgspec.Struct, tag="import", array_like=True):
    """Import the inherited follows of a user who joined."""

    user: int


Event = PostEvent | DeleteEvent | GraphEvent | ImportEvent

_encoder = msgspec.msgpack.Encoder()
_decoder: msgspec.msgpack.Decoder[Event] = msgspec.msgpack.Decoder(Event)


def encode(event: Event) -> bytes:
    """The event as stored in a stream."""
    return _encoder.encode(event)


def decode(data: bytes) -> Event:
    """The event in `data`. Raises msgspec.ValidationError or msgspec.DecodeError on anything else."""
    return _decoder.decode(data)
