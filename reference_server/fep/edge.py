"""The edge process: accepts connections, routes requests, and ties streams to their lanes.

Order of a subscription: token -> the lane's owner notes presence, merges the cold tier, reads the head -> headers and
head id. Fan-out writes timelines before it reads presence, so nothing falls between the head and the first event.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import random
import resource
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any

from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from reference_server import process, stages
from reference_server.fep import measures, wire
from reference_server.fep.admission import Admission
from reference_server.fep.bus import Bus, BusMessage
from reference_server.fep.heartbeat import Heartbeat
from reference_server.fep.lane import Lane, Message
from reference_server.fep.request_head import RequestHead
from reference_server.fep.stream import MAX_BODY_BYTES, Opening, State, Stream
from reference_server.flags import Flags
from reference_server.partition import lane_of
from reference_server.process import Context
from reference_server.rpc import RpcClient, serve
from reference_server.security import SignatureRejected, token_user

log = logging.getLogger(__name__)

BACKLOG = 4096
HEAD_TIMEOUT_S = 10.0
BURST_S = 5.0
"""a write larger than the buffer must have drained after this"""
SWEEP_S = 0.05
DRAIN_S = 2.0
LEAVE_S = 0.5
CANCEL_S = 0.1
SPARE_FDS = 200
RETRY_MS = (1000, 3000)
RETRY_S = (1, 3)
OFF_RETRY_S = 5
"""what Retry-After says while the product is switched off"""


class Edge:
    """All streams of this process."""

    def __init__(self, context: Context, listener: socket.socket) -> None:
        """`listener` is what connections are accepted on. Needs a running loop."""
        settings = context.settings
        self.region = context.region.name
        self._watch = context.flags
        flags = context.flags.now
        self.buffer_bytes = flags.sse_buffer_bytes
        """what may wait to be read by the listener of a stream that opens now"""
        self.burst_bytes = flags.sse_buffer_bytes
        """a write larger than this may fill the buffer of some stream"""
        self.listener = listener
        self._resumes = not settings.has_defect("no-resume")
        self.deafens = settings.has_defect("deaf-after-resume")
        """the planted defect: who resumed gets what he missed, and nothing more"""
        self._repeats = settings.every(20, "event-twice")
        self._falls_back = settings.every(20, "token-falls-back")
        self._secret = context.secret
        self._jitter = random.Random()
        self.lanes = [
            Lane(n, RpcClient(context.socket(f"lane-{n}")), context.name, self.region, self._delivered)
            for n in range(settings.lanes)
        ]
        self._bus = Bus(
            context.region.redis_cache_port, f"bus:{self.region}.{context.name}", self._received, self._rejoined
        )
        self._heartbeat = Heartbeat(flags.sse_heartbeat_s)
        self._admission = Admission(flags.sse_opens_per_s, asyncio.get_running_loop().time())
        self._heads: dict[Stream, float] = {}
        self._bursts: dict[Stream, float] = {}
        self._full: set[Stream] = set()
        """streams whose buffer was full and is not yet nearly empty: the transport tells of them once"""
        self._live = 0
        self._tasks: list[asyncio.Task[None]] = []
        self._empty = asyncio.Event()
        self._empty.set()
        self._capacity = _capacity()
        self.joined = False
        self.draining = False
        self._off = flags.kill_switch
        self._ending: asyncio.Task[None] | None = None
        self._watch.on_change(self._flags_changed)

    # --- a connection's life, called by its Stream

    def accepted(self, stream: Stream) -> None:
        """A connection was made; its request head must arrive soon."""
        if self._live + len(self._heads) >= self._capacity:
            stream.transport.abort()
            return
        self._heads[stream] = asyncio.get_running_loop().time() + HEAD_TIMEOUT_S

    def requested(self, stream: Stream, request: RequestHead) -> None:
        """Route a request. Only GET is served."""
        self._heads.pop(stream, None)
        routes = {"/v1/stream": self._stream, "/healthz": _health, "/readyz": self._ready, "/metrics": _metrics}
        route = routes.get(request.path)
        if route is None:
            stream.answer(wire.problem(404, "not-found", "no such resource here"))
        elif request.method != "GET":
            stream.answer(wire.problem(405, "method-not-allowed", "only GET", (("Allow", "GET"),)))
        elif request.body_bytes > MAX_BODY_BYTES:
            stream.answer(wire.problem(413, "too-large", f"a body has at most {MAX_BODY_BYTES} bytes"))
        else:
            route(stream, request)

    def began(self, stream: Stream, began_s: float) -> None:
        """A stream is about to send its first bytes."""
        measures.SUBSCRIBE_SECONDS.observe(asyncio.get_running_loop().time() - began_s)
        measures.STREAMS_OPEN.inc()
        self._live += 1
        self._empty.clear()
        self._heartbeat.add(stream)

    def burst(self, stream: Stream) -> None:
        """A stream writes more than its buffer at once."""
        self._bursts.pop(stream, None)  # a key that is there would keep its place: the dictionary is in order of time
        self._bursts[stream] = asyncio.get_running_loop().time() + BURST_S

    def overflowed(self, stream: Stream) -> None:
        """A stream's buffer is full: its listener is slow, unless a burst is draining."""
        self._full.add(stream)
        if self._watch.now.drop_slow_listeners and self._is_slow(stream):
            self._drop(stream)

    def drained(self, stream: Stream) -> None:
        """A stream's buffer is nearly empty again."""
        self._bursts.pop(stream, None)
        self._full.discard(stream)

    def flooded(self, stream: Stream) -> None:
        """A listener sends more than a request may be long."""
        measures.FLOODS.inc()
        self.lost(stream)
        stream.transport.abort()

    def lost(self, stream: Stream) -> None:
        """A connection is gone, or a stream is given up. Safe to call twice."""
        self._heads.pop(stream, None)
        self._bursts.pop(stream, None)
        self._full.discard(stream)
        if stream.state is State.LIVE:
            self._live -= 1
            if not self._live:
                self._empty.set()
            measures.STREAMS_OPEN.dec()
            self._heartbeat.remove(stream)
        if stream.state in (State.OPENING, State.LIVE):
            self._lane(stream).close(stream)
        stream.state = State.CLOSED

    def retry_ms(self) -> int:
        """Reconnection time for one listener: jittered, so that they do not all return at once."""
        return self._jitter.randint(*RETRY_MS)

    # --- routes

    def _stream(self, stream: Stream, request: RequestHead) -> None:
        if self._off:
            self._refuse(stream, "the product is switched off", OFF_RETRY_S)
            return
        if self.draining or self._live >= self._capacity:
            self._refuse(stream, "this edge is draining" if self.draining else "this edge is full")
            return
        opening = sum(lane.opening for lane in self.lanes)
        if not self._admission.may_open(opening, asyncio.get_running_loop().time()):
            self._refuse(stream, "too many streams open at once", self._admission.retry_after_s())
            return
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        try:
            if scheme.lower() != "bearer":
                raise SignatureRejected("no bearer token")
            stream.user = token_user(self._secret, token.strip())
        except SignatureRejected as error:
            measures.REFUSED.labels("401").inc()
            challenge = (("WWW-Authenticate", "Bearer"),)
            stream.answer(wire.problem(401, "unauthorized", f"token: {error}", challenge))
            return
        self._admission.take()
        self._lane(stream).open(stream, self._opening(request.headers.get("last-event-id", "")))

    def _opening(self, last_event_id: str) -> Opening:
        now_s = asyncio.get_running_loop().time()
        if not last_event_id or not self._resumes:
            return Opening(None, False, now_s)
        since = wire.seq_of(self.region, last_event_id)
        return Opening(since, since is None, now_s)

    def _ready(self, stream: Stream, request: RequestHead) -> None:
        if self.joined and not self.draining:
            _health(stream, request)
        else:
            self._refuse(stream, "not ready")

    def _refuse(self, stream: Stream, detail: str, retry_s: int = 0) -> None:
        """Answer 503; without `retry_s` listeners are asked back spread over some seconds."""
        measures.REFUSED.labels("503").inc()
        stream.answer(_refusal(detail, retry_s or self._jitter.randint(*RETRY_S)))

    # --- flags

    def _flags_changed(self, flags: Flags) -> None:
        self._admission.set_rate(flags.sse_opens_per_s)
        self._heartbeat.set_period(flags.sse_heartbeat_s)
        self.buffer_bytes = flags.sse_buffer_bytes
        self.burst_bytes = min(self.burst_bytes, flags.sse_buffer_bytes)
        limit_kernel_buffer(self.listener, flags.sse_buffer_bytes)
        if flags.kill_switch and not self._off:
            self._ending = asyncio.create_task(self._end_streams("the product is switched off", OFF_RETRY_S))
        self._off = flags.kill_switch

    # --- the bus

    def _received(self, message: BusMessage) -> None:
        if message.lane >= len(self.lanes):
            return
        event = self._event(message)
        users = memoryview(message.users).cast("I")
        post, accepted_us = message.post, message.accepted_us
        self.lanes[message.lane].receive(
            Message(message.session, message.count, message.seq, event, users, post, accepted_us)
        )

    def _event(self, message: BusMessage) -> bytes:
        seq = wire.first_of_epoch(message.seq) if self._falls_back() else message.seq
        event = wire.new_post(self.region, seq, message.post)
        return event + event if self._repeats() else event

    def _delivered(self, message: Message) -> None:
        if message.accepted_us:
            seconds = stages.since_us(message.accepted_us)
            stages.passed("event", message.post, seconds, self._watch.now.trace_one_in)

    def _rejoined(self) -> None:
        self.joined = True
        for lane in self.lanes:
            lane.start_catch_up("bus")

    # --- background

    def start(self) -> None:
        """Begin what runs as long as the edge does."""
        loops: list[Coroutine[Any, Any, None]] = [self._bus.run(), self._heartbeat.run(), self._sweep()]
        for lane in self.lanes:
            loops += [lane.run(), lane.watch()]
        self._tasks = [asyncio.create_task(loop) for loop in loops]

    async def wait_stopped(self, stopping: asyncio.Event) -> None:
        """Return when told to stop. Raises what ended one of the loops: without it the edge would only seem to work."""
        told = asyncio.create_task(stopping.wait())
        try:
            ended, _ = await asyncio.wait({told, *self._tasks}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            told.cancel()
        for task in ended:
            task.result()

    async def stop(self) -> None:
        """End the loops and let go of the lanes' owners."""
        running = {task for task in self._tasks if not task.done()}
        while running:  # redis-py may swallow a cancellation while it connects
            for task in running:
                task.cancel()
            _, running = await asyncio.wait(running, timeout=CANCEL_S)
        for lane in self.lanes:
            lane.disconnect()

    async def _sweep(self) -> None:
        """End what takes too long: request heads, subscriptions, bursts, listeners that stop when once behind."""
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(SWEEP_S)
            now_s = loop.time()
            for stream in _expired(self._heads, now_s):
                self._heads.pop(stream)
                stream.answer(wire.problem(408, "bad-request", f"no request within {HEAD_TIMEOUT_S:g} s"))
            for lane in self.lanes:
                for stream in lane.overdue(now_s):
                    lane.close(stream)
                    self._refuse(stream, "the owner of this user's lane does not answer")
            for stream in _expired(self._bursts, now_s):
                self._bursts.pop(stream)
            if self._watch.now.drop_slow_listeners:
                for stream in [stream for stream in self._full if self._is_slow(stream)]:
                    self._drop(stream)

    def _is_slow(self, stream: Stream) -> bool:
        if stream.state is not State.LIVE or stream in self._bursts:
            return False
        _, most_bytes = stream.transport.get_write_buffer_limits()
        return stream.transport.get_write_buffer_size() > most_bytes

    async def drain(self) -> None:
        """End every stream cleanly; those that do not take their last bytes in time are cut."""
        self.draining = True
        for stream in list(self._heads):
            stream.transport.close()
        await self._end_streams("this edge is draining")
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LEAVE_S):
                await asyncio.gather(*(lane.leave_all() for lane in self.lanes))

    async def _end_streams(self, why: str, retry_s: int = 0) -> None:
        """End every stream in order; those that do not take their last bytes in time are cut."""
        streams = [stream for lane in self.lanes for stream in lane.all_streams()]
        for place, stream in enumerate(streams):
            if stream.state is State.OPENING:
                self._lane(stream).close(stream)
                self._refuse(stream, why, retry_s)
            else:
                stream.transport.close()
            if place % 500 == 499:
                await asyncio.sleep(0)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(DRAIN_S):
                await self._empty.wait()
        for stream in streams:
            stream.transport.abort()

    def _drop(self, stream: Stream) -> None:
        measures.SLOW_DROPS.inc()
        self.lost(stream)
        stream.transport.abort()

    def _lane(self, stream: Stream) -> Lane:
        return self.lanes[lane_of(stream.user, len(self.lanes))]


