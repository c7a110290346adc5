"""Where a lane that keeps no records begins: behind what the archive has.

What the lane had is gone with its last owner, and readers get it from the durable store. Posts that are not archived
yet are in the queue, which is trimmed below the archive's position only: they are read, and written, again.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Mapping
from pathlib import Path

from reference_server.durable.protocol import DurableUnavailable
from reference_server.durable.replay import DurableDamaged
from reference_server.durable.sqlite_replay import SqliteReplay
from reference_server.fanout.lane_feed import parse_position
from reference_server.timeline.owner import LaneOwner
from reference_server.timeline.takeover import STREAMS

_log = logging.getLogger(__name__)
PATIENCE_S = 10.0
"""how long an archive that is locked is waited for"""
_RETRY_S = 0.2


async def read_again(owner: LaneOwner, archive: Path) -> None:
    """Move the lane's positions back to the archive's where they are ahead; the lane must not be fed yet."""
    try:
        archived = await _positions(archive)
    except (DurableUnavailable, DurableDamaged) as error:
        _log.error("lane %d: what is not archived may be missing until it is: %s", owner.lane, error)
        return
    batch, moved = owner.wal.batch(), False
    for stream in STREAMS:
        position = archived.get(stream, "0-0")
        if parse_position(position) < parse_position(owner.wal.position(stream)[0]):
            batch.position(stream, position)
            moved = True
    if moved:
        batch.seen_dropped()
        owner.wal.write(batch)


async def _positions(archive: Path) -> Mapping[str, str]:
    """How far the archive goes; one that is locked is asked again for a while, one that is not there has nothing."""
    deadline_s = time.monotonic() + PATIENCE_S
    while True:
        try:
            return await asyncio.to_thread(_read, archive)
        except FileNotFoundError:
            return {}
        except DurableUnavailable:
            if time.monotonic() > deadline_s:
                raise
            await asyncio.sleep(_RETRY_S)


def _read(archive: Path) -> Mapping[str, str]:
    opened = SqliteReplay(archive)
    try:
        return opened.positions()
    finally:
        opened.close()
