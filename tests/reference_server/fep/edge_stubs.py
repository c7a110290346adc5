"""What the edge's tests stand on: a real redis, a stub of the lane's owner over real unix sockets, raw clients."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import secrets
from collections.abc import Awaitable, Callable
from pathlib import Path

import msgspec
import redis.asyncio
from real_servers import free_port

from reference_server import rpc
from reference_server.fep.edge import Edge
from reference_server.flags.watch import FlagWatch
from reference_server.process import Context
from reference_server.security import make_token
from reference_server.settings import Region, Settings

SECRET = bytes(range(32))
REGION = "us-east"
DEADLINE_S = 10.0


class StubOwner:
    """What the owner of lane 0 answers, from lists in memory; posts are numbered in order of publication."""

    def __init__(self, path: str, redis_port: int) -> None:
        self.path = path
        self.redis = redis.asyncio.Redis(host="127.0.0.1", port=redis_port, protocol=2)
        self.session = secrets.randbits(32)
        self.epoch = 1
        self.floor = 0
        self.record = itertools.count(1)
        self.head = 1 << 48
        self.slots: dict[int, list[tuple[int, bytes]]] = {}
        self.listening: dict[str, set[int]] = {}
        self.counts: dict[str, int] = {}
        self.subscribes: list[list[list[int | None]]] = []
        self.unknown = -1
        self.answering = asyncio.Event()
        self.answering.set()
        self.server: asyncio.Server | None = None
        self.connections: list[rpc._ServerConnection] = []

    async def start(self) -> None:
        calls = {"subscribe": self.subscribe, "unsubscribe": self.unsubscribe, "bus_head": self.bus_head}

        def accept() -> rpc._ServerConnection:
            self.connections.append(rpc._ServerConnection(calls))
            return self.connections[-1]

        Path(self.path).unlink(missing_ok=True)
        self.server = await asyncio.get_running_loop().create_unix_server(accept, self.path)

    async def stop(self) -> None:
        """Close the socket and, like a process that dies, every connection."""
        if self.server is not None:
            self.server.close()
            self.server = None
        for connection in self.connections:
            connection.close()
        self.connections.clear()
        await asyncio.sleep(0)

    async def restart(self) -> None:
        """A new incarnation: the same timelines, nothing known of listeners."""
        await self.stop()
        self.session = secrets.randbits(32)
        self.listening, self.counts = {}, {}
        await self.start()

    async def subscribe(self, fep: str, users: list[list[int | None]]) -> list[object]:
        await self.answering.wait()
        if any(user == self.unknown for user, _ in users):
            raise rpc.RpcError("not-found", f"user {self.unknown}")
        self.subscribes.append(users)
        answers = []
        for user, since in users:
            assert user is not None
            self.listening.setdefault(fep, set()).add(user)
            missed = [] if since is None else [[s, p] for s, p in self.slots.get(user, []) if s > since]
            lost = since is not None and not self.floor <= since <= self.head
            answers.append([self.head, None if lost else missed])
        return [self.session, self.counts.get(fep, 0), answers]

    async def unsubscribe(self, fep: str, users: list[int]) -> None:
        self.listening.get(fep, set()).difference_update(users)

    async def bus_head(self, fep: str) -> list[int]:
        return [self.session, self.counts.get(fep, 0)]

    def write(self, post: bytes, users: list[int]) -> int:
        """Put a post into timelines; nobody is told. Returns its arrival number."""
        self.head = self.epoch << 48 | next(self.record)
        for user in users:
            self.slots.setdefault(user, []).append((self.head, post))
        return self.head

    async def publish(self, post: bytes, users: list[int], lose: bool = False, accepted_us: int = 0) -> int:
        """Write, then notify every edge with a listener; `lose`: counted, but never on the bus."""
        seq = self.write(post, users)
        for fep, listening in self.listening.items():
            reached = sorted(listening.intersection(users))
            if not reached:
                continue
            self.counts[fep] = self.counts.get(fep, 0) + 1
            body = b"".join(user.to_bytes(4, "little") for user in reached)
            fields = [0, self.session, self.counts[fep], seq, post, body]
            message = msgspec.msgpack.encode([*fields, accepted_us] if accepted_us else fields)
            if not lose:
                await self.redis.xadd(f"bus:{REGION}.{fep}", {"m": message}, maxlen=20000)
        return seq


class Listener:
    """A raw client: reads the response head, then blocks of the stream."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer
        self.head = ""

    async def block(self) -> dict[str, str]:
        """The next block that is no comment, as field -> value."""
        while True:
            async with asyncio.timeout(DEADLINE_S):
                raw = await self.reader.readuntil(b"\n\n")
            lines = [line for line in raw.decode().splitlines() if line and not line.startswith(":")]
            if lines:
                return dict(line.split(": ", 1) for line in lines)

    async def rest(self) -> bytes:
        """Everything up to the end of the connection."""
        async with asyncio.timeout(DEADLINE_S):
            return await self.reader.read()

    def close(self) -> None:
        self.writer.transport.abort()

    async def closed(self) -> None:
        self.close()
        with contextlib.suppress(ConnectionError):
            await self.writer.wait_closed()


