from __future__ import annotations

import asyncio
import os
import signal

import pytest
from real_servers import Server

from reference_server.events import DeleteEvent, GraphEvent, ImportEvent, PostEvent
from reference_server.queue import START, Accepted, Backpressure, Gone, Limits, Queue, QueueUnavailable, StreamKeeper
from reference_server.queue.stream_keeper import KEEP_ARCHIVED_S, KEEP_DELETED_S
from reference_server.timeline.entry import Status

pytestmark = pytest.mark.slow
REGION = "us-east"
GONE = Gone(-1, Status.DELETED)


async def accept(
    queue: Queue, author: int = 7, key: str | None = None, now_us: int = 1_700_000_000_000_000, celeb: bool = False
) -> Accepted:
    return await queue.accept_post(author, os.urandom(16), "hello", b"", key, celeb, now_us, REGION)


async def events(queue: Queue, stream: str) -> list[object]:
    keeper = StreamKeeper(queue.link.port)
    try:
        return [entry.event for entry in await keeper.entries(stream, START, 1000)]
    finally:
        await keeper.close()


async def test_an_accepted_post_is_in_queue_outbox_body_and_recent(queue: Queue) -> None:
    accepted = await accept(queue)
    expected = PostEvent(accepted.id, 7, accepted.ts_us, "hello", REGION)
    assert await events(queue, "posts") == [expected]
    assert await events(queue, "outbox") == [expected]
    assert await queue.bodies([accepted.id, bytes(16)]) == {accepted.id: expected}
    assert await queue.recent(7) == [(accepted.ts_us, accepted.id)]


@pytest.mark.parametrize("author", [0, 127, 128, 255, 256, 65_535, 65_536, 4_000_000_000])
async def test_the_author_time_is_written_into_the_event_whatever_the_author_number(queue: Queue, author: int) -> None:
    first = await accept(queue, author, now_us=1_700_000_000_000_000)
    second = await accept(queue, author, now_us=1_600_000_000_000_000)
    assert second.ts_us == first.ts_us + 1
    assert [event.ts_us for event in await events(queue, "posts") if isinstance(event, PostEvent)] == [
        first.ts_us,
        second.ts_us,
    ]


async def test_times_of_an_author_strictly_rise_under_concurrency(queue: Queue) -> None:
    accepted = await asyncio.gather(*(accept(queue) for _ in range(100)))
    assert len({post.ts_us for post in accepted}) == 100
    recent = await queue.recent(7)
    assert [post.ts_us for post in recent] == sorted((post.ts_us for post in accepted), reverse=True)


async def test_a_repeated_key_writes_once(queue: Queue) -> None:
    answers = await asyncio.gather(*(accept(queue, key="k") for _ in range(20)))
    assert len({answer.id for answer in answers}) == 1
    assert len({answer.ts_us for answer in answers}) == 1
    assert sum(not answer.duplicate for answer in answers) == 1
    assert len(await events(queue, "posts")) == 1


async def test_a_key_binds_its_author_only(queue: Queue) -> None:
    first, second = await accept(queue, 1, "k"), await accept(queue, 2, "k")
    assert not second.duplicate
    assert first.id != second.id


async def test_celebrities_have_their_own_stream(queue: Queue) -> None:
    accepted = await accept(queue, celeb=True)
    assert await events(queue, "posts") == []
    assert await events(queue, "celeb") == [PostEvent(accepted.id, 7, accepted.ts_us, "hello", REGION, celeb=True)]


async def test_recent_is_bounded(queue: Queue) -> None:
    accepted = [await accept(queue) for _ in range(205)]
    assert [post.id for post in await queue.recent(7)] == [post.id for post in accepted[:-201:-1]]


async def test_a_reply_survives_sigkill_of_redis(queue: Queue, redis: Server) -> None:
    accepted = await accept(queue, key="k")
    redis.kill()
    with pytest.raises(QueueUnavailable):
        await queue.accept_post(7, os.urandom(16), "lost", b"", None, False, 1, REGION)
    redis.start()
    again = await eventually(lambda: accept(queue, key="k"))
    assert again.duplicate
    assert again.id == accepted.id
    assert await queue.link.call("XLEN", "posts") == 1
    bodies = await eventually(lambda: queue.bodies([accepted.id]))
    assert bodies[accepted.id] is not None


async def eventually(call):  # type: ignore[no-untyped-def]
    async with asyncio.timeout(10):
        while True:
            try:
                return await call()
            except QueueUnavailable:
                await asyncio.sleep(0.02)