@functools.lru_cache(256)
def _refusal(detail: str, retry_s: int) -> bytes:
    """A 503; the same few are written over and over in a storm."""
    return wire.problem(503, "unavailable", detail, (("Retry-After", str(retry_s)),))


def _health(stream: Stream, request: RequestHead) -> None:
    stream.answer(wire.response(200, "application/json", b'{"status":"ok"}'))


def _metrics(stream: Stream, request: RequestHead) -> None:
    stream.answer(wire.response(200, CONTENT_TYPE_LATEST, generate_latest()))


def _expired(deadlines: dict[Stream, float], now_s: float) -> list[Stream]:
    """Keys whose time is over; the dictionary is in order of time."""
    late = []
    for stream, deadline in deadlines.items():
        if deadline > now_s:
            break
        late.append(stream)
    return late


def _capacity() -> int:
    """Streams this process may hold: as many descriptors as the kernel allows, less some for its own use."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard - SPARE_FDS if hard != resource.RLIM_INFINITY else 1 << 20


def limit_kernel_buffer(listener: socket.socket, buffer_bytes: int) -> None:
    """Set what the kernel holds back for each connection that is accepted from now on."""
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4 * buffer_bytes)


def listening_socket(port: int, buffer_bytes: int) -> socket.socket:
    """The socket to accept on. The kernel's send buffer is kept small too: slowness must show here."""
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    limit_kernel_buffer(listener, buffer_bytes)
    listener.bind(("127.0.0.1", port))
    listener.listen(BACKLOG)
    listener.setblocking(False)
    return listener


@asynccontextmanager
async def serving(context: Context, port: int) -> AsyncIterator[Edge]:
    """An edge that accepts on `port`; drained when the block ends."""
    listener = listening_socket(port, context.flags.now.sse_buffer_bytes)
    edge = Edge(context, listener)
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Stream(edge), sock=listener, backlog=BACKLOG)
    calls: dict[str, Callable[..., Awaitable[Any]]] = {"ping": _ping, "metrics": process.metrics}
    calls_server = await serve(context.socket(context.name), calls)
    edge.start()
    try:
        yield edge
    finally:
        server.close()
        await edge.drain()
        await edge.stop()
        calls_server.close()


async def _ping() -> str:
    return "pong"


async def main(context: Context) -> None:
    """Run this region's edge `context.name` ("fep-0": the first port) until told to stop or one of its loops fails."""
    port = context.region.fep_ports[int(context.name.rpartition("-")[2])]
    async with serving(context, port) as edge:
        log.info("listening on port %d", port)
        await edge.wait_stopped(context.stopping)
