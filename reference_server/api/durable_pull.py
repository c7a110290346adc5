"""A feed without its owner: the newest archived posts of those the user follows, behind any place.

Two uses. The end of a feed, older than what lanes keep: complete, as all of that is archived. And the last resort of a
read while fan-out is away: stale by the archive's lag, and without arrival numbers.
"""

from __future__ import annotations

import logging

import numpy as np

from reference_server.api.graph_view import GraphUnavailable, GraphView
from reference_server.durable import DurableReader, DurableUnavailable, PostKey
from reference_server.timeline.cached import Slots
from reference_server.timeline.display import Key, Row
from reference_server.timeline.slots import SLOT_DTYPE

_log = logging.getLogger(__name__)


class DurablePull:
    """Callable the timeline reader falls back on."""

    def __init__(self, graph: GraphView, durable: DurableReader, depth: int) -> None:
        self._graph = graph
        self._durable = durable
        self._depth = depth

    @property
    def is_lacking(self) -> bool:
        """See DurableReader."""
        return self._durable.is_lacking

    async def __call__(self, user: int, after: Key | None) -> Slots | None:
        """The user's newest slots behind the place, in display order, seq 0; None when graph or store are away too.

        Never raises.
        """
        keys = await self._newest(user, after, self._depth)
        if keys is None:
            return None
        slots = np.zeros(len(keys), SLOT_DTYPE)
        if keys:
            slots["id"] = np.frombuffer(b"".join(key.id for key in keys), "V16")
            slots["ts_us"] = [key.ts_us for key in keys]
            slots["author"] = [key.author for key in keys]
            slots["status"] = [key.labels << 4 for key in keys]
        return slots

    async def older(self, user: int, before: Key, count: int) -> list[Row] | None:
        """The newest `count` posts of the user's feed behind a place, in display order; None as above."""
        keys = await self._newest(user, before, count)
        return None if keys is None else [(key.id, key.ts_us, key.author, key.labels << 4) for key in keys]

    async def _newest(self, user: int, after: Key | None, count: int) -> list[PostKey] | None:
        try:
            authors = await self._graph.followees(user)
            return await self._durable.newest(sorted({*authors, user}), count, after)
        except GraphUnavailable as error:
            _log.warning("durable pull without the graph: %s", error)
        except DurableUnavailable as error:
            _log.warning("durable pull without the durable store: %s", error)
        return None
