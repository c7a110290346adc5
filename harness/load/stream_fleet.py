"""Opens and keeps the streams of one engine's listeners, and writes what happens on them into the history.

No task a stream: one loop takes due listeners off a heap and starts short-lived connection attempts, another one
looks for connections that hang.
"""

from __future__ import annotations

import asyncio
import errno
import heapq
import itertools
import os
import socket
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from urllib.parse import urlsplit

import msgspec
import numpy as np

from harness.contract.sse_parser import SseEvent
from harness.core.clock import NS_PER_S, now_ns
from harness.core.errors import UsageError
from harness.core.op import Op, OpKind, OpOutcome
from harness.load.listener import Listener, reconnect_delay_s
from harness.load.loop_lag import LATE_NS
from harness.load.plan import PlanRegion
from harness.load.recorder import Recorder
from harness.load.stream_connection import StreamConnection
from harness.load.stream_response import request

PATH = "/v1/stream"
OPEN_RATE_PER_S = 2000
"""streams opened a second before a run, over all engines"""
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
STREAMS_PER_SOURCE = 10_000
"""streams from one 127.x address: a port range holds about 28,000, and reconnections leave ports waiting"""
CLOSED_BY_US = "closed-by-us"
_IP_BIND_ADDRESS_NO_PORT = 24


class EventData(msgspec.Struct, frozen=True):
    """Data of an event of the contract."""

    type: str = ""
    id: str = ""


class _Endpoint:
    """Where the streams of a region are."""

    def __init__(self, region: PlanRegion) -> None:
        parts = urlsplit(region.stream)
        if parts.scheme != "http" or parts.hostname is None:
            raise UsageError(f"regions: a stream's base URL must be http://host:port, got {region.stream!r}")
        self.host_header = parts.netloc
        self.path = parts.path.rstrip("/") + PATH
        family, _, _, _, address = socket.getaddrinfo(parts.hostname, parts.port or 80, type=socket.SOCK_STREAM)[0]
        self.family, self.address = family, address
        self.is_loopback = str(address[0]).startswith("127.")


