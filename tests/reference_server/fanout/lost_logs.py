"""An archive for a FanoutRegion, and ways to lose a lane's log."""

from __future__ import annotations

import shutil
import time
from pathlib import Path

from fanout_region import FanoutRegion

from reference_server.api.post_ids import new_post_id
from reference_server.durable import ArchiveBatch, PostRow, SqliteWriter, StatusRow
from reference_server.durable.sqlite_writer import FILE_NAME
from reference_server.events import FIELD, DeleteEvent, PostEvent, StatusEvent, decode
from reference_server.partition import lane_of
from reference_server.timeline.cached import for_display
from reference_server.timeline.entry import Status, status_of


async def post(region: FanoutRegion, author: int, stream: str = "posts") -> bytes:
    """A post with an id of the present, as the api makes them; each in a millisecond of its own."""
    return await region.post(author, stream, new_post_id(time.time_ns() // 1000 + 1000 * region.count))


async def archive(region: FanoutRegion, *, trim: bool) -> None:
    """Archive all that is in the queue, as the jobs process does; `trim`: and drop it from the queue."""
    batch = ArchiveBatch()
    for stream in ("posts", "celeb"):
        rows = await region.queue.xrange(stream)
        for _, fields in rows:
            match decode(fields[FIELD.encode()]):
                case PostEvent() as event:
                    batch.posts.append(PostRow(event.id, event.author, event.ts_us, "", b"", labels=event.labels))
                case DeleteEvent() as event:
                    batch.statuses.append(StatusRow(event.id, Status.DELETED))
                case StatusEvent() as event:
                    batch.statuses.append(StatusRow(event.id, event.status, event.hlc))
        if rows:
            batch.positions[stream] = rows[-1][0].decode()
    writer = SqliteWriter(archive_file(region))
    writer.archive(batch)
    writer.close()
    for stream, position in batch.positions.items() if trim else ():
        await region.queue.xtrim(stream, minid=position, approximate=False)


def archive_file(region: FanoutRegion) -> Path:
    return region.settings.data("test") / FILE_NAME


def lane_directory(region: FanoutRegion, lane: int) -> Path:
    return region.settings.data("test", "lanes") / str(lane)


def lose(region: FanoutRegion, lane: int, how: str) -> None:
    """Make a stopped worker's log unusable."""
    directory = lane_directory(region, lane)
    if how == "gone":
        shutil.rmtree(directory)
    elif how == "CURRENT gone":
        (directory / "CURRENT").unlink()
    else:
        for path in directory.iterdir():
            path.write_bytes(b"garbage" * 20)


async def kill(region: FanoutRegion) -> None:
    """SIGKILL all workers."""
    for worker in region.workers:
        worker.kill()
        worker.wait()
    region.workers.clear()


async def feeds(region: FanoutRegion, users: range) -> dict[int, list[bytes]]:
    """user -> ids that a feed shows, in display order; the user comes back for it, so nothing is owed any more."""
    found = {}
    for user in users:
        lane = lane_of(user, region.settings.lanes)
        await region.call(lane, "materialise", user, 60)
        slots = for_display((await region.call(lane, "rebuild", user))[4])
        found[user] = [row["id"].tobytes() for row in slots if status_of(int(row["status"])) is Status.VISIBLE]
    return found
