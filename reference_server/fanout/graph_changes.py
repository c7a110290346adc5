"""Whose follower pages must wait for the graph: changes of its stream that it may not have applied yet.

A follow is acknowledged once it is in the graph stream. The graph may apply it much later: it was paused, it began
again, or follow and post came from a peer in one batch. Whoever uses follower pages for posts therefore looks at the
end of the graph stream behind them first. Authors who may get a follower there wait until the graph has applied it;
pages of all others are as good as before, so a graph that is away holds up nobody else.

A join is waited for by the author who joins. Those whom he follows need not wait: his import ends with a merge of all
that they posted (see jobs.imports).
"""

from __future__ import annotations

import asyncio
import logging

from reference_server.events import STREAM_GRAPH, Event, GraphEvent
from reference_server.queue import START, Backpressure, QueueUnavailable, StreamKeeper
from reference_server.queue.stream_keeper import position_key
from reference_server.rpc import RpcClient, RpcError, RpcTimeout, RpcUnavailable

_log = logging.getLogger(__name__)
READ_COUNT = 1000
TIDY_EVERY_S = 1.0
_FIRST_RETRY_S, _LAST_RETRY_S = 0.02, 0.5
_GRAPH_FAILED = (RpcUnavailable, RpcTimeout, RpcError)


def gains(event: Event | None) -> tuple[int, ...]:
    """Authors who may get a follower by the event."""
    if not isinstance(event, GraphEvent):
        return ()
    if event.verb == "join":
        return (event.user,)
    if event.verb == "follow":
        return (event.other,)
    return (event.user, event.other) if event.verb == "unblock" else ()


class GraphChanges:
    """The end of one region's graph stream."""

    def __init__(self, graph: RpcClient, redis_queue_port: int) -> None:
        self._graph, self._keeper = graph, StreamKeeper(redis_queue_port)
        self._seen = ""
        """id of the last entry read; "": the stream was not looked at yet"""
        self._looking = asyncio.Lock()
        self._everybody = START
        """all authors wait until the stream is applied up to there: so much of it was not read"""
        self._awaited: dict[int, str] = {}
        self.levels = 0
        """how often changes were found to be applied"""

    async def look(self) -> None:
        """Read on to the end of the stream. Raises QueueUnavailable, Backpressure."""
        async with self._looking:
            await self._read_on()

    async def _read_on(self) -> None:
        if not self._seen:
            newest = await self._keeper.last(STREAM_GRAPH)
            self._seen = self._everybody = newest[0].id if newest else START
            return
        more = True
        while more:
            entries = await self._keeper.entries(STREAM_GRAPH, self._seen, READ_COUNT)
            for entry in entries:
                self._awaited.update(dict.fromkeys(gains(entry.event), entry.id))
                self._seen = entry.id
            more = len(entries) == READ_COUNT

    def awaited(self, author: int) -> str:
        """Up to where the graph has to apply its stream before the author's pages are used; "0-0": they are as new."""
        return self._awaited.get(author, self._everybody)

    async def settle(self, author: int) -> bool:
        """Return when the graph has applied what is awaited, however long that takes.

        False: it could not have cached pages deleted, they may be out of date.
        """
        wait_s = _FIRST_RETRY_S
        while (position := self.awaited(author)) != START:
            try:
                return await self._level(position)
            except _GRAPH_FAILED as error:
                _log.warning("posts of %d wait for a change of the graph: %s", author, error)
                await asyncio.sleep(wait_s)
                wait_s = min(2 * wait_s, _LAST_RETRY_S)
        return True

    async def run(self) -> None:
        """Forget what the graph has applied, for ever."""
        while True:
            await asyncio.sleep(TIDY_EVERY_S)
            try:
                await self.look()
                if self._awaited or self._everybody != START:
                    await self._level(self._seen)
            except (QueueUnavailable, Backpressure, *_GRAPH_FAILED) as error:
                _log.debug("%d authors wait for the graph: %s", len(self._awaited), error)

    async def close(self) -> None:
        """Drop the connection to redis-queue."""
        await self._keeper.close()

    async def _level(self, position: str) -> bool:
        """Wait until the graph has applied its stream up to there; whether cached pages are as new."""
        if not await self._graph.call("sync", position):
            return False
        self.levels += 1
        upto = position_key(position)
        self._awaited = {author: entry for author, entry in self._awaited.items() if position_key(entry) > upto}
        if position_key(self._everybody) <= upto:
            self._everybody = START
        return True
