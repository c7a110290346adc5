"""Streams are trimmed below what all their consumers have made durable: archiver and every lane.

The outbox is the peers': their replicators' acknowledgements trim it, and while one stays away it grows up to the limit
where writes are refused (429). Only in a region without peers it is cut here, as nobody else does.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence

from reference_server.events import STREAM_JOBS, STREAM_OUTBOX
from reference_server.queue import START, StreamKeeper, position_key
from reference_server.rpc import RpcClient, RpcError, RpcTimeout, RpcUnavailable

OUTBOX_KEPT = 500_000
"""events kept for peers that a region without peers may get; below `Limits.outbox`, so that writes go on"""
LANE_TIMEOUT_S = 1.0


class Trimmer:
    """Trims the streams of one region."""

    def __init__(self, keeper: StreamKeeper, lanes: Sequence[RpcClient], *, has_peers: bool) -> None:
        self._keeper = keeper
        self._lanes = lanes
        self._has_peers = has_peers

    async def step(self, archived: Mapping[str, str], jobs_position: str) -> None:
        """Trim once; nothing below an unknown position is dropped. Raises QueueUnavailable."""
        lanes = await asyncio.gather(*(self._position(lane) for lane in self._lanes))
        for stream, position in archived.items():
            lowest = min([position, *(lane.get(stream, START) for lane in lanes)], key=position_key)
            if lowest != START:
                await self._keeper.trim_below(stream, lowest)
        if jobs_position != START:
            await self._keeper.trim_below(STREAM_JOBS, jobs_position)
        if not self._has_peers:
            await self._keeper.trim_to(STREAM_OUTBOX, OUTBOX_KEPT)

    async def _position(self, lane: RpcClient) -> Mapping[str, str]:
        try:
            answer: dict[str, str] = await lane.call("position", timeout_s=LANE_TIMEOUT_S)
        except (RpcUnavailable, RpcTimeout, RpcError):
            return {}
        return answer
