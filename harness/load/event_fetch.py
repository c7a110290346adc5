"""What a listener does when an event came: now and then it fetches what is new, a little later, as an app would.

A fetch asks for what arrived after the newest post the listener already has; the first one, and the one after a
410 or a resync, starts over with the feed's first page. Events that come while a fetch is scheduled are covered by it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

import aiohttp
import msgspec
import numpy as np

from harness.core.clock import NS_PER_S, now_ns
from harness.core.op import Op, OpKind, OpOutcome
from harness.load.lateness import LATE_NS
from harness.load.listener import Fetch, Listener
from harness.load.plan import PlanRegion
from harness.load.recorder import Recorder
from harness.load.wire import decode_page, fill_items, outcome_of_error, outcome_of_status

TIMEOUT_S = 10.0
CONNECTIONS = 64
FIRST_PAGE = 50
GONE = 410


class EventFetch:
    """The fetches of one engine."""

    def __init__(
        self,
        regions: Mapping[str, PlanRegion],
        tokens: Mapping[int, str],
        recorder: Recorder,
        ratio: float,
        jitter_s: float,
        randomness: np.random.Generator,
    ) -> None:
        """`ratio` of the events are followed by a fetch, a uniform time up to `jitter_s` later."""
        self.planned = self.sent = self.late = self.max_late_ns = 0
        self._apis = {name: region.api.rstrip("/") for name, region in regions.items()}
        self._tokens = tokens
        self._recorder = recorder
        self._ratio = ratio
        self._jitter_s = jitter_s
        self._randomness = randomness
        self._tasks: set[asyncio.Task[None]] = set()
        self._timers: dict[Listener, asyncio.TimerHandle] = {}
        self._session: aiohttp.ClientSession | None = None
        self._walks = 0

    def event(self, listener: Listener, time_ns: int) -> None:
        """An event came; perhaps schedule a fetch."""
        if not self._ratio or self._randomness.random() >= self._ratio:
            return
        due_ns = time_ns + round(self._randomness.random() * self._jitter_s * NS_PER_S)
        if listener.fetch is Fetch.IDLE:
            self._schedule(listener, due_ns)
        elif listener.fetch is Fetch.IN_FLIGHT:
            listener.fetch, listener.fetch_due_ns = Fetch.AGAIN, due_ns

    def _schedule(self, listener: Listener, due_ns: int) -> None:
        listener.fetch, listener.fetch_due_ns = Fetch.SCHEDULED, due_ns
        self.planned += 1
        wait_s = max(0.0, (due_ns - now_ns()) / NS_PER_S)
        self._timers[listener] = asyncio.get_running_loop().call_later(wait_s, self._start, listener)

    def _start(self, listener: Listener) -> None:
        self._timers.pop(listener, None)
        listener.fetch = Fetch.IN_FLIGHT
        task = asyncio.create_task(self._fetch(listener))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _fetch(self, listener: Listener) -> None:
        op = self._new_op(listener)
        late_ns = op.sent_ns - op.due_ns
        self.sent += 1
        self.late += late_ns > LATE_NS
        self.max_late_ns = max(self.max_late_ns, late_ns)
        newest = listener.newest
        try:
            await self._get(listener, op)
        except (TimeoutError, aiohttp.ClientError, msgspec.DecodeError, asyncio.CancelledError) as error:
            op.outcome, op.error = _outcome(error), _reason(error)
            if isinstance(error, asyncio.CancelledError):
                raise
        finally:
            op.done_ns = now_ns()
            self._recorder.record(op)
            self._move_anchor(listener, op, newest)
            again = listener.fetch is Fetch.AGAIN
            listener.fetch = Fetch.IDLE
        if again and self._ratio:
            self._schedule(listener, listener.fetch_due_ns)

    async def _get(self, listener: Listener, op: Op) -> None:
        """Do the exchange and fill the op."""
        path, query = ("/v1/feed/new", {"since": op.since}) if op.since else ("/v1/feed", {"limit": str(FIRST_PAGE)})
        headers = {"Authorization": f"Bearer {self._tokens.get(listener.user, '')}"}
        session = self._client()
        async with session.get(self._apis[listener.region] + path, params=query, headers=headers) as response:
            body = await response.read()
        op.status = response.status
        op.outcome = outcome_of_status(response.status)
        op.degraded = response.headers.get("Feed-Degraded", "")
        if op.outcome is OpOutcome.OK:
            answer = decode_page(body)
            fill_items(op, answer.items)
            op.next_cursor = answer.next_cursor or ""
        else:
            op.error = f"status {response.status}"

    def _move_anchor(self, listener: Listener, op: Op, newest: str) -> None:
        """The newest event's post when the answer holds it (events come in order of arrival), else its first item."""
        if op.status == GONE:
            listener.anchor = ""
        elif op.outcome is OpOutcome.OK and op.ids:
            listener.anchor = newest if newest in op.ids else op.ids[0]

    def _new_op(self, listener: Listener) -> Op:
        op = Op(
            id=self._recorder.history.next_id(),
            kind=OpKind.FEED_NEW if listener.anchor else OpKind.FEED,
            session=listener.session,
            user=listener.user,
            region=listener.region,
            due_ns=listener.fetch_due_ns,
            sent_ns=now_ns(),
            done_ns=0,
            outcome=OpOutcome.INFO,
            since=listener.anchor,
        )
        if not listener.anchor:
            self._walks += 1
            op.walk, op.limit = self._walks, FIRST_PAGE
        return op

    def _client(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=CONNECTIONS),
                timeout=aiohttp.ClientTimeout(total=TIMEOUT_S),
                cookie_jar=aiohttp.DummyCookieJar(),
            )
        return self._session

    async def close(self, wait_s: float) -> None:
        """Forget scheduled fetches, wait a while for those in flight, cut the rest."""
        self.planned -= len(self._timers)
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()
        self._ratio = 0.0
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=wait_s)
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._session is not None:
            await self._session.close()


def _outcome(error: BaseException) -> OpOutcome:
    if isinstance(error, aiohttp.ClientConnectorError):
        return outcome_of_error(error.os_error)
    return OpOutcome.FAIL if isinstance(error, msgspec.DecodeError) else OpOutcome.INFO


def _reason(error: BaseException) -> str:
    if isinstance(error, TimeoutError):
        return f"no answer within {TIMEOUT_S:g} s"
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
