"""What is put aside, and what is said of it."""

from __future__ import annotations

import asyncio

import pytest
from real_servers import Server

from reference_server.events import DeleteEvent, FlagEvent, GraphEvent, ImportEvent, PostEvent, StatusEvent, encode
from reference_server.queue import START, Queue, StreamKeeper
from reference_server.queue.dead_letters import DEAD_KEPT, KEPT_BYTES, DeadLetter, Unusable, read_event
from reference_server.timeline.entry import Status

POST = PostEvent(b"p" * 16, 7, 1_700_000_000_000_000, "text", "us-east", labels=3)
USABLE = [
    ("posts", POST),
    ("celeb", DeleteEvent(b"p" * 16, 7, "us-east")),
    ("posts", StatusEvent(b"p" * 16, 7, Status.VISIBLE, 5, "us-east")),
    ("graph", GraphEvent("follow", 7, 5, "us-east", 8)),
    ("graph", GraphEvent("follow", 7, (1 << 61) - 1, "us-east", 8)),
    ("outbox", FlagEvent("of another version", b"null", 5, "us-east")),
    ("jobs", ImportEvent(7)),
]


@pytest.mark.parametrize(("stream", "event"), USABLE)
def test_what_belongs_into_a_stream_is_read(stream: str, event: PostEvent) -> None:
    assert read_event(stream, encode(event)) == event


@pytest.mark.parametrize(
    ("stream", "data", "says"),
    [
        ("posts", None, "no event"),
        ("posts", b"\xc1", "malformed"),
        ("posts", encode(ImportEvent(7)), "does not belong"),
        ("jobs", encode(POST), "does not belong"),
        ("jobs", encode(ImportEvent(-1)), "user -1"),
        ("graph", encode(GraphEvent("follow", 7, 1 << 61, "us-east", 8)), "clock"),
        ("graph", encode(GraphEvent("follow", 7, -1, "us-east", 8)), "clock -1"),
        ("outbox", encode(FlagEvent("two_tier", b"flase", 5, "us-east")), "flag two_tier: JSON"),
        ("outbox", encode(FlagEvent("two_tier", b"true", 1 << 63, "us-east")), "clock"),
        ("posts", encode(PostEvent(b"short", 7, 5, "", "")), "post id of 5"),
        ("posts", encode(PostEvent(b"p" * 16, 1 << 40, 5, "", "")), "author"),
        ("posts", encode(PostEvent(b"p" * 16, 7, -5, "", "")), "time -5"),
        ("posts", encode(PostEvent(b"p" * 16, 7, 5, "", "", reply_to=b"x")), "parent"),
        ("posts", encode(PostEvent(b"p" * 16, 7, 5, "", "", labels=99)), "labels 99"),
        ("posts", encode(StatusEvent(b"p" * 16, 7, 4, 5, "")), "status 4"),
    ],
)
def test_anything_else_is_named(stream: str, data: bytes | None, says: str) -> None:
    with pytest.raises(Unusable, match=says):
        read_event(stream, data)


@pytest.mark.slow
async def test_the_keeper_puts_an_entry_aside_once_and_the_stream_is_bounded(queue: Queue, redis: Server) -> None:
    await queue.link.call("XADD", "jobs", "5-1", "e", b"x" * (KEPT_BYTES + 1))
    keeper = StreamKeeper(redis.port)
    for _ in range(3):
        (entry,) = await keeper.entries("jobs", START, 10)
        assert entry.event is None
        await keeper.bury("jobs", entry, entry.error, "jobs")
    await keeper.close()
    ((_, fields),) = await queue.link.call("XRANGE", "dead", "-", "+")
    told = dict(zip(fields[::2], fields[1::2], strict=True))
    assert (told[b"stream"], told[b"id"], told[b"part"]) == (b"jobs", b"5-1", b"jobs")
    assert told[b"error"]
    assert told[b"e"] == b"x" * KEPT_BYTES
    command = DeadLetter("posts", "1-0", b"", "why").command("test")
    for _ in range(DEAD_KEPT // 500 + 1):
        await asyncio.gather(*[queue.link.call(*command) for _ in range(500)])
    assert DEAD_KEPT <= await queue.link.call("XLEN", "dead") <= DEAD_KEPT + 200
