"""Opens and keeps the streams of one engine's listeners, and writes what happens on them into the history.

No task a stream: one loop takes due listeners off a heap and starts short-lived connection attempts, another one
looks for connections that hang. When listeners do what they do differently is `harness.load.habit_timeline`'s.
"""

from __future__ import annotations

import asyncio
import contextlib
import heapq
import itertools
import socket
from collections import Counter
from collections.abc import Callable, Mapping
from functools import lru_cache

import msgspec
import numpy as np

from harness.contract.sse_parser import SseEvent
from harness.core.clock import NS_PER_S, now_ns
from harness.core.listening import Habit
from harness.core.op import Op, OpKind, OpOutcome
from harness.load.half_open import reappear, vanish
from harness.load.late_connection import LateConnection
from harness.load.lateness import LATE_NS
from harness.load.listener import Listener, policy_of
from harness.load.plan import LoadPlan
from harness.load.recorder import Recorder
from harness.load.stream_connection import StreamConnection
from harness.load.stream_endpoint import StreamEndpoint, finish_connecting, refusal
from harness.load.stream_response import StreamRequest
from harness.load.stream_ways import StreamWays

STARTS_IN_A_ROW = 32
CONNECTING = 256
"""most connection attempts at once"""
CONNECT_TIMEOUT_NS = 3 * NS_PER_S
OPEN_TIMEOUT_NS = 5 * NS_PER_S
"""from the request to the first id"""
NO_ID_GRACE_NS = NS_PER_S
"""a stream that has sent its head but no id counts as open after this"""
SILENCE_NS = 45 * NS_PER_S
"""three heartbeats missed: the connection is dead"""
TICK_S = 0.005
SWEEP_S = 0.25
SWEEPS_A_ROUND = 20
"""a sweep looks for silence among one listener in so many"""
KNOWN_EVENTS = 256
"""data of events that is remembered: all listeners of a post get the same"""
MOST_BUGS = 20
"""errors of ours that are remembered"""
CLOSED_BY_US = "closed-by-us"
VANISHED, DISCONNECTED = "vanished", "disconnected"
"""why streams of half-open listeners end, and those of a mass disconnect"""


class EventData(msgspec.Struct, frozen=True):
    """Data of an event of the contract."""

    type: str = ""
    id: str = ""


