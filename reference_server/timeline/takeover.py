"""Taking over a lane: index from the log, then the cache brought level with it.

The order matters: log scanned, memcached joined, everything behind the applied mark appended again and its barrier
awaited; only then is the lane's socket served. So a head that an edge learns here is never behind what an earlier owner
has notified.
"""

from __future__ import annotations

import numpy as np

from reference_server.partition import lanes_of
from reference_server.timeline.cache_writer import TIMEOUT_S, CacheWriter
from reference_server.timeline.entry import ENTRY_BYTES, make_seq
from reference_server.timeline.owner import LaneOwner
from reference_server.timeline.wal import Kind, LogRecord

STREAMS = ("posts", "celeb")
_GROUP = 64


class LogDamaged(ValueError):
    """Records are missing in the middle of a log."""


def lane_users(lane: int, lanes: int, population: int) -> list[int]:
    """The users of a lane, ascending."""
    users: list[int] = np.flatnonzero(lanes_of(np.arange(population, dtype=np.uint32), lanes) == lane).tolist()
    return users


def restore(owner: LaneOwner) -> None:
    """Fill an owner's index from its log. Blocks (about 1 s for 3 M entries): call it in a thread. Raises
    LogDamaged.
    """
    wal, index = owner.wal, owner.index
    index.statuses = wal.statuses()
    in_progress = {p.post_id for _, p in map(wal.position, STREAMS) if p is not None}
    pages: list[bytes] = []
    for record in wal.records():
        _restore_record(owner, record)
        post_id = record.entry[:16]
        if post_id in in_progress:
            owner.reached.setdefault(post_id, set()).update(np.frombuffer(record.page, "<u4").tolist())
        pages.append(record.page)
    lengths = [len(page) // 4 for page in pages]
    numbers = np.repeat(np.arange(1, len(lengths) + 1, dtype=np.uint32), lengths)
    index.fill(np.frombuffer(b"".join(pages), "<u4"), numbers)
    index.sweep(1 << 30)
    for user, until_s in wal.hot_until().items():
        owner.activity.hot_until[user] = until_s
    owner.applied = min(wal.number("applied"), index.next - 1)


def _restore_record(owner: LaneOwner, record: LogRecord) -> None:
    index, entry = owner.index, record.entry
    if record.number != index.next:
        raise LogDamaged(f"lane {owner.lane}: record {record.number} where {index.next} was expected")
    status = index.statuses.get(entry[:16])
    if status is not None:
        entry = entry[: ENTRY_BYTES - 1] + bytes([status])
    index.put_slot(make_seq(index.epoch, record.number).to_bytes(8, "big") + entry)
    if record.kind == Kind.POST:
        index.note_author(int.from_bytes(entry[24:32], "big", signed=True), record.number)


async def join_cache(owner: LaneOwner, port: int, timeout_s: float = TIMEOUT_S) -> None:
    """Connect the lane to memcached and append again what may not have been applied before the last owner's end."""
    index, wal = owner.index, owner.wal
    behind = owner.applied
    owner.cache = CacheWriter(
        owner.lane,
        index.users,
        len(index.lists),
        port,
        wal.number("gen"),
        owner.store_gen,
        owner.note_applied,
        timeout_s,
    )
    await owner.cache.join()
    for start in range(behind + 1, index.next, _GROUP):
        await owner.cache.wait_room()
        appends, last = owner.cache.appends(), min(start + _GROUP, index.next) - 1
        for record in wal.records(start):
            if record.number > last:
                break
            users = np.frombuffer(record.page, "<u4").astype(np.uint32)
            appends.slot(index.slots[record.number].tobytes(), users)
        owner.cache.send(appends, last)
    await owner.wait_applied(index.next - 1)
