"""The edge's side of one lane: which of its users have a stream here, and that none of them misses a record.

Everything goes through the lane's owner, one call at a time: opening streams subscribe in batches, users without
streams leave in batches, and after a gap on the bus all users subscribe again with the newest arrival number they
were sent. While that runs, messages of the lane are held back: an event sent ahead of the gap would hide it.

A gap shows in any of these: a message's count skips, the owner's incarnation changed, the bus connection broke,
or the owner counts messages that have not come within 300 ms.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from reference_server.fep import measures, wire
from reference_server.fep.stream import NOT_LIVE, Opening, State, Stream
from reference_server.rpc import RpcClient, RpcError, RpcTimeout, RpcUnavailable

GATHER_S = 0.002
"""requests that come within this time share one call"""
OPEN_WAIT_S = 1.0
"""longest wait for the lane's owner before a request is refused"""
RETRY_S = 0.05
CATCH_UP_TIMEOUT_S = 5.0
WATCH_PERIOD_S = 1.0
GRACE_S = 0.3
BATCH = 500
MAX_HELD = 5000
_CALL_FAILED = (RpcUnavailable, RpcTimeout, RpcError)
Events = list[tuple[int, bytes]]


@dataclass(frozen=True, slots=True)
class Message:
    """One message of the bus: a record, and the users it reached who have a stream here."""

    session: int
    count: int
    seq: int
    event: bytes
    users: Iterable[int]
    post: bytes = b""
    accepted_us: int = 0
    """when the post was accepted, Unix µs; 0: unknown"""