async def connect(port: int) -> Listener:
    """A connection that has sent nothing yet."""
    return Listener(*await asyncio.open_connection("127.0.0.1", port))


def stream_request(user: int, since: str = "") -> bytes:
    """The request for a user's stream."""
    resume = f"Last-Event-ID: {since}\r\n" if since else ""
    token = make_token(SECRET, user)[0]
    return f"GET /v1/stream HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n{resume}\r\n".encode()


async def ask(port: int, user: int, since: str = "") -> Listener:
    """Ask for a user's stream and read the response head."""
    listener = await connect(port)
    listener.writer.write(stream_request(user, since))
    async with asyncio.timeout(DEADLINE_S):
        listener.head = (await listener.reader.readuntil(b"\r\n\r\n")).decode()
    return listener


class EdgeUnderTest:
    """The edge, and how to reach it."""

    def __init__(self, edge: Edge, port: int, flags: FlagWatch) -> None:
        self.edge, self.port, self.flags = edge, port, flags
        self.listeners: list[Listener] = []

    @property
    def open_streams(self) -> int:
        return sum(len(lane.all_streams()) for lane in self.edge.lanes)

    async def look(self) -> None:
        """Have the edge look at the flags, as its process does once a second."""
        await self.flags.look()

    async def send(self, request: bytes) -> Listener:
        """Send raw bytes; the response is not read yet."""
        listener = await connect(self.port)
        self.listeners.append(listener)
        listener.writer.write(request)
        return listener

    async def listen(self, user: int, since: str = "") -> Listener:
        """Ask for a user's stream and read the response head."""
        self.listeners.append(await ask(self.port, user, since))
        return self.listeners[-1]


class EdgeProcess:
    """The edge as a process of its own, and how to reach it."""

    def __init__(self, process: asyncio.subprocess.Process, port: int) -> None:
        self.process, self.port = process, port
        self.listeners: list[Listener] = []

    async def listen(self, user: int) -> Listener:
        self.listeners.append(await ask(self.port, user))
        return self.listeners[-1]

    async def metric(self, name: str) -> float:
        listener = await connect(self.port)
        self.listeners.append(listener)
        listener.writer.write(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
        for line in (await listener.rest()).decode().splitlines():
            if line.startswith(name + " "):
                return float(line.rpartition(" ")[2])
        raise AssertionError(f"no metric {name}")


Stack = Callable[..., Awaitable[EdgeUnderTest]]


def context(sockets: str, redis_port: int, **settings: object) -> Context:
    region = Region(
        name=REGION,
        index=0,
        api_ports=(),
        fep_ports=(free_port(),),
        memcached_ports=(),
        redis_queue_port=redis_port,
        redis_cache_port=redis_port,
        replicator_port=0,
    )
    document = Settings(
        directory=str(Path(sockets)), sockets=sockets, secret=SECRET.hex(), regions=(region,), lanes=1, **settings
    )  # type: ignore[arg-type]
    return Context(document, region, "fep-0", asyncio.Event(), FlagWatch(document, region))