class StreamFleet:
    """The streams of this engine. It is the owner of every StreamConnection."""

    def __init__(
        self,
        members: Sequence[tuple[int, str]],
        regions: Mapping[str, PlanRegion],
        tokens: Mapping[int, str],
        recorder: Recorder,
        jitter_s: float,
        randomness: np.random.Generator,
        on_event: Callable[[Listener, int], None],
        source_net: int = 0,
    ) -> None:
        """`on_event(listener, time_ns)` is called for each new_post; `source_net` keeps engines' addresses apart."""
        self.listeners = [Listener(user, region) for user, region in members]
        self.open = self.events_seen = self.sent = self.late = self.max_late_ns = 0
        self.problems: Counter[str] = Counter()
        """why streams did not open: text -> times"""
        self.bugs: list[str] = []
        """attempts that ended by an error of ours: their listeners are lost"""
        self._endpoints = {name: _Endpoint(region) for name, region in regions.items()}
        self._tokens = tokens
        self._recorder = recorder
        self._jitter_s = jitter_s
        self._randomness = randomness
        self._on_event = on_event
        self._source_net = source_net % 250 + 1
        self._decode = msgspec.json.Decoder(EventData).decode
        self._due: list[tuple[int, int, Listener]] = []
        self._order = itertools.count()
        self._attempts: set[asyncio.Task[None]] = set()
        self._opening: dict[StreamConnection, None] = {}
        self._stopping = False

    @property
    def planned(self) -> int:
        """Attempts made, and those that are due and still wait."""
        now = now_ns()
        return self.sent + sum(due <= now for due, _, _ in self._due)

    @property
    def overdue(self) -> int:
        """Attempts that should have started by now and have not."""
        now = now_ns()
        return sum(due + LATE_NS < now for due, _, _ in self._due)

    def open_all(self, rate_per_s: float = OPEN_RATE_PER_S) -> None:
        """Make every listener due, `rate_per_s` of them each second."""
        start = now_ns()
        for place, listener in enumerate(self.listeners):
            self._schedule(listener, start + round(place * NS_PER_S / rate_per_s))

    def count_late_from_now(self) -> None:
        """Forget lateness so far: the opening before a run paces itself, and nothing of it is judged."""
        self.late = self.max_late_ns = 0

    async def run(self) -> None:
        """Start due attempts for ever; other work gets its turn after every few of them."""
        while True:
            started = 0
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
            for listener in self.listeners:
                if listener.connection is not None and now - listener.connection.heard_ns > SILENCE_NS:
                    listener.connection.close("silent")

    def close_all(self) -> None:
        """End everything; each stream's end is recorded."""
        self._stopping = True
        self._due.clear()
        for task in self._attempts:
            task.cancel()
        for listener in self.listeners:
            if listener.connection is not None:
                listener.connection.close(CLOSED_BY_US)

    @property
    def is_closed(self) -> bool:
        """Whether every connection is gone."""
        return not self._attempts and all(listener.connection is None for listener in self.listeners)

    # --- one attempt

    def _attempt(self, listener: Listener, due_ns: int, sent_ns: int) -> None:
        """Connect. A refusal by this machine is known at once, and costs no task: in a storm there are thousands."""
        endpoint = self._endpoints[listener.region]
        sock = socket.socket(endpoint.family, socket.SOCK_STREAM)
        try:
            sock.setblocking(False)
            if endpoint.is_loopback:
                sock.setsockopt(socket.IPPROTO_IP, _IP_BIND_ADDRESS_NO_PORT, 1)
                sock.bind((self._source(listener), 0))
            code = sock.connect_ex(endpoint.address)
            if code in (0, errno.EINPROGRESS):
                code = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        except OSError as error:
            code = error.errno or errno.EIO
        if code:
            sock.close()
            self._failed(listener, due_ns, sent_ns, _reason(code), 0)
            return
        task = asyncio.create_task(self._attach(sock, StreamConnection(self, listener, due_ns, sent_ns)))
        self._attempts.add(task)
        task.add_done_callback(self._attempted)

    async def _attach(self, sock: socket.socket, connection: StreamConnection) -> None:
        """Wait until the socket is connected and give it to its protocol; all else happens in callbacks."""
        loop = asyncio.get_running_loop()
        try:
            if not _is_connected(sock):
                await _wait_writable(sock, CONNECT_TIMEOUT_NS / NS_PER_S)
                if code := sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
                    raise OSError(code, os.strerror(code))
            await loop.create_connection(lambda: connection, sock=sock)
        except asyncio.CancelledError:
            sock.close()
            raise
        except OSError as error:  # TimeoutError is one
            sock.close()
            code = errno.ETIMEDOUT if isinstance(error, TimeoutError) else error.errno or errno.EIO
            self._failed(connection.listener, connection.due_ns, connection.sent_ns, _reason(code), 0)

    def _attempted(self, task: asyncio.Task[None]) -> None:
        self._attempts.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self.bugs.append(f"{type(error).__name__}: {error}")

    def _source(self, listener: Listener) -> str:
        """An address of 127/8 for a listener's connections."""
        return f"127.0.{self._source_net}.{1 + listener.user % (1 + len(self.listeners) // STREAMS_PER_SOURCE)}"

    def _schedule(self, listener: Listener, due_ns: int) -> None:
        heapq.heappush(self._due, (due_ns, next(self._order), listener))

    def _come_back(self, listener: Listener) -> None:
        """Schedule the next attempt."""
        if self._stopping:
            return
        wait_s = reconnect_delay_s(listener, self._jitter_s, float(self._randomness.random()))
        listener.retry_after_s = 0.0
        self._schedule(listener, now_ns() + round(wait_s * NS_PER_S))

    def _failed(self, listener: Listener, due_ns: int, sent_ns: int, reason: str, status: int) -> None:
        """An attempt came to nothing."""
        listener.failures += 1
        if not self._stopping:
            self.problems[reason] += 1
            op = self._op(listener, OpKind.STREAM_OPEN, now_ns())
            op.due_ns, op.sent_ns, op.outcome = due_ns, sent_ns, OpOutcome.FAIL
            op.since, op.status, op.error = listener.last_event_id, status, reason
            self._recorder.record(op)
        self._come_back(listener)

    # --- what connections tell (StreamOwner)

    def connected(self, connection: StreamConnection) -> bytes:
        """A connection was made. Returns the request to send."""
        listener = connection.listener
        listener.connection = connection
        self._opening[connection] = None
        endpoint = self._endpoints[listener.region]
        token = self._tokens.get(listener.user, "")
        return request(endpoint.host_header, endpoint.path, token, listener.last_event_id)

    def opened(self, connection: StreamConnection) -> None:
        """The head token is here (or, from a server that sends none, the response)."""
        listener = connection.listener
        self._opening.pop(connection, None)
        listener.failures = 0
        listener.ever_open = True
        self.open += 1
        op = self._op(listener, OpKind.STREAM_OPEN, connection.heard_ns)
        op.due_ns, op.sent_ns, op.status = connection.due_ns, connection.sent_ns, connection.status
        op.since = listener.last_event_id
        op.token = (connection.parser.first_event_id if connection.parser else None) or ""
        self._recorder.record(op)

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


def _is_connected(sock: socket.socket) -> bool:
    try:
        sock.getpeername()
    except OSError:
        return False
    return True


async def _wait_writable(sock: socket.socket, timeout_s: float) -> None:
    """Wait until a connection attempt is decided. Raises TimeoutError."""
    loop = asyncio.get_running_loop()
    writable = asyncio.Event()
    loop.add_writer(sock, writable.set)
    try:
        async with asyncio.timeout(timeout_s):
            await writable.wait()
    finally:
        loop.remove_writer(sock)


def _reason(code: int) -> str:
    """One short text a kind of failure, so that they can be counted."""
    return os.strerror(code).lower()