async def test_many_writers_and_a_sigkill_lose_nothing_acknowledged(queue: Queue, redis: Server) -> None:
    acknowledged: list[bytes] = []

    async def writer(author: int) -> None:
        try:
            while True:
                acknowledged.append((await accept(queue, author)).id)
        except QueueUnavailable:
            return

    writers = [asyncio.create_task(writer(author)) for author in range(8)]
    async with asyncio.timeout(10):
        while len(acknowledged) < 200:  # noqa: ASYNC110
            await asyncio.sleep(0)
    redis.kill()
    await asyncio.gather(*writers)
    redis.start()
    await eventually(lambda: accept(queue, 100))
    keeper = StreamKeeper(redis.port)
    stored = {entry.event.id for entry in await keeper.entries("posts", START, 100_000)}  # type: ignore[union-attr]
    await keeper.close()
    assert set(acknowledged) <= stored


async def test_a_dead_server_is_a_definite_failure_at_once(queue: Queue, redis: Server) -> None:
    redis.kill()
    with pytest.raises(QueueUnavailable) as caught:
        async with asyncio.timeout(1):
            await accept(queue)
    assert caught.value.definite


async def test_a_paused_server_makes_writes_unknown_and_reads_fail_fast(redis: Server) -> None:
    queue = Queue(redis.port)
    queue.link.timeout_s = 0.3
    await accept(queue)
    await queue.recent(7)
    redis.signal(signal.SIGSTOP)
    try:
        with pytest.raises(QueueUnavailable) as caught:
            await accept(queue)
        assert not caught.value.definite
        with pytest.raises(QueueUnavailable):
            await queue.recent(7)
        async with asyncio.timeout(0.1):  # from now on at once
            with pytest.raises(QueueUnavailable):
                await queue.recent(7)
    finally:
        redis.signal(signal.SIGCONT)
    recent = await eventually(lambda: queue.recent(7))
    assert len(recent) in (1, 2)
    await queue.close()


async def test_full_streams_refuse_without_an_effect(redis: Server) -> None:
    queue = Queue(redis.port, Limits(stream=2, outbox=3))
    await accept(queue)
    await accept(queue)
    for call in (
        accept(queue, key="k"),
        queue.accept_delete(DeleteEvent(bytes(16), 7, REGION), 1, False),
        queue.apply_replicated("ap-tokyo", "1-1", [GraphEvent("follow", 1, 1, "ap-tokyo", 2)]),
    ):
        with pytest.raises(Backpressure):
            await call
    await queue.append_graph(GraphEvent("follow", 1, 1, REGION, 2))
    with pytest.raises(Backpressure):  # the outbox is full now
        await queue.append_graph(GraphEvent("follow", 1, 2, REGION, 3))
    assert len(await events(queue, "posts")) == 2
    assert len(await events(queue, "outbox")) == 3
    assert await queue.link.call("EXISTS", "idem:7:k") == 0
    await queue.close()


async def test_out_of_memory_is_backpressure(queue: Queue) -> None:
    await queue.link.call("CONFIG", "SET", "maxmemory", "1mb")
    with pytest.raises(Backpressure):  # noqa: PT012
        for _ in range(10):
            await queue.accept_post(7, os.urandom(16), "x" * 400_000, b"", None, False, 1, REGION)


async def test_delete_removes_body_and_recent_once(queue: Queue) -> None:
    accepted = await accept(queue)
    event = DeleteEvent(accepted.id, 7, REGION)
    assert await queue.accept_delete(event, accepted.ts_us, False)
    assert not await queue.accept_delete(event, accepted.ts_us, False)
    assert await queue.bodies([accepted.id]) == {accepted.id: GONE}
    assert await queue.recent(7) == []
    assert (await events(queue, "posts"))[1:] == [event]
    assert (await events(queue, "outbox"))[1:] == [event]


async def test_a_sign_up_is_written_once_and_queues_its_import(queue: Queue) -> None:
    event = GraphEvent("join", 5, 256, REGION)
    stream_id = await queue.append_graph(event)
    assert stream_id.count("-") == 1
    assert await queue.append_graph(event) == ""
    assert await events(queue, "graph") == [event]
    assert await events(queue, "outbox") == [event]
    assert await events(queue, "jobs") == [ImportEvent(5)]


