"""Taking over a lane: index from the log, then the cache brought level with it.

The order matters: log scanned, memcached joined, everything behind the applied mark appended again and its barrier
awaited; only then is the lane's socket served. So a head that an edge learns here is never behind what an earlier owner
has notified. A log that cannot be read is set aside, and a new one begun.
"""

from __future__ import annotations

import struct
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec
import numpy as np

from reference_server.partition_arrays import lanes_of
from reference_server.timeline.cache_writer import TIMEOUT_S
from reference_server.timeline.entry import make_seq
from reference_server.timeline.lane_cache import LaneCache, gen_name
from reference_server.timeline.log_files import BUFFER_MB, LogDamaged, is_damage, set_aside, suspicion
from reference_server.timeline.owner import LaneOwner
from reference_server.timeline.reader import HOT_MARK_S
from reference_server.timeline.wal import COMPLETE, TAIL_LOST, Kind, LogRecord, Wal

STREAMS = ("posts", "celeb")
_GROUP = 64
_FILL_BYTES = 16 << 20
"""pages gathered before they go into the lists"""


def lane_users(lane: int, lanes: int, population: int) -> list[int]:
    """The users of a lane, ascending."""
    users: list[int] = np.flatnonzero(lanes_of(np.arange(population, dtype=np.uint32), lanes) == lane).tolist()
    return users


def take_up(
    directory: Path, make_owner: Callable[[Wal], LaneOwner], *, keeps_records: bool = True, buffer_mb: int = BUFFER_MB
) -> LaneOwner:
    """The owner of the log in a directory, index filled; a log that is damaged is set aside, a new one begun.

    Blocks (about 1 s for 3 M entries): call it in a thread. Raises OSError, and LogDamaged when that happens twice.
    """
    try:
        if reason := suspicion(directory):
            raise LogDamaged(reason)
        return _taken_up(directory, make_owner, keeps_records, buffer_mb)
    except LogDamaged as error:
        set_aside(directory, str(error))
    return _taken_up(directory, make_owner, keeps_records, buffer_mb)


def _taken_up(
    directory: Path, make_owner: Callable[[Wal], LaneOwner], keeps_records: bool, buffer_mb: int
) -> LaneOwner:
    wal = Wal(directory, keeps_records=keeps_records, buffer_mb=buffer_mb)
    try:
        owner = make_owner(wal)
        restore(owner)
        return owner
    except Exception as error:
        wal.close()
        if is_damage(error):
            raise LogDamaged(str(error)) from error
        raise


def restore(owner: LaneOwner) -> None:
    """Fill an owner's index from its log. Blocks: call it in a thread. Raises LogDamaged."""
    wal, index = owner.wal, owner.index
    try:
        index.start(max(1, wal.number("first")))
        index.horizon_us = wal.number("horizon")
        index.statuses = dict(sorted(wal.statuses().items(), key=lambda item: item[1].at_s))
        in_progress = {p.post_id for _, begun in map(wal.position, STREAMS) for p in begun if p.page != COMPLETE}
        for user, until_s in wal.hot_until().items():
            owner.activity.hot_until[user] = until_s
        _restore_records(owner, in_progress)
    except (ValueError, IndexError, struct.error, msgspec.MsgspecError) as error:
        raise LogDamaged(f"lane {owner.lane}: {error}") from error
    owner.applied = min(wal.number("applied"), index.next - 1)
    if wal.number(TAIL_LOST):
        batch = wal.batch()
        owner.mark_all_hot(time.time() + HOT_MARK_S, batch)
        wal.write(batch)


def _restore_records(owner: LaneOwner, in_progress: set[bytes]) -> None:
    wal, index = owner.wal, owner.index
    first, pages, size_bytes = index.next, list[bytes](), 0
    for record in wal.records():
        _restore_record(owner, record)
        post_id = record.entry[:16]
        if post_id in in_progress:
            owner.note_reached(post_id, np.frombuffer(record.page, "<u4"))
        pages.append(record.page)
        size_bytes += len(record.page)
        if size_bytes >= _FILL_BYTES:
            _fill(owner, first, pages)
            first, pages, size_bytes = index.next, [], 0
    _fill(owner, first, pages)
    if not wal.is_volatile and index.next != max(1, wal.number("next")):
        raise ValueError(f"records end at {index.next - 1}, {wal.number('next') - 1} were written")


def _restore_record(owner: LaneOwner, record: LogRecord) -> None:
    index, entry = owner.index, record.entry
    if record.number != index.next:
        raise ValueError(f"record {record.number} where {index.next} was expected")
    index.put_slot(make_seq(index.epoch, record.number).to_bytes(8, "big") + entry)
    if record.kind == Kind.POST:
        index.note_author(int.from_bytes(entry[24:32], "big", signed=True), record.number)


def _fill(owner: LaneOwner, first: int, pages: list[bytes]) -> None:
    lengths = [len(page) // 4 for page in pages]
    numbers = np.repeat(np.arange(first, first + len(lengths), dtype=np.uint32), lengths)
    owner.index.fill(np.frombuffer(b"".join(pages), "<u4"), numbers)
    owner.index.sweep(1 << 30)


async def _end_sessions(owner: LaneOwner) -> None:
    """Sessions were opened with posts handed over in a tail that is lost: they are to be opened again."""
    assert owner.cache is not None
    await owner.cache.end_sessions()
    batch = owner.wal.batch()
    batch.number(TAIL_LOST, 0)
    owner.wal.write(batch)


async def join_cache(owner: LaneOwner, ports: Sequence[int], timeout_s: float = TIMEOUT_S) -> None:
    """Connect the lane to its memcached nodes; append again what may not have been applied at the last owner's end."""
    index, wal = owner.index, owner.wal
    behind = owner.applied
    owner.cache = LaneCache(
        owner.lane,
        index.users,
        len(index.lists),
        ports,
        [wal.number(gen_name(node)) or wal.epoch << 20 for node in range(len(ports))],
        owner.store_gen,
        owner.note_applied,
        timeout_s,
    )
    await owner.cache.join()
    if wal.number(TAIL_LOST):
        await _end_sessions(owner)
    for start in range(behind + 1, index.next, _GROUP):
        await owner.cache.wait_room()
        appends, last = owner.cache.appends(), min(start + _GROUP, index.next) - 1
        for record in wal.records(start):
            if record.number > last:
                break
            users = np.frombuffer(record.page, "<u4").astype(np.uint32)
            appends.slot(index.slot(record.number), users)
        owner.cache.send(appends, last)
    await owner.wait_applied(index.next - 1)
