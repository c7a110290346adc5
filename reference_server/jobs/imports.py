"""Imports of inherited follows: jobs stream -> graph, a thousand follows a batch, off the critical path of a sign-up.

When a user's follows are in, the owner of his lane writes what the followees posted meanwhile into his timeline.

The position moves when the imports of a batch of jobs are done, so a crash repeats some; the graph tells where each
stood, and its batches are idempotent.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from typing import Any

from prometheus_client import Counter

from reference_server.durable import ArchiveBatch
from reference_server.events import STREAM_GRAPH, STREAM_JOBS, ImportEvent
from reference_server.jobs.store import Store
from reference_server.partition import lane_of
from reference_server.queue import START, StreamKeeper
from reference_server.rpc import RpcClient, RpcError, RpcTimeout, RpcUnavailable

FOLLOWS_A_BATCH = 1000
JOBS_A_BATCH = 64
AT_ONCE = 8
CALL_TIMEOUT_S = 10.0
RETRY_S = (0.05, 1.0)
"""pause after a failed call: first, longest"""
RETRIED = frozenset({"timeout", "unavailable"})
"""refusals that only mean "not yet" (the graph has not applied what it is to wait for)"""
_log = logging.getLogger(__name__)
_IMPORTS = Counter("jobs_imports", "Imports finished, by outcome", ["outcome"])
_FOLLOWS = Counter("jobs_imported_follows", "Inherited follows imported")


class Imports:
    """Runs the imports of one region."""

    def __init__(self, keeper: StreamKeeper, store: Store, graph: RpcClient, lanes: Sequence[RpcClient]) -> None:
        """`lanes`: the lanes' owners, by lane."""
        self._keeper = keeper
        self._store = store
        self._graph = graph
        self._lanes = lanes
        self._slots = asyncio.Semaphore(AT_ONCE)
        self.position = START

    async def start(self) -> None:
        """Take up where the last process stood."""
        self.position = (await self._store.positions()).get(STREAM_JOBS, START)

    async def step(self) -> bool:
        """Run the next imports; True when more are waiting. Raises QueueUnavailable, sqlite3.Error."""
        entries = await self._keeper.entries(STREAM_JOBS, self.position, JOBS_A_BATCH)
        if not entries:
            return False
        await self._sync()
        users = dict.fromkeys(entry.event.user for entry in entries if isinstance(entry.event, ImportEvent))
        async with asyncio.TaskGroup() as group:
            for user in users:
                group.create_task(self._import(user))
        await self._store.archive(ArchiveBatch(positions={STREAM_JOBS: entries[-1].id}))
        self.position = entries[-1].id
        return len(entries) == JOBS_A_BATCH

    async def _sync(self) -> None:
        """Wait until the graph has every sign-up whose import was queued (it stands before it in the graph stream)."""
        for entry in await self._keeper.last(STREAM_GRAPH):
            await self._call("sync", entry.id)

    async def _import(self, user: int) -> None:
        async with self._slots:
            try:
                done, total = int((await self._call("user", user))["done"]), -1
                while done != total:
                    before = done
                    done, total = await self._call("import_batch", user, done, FOLLOWS_A_BATCH)
                    _FOLLOWS.inc(done - before)
                    if done <= before and done != total:
                        raise RpcError("no-progress", f"stands at {done} of {total}")
            except RpcError as error:
                _log.error("import of user %d refused: %s", user, error)
                _IMPORTS.labels("refused").inc()
            else:
                _IMPORTS.labels("done").inc()
                await self._catch_up(user)

    async def _catch_up(self, user: int) -> None:
        """Have what the followees wrote before and while their follows were imported written into the timeline."""
        try:
            await self._ask(self._lanes[lane_of(user, len(self._lanes))], "materialise", user, 0, True)
        except RpcError as error:
            _log.warning("timeline of user %d waits for its next session: %s", user, error)

    async def _call(self, method: str, *arguments: Any) -> Any:
        """The graph's answer, however long it is away. Raises RpcError when it refuses."""
        return await self._ask(self._graph, method, *arguments)

    async def _ask(self, part: RpcClient, method: str, *arguments: Any) -> Any:
        pause_s, longest_s = RETRY_S
        while True:
            try:
                return await part.call(method, *arguments, timeout_s=CALL_TIMEOUT_S)
            except (RpcUnavailable, RpcTimeout):
                pass
            except RpcError as error:
                if error.code not in RETRIED:
                    raise
            await asyncio.sleep(pause_s)
            pause_s = min(longest_s, pause_s * 2)