async def test_replicated_events_apply_once(queue: Queue) -> None:
    origin = "ap-tokyo"
    post = PostEvent(os.urandom(16), 1, 5, "far", origin)
    famous = PostEvent(os.urandom(16), 2, 6, "far", origin, celeb=True)
    deleted = PostEvent(os.urandom(16), 3, 7, "gone", origin)
    batch = [
        post,
        famous,
        deleted,
        DeleteEvent(deleted.id, 3, origin),
        GraphEvent("follow", 1, 1, origin, 2),
        GraphEvent("join", 9, 1, origin),
    ]
    assert await queue.high_water(origin) == "0-0"
    assert await queue.apply_replicated(origin, "12-5", batch)
    assert not await queue.apply_replicated(origin, "12-5", batch)
    assert not await queue.apply_replicated(origin, "9-9", batch)
    assert await queue.high_water(origin) == "12-5"
    assert await queue.high_water("elsewhere") == "0-0"
    assert await events(queue, "posts") == [post, deleted, batch[3]]
    assert await events(queue, "celeb") == [famous]
    assert await events(queue, "graph") == batch[4:]
    assert await events(queue, "jobs") == [ImportEvent(9)]
    assert await events(queue, "outbox") == []
    assert await queue.bodies([post.id, famous.id, deleted.id]) == {post.id: post, famous.id: famous, deleted.id: GONE}
    assert await queue.append_graph(GraphEvent("join", 9, 2, REGION)) == ""
    assert await queue.apply_replicated(origin, "12-6", [])


async def test_a_post_that_arrives_after_its_delete_stays_deleted(queue: Queue) -> None:
    post = PostEvent(os.urandom(16), 1, 5, "far", "ap-tokyo")
    delete = DeleteEvent(post.id, 1, "eu-west")
    keeper = StreamKeeper(queue.link.port)
    await queue.apply_replicated("eu-west", "7-0", [delete])
    await keeper.archived([], [post.id])
    await queue.apply_replicated("ap-tokyo", "9-0", [post])
    assert await queue.link.call("EXISTS", f"body:{post.id.hex()}") == 0
    assert await queue.bodies([post.id]) == {post.id: GONE}
    assert await events(queue, "posts") == [delete, post]  # consumers know the delete; positions must not depend on it
    await keeper.close()


async def test_archived_bodies_go_soon_and_deletes_are_kept_for_late_posts(queue: Queue) -> None:
    kept, gone = await accept(queue), await accept(queue)
    await queue.accept_delete(DeleteEvent(gone.id, 7, REGION), gone.ts_us, False)
    keeper = StreamKeeper(queue.link.port)
    await keeper.archived([kept.id, gone.id], [gone.id])
    await keeper.archived([], [])
    assert 0 < await queue.link.call("TTL", f"body:{kept.id.hex()}") <= KEEP_ARCHIVED_S
    assert KEEP_ARCHIVED_S < await queue.link.call("TTL", f"deleted:{gone.id.hex()}") <= KEEP_DELETED_S
    await keeper.close()


async def test_the_defect_acknowledges_every_fiftieth_post_without_writing_it(redis: Server) -> None:
    queue = Queue(redis.port, lose_every=50)
    accepted = [await accept(queue, author) for author in range(100)]
    assert len(await events(queue, "posts")) == 98
    assert len(await queue.bodies([post.id for post in accepted])) == 98
    await queue.close()


async def test_a_change_made_after_one_that_is_known_is_later_whatever_the_wall_clocks(queue: Queue) -> None:
    ahead_us, here_us = 1_700_000_000_500_000, 1_700_000_000_000_000
    far = GraphEvent("follow", 1, ahead_us << 8 | 1, "ap-tokyo", 2)
    await queue.apply_replicated("ap-tokyo", "1-1", [far])
    ours = GraphEvent("unfollow", 1, here_us << 8, REGION, 2)
    await queue.append_graph(ours)
    assert ours.hlc == ahead_us + 1 << 8
    assert await events(queue, "graph") == [far, ours]
    assert await events(queue, "outbox") == [ours]
    join = GraphEvent("join", 9, ahead_us + 9 << 8 | 1, "ap-tokyo")
    await queue.apply_replicated("ap-tokyo", "2-1", [join, far])
    later = [GraphEvent("block", 1, here_us << 8, REGION, other) for other in range(2, 30)]
    await asyncio.gather(*(queue.append_graph(event) for event in later))
    assert sorted(event.hlc for event in later) == [ahead_us + 10 + n << 8 for n in range(28)]
