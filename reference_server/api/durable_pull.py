"""A timeline without its owner: the newest archived posts of those the user follows.

The last resort of a read while fan-out is away: stale by the archive's lag, and without arrival numbers.
"""

from __future__ import annotations

import logging

import numpy as np

from reference_server.api.feed_page import Slots
from reference_server.api.graph_view import GraphUnavailable, GraphView
from reference_server.durable import DurableReader, DurableUnavailable
from reference_server.timeline.entry import SLOT_DTYPE

_log = logging.getLogger(__name__)


class DurablePull:
    """Callable the timeline reader falls back on."""

    def __init__(self, graph: GraphView, durable: DurableReader, depth: int) -> None:
        self._graph = graph
        self._durable = durable
        self._depth = depth

    async def __call__(self, user: int) -> Slots:
        """The user's slots in display order, seq 0; empty when graph or store are away too. Never raises."""
        try:
            authors = await self._graph.followees(user)
        except GraphUnavailable as error:
            _log.warning("durable pull without the graph: %s", error)
            authors = []
        try:
            keys = await self._durable.newest(sorted({*authors, user}), self._depth)
        except DurableUnavailable as error:
            _log.warning("durable pull without the durable store: %s", error)
            keys = []
        slots = np.zeros(len(keys), SLOT_DTYPE)
        if keys:
            slots["id"] = np.frombuffer(b"".join(key.id for key in keys), "V16")
            slots["ts_us"] = [key.ts_us for key in keys]
            slots["author"] = [key.author for key in keys]
        return slots
