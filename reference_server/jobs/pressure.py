"""Whether the region is busy with what its users wait for: then background work rests.

Looked at: how old the oldest post is that fan-out or the archiver has not taken from its stream. Of the archiver both
streams count, as what it has not taken is nowhere else on a disk for long; of fan-out only ordinary posts, as
celebrities' are late on purpose.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence

from prometheus_client import Gauge

from reference_server.events import STREAM_POSTS
from reference_server.jobs.archiver import STREAMS as ARCHIVED
from reference_server.queue import START, QueueUnavailable, StreamKeeper, position_key
from reference_server.rpc import RpcClient, RpcError, RpcTimeout, RpcUnavailable

LOOK_EVERY_S = 0.5
FANOUT_LAG_S = 1.0
ARCHIVE_LAG_S = 5.0
CALM_S = 2.0
"""pressure ends when nothing lagged for so long"""
_LANE_TIMEOUT_S = 0.5
LAG = Gauge("feed_jobs_seen_lag_seconds", "Age of the oldest entry that a consumer has not taken", ["consumer"])
PRESSURE = Gauge("feed_jobs_pressure", "Whether background work is held back (1) or not (0)")


class Pressure:
    """Watches the consumers of the post stream."""

    def __init__(
        self, keeper: StreamKeeper, lanes: Sequence[RpcClient], archived: Callable[[], Mapping[str, str]]
    ) -> None:
        """`archived`: stream -> position of the archiver."""
        self._keeper, self._lanes, self._archived = keeper, lanes, archived
        self._calm_from_s = 0.0

    def is_high(self) -> bool:
        """Whether deferrable work should wait."""
        return time.monotonic() < self._calm_from_s

    async def run(self) -> None:
        """Look, for ever."""
        while True:
            await self.look()
            await asyncio.sleep(LOOK_EVERY_S)

    async def look(self) -> None:
        """Look once. A queue that is away is pressure too."""
        try:
            fanout_s = await self._age_behind(STREAM_POSTS, await self._slowest_lane())
            archived = self._archived()
            archive_s = max([await self._age_behind(stream, archived.get(stream, START)) for stream in ARCHIVED])
        except QueueUnavailable:
            fanout_s = archive_s = float("inf")
        LAG.labels("fanout").set(fanout_s)
        LAG.labels("archive").set(archive_s)
        if fanout_s > FANOUT_LAG_S or archive_s > ARCHIVE_LAG_S:
            self._calm_from_s = time.monotonic() + CALM_S
        PRESSURE.set(float(self.is_high()))

    async def _age_behind(self, stream: str, position: str) -> float:
        """Age in s of the first post behind the position; 0: there is none."""
        entries = await self._keeper.entries(stream, position, 1)
        return max(0.0, time.time() - entries[0].accepted_ms / 1000) if entries else 0.0

    async def _slowest_lane(self) -> str:
        positions = await asyncio.gather(*(self._position(lane) for lane in self._lanes))
        return min(positions, key=position_key)

    async def _position(self, lane: RpcClient) -> str:
        try:
            answer: dict[str, str] = await lane.call("position", timeout_s=_LANE_TIMEOUT_S)
        except (RpcUnavailable, RpcTimeout, RpcError):
            return START  # nobody works on it: whatever is in the stream waits
        return answer.get(STREAM_POSTS, START)