class StreamFleet:
    """The streams of this engine. It is the owner of every StreamConnection."""

    def __init__(
        self,
        plan: LoadPlan,
        tokens: Mapping[int, str],
        recorder: Recorder,
        randomness: np.random.Generator,
        on_event: Callable[[Listener, int], None],
        source_net: int = 0,
    ) -> None:
        """All listeners of the plan. `on_event(listener, time_ns)` is called for each new_post; `source_net` keeps
        engines' addresses apart. Raises UsageError.
        """
        self.listeners = [Listener(user, region) for user, region in plan.listeners]
        self.open = self.events_seen = self.sent = self.late = self.max_late_ns = 0
        self.problems: Counter[str] = Counter()
        """why streams did not open: text -> times"""
        self.bugs: list[str] = []
        """errors of ours: what their listeners did after them is not known"""
        self.are_late = False
        """late readers read late now"""
        self._ways = StreamWays(plan, source_net)
        self._tokens = tokens
        self._recorder = recorder
        self._policy = policy_of(plan)
        self._pace_bytes_per_s = plan.listening.slow_bytes_per_s
        self._randomness = randomness
        self._on_event = on_event
        self._decode = lru_cache(KNOWN_EVENTS)(msgspec.json.Decoder(EventData).decode)
        self._first_ns, self._every_ns = 0, 0.0
        self._next = len(self.listeners)
        """the listener that is due next for the first time, at `_first_ns` + so many times `_every_ns`"""
        self._due: list[tuple[int, int, Listener]] = []
        self._order = itertools.count()
        self._attempts: set[asyncio.Task[None]] = set()
        self._opening: dict[StreamConnection, None] = {}
        self._vanished: list[socket.socket] = []
        """connections that half-open listeners left behind"""
        self._to_vanish: set[Listener] = set()
        """half-open listeners who had no stream at their moment"""
        self._sweeps = 0
        self._stopping = False

    @property
    def overdue(self) -> int:
        """Attempts that should have started by now and have not."""
        now = now_ns()
        return sum(due + LATE_NS < now for due, _, _ in self._due)

    def open_all(self, rate_per_s: float) -> None:
        """Make every listener due, `rate_per_s` of them each second."""
        self._first_ns, self._every_ns, self._next = now_ns(), NS_PER_S / rate_per_s, 0

    def _let_in(self, now: int) -> None:
        """Make those due for the first time whose turn has come; all at once they would take memory."""
        while self._next < len(self.listeners):
            due_ns = self._first_ns + round(self._next * self._every_ns)
            if due_ns > now:
                return
            self._schedule(self.listeners[self._next], due_ns)
            self._next += 1

    def count_from_now(self) -> None:
        """Forget attempts so far: the opening before a run paces itself, and would hide the late ones of the run."""
        self.sent = self.late = self.max_late_ns = 0

    async def run(self) -> None:
        """Start due attempts for ever; other work gets its turn after every few of them."""
        while True:
            started = 0
            self._let_in(now_ns())
            while started < STARTS_IN_A_ROW and len(self._attempts) < CONNECTING:
                now = now_ns()
                if not self._due or self._due[0][0] > now:
                    break
                due, _, listener = heapq.heappop(self._due)
                started += 1
                self.sent += 1
                self.late += now - due > LATE_NS
                self.max_late_ns = max(self.max_late_ns, now - due)
                self._attempt(listener, due, now)
            await asyncio.sleep(0 if started == STARTS_IN_A_ROW else TICK_S)

    async def sweep(self) -> None:
        """End connections that hang, for ever."""
        while True:
            await asyncio.sleep(SWEEP_S)
            now = now_ns()
            for connection in list(self._opening):
                if connection.parser is not None and now - connection.sent_ns > NO_ID_GRACE_NS:
                    connection.opened = True
                    self.opened(connection)
                elif now - connection.sent_ns > OPEN_TIMEOUT_NS:
                    connection.close("timeout")
            self._sweeps += 1
            for listener in self.listeners[self._sweeps % SWEEPS_A_ROUND :: SWEEPS_A_ROUND]:
                held = listener.connection
                if held is not None and held.reads and now - held.heard_ns > SILENCE_NS:
                    held.close("silent")

    def close_all(self) -> None:
        """End everything; each stream's end is recorded."""
        self._stopping = True
        self._next = len(self.listeners)
        self._due.clear()
        for task in self._attempts:
            task.cancel()
        for listener in self.listeners:
            if listener.connection is not None:
                listener.connection.close(CLOSED_BY_US)
        for held in self._vanished:
            with contextlib.suppress(OSError):
                reappear(held)
        self._vanished.clear()

    @property
    def is_closed(self) -> bool:
        """Whether every connection is gone."""
        return not self._attempts and all(listener.connection is None for listener in self.listeners)

    # --- what listeners do differently

    def be_late(self, late: bool) -> None:
        """Late readers begin to read late, or catch up."""
        self.are_late = late
        for listener in self.listeners:
            connection = listener.connection
            if isinstance(connection, LateConnection):
                if late:
                    connection.keep_pace()
                else:
                    connection.read_on()

    def disconnect(self, ratio: float) -> None:
        """That share of the listeners closes its connection at once, and comes back."""
        leaving = self._randomness.random(len(self.listeners)) < ratio
        for listener, leaves in zip(self.listeners, leaving.tolist(), strict=True):
            if leaves and listener.connection is not None:
                listener.connection.close(DISCONNECTED)

    @property
    def half_open(self) -> list[Listener]:
        """Listeners that are to vanish."""
        return [listener for listener in self.listeners if self._ways.habit(listener) is Habit.HALF_OPEN]

    def lose(self, listener: Listener) -> None:
        """The listener vanishes without a word, and comes back on another connection. One who has no stream now does so
        as soon as he has one.
        """
        connection = listener.connection
        if connection is None or connection.transport is None or not connection.opened:
            self._to_vanish.add(listener)
            return
        self._to_vanish.discard(listener)
        try:
            self._vanished.append(vanish(connection.transport.get_extra_info("socket")))
        except OSError as error:
            self.note_bug(f"listener {listener.user} could not vanish: {error}")
            return
        connection.close(VANISHED)

    def lose_no_more(self) -> int:
        """Nobody vanishes any more. Returns how many were to, and have had no stream since."""
        never = len(self._to_vanish)
        self._to_vanish.clear()
        return never

    # --- one attempt

    def _attempt(self, listener: Listener, due_ns: int, sent_ns: int) -> None:
        """Connect. A refusal by this machine is known at once, and costs no task: in a storm there are thousands."""
        try:
            sock = self._ways.begin(listener)
        except OSError as error:
            self._failed(listener, due_ns, sent_ns, refusal(error), 0)
            return
        connection = self._ways.connection(self, listener, due_ns, sent_ns)
        task = asyncio.create_task(self._attach(sock, self._ways.endpoint(listener), connection))
        self._attempts.add(task)
        task.add_done_callback(self._attempted)

    async def _attach(self, sock: socket.socket, endpoint: StreamEndpoint, connection: StreamConnection) -> None:
        """Wait until the socket is connected and give it to its protocol; all else happens in callbacks."""
        loop = asyncio.get_running_loop()
        try:
            await finish_connecting(sock, CONNECT_TIMEOUT_NS / NS_PER_S)
            async with asyncio.timeout(OPEN_TIMEOUT_NS / NS_PER_S if endpoint.tls else None):
                name = endpoint.host if endpoint.tls else None
                await loop.create_connection(lambda: connection, sock=sock, ssl=endpoint.tls, server_hostname=name)
        except asyncio.CancelledError:
            sock.close()
            raise
        except OSError as error:  # TimeoutError is one
            if connection.made:  # just before its time was over: `closed` does the rest
                connection.close(refusal(error))
                return
            sock.close()
            self._failed(connection.listener, connection.due_ns, connection.sent_ns, refusal(error), 0)

    def _attempted(self, task: asyncio.Task[None]) -> None:
        self._attempts.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self.note_bug(f"{type(error).__name__}: {error}")

    def note_bug(self, text: str) -> None:
        """Remember an error of ours, if it is one of the first."""
        if len(self.bugs) < MOST_BUGS:
            self.bugs.append(text)

    def _schedule(self, listener: Listener, due_ns: int) -> None:
        heapq.heappush(self._due, (due_ns, next(self._order), listener))

    def _come_back(self, listener: Listener) -> None:
        """Schedule the next attempt."""
        if self._stopping:
            return
        wait_s = self._policy.delay_s(listener, float(self._randomness.random()))
        listener.retry_after_s = 0.0
        self._schedule(listener, now_ns() + round(wait_s * NS_PER_S))

    def _failed(self, listener: Listener, due_ns: int, sent_ns: int, reason: str, status: int) -> None:
        """An attempt came to nothing."""
        listener.failures += 1
        if not self._stopping:
            self.problems[reason] += 1
            op = self._op(listener, OpKind.STREAM_OPEN, now_ns())
            op.due_ns, op.sent_ns, op.outcome = due_ns, sent_ns, OpOutcome.FAIL
            op.since, op.status, op.error = self._since(listener), status, reason
            op.variant = self._ways.habit(listener) or ""
            self._recorder.record(op)
        self._come_back(listener)

    # --- what connections tell (StreamOwner)

    def connected(self, connection: StreamConnection) -> StreamRequest:
        """A connection was made. Returns what to ask for."""
        listener = connection.listener
        listener.connection = connection
        self._opening[connection] = None
        host, path = self._ways.host_header(listener), self._ways.endpoint(listener).path
        return StreamRequest(host, path, self._tokens.get(listener.user, ""), self._since(listener))

    def _since(self, listener: Listener) -> str:
        return listener.last_event_id if self._policy.resumes else ""

    def pace(self, listener: Listener) -> float | None:
        """Bytes a second that a late reader reads now; None: as fast as they come."""
        if not self.are_late:
            return None
        return 0.0 if self._ways.habit(listener) is Habit.STALLED else self._pace_bytes_per_s

    def opened(self, connection: StreamConnection) -> None:
        """The head token is here (or, from a server that sends none, the response)."""
        listener = connection.listener
        self._opening.pop(connection, None)
        since = self._since(listener)
        listener.failures = 0
        listener.ever_open = True
        self.open += 1
        op = self._op(listener, OpKind.STREAM_OPEN, connection.heard_ns)
        op.due_ns, op.sent_ns, op.status = connection.due_ns, connection.sent_ns, connection.status
        op.since, op.variant = since, self._ways.habit(listener) or ""
        op.token = (connection.parser.first_event_id if connection.parser else None) or ""
        self._recorder.record(op)
        connection.due_ns = connection.sent_ns = 0  # 64 bytes a stream, of no use any more
        if listener in self._to_vanish:
            self.lose(listener)

    def events(self, connection: StreamConnection, events: list[SseEvent]) -> None:
        """Record events; they all arrived when the connection was last heard."""
        listener = connection.listener
        for event in events:
            if event.type == "new_post":
                self._new_post(listener, event, connection.heard_ns)
            elif event.type == "resync":
                op = self._op(listener, OpKind.RESYNC, connection.heard_ns)
                op.token = event.last_event_id
                self._recorder.history.append(op)
                listener.anchor = ""

    def _new_post(self, listener: Listener, event: SseEvent, time_ns: int) -> None:
        op = self._op(listener, OpKind.EVENT, time_ns)
        op.token = event.last_event_id
        self.events_seen += 1
        try:
            op.post = self._decode(event.data).id
        except msgspec.DecodeError as error:
            op.outcome, op.error = OpOutcome.FAIL, f"event data: {error}"
            self._recorder.record(op)
            return
        self._recorder.history.append(op)  # a row, but no latency of its own: the judge knows when it was due
        listener.newest = op.post
        self._on_event(listener, time_ns)

    def closed(self, connection: StreamConnection, reason: str) -> None:
        """A connection is gone: note why, come back."""
        listener = connection.listener
        listener.connection = None
        self._opening.pop(connection, None)
        if not connection.opened:
            self._failed(listener, connection.due_ns, connection.sent_ns, reason, connection.status)
            return
        self.open -= 1
        op = self._op(listener, OpKind.STREAM_END, now_ns())
        op.token, op.error = listener.last_event_id, reason
        self._recorder.history.append(op)
        self._come_back(listener)

    def _op(self, listener: Listener, kind: OpKind, time_ns: int) -> Op:
        return Op(
            id=self._recorder.history.next_id(),
            kind=kind,
            session=listener.session,
            user=listener.user,
            region=listener.region,
            due_ns=time_ns,
            sent_ns=time_ns,
            done_ns=time_ns,
            outcome=OpOutcome.OK,
        )
