"""A lean HTTP client that offers load whether or not it is answered: a process of its own.

On standard input a plan, then loads, one a line; on standard output a line for each load, JSON, as soon as it is over.

Open loop: requests fall due at a constant rate and go out within a millisecond, each on a connection of its own for as
long as it is under way; latency counts from the due time. What finds no free connection is counted as dropped, as it
would be by a full listen queue. Closed loop (rate 0): each connection sends its next request when the last is answered.

Whether the client itself kept up is told beside: how late requests went out, and which share of a processor it took.
"""

from __future__ import annotations

import asyncio
import random
import sys
import time
from collections import deque
from typing import Any, cast

import msgspec
import numpy as np
import uvloop

SETTLE_S = 3.0
TICK_S = 0.001
"""what falls due within so short a time goes out together; with shorter ones the client would only be busy waiting"""


class Ask(msgspec.Struct):
    """A request that may be drawn."""

    kind: str
    head: str
    """request line and headers, without the empty line"""
    body: str = ""
    weight: float = 1.0

    @property
    def data(self) -> bytes:
        """What goes on the wire."""
        length = f"Content-Length: {len(self.body)}\r\n" if self.body else ""
        return f"{self.head}\r\nHost: x\r\n{length}\r\n{self.body}".encode()


class Load(msgspec.Struct):
    """One phase."""

    seconds: float
    rate_per_s: float = 0.0
    """0: closed loop"""
    connections: int = 16
    retries: int = 0
    """how often a refused request is sent again, at once, as bad clients do"""


class Plan(msgspec.Struct):
    """Of whom is asked what."""

    port: int
    asks: list[Ask]
    seed: int = 1

    def told(self, *loads: Load) -> bytes:
        """The plan and these loads, as they go to standard input."""
        return b"".join(msgspec.json.encode(part) + b"\n" for part in (self, *loads))


class Tally(msgspec.Struct):
    """What one phase, or one kind of request in it, came to."""

    sent: int = 0
    dropped: int = 0
    statuses: dict[int, int] = {}
    """of all answers, those after the phase's end, too"""
    ok: int = 0
    """2xx before the phase's end"""
    reduced: int = 0
    """answers marked Feed-Degraded"""
    retry_after_s: dict[int, int] = {}
    seconds: float = 0.0
    ok_latencies_s: list[float] = []
    refused_latencies_s: list[float] = []

    def answered(self, head: bytes, latency_s: float, in_time: bool) -> bool:
        """One answer; whether it was a whole one."""
        status = int(head[9:12])
        reduced = b"feed-degraded:" in head
        self.ok += in_time and 200 <= status < 300
        self.statuses[status] = self.statuses.get(status, 0) + 1
        self.reduced += reduced
        (self.ok_latencies_s if status < 300 else self.refused_latencies_s).append(latency_s)
        at = head.find(b"retry-after: ")
        if at >= 0:
            retry_s = int(head[at + 13 : head.index(b"\r", at)])
            self.retry_after_s[retry_s] = self.retry_after_s.get(retry_s, 0) + 1
        return status < 300 and not reduced

    def result(self) -> dict[str, Any]:
        """For the output."""
        return {
            "sent": self.sent,
            "ok": self.ok,
            "dropped": self.dropped,
            "reduced": self.reduced,
            "statuses": self.statuses,
            "retry_after_s": self.retry_after_s,
            "ok_per_s": round(self.ok / self.seconds, 1) if self.seconds else 0.0,
            "ok_ms": _percentiles_ms(self.ok_latencies_s),
            "refused_ms": _percentiles_ms(self.refused_latencies_s),
        }


def _percentiles_ms(latencies_s: list[float]) -> dict[str, float]:
    if not latencies_s:
        return {}
    p50, p95, p99, most = np.percentile(np.array(latencies_s) * 1e3, (50, 95, 99, 100)).round(1).tolist()
    return {"p50": p50, "p95": p95, "p99": p99, "max": most}


