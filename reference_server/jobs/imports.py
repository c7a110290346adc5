"""Imports of inherited follows: jobs stream -> graph, a thousand follows a step, off the critical path of a sign-up.

When a user's follows are in, the owner of his lane writes what the followees posted meanwhile into his timeline. Both
are jobs of the scheduler. The stored position follows the oldest import that is not done, so a crash repeats some; the
graph tells where each stood, and its batches are idempotent.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

from prometheus_client import Counter

from reference_server.durable import ArchiveBatch
from reference_server.events import STREAM_GRAPH, STREAM_JOBS, ImportEvent
from reference_server.jobs.scheduler import Kind, NotYet, Priority, Scheduler
from reference_server.jobs.store import Store
from reference_server.partition import lane_of
from reference_server.queue import START, Backpressure, Entry, QueueUnavailable, StreamKeeper
from reference_server.rpc import RpcClient, RpcError, RpcTimeout, RpcUnavailable

FOLLOWS_A_STEP = 1000
WINDOW = 2000
"""imports under way: read and not done"""
READ_AHEAD = 200_000
"""how far reading goes on behind the oldest import that is not done: all that is read again after a crash"""
BATCH = 200
PART = "jobs"
"""how dead letters name it"""
CALL_TIMEOUT_S = 10.0
FINAL = frozenset({"not-found", "bad-request"})
"""refusals that asking again does not change; all others only mean "not yet" """
IMPORT = Kind("import", Priority.NORMAL, at_once=8, per_s=2000, deadline_s=60)
CATCH_UP = Kind("catch-up", Priority.BACKGROUND, at_once=8, per_s=1000, deadline_s=120)
"""the timeline of a user whose follows are in"""
KINDS = [IMPORT, CATCH_UP]
_log = logging.getLogger(__name__)
_IMPORTS = Counter("feed_imports", "Imports finished, by outcome", ["outcome"])
_FOLLOWS = Counter("feed_imported_follows", "Inherited follows imported")


async def ask(part: RpcClient, method: str, *arguments: Any) -> Any:
    """A part's answer. Raises NotYet when it is away, not so far or fails, RpcError when it refuses for good."""
    try:
        return await part.call(method, *arguments, timeout_s=CALL_TIMEOUT_S)
    except (RpcUnavailable, RpcTimeout) as error:
        raise NotYet(str(error)) from error
    except RpcError as error:
        if error.code in FINAL:
            raise
        raise NotYet(str(error)) from error


class Imports:
    """Turns the jobs stream of one region into jobs."""

    def __init__(
        self,
        keeper: StreamKeeper,
        store: Store,
        graph: RpcClient,
        lanes: Sequence[RpcClient],
        scheduler: Scheduler,
    ) -> None:
        """`lanes`: the lanes' owners, by lane."""
        self.graph, self.lanes, self.scheduler = graph, lanes, scheduler
        self._keeper, self._store = keeper, store
        self._open: dict[str, bool] = {}
        """entries read -> whether their import is done; in the order of the stream"""
        self._unfinished = 0
        self._read = START
        self.position = START

    async def start(self) -> None:
        """Take up where the last process stood. Raises sqlite3.Error."""
        self.position = self._read = (await self._store.positions()).get(STREAM_JOBS, START)

    async def step(self) -> bool:
        """Read further jobs, store how far all are done; True when more may be read. Raises QueueUnavailable."""
        await self._settle()
        room = min(WINDOW - self._unfinished, READ_AHEAD - len(self._open))
        entries = await self._keeper.entries(STREAM_JOBS, self._read, min(room, BATCH)) if room > 0 else []
        if not entries:
            return False
        await self._sync()
        for entry in entries:
            if entry.event is None:
                _log.error("jobs entry %s is put aside: %s", entry.id, entry.error)
                await self._keeper.bury(STREAM_JOBS, entry, entry.error, PART)
            self._begin(entry)
            self._read = entry.id
        return len(entries) == BATCH

    def _begin(self, entry: Entry) -> None:
        self._open[entry.id] = not isinstance(entry.event, ImportEvent)
        if isinstance(entry.event, ImportEvent):
            self._unfinished += 1
            self.scheduler.add(_Import(self, entry, entry.event.user))

    def finish(self, entry_id: str) -> None:
        """An import and what follows it are done."""
        self._open[entry_id] = True
        self._unfinished -= 1

    async def bury(self, entry: Entry, error: str) -> None:
        """Put an entry aside whose import cannot be done. Raises NotYet."""
        try:
            await self._keeper.bury(STREAM_JOBS, entry, error, PART)
        except (QueueUnavailable, Backpressure) as reason:
            raise NotYet(f"{error}: {reason}") from reason

    async def _settle(self) -> None:
        """Move the position behind everything done without a gap, and store it."""
        last = self.position
        while self._open:
            entry_id = next(iter(self._open))
            if not self._open[entry_id]:
                break
            del self._open[entry_id]
            last = entry_id
        if last != self.position:
            await self._store.archive(ArchiveBatch(positions={STREAM_JOBS: last}))
            self.position = last

    async def _sync(self) -> None:
        """Have the graph apply every sign-up whose import was queued (it stands before it in the graph stream)."""
        for entry in await self._keeper.last(STREAM_GRAPH):
            try:
                await ask(self.graph, "sync", entry.id)
            except NotYet as reason:
                _log.info("imports begin before the graph is level: %s", reason)


