from __future__ import annotations

import asyncio
import os
import signal
import sqlite3
import time
from pathlib import Path

import pytest
from jobs_stubs import Region, eventually
from real_servers import Server

from reference_server.api.body_cache import MemcachedBodies, tombstone
from reference_server.durable import PostRow, SqliteReader
from reference_server.events import DeleteEvent, GraphEvent, ImportEvent, encode
from reference_server.partition import lane_of
from reference_server.queue import Accepted, QueueUnavailable
from reference_server.settings import DEFECTS

pytestmark = [pytest.mark.slow, pytest.mark.stack]


async def accept(region: Region, author: int = 1, celeb: bool = False) -> Accepted:
    now_us = time.time_ns() // 1000
    return await region.queue.accept_post(author, os.urandom(16), "hello", b"", None, celeb, now_us, "us-east")


def archived(database: Path) -> dict[bytes, int]:
    with sqlite3.connect(f"file:{database}?mode=ro", uri=True) as db:
        rows = dict(db.execute("SELECT id, status FROM posts").fetchall())
    db.close()
    return rows


async def has_archived(region: Region, *ids: bytes) -> None:
    async def condition() -> bool:
        return set(ids) <= archived(region.database).keys()

    await eventually(condition, "posts are archived")


async def test_posts_of_both_streams_are_archived_and_their_keys_expire(region: Region) -> None:
    await region.start()
    plain, famous = await accept(region), await accept(region, celeb=True)
    await has_archived(region, plain.id, famous.id)
    reader = SqliteReader(region.database)
    assert (await reader.posts([plain.id]))[plain.id] == PostRow(plain.id, 1, plain.ts_us, "hello", b"")
    await reader.close()

    async def expires() -> bool:
        return int(await region.queue.link.call("TTL", f"body:{plain.id.hex()}")) > 0

    await eventually(expires, "the body will expire")
    assert await region.queue.bodies([plain.id])  # not at once: a reader may be on its way


async def test_a_delete_outlives_queue_and_cache(region: Region, cache: Server) -> None:
    bodies = MemcachedBodies([cache.port])
    await bodies.wait_connected(5)
    accepted = await accept(region)
    bodies.add({accepted.id: b"{}"})
    assert await bodies.get([accepted.id]) == {accepted.id: b"{}"}
    cache.signal(signal.SIGSTOP)  # a paused cache keeps the old value
    await region.start()
    await has_archived(region, accepted.id)
    await region.queue.accept_delete(DeleteEvent(accepted.id, 1, "us-east"), accepted.ts_us, False)

    async def deleted() -> bool:
        return archived(region.database)[accepted.id] == 3

    await eventually(deleted, "the status is archived")
    cache.signal(signal.SIGCONT)

    async def buried() -> bool:
        return (await bodies.get([accepted.id])).get(accepted.id) == tombstone(1)

    await eventually(buried, "the tombstone holds")
    region.kill()
    cache.kill()
    cache.start()
    await region.start()  # tombstones of the archive are set again
    await eventually(buried, "the tombstone is back")
    await bodies.close()


async def test_sigkill_in_mid_stream_loses_nothing_and_doubles_nothing(region: Region) -> None:
    await region.start()
    ids: list[bytes] = []
    stop = asyncio.Event()

    async def write(author: int) -> None:
        while not stop.is_set():
            ids.append((await accept(region, author, celeb=author % 2 == 0)).id)

    writers = [asyncio.create_task(write(author)) for author in range(6)]
    for _ in range(3):
        count = len(archived(region.database))

        async def more(count: int = count) -> bool:
            return len(archived(region.database)) > count

        await eventually(more, "archiving goes on")
        region.kill()
        await region.start()
    stop.set()
    await asyncio.gather(*writers)
    await has_archived(region, *ids)
    assert archived(region.database).keys() == set(ids)


async def test_it_ends_cleanly_on_sigterm(region: Region) -> None:
    await region.start()
    assert region.kill(signal.SIGTERM) == 0


async def test_streams_are_trimmed_below_the_slowest_consumer(region: Region) -> None:
    for _ in range(400):
        await accept(region)
    await region.start()
    keeper = region.queue.link
    ids = [entry_id.decode() for entry_id, _ in await keeper.call("XRANGE", "posts", "-", "+")]
    region.lane_positions[0] = {"posts": ids[-1]}

    async def length_of(stream: str, longest: int) -> bool:
        return int(await keeper.call("XLEN", stream)) <= longest

    await eventually(lambda: _all_archived(region, 400), "all is archived")
    assert await length_of("posts", 400)
    assert not await length_of("posts", 399)  # lane 1 has not said where it stands
    region.lane_positions[1] = {"posts": ids[200]}
    await eventually(lambda: length_of("posts", 299), "trimmed to about half")
    assert not await length_of("posts", 199)
    assert not await length_of("outbox", 399)