class Connection(asyncio.Protocol):
    """One keep-alive connection, one request at a time."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self.transport: asyncio.Transport | None = None
        self.buffer = b""
        self.ask: Ask | None = None
        self.due_s = 0.0
        self.retries = self.phase = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def send(self, ask: Ask, due_s: float, retries: int) -> None:
        """Begin an exchange; `retries`: how often it may be tried again."""
        assert self.transport is not None
        self.ask, self.due_s, self.retries, self.phase = ask, due_s, retries, self.client.phases
        self.transport.write(self.client.wire[ask.head + ask.body])

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        end = self.buffer.find(b"\r\n\r\n")
        if end < 0:
            return
        head = self.buffer[:end].lower()
        at = head.find(b"content-length: ")
        length = int(head[at + 16 :].split(b"\r", 1)[0]) if at >= 0 else 0
        if len(self.buffer) < end + 4 + length:
            return
        self.buffer = self.buffer[end + 4 + length :]
        self.client.done(self, head)

    def connection_lost(self, exc: Exception | None) -> None:
        self.client.lost(self)


class Client:
    """Sends one phase's requests."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.wire = {ask.head + ask.body: ask.data for ask in plan.asks}
        self.free: deque[Connection] = deque()
        self.opened = self.opening = 0
        self.load = Load(0.0)
        self.kinds: dict[str, Tally] = {}
        self.late_s: list[float] = []
        """of each request of an open loop, how long after it was due it went out"""
        self.troubled_s = 0.0
        """when the phase's last answer came that was none, or a refusal, or a reduced one; time.monotonic()"""
        self.under_way = self.phases = 0
        self.is_closed_loop = self.is_over = False
        self._random = random.Random(plan.seed)
        self._weights = list(np.cumsum([ask.weight for ask in plan.asks]))

    def draw(self) -> Ask:
        """A request."""
        return self._random.choices(self.plan.asks, cum_weights=self._weights)[0]

    async def open(self, count: int) -> None:
        """Have at least `count` connections."""
        loop = asyncio.get_running_loop()
        while self.opened < count:
            _, connection = await loop.create_connection(lambda: Connection(self), "127.0.0.1", self.plan.port)
            self.opened += 1
            self.free.append(connection)

    def fire(self, due_s: float) -> None:
        """A request is due."""
        self._send(self.draw(), due_s, self.load.retries)

    def _send(self, ask: Ask, due_s: float, retries: int) -> None:
        tally = self.kinds.setdefault(ask.kind, Tally())
        tally.sent += 1
        if not self.free:
            tally.dropped += 1
            self.troubled_s = time.monotonic()
            return
        self.under_way += 1
        self.free.pop().send(ask, due_s, retries)

    def done(self, connection: Connection, head: bytes) -> None:
        """A request was answered."""
        now_s, ask = time.monotonic(), connection.ask
        if ask is None:
            return
        if connection.phase != self.phases:  # it comes after its phase was over, and belongs to none
            connection.ask = None
            self.free.append(connection)
            return
        if not self.kinds[ask.kind].answered(head, now_s - connection.due_s, not self.is_over):
            self.troubled_s = now_s
        connection.ask = None
        self.under_way -= 1
        self.free.append(connection)
        if connection.retries and head[9:12] == b"503":
            self._send(ask, now_s, connection.retries - 1)
        if self.is_closed_loop:
            self.fire(now_s)

    def lost(self, connection: Connection) -> None:
        """A connection broke; it is replaced when more are needed."""
        self.opened -= 1
        if connection.ask is not None:
            if connection.phase != self.phases:
                return
            self.under_way -= 1
            self.troubled_s = time.monotonic()
            tally = self.kinds[connection.ask.kind]
            tally.statuses[0] = tally.statuses.get(0, 0) + 1
        elif connection in self.free:
            self.free.remove(connection)

    async def phase(self, load: Load) -> dict[str, Any]:
        """One phase; ends when all it sent is answered, or a few seconds later."""
        self.kinds, self.late_s, self.is_over, self.load = {}, [], False, load
        self.under_way, self.phases = 0, self.phases + 1
        await self.open(load.connections)
        began_s, began_cpu_s = time.monotonic(), time.process_time()
        self.troubled_s = began_s
        if load.rate_per_s:
            await self._offer(load, began_s)
        else:
            self.is_closed_loop = True
            for _ in range(min(load.connections, len(self.free))):
                self.fire(time.monotonic())
            await asyncio.sleep(load.seconds)
            self.is_closed_loop = False
        self.is_over = True
        seconds, cpu_s = time.monotonic() - began_s, time.process_time() - began_cpu_s
        until_s = time.monotonic() + SETTLE_S
        while self.under_way and time.monotonic() < until_s:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        for tally in self.kinds.values():
            tally.seconds = seconds
        kinds = {kind: tally.result() for kind, tally in self.kinds.items()}
        client = {"late_ms": _percentiles_ms(self.late_s), "busy": round(cpu_s / seconds, 3)}
        troubled = {"troubled_for_s": round(self.troubled_s - began_s, 3)}
        return {"all": self._all(seconds).result() | troubled, "client": client, **kinds}

    def _all(self, seconds: float) -> Tally:
        total = Tally(seconds=seconds)
        for tally in self.kinds.values():
            total.sent += tally.sent
            total.dropped += tally.dropped
            total.ok += tally.ok
            total.reduced += tally.reduced
            total.ok_latencies_s += tally.ok_latencies_s
            total.refused_latencies_s += tally.refused_latencies_s
            for mine, theirs in ((total.statuses, tally.statuses), (total.retry_after_s, tally.retry_after_s)):
                for key, count in theirs.items():
                    mine[key] = mine.get(key, 0) + count
        return total

    async def _offer(self, load: Load, began_s: float) -> None:
        sent, total = 0, int(load.seconds * load.rate_per_s)
        while sent < total:
            due = min(total, int((time.monotonic() - began_s) * load.rate_per_s) + 1)
            now_s = time.monotonic()
            while sent < due:
                due_s = began_s + sent / load.rate_per_s
                self.late_s.append(now_s - due_s)
                self.fire(due_s)
                sent += 1
            await asyncio.sleep(max(TICK_S, began_s + sent / load.rate_per_s - time.monotonic()))


async def run() -> None:
    """All that standard input asks for, until it ends."""
    read = sys.stdin.buffer.readline
    client = Client(msgspec.json.decode(read(), type=Plan))
    while line := await asyncio.to_thread(read):
        came = await client.phase(msgspec.json.decode(line, type=Load))
        print(msgspec.json.encode(came).decode(), flush=True)


def main() -> int:
    """See the module."""
    uvloop.run(run())
    return 0


if __name__ == "__main__":
    sys.exit(main())
