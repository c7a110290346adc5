"""What a lane's log costs and gives back: bytes written to disk an entry, and how fast a lane is made from it.

One lane of 20,000 users takes posts of 150 followers in groups, over its own memcached, while the oldest records are
dropped, so that flushes, compactions and drops are in the figure. Bytes are those that this process had the kernel
write to files (`write_bytes` of /proc/self/io); the payload is what a record must hold: four bytes a follower, entry,
post id and queue entry. Then the log is taken up again (index from log), and made again from an archive of its posts.
"""

from __future__ import annotations

import asyncio
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import uvloop

from benchmarks._lane import PostSource, machine, memcached_nodes, printed
from reference_server.durable import ArchiveBatch, PostRow, SqliteWriter
from reference_server.fanout.graph_changes import GraphChanges
from reference_server.fanout.pages import FollowerPage, FollowerPages
from reference_server.fanout.replay import EVERYTHING, Replay
from reference_server.fanout.whole_lists import WholeLists
from reference_server.flags import Flags
from reference_server.rpc import RpcClient
from reference_server.timeline.entry import ENTRY_BYTES
from reference_server.timeline.index import Index, Users
from reference_server.timeline.owner import LaneOwner, PostPage
from reference_server.timeline.retention import Retention
from reference_server.timeline.takeover import join_cache, take_up
from reference_server.timeline.wal import Wal

USERS = 20_000
FOLLOWERS = 150
GROUP = 16
GROUPS = 6000
KEPT_RECORDS = 50_000
ARCHIVED = 20_000
PAYLOAD_BYTES = 4 * FOLLOWERS + ENTRY_BYTES + 16 + len(b"posts:1700000000000-0")
TARGET_RATIO = 4.0
"""log, flush and two levels of compaction"""


def written_bytes() -> int:
    """What this process had the kernel write to files so far."""
    for line in Path("/proc/self/io").read_text().splitlines():
        name, _, value = line.partition(": ")
        if name == "write_bytes":
            return int(value)
    return 0


def open_owner(directory: Path) -> LaneOwner:
    """The lane, its index filled from its log."""

    def make_owner(wal: Wal) -> LaneOwner:
        return LaneOwner(0, wal, Index(wal.epoch, range(USERS), USERS, 800), lambda _, __: None)

    return take_up(directory, make_owner)


def make_pages() -> list[Users]:
    random = np.random.default_rng(1)
    return [np.sort(random.choice(USERS, FOLLOWERS, replace=False)).astype(np.uint32) for _ in range(500)]


async def write(owner: LaneOwner, pages: list[Users]) -> float:
    """Bytes written to disk an entry."""
    source = PostSource(np.zeros(0, np.uint32))
    keeper = Retention(owner, lambda: 1e9, KEPT_RECORDS)
    before = written_bytes()
    for group in range(GROUPS):
        items: list[PostPage] = [source.page(pages[source.count % len(pages)]) for _ in range(GROUP)]
        await owner.wait_room()
        owner.write(items, "posts", f"{source.count}-0")
        if group % 100 == 0:
            await keeper.step(time.time())
    await owner.wait_applied(owner.index.next - 1)
    await keeper.close()
    await asyncio.to_thread(owner.wal.sync)
    return (written_bytes() - before) / (GROUPS * GROUP * FOLLOWERS)


def take_up_again(directory: Path) -> float:
    """Entries a second, from log to index."""
    began = time.perf_counter()
    owner = open_owner(directory)
    took_s = time.perf_counter() - began
    entries = (owner.index.next - owner.index.first) * FOLLOWERS
    owner.wal.close()
    return entries / took_s


class FixedPages(FollowerPages):
    """Follower lists that are there already: what is measured is the lane, not the graph."""

    def __init__(self, pages: list[Users]) -> None:
        client = RpcClient("nowhere")
        super().__init__(client, GraphChanges(client, 1), 1, 1, Flags)
        self._fixed = [FollowerPage([0, len(page)], page, [0, 0], page[:0], True, 0) for page in pages]

    async def look(self) -> None:
        """They do not change."""

    async def request_many(self, wanted: Any) -> list[asyncio.Future[FollowerPage]]:
        """Every author's only page."""
        loop = asyncio.get_running_loop()
        futures = [loop.create_future() for _ in wanted]
        for future, (author, _) in zip(futures, wanted, strict=True):
            future.set_result(self._fixed[author])
        return futures


async def replay(folder: Path, pages: list[Users]) -> float:
    """Entries a second, from archive to log and index."""
    now_us = time.time_ns() // 1000
    rows = [
        PostRow((now_us // 1000 + n).to_bytes(6, "big") + bytes(10), n % len(pages), now_us + n, "text", b"")
        for n in range(ARCHIVED)
    ]
    archive = SqliteWriter(folder / "durable.db")
    archive.archive(ArchiveBatch(rows, [], {"posts": "1-0"}))
    archive.close()
    owner = open_owner(folder / "1")
    lists = WholeLists(FixedPages(pages), 1)
    again = Replay(owner, folder / "durable.db", lists, retention_s=86_400.0, not_before_us=0)
    began = time.perf_counter()
    await again.begin(EVERYTHING)
    await again.run()
    took_s = time.perf_counter() - began
    owner.wal.close()
    return again.entries / took_s


async def measure() -> dict[str, Any]:
    """One run."""
    pages = make_pages()
    with memcached_nodes(1) as ports, TemporaryDirectory(prefix="feedstorm-bench-") as name:
        folder = Path(name)
        owner = open_owner(folder / "0")
        await join_cache(owner, ports, timeout_s=30.0)
        an_entry = await write(owner, pages)
        kept, size_bytes = owner.index.next - owner.index.first, owner.wal.size_bytes()
        await owner.close()
        taken_up = await asyncio.to_thread(take_up_again, folder / "0")
        replayed = await replay(folder, pages)
    ratio = an_entry * FOLLOWERS / PAYLOAD_BYTES
    return {
        "benchmark": f"bytes a lane's log writes to disk, of what its records hold, {FOLLOWERS} followers a post",
        "ratio": round(ratio, 2),
        "target": f"<= {TARGET_RATIO:g}",
        "ok": bool(0 < ratio <= TARGET_RATIO),
        "details": f"{an_entry:.1f} B an entry; {kept:,} of {GROUPS * GROUP:,} records kept in {size_bytes >> 20} MB; "
        f"taken up at {taken_up:,.0f} entries/s, made again from an archive at {replayed:,.0f} entries/s",
        "machine": machine(),
    }


def main() -> int:
    """Print one JSON line."""
    return printed(uvloop.run(measure()))


if __name__ == "__main__":
    sys.exit(main())