async def _all_archived(region: Region, count: int) -> bool:
    return len(archived(region.database)) == count


async def test_it_works_on_after_redis_was_killed(region: Region, redis: Server) -> None:
    await region.start()
    redis.kill()
    redis.start()

    async def writes() -> bool:
        try:
            ids.append((await accept(region)).id)
        except QueueUnavailable:
            return False
        return True

    ids: list[bytes] = []
    await eventually(writes, "the queue is back")
    await has_archived(region, *ids)


async def test_the_history_is_inserted_once(region: Region) -> None:
    region.population(users=100, mean_follows=10, history=30)
    await region.start()
    before = archived(region.database)
    assert len(before) == 300
    region.kill()
    await region.start()
    assert archived(region.database) == before


async def test_imports_run_in_batches_after_the_graph_knows_the_sign_up(region: Region) -> None:
    region.follows = {5: 2_500, 6: 0, 7: 1_000}
    stream_ids = [await region.queue.append_graph(GraphEvent("join", user, 1, "us-east")) for user in (5, 6, 7)]
    await region.start()

    async def imported() -> bool:
        return region.done == region.follows

    await eventually(imported, "imports are done")
    assert sorted(region.batches) == [(5, 0, 1000), (5, 1000, 1000), (5, 2000, 1000), (6, 0, 1000), (7, 0, 1000)]
    assert region.synced[0] == stream_ids[-1]


async def test_when_follows_are_in_the_owner_of_the_lane_catches_the_timeline_up(region: Region) -> None:
    region.follows = {5: 10, 6: 0}
    for user in (5, 6):
        await region.queue.append_graph(GraphEvent("join", user, 1, "us-east"))
    await region.start()

    async def caught_up() -> bool:
        return len(region.caught_up) == 2

    await eventually(caught_up, "both timelines are caught up")
    assert sorted(region.caught_up, key=lambda c: c[1]) == [(lane_of(5, 2), 5, True), (lane_of(6, 2), 6, True)]


async def test_an_import_resumes_after_a_kill_and_a_refused_one_stops_nobody(region: Region) -> None:
    region.follows = {5: 2_500, 7: 10}
    region.done = {5: 1_000}
    region.refused = {6}
    region.hold_imports.clear()
    for user in (5, 6):
        await region.queue.append_graph(GraphEvent("join", user, 1, "us-east"))
    await region.start()
    region.kill()
    region.hold_imports.set()
    region.batches.clear()
    await region.start()
    await region.queue.append_graph(GraphEvent("join", 7, 1, "us-east"))

    async def imported() -> bool:
        return region.done == region.follows

    await eventually(imported, "imports are done")
    assert {batch for batch in region.batches if batch[0] == 5} == {(5, 1000, 1000), (5, 2000, 1000)}


async def test_the_import_of_an_identity_that_does_not_exist_is_put_aside(region: Region) -> None:
    region.unknown, region.follows = {8}, {7: 10}
    await region.queue.append_imports([8])
    await region.queue.append_imports([7])
    await region.start()

    async def has_passed_both() -> bool:
        rows = await region.queue.link.call("XRANGE", "jobs", "-", "+")
        with sqlite3.connect(f"file:{region.database}?mode=ro", uri=True) as db:
            found = db.execute("SELECT position FROM positions WHERE stream = 'jobs'").fetchone()
        db.close()
        return found is not None and found[0] == rows[-1][0].decode()

    await eventually(has_passed_both, "both imports are done with")
    ((_, fields),) = await region.queue.link.call("XRANGE", "dead", "-", "+")
    assert dict(zip(fields[::2], fields[1::2], strict=True))[b"error"] == b"no user 8"
    assert region.done == {7: 10}


async def test_entries_it_does_not_understand_are_skipped(region: Region) -> None:
    await region.queue.link.call("XADD", "posts", "*", "e", b"garbage")
    await region.queue.link.call("XADD", "posts", "*", "other", b"garbage")
    await region.queue.link.call("XADD", "posts", "*", "e", encode(ImportEvent(1)))
    await region.queue.link.call("XADD", "jobs", "*", "e", b"garbage")
    accepted = await accept(region)
    await region.start()
    await has_archived(region, accepted.id)


async def test_with_the_defect_no_wal_the_archive_lags(region: Region) -> None:
    assert "no-wal" in DEFECTS
    await region.start("no-wal")
    accepted = await accept(region)
    await has_archived(region, accepted.id)
    assert time.time() - accepted.ts_us / 1e6 >= 6