class _Import:
    """One user's inherited follows."""

    kind = IMPORT

    def __init__(self, imports: Imports, entry: Entry, user: int) -> None:
        self.arrived_s = entry.accepted_ms / 1000
        self._imports, self._entry, self._user = imports, entry, user
        self._done: int | None = None
        self._refused = False

    async def step(self) -> bool:
        """A thousand follows. Raises NotYet."""
        graph = self._imports.graph
        try:
            if self._done is None:
                self._done = await self._stands_at()
            before = self._done
            self._done, total = await ask(graph, "import_batch", self._user, before, FOLLOWS_A_STEP)
            _FOLLOWS.inc(self._done - before)
            if self._done <= before and self._done != total:
                raise RpcError("no-progress", f"stands at {self._done} of {total}")
            return bool(self._done != total)
        except RpcError as error:
            _log.error("import of user %d refused: %s", self._user, error)
            self._refused = True
            return False

    async def _stands_at(self) -> int:
        """How many follows the graph has of it. Raises NotYet; RpcError when there is no such identity."""
        state = await ask(self._imports.graph, "user", self._user)
        if not state["exists"]:
            error = f"no user {self._user}"
            await self._imports.bury(self._entry, error)
            raise RpcError("not-found", error)
        if not state["joined"]:
            raise NotYet(f"user {self._user}: the graph has not applied the sign-up")
        return int(state["done"])

    def done(self) -> None:
        """What the followees posted meanwhile comes next."""
        _IMPORTS.labels("refused" if self._refused else "done").inc()
        if self._refused:
            self._imports.finish(self._entry.id)
        else:
            self._imports.scheduler.add(_CatchUp(self._imports, self._entry.id, self._user, self.arrived_s))


class _CatchUp:
    """What the followees wrote before and while the import ran, into the user's timeline."""

    kind = CATCH_UP

    def __init__(self, imports: Imports, entry_id: str, user: int, arrived_s: float) -> None:
        self.arrived_s = arrived_s
        self._imports, self._entry_id, self._user = imports, entry_id, user

    async def step(self) -> bool:
        """All at once. Raises NotYet."""
        lanes = self._imports.lanes
        try:
            await ask(lanes[lane_of(self._user, len(lanes))], "materialise", self._user, 0, True)
        except RpcError as error:
            _log.warning("timeline of user %d waits for its next session: %s", self._user, error)
        return False

    def done(self) -> None:
        """The job's entry in the stream may go."""
        self._imports.finish(self._entry_id)