class Lane:
    """One lane as this edge sees it."""

    def __init__(
        self, number: int, rpc: RpcClient, edge_name: str, region: str, on_delivered: Callable[[Message], None]
    ) -> None:
        """`on_delivered` is called for each message once its events are on their way to listeners."""
        self.number = number
        self.streams: dict[int, Stream] = {}
        """user -> first of the user's streams, the others behind its `sibling`"""
        self._rpc = rpc
        self._edge_name = edge_name
        self._region = region
        self._on_delivered = on_delivered
        self._session: int | None = None
        self._former_session: int | None = None
        self._count = 0
        self._opens: list[Stream] = []
        self._batch = BATCH
        self._waiting: dict[Stream, float] = {}
        self._early: dict[int, Events] = {}
        self._left: set[int] = set()
        self._behind: deque[int] | None = None
        """users still to catch up; None: in step with the bus"""
        self._first_batch = False
        self._held: list[Message] = []
        self._wake = asyncio.Event()

    # --- called by the edge

    @property
    def opening(self) -> int:
        """Streams whose subscription is under way."""
        return len(self._waiting)

    def all_streams(self) -> list[Stream]:
        """Every stream of the lane, opening ones included."""
        return [stream for user in self.streams for stream in self._streams_of(user)]

    def open(self, stream: Stream, opening: Opening) -> None:
        """Subscribe the stream's user; the stream begins, or is refused by `overdue`, within OPEN_WAIT_S."""
        stream.state = State.OPENING
        stream.pending = opening
        stream.sibling = self.streams.get(stream.user)
        self.streams[stream.user] = stream
        self._opens.append(stream)
        self._waiting[stream] = opening.began_s + OPEN_WAIT_S
        self._wake.set()

    def close(self, stream: Stream) -> None:
        """Forget a stream; the user leaves the lane with the last one."""
        self._waiting.pop(stream, None)
        first = self.streams.get(stream.user)
        if first is stream:
            if stream.sibling is not None:
                self.streams[stream.user] = stream.sibling
            else:
                del self.streams[stream.user]
                self._early.pop(stream.user, None)
                self._left.add(stream.user)
                self._wake.set()
        while first is not None:
            if first.sibling is stream:
                first.sibling = stream.sibling
                break
            first = first.sibling
        stream.sibling = None

    def overdue(self, now_s: float) -> list[Stream]:
        """Streams whose owner did not answer in time."""
        late = []
        for stream, deadline in self._waiting.items():
            if deadline > now_s:
                break
            late.append(stream)
        return late

    def receive(self, message: Message) -> None:
        """Take one message of the bus."""
        if message.session == self._session:
            if message.count > self._count + 1:
                self._count = message.count
                self.start_catch_up("count")
            self._count = max(self._count, message.count)
        elif message.session != self._former_session:
            self._adopt(message.session, message.count)
        if self._behind is None:
            self._deliver(message)
        elif len(self._held) < MAX_HELD:
            self._held.append(message)
        else:
            self.start_catch_up("held")

    def start_catch_up(self, cause: str) -> None:
        """Subscribe all users again from where their streams stand; events wait until that is done."""
        if not self.streams:
            return
        measures.CATCH_UPS.labels(cause).inc()
        self._behind = deque(self.streams)
        self._first_batch = True
        self._held.clear()
        self._wake.set()

    # --- the two loops of a lane

    async def run(self) -> None:
        """Carry out what piled up, one call at a time, for ever."""
        while True:
            await self._wake.wait()
            await asyncio.sleep(GATHER_S)
            self._wake.clear()
            try:
                await self._open_some()
                await self._catch_up_some()
                await self._leave()
            except _CALL_FAILED:
                self._wake.set()
                await asyncio.sleep(RETRY_S)

    async def watch(self) -> None:
        """Look for messages that the owner counts and the bus did not bring."""
        while True:
            await asyncio.sleep(WATCH_PERIOD_S)
            if not self.streams:
                continue
            try:
                session, count = await self._rpc.call("bus_head", self._edge_name)
            except _CALL_FAILED:
                continue
            self._adopt(session, count)
            if count <= self._count:
                continue
            await asyncio.sleep(GRACE_S)
            if self._session == session and count > self._count:
                self._count = count
                self.start_catch_up("lost")

    async def leave_all(self) -> None:
        """Tell the owner that nobody listens here any more. Failure is harmless: it only notifies in vain."""
        self._left.update(self.streams)
        self.streams.clear()
        with contextlib.suppress(*_CALL_FAILED):
            await self._leave()

    def disconnect(self) -> None:
        """Drop the connection to the owner; the lane's loops must have ended."""
        self._rpc.close()

    # --- steps

    async def _open_some(self) -> None:
        waiting = [stream for stream in self._opens if stream.state is State.OPENING]
        batch, self._opens = waiting[: self._batch], waiting[self._batch :]
        if not batch:
            return
        try:
            answers = await self._subscribe([[s.user, _since(s)] for s in batch], OPEN_WAIT_S)
        except RpcError:  # it refused one of them, but not which: alone, the one is dropped and soon overdue
            self._opens[:0] = batch if len(batch) > 1 else []
            self._batch = 1
            raise
        except _CALL_FAILED:
            self._opens[:0] = batch
            self._batch = max(1, len(batch) // 2)
            raise
        self._batch = min(BATCH, 2 * self._batch)
        rendered: dict[int, bytes] = {}
        for stream, (head, missed) in zip(batch, answers, strict=True):
            self._waiting.pop(stream, None)
            if stream.state is not State.OPENING:
                continue
            stream.begin(head, self._render(missed, rendered))
            stream.send(self._early.get(stream.user, ()))
        for stream in batch:
            self._early.pop(stream.user, None)
        if self._opens:
            self._wake.set()

    async def _catch_up_some(self) -> None:
        if self._behind is None:
            return
        if self._first_batch:  # streams that opened since the gap showed: this batch's count covers their messages too
            self._behind = deque(self.streams)
        users = [self._behind.popleft() for _ in range(min(BATCH, len(self._behind)))]
        wanted = [[user, seq] for user in users if (seq := self._oldest(user)) is not None]
        first, self._first_batch = self._first_batch, False
        try:
            answers = await self._subscribe(wanted, CATCH_UP_TIMEOUT_S, first) if wanted else []
        except _CALL_FAILED:
            self._behind.extendleft(users)
            self._first_batch = self._first_batch or first
            raise
        rendered: dict[int, bytes] = {}
        for (user, _), (head, missed) in zip(wanted, answers, strict=True):
            events = self._render(missed, rendered)
            for stream in self._streams_of(user):
                if stream.last_seq != NOT_LIVE:
                    stream.catch_up(head, events)
        if self._behind:
            self._wake.set()
        else:
            self._in_step()

    async def _leave(self) -> None:
        users = [user for user in self._left if user not in self.streams]
        self._left.clear()
        for start in range(0, len(users), 10 * BATCH):
            try:
                await self._rpc.call("unsubscribe", self._edge_name, users[start : start + 10 * BATCH])
            except _CALL_FAILED:
                self._left.update(users[start:])
                raise

    async def _subscribe(self, wanted: list[list[Any]], timeout_s: float, covers_bus: bool = False) -> list[Any]:
        """Answers in the order asked. `covers_bus`: messages counted so far need not come any more."""
        session, count, answers = await self._rpc.call("subscribe", self._edge_name, wanted, timeout_s=timeout_s)
        self._adopt(session, count)
        if covers_bus:
            self._count = max(self._count, count)
        result: list[Any] = answers
        return result

    def _adopt(self, session: int, count: int) -> None:
        """Note the owner's incarnation; a change after the first means that messages may be missing."""
        if session == self._session:
            return
        known = self._session is not None
        self._former_session, self._session, self._count = self._session, session, count
        if known:
            self.start_catch_up("owner")

    def _in_step(self) -> None:
        held, self._held, self._behind = self._held, [], None
        for message in held:
            self._deliver(message)

    def _deliver(self, message: Message) -> None:
        """Write to the message's users; uvloop sends what a stream was written at the end of the loop's round."""
        seq, event = message.seq, message.event
        find = self.streams.get
        sent = 0
        for user in message.users:
            stream = find(user)
            if stream is None:
                self._left.add(user)
            elif stream.sibling is None and NOT_LIVE < stream.last_seq < seq:
                stream.last_seq = seq
                stream.transport.write(event)
                sent += 1
            else:
                sent += self._deliver_apart(user, seq, event)
        measures.EVENTS.inc(sent)
        if sent:
            self._on_delivered(message)
        if self._left:
            self._wake.set()

    def _deliver_apart(self, user: int, seq: int, event: bytes) -> int:
        """Write to a user with several streams, or one that is not live or knows the event. Returns how many got it."""
        sent = 0
        early = False
        for stream in self._streams_of(user):  # a list: a write may drop a slow stream, which unlinks it
            if stream.last_seq == NOT_LIVE:
                early = True
            elif seq > stream.last_seq:
                stream.last_seq = seq
                stream.transport.write(event)
                sent += 1
        if early:
            self._early.setdefault(user, []).append((seq, event))
        return sent

    def _render(self, missed: Iterable[tuple[int, bytes]] | None, rendered: dict[int, bytes]) -> Events | None:
        """Event bytes of missed slots; users of one batch share those of one record."""
        if missed is None:
            return None
        events = []
        for seq, post in missed:
            event = rendered.get(seq)
            if event is None:
                event = rendered[seq] = wire.new_post(self._region, seq, post)
            events.append((seq, event))
        return events

    def _streams_of(self, user: int) -> list[Stream]:
        found = []
        stream = self.streams.get(user)
        while stream is not None:
            found.append(stream)
            stream = stream.sibling
        return found

    def _oldest(self, user: int) -> int | None:
        """Arrival number from which all live streams of a user can be filled."""
        return min((s.last_seq for s in self._streams_of(user) if s.state is State.LIVE), default=None)


def _since(stream: Stream) -> int | None:
    assert isinstance(stream.pending, Opening)
    return stream.pending.since
