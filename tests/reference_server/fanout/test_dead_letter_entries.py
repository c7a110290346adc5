"""Entries that cannot be used stand between posts: they are put aside, their neighbours arrive, nothing is retried."""

from __future__ import annotations

import pytest
from fanout_region import FanoutRegion

from reference_server.events import FIELD, DeleteEvent, GraphEvent, PostEvent, StatusEvent, encode
from reference_server.partition import lane_of
from reference_server.timeline.entry import Status

pytestmark = [pytest.mark.slow, pytest.mark.stack]
POISON = [
    {FIELD: b"\xff garbage"},
    {FIELD: b""},
    {"x": b"no event"},
    {FIELD: encode(GraphEvent("join", 5, 1, "test"))},
    {FIELD: encode(PostEvent(b"short", 1, 5, "text", "test"))},
    {FIELD: encode(PostEvent(b"p" * 16, -1, 5, "text", "test"))},
    {FIELD: encode(PostEvent(b"p" * 16, 1, 1 << 64 - 1, "text", "test"))},
    {FIELD: encode(PostEvent(b"p" * 16, 1, 5, "text", "test", labels=16))},
    {FIELD: encode(StatusEvent(b"p" * 16, 1, 9, 5, "test"))},
    {FIELD: encode(DeleteEvent(b"", 1, "test"))},
]


@pytest.mark.parametrize("stream", ["posts", "celeb"])
async def test_neighbours_of_a_poison_entry_arrive(region: FanoutRegion, stream: str) -> None:
    region.graph.follow(1, [10, 12])
    worker = region.start_worker()
    await region.serving()
    posts, ids = [await region.post(1, stream)], []
    for fields in POISON:
        ids.append((await region.queue.xadd(stream, fields)).decode())
        posts.append(await region.post(1, stream))
    await region.caught_up(stream)
    assert [await region.timeline(user) for user in (10, 12)] == [posts, posts]
    dead = await region.dead_letters()
    assert [letter["id"] for letter in dead] == ids
    assert {(letter["stream"], letter["part"]) for letter in dead} == {(stream, "fanout-0")}
    assert all(letter["error"] for letter in dead)
    assert dead[0]["e"] == "\xff garbage"
    metrics = (await region.ask_worker(0, "metrics")).decode()
    assert f'feed_dead_letters_total{{stream="{stream}"}} {float(len(POISON))}' in metrics
    worker.kill()
    worker.wait()
    region.start_worker()
    await region.serving()
    posts.append(await region.post(1, stream))
    await region.caught_up(stream)
    assert await region.timeline(10) == posts
    assert len(await region.dead_letters()) == len(POISON)


async def test_hidden_posts_are_shown_again_and_deleted_ones_never(region: FanoutRegion) -> None:
    region.graph.follow(1, [10])
    region.graph.unknown.add(77)
    region.start_worker()
    await region.serving()
    await region.post(77)  # nobody knows this author: the post reaches nobody, and stops nobody
    post = await region.post(1, labels=2)
    seen = []
    for status, hlc in ((Status.HIDDEN_BY_AUTHOR, 5), (Status.VISIBLE, 4), (Status.MODERATED, 7), (Status.VISIBLE, 9)):
        await region.change_status(post, 1, status, hlc)
        await region.caught_up()
        seen += await region.statuses(10, [post])
    assert seen == [Status.HIDDEN_BY_AUTHOR, Status.HIDDEN_BY_AUTHOR, Status.MODERATED, Status.VISIBLE]
    reply = await region.call(lane_of(10, 2), "rebuild", 10)
    assert reply[4][-1] >> 4 == 2, "labels stay"
    await region.delete(post, 1)
    await region.change_status(post, 1, Status.VISIBLE, 99)
    await region.caught_up()
    assert await region.statuses(10, [post]) == [Status.DELETED]
