"""What a stream costs: process memory on the edge and in the stream engine, and how fast 10,000 are opened and reached.

The real edge and the real engine on loopback, a stub in place of the lane's owner, a real redis. Memory is the growth
of resident memory (VmRSS) over the streams opened; the time of an event runs from just before it is put on the bus to
the last of all listeners. With few streams, slack left from start-up would hide what they cost.

Then side by side, against the same edge, 3,000 streams of each in its turn: our engine, aiohttp-sse-client, httpx, and
Locust with a greenlet a stream. Each opens them as fast as it can and gets 30 events a stream, all at once. Rates of
events are by the listeners' own CPU time, as the edge shares the machine. Ours also writes each event into the history.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import sys
import tempfile
import uuid
from asyncio.subprocess import PIPE, Process
from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import msgspec
import redis.asyncio

from benchmarks._lane import free_port, machine, printed
from harness.core.clock import NS_PER_S, now_ns
from harness.core.listening import Listening
from harness.core.op import OpKind
from harness.load.plan import LoadPlan, PlanPhase, PlanRegion, write_plan, write_tokens
from harness.record.frames import read_segment
from harness.record.run_directory import RunDirectory
from reference_server.parent import die_with_parent
from reference_server.rpc import serve
from reference_server.security import make_token
from reference_server.settings import Region, Settings, write_settings

STREAMS = 10_000
EVENTS = 5
TARGET_BYTES = 4096
REGION = "us-east"
HEAD = 1 << 48
BESIDE = 3000
BESIDE_EVENTS = 30
FLAT_OUT_PER_S = 100_000.0
OTHERS = {
    "aiohttp-sse-client": ("benchmarks._sse_clients", "aiohttp-sse-client"),
    "httpx": ("benchmarks._sse_clients", "httpx"),
    "locust greenlets": ("benchmarks._sse_greenlets",),
}
LIMIT_S = 240.0
"""of a busy machine; on an idle one it takes a minute"""


def resident_bytes(pid: int) -> int:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    return 0


def cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


class StubOwner:
    """Answers subscriptions at once; puts records that reach every listener on the bus."""

    def __init__(self, port: int) -> None:
        self.redis = redis.asyncio.Redis(host="127.0.0.1", port=port, protocol=2)
        self.users: set[int] = set()
        self.count = 0

    async def subscribe(self, fep: str, users: list[tuple[int, int | None]]) -> list[object]:
        """Everybody starts at the head."""
        self.users.update(user for user, _ in users)
        return [1, self.count, [[HEAD, []] for _ in users]]

    async def unsubscribe(self, fep: str, users: list[int]) -> None:
        """Streams have closed."""
        self.users.difference_update(users)

    async def bus_head(self, fep: str) -> list[int]:
        """What the edge should have got so far."""
        return [1, self.count]

    async def publish(self) -> tuple[str, int]:
        """One record for every listener. Returns the post's id and when it went out."""
        self.count += 1
        post = secrets.token_bytes(16)
        users = b"".join(user.to_bytes(4, "little") for user in sorted(self.users))
        message = msgspec.msgpack.encode([0, 1, self.count, HEAD + self.count, post, users])
        sent_ns = now_ns()
        await self.redis.xadd(f"bus:{REGION}.fep-0", {"m": message})
        return str(uuid.UUID(bytes=post)), sent_ns


class Engine:
    """The process of the listeners: its newest status."""

    def __init__(self, process: Process) -> None:
        self.process = process
        self.status: dict[str, Any] = {}

    async def until(self, key: str, value: object) -> None:
        """Read status lines until one of them has that value (or a greater number)."""
        assert self.process.stdout is not None
        while True:
            have = self.status.get(key)
            if have == value or (isinstance(have, int) and isinstance(value, int) and have >= value):
                return
            line = await self.process.stdout.readline()
            if not line:
                raise RuntimeError(f"the listeners' process ended; last status {self.status}")
            self.status = msgspec.json.decode(line)

    def send(self, **command: object) -> None:
        """One command line."""
        assert self.process.stdin is not None
        self.process.stdin.write(msgspec.json.encode(command) + b"\n")


async def spawn(undo: AsyncExitStack, *command: str) -> Process:
    process = await asyncio.create_subprocess_exec(*command, stdin=PIPE, stdout=PIPE, preexec_fn=die_with_parent)

    async def end() -> None:
        if process.returncode is None:
            process.terminate()
        await process.wait()

    undo.push_async_callback(end)
    return process


async def wait_port(port: int) -> None:
    """Wait until something accepts connections."""
    while True:
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
        except OSError:
            await asyncio.sleep(0.02)
            continue
        writer.close()
        return


def write_stack(folder: Path, redis_port: int, fep_port: int) -> tuple[Settings, Path]:
    region = Region(
        name=REGION,
        index=0,
        api_ports=(),
        fep_ports=(fep_port,),
        memcached_ports=(),
        redis_queue_port=0,
        redis_cache_port=redis_port,
        replicator_port=0,
    )
    secret = secrets.token_hex(32)
    flags: dict[str, bool | int | float | str] = {"sse_opens_per_s": 100_000}
    settings = Settings(
        directory=str(folder), sockets=str(folder), secret=secret, regions=(region,), lanes=1, flags=flags
    )
    write_settings(folder / "settings.json", settings)
    return settings, folder / "settings.json"


def tokens_of(secret: bytes, streams: int) -> dict[int, str]:
    return {user: make_token(secret, user)[0] for user in range(streams)}


def write_load(
    folder: Path, secret: bytes, fep_port: int, streams: int, open_per_s: float
) -> tuple[RunDirectory, Path]:
    run = RunDirectory(folder).create()
    write_tokens(run.path / "tokens.json", tokens_of(secret, streams))
    plan = LoadPlan(
        seed=1,
        run=str(run.path),
        users=streams,
        listening=Listening(open_per_s=open_per_s),
        phases=(PlanPhase("warmup", -1, 0), PlanPhase("all", 0, 1)),
        regions={REGION: PlanRegion("http://127.0.0.1:1", f"http://127.0.0.1:{fep_port}")},
        tokens=str(run.path / "tokens.json"),
        listeners=tuple((user, REGION) for user in range(streams)),
    )
    write_plan(run.path / "plan.json", plan)
    return run, run.path / "plan.json"


def read_history(run: RunDirectory, sent: dict[str, int]) -> dict[str, Any]:
    """Streams opened a second; median over the events of (last arrival - publication); arrivals in all."""
    last: dict[str, int] = {}
    opens: list[tuple[int, int]] = []
    arrivals = 0
    for op in read_segment(run.history / "streams-0.jsonl"):
        if op.kind is OpKind.EVENT:
            arrivals += 1
            last[op.post] = max(last.get(op.post, 0), op.done_ns)
        elif op.kind is OpKind.STREAM_OPEN:
            opens.append((op.sent_ns, op.done_ns))
    opening_s = (max(done for _, done in opens) - min(sent for sent, _ in opens)) / 1e9
    times_ms = sorted((last[post] - at) / 1e6 for post, at in sent.items() if post in last)
    return {
        "opened_per_s": round(len(opens) / opening_s),
        "event_to_all_ms": round(times_ms[len(times_ms) // 2], 1) if times_ms else None,
        "arrivals": arrivals,
    }


class Stack:
    """The edge, and what stands behind it."""

    def __init__(self, owner: StubOwner, fep: Process, port: int, secret: bytes) -> None:
        self.owner, self.fep, self.port, self.secret = owner, fep, port, secret

    async def until_empty(self) -> None:
        """Wait until no stream is left."""
        while self.owner.users:  # noqa: ASYNC110 - the edge's calls make it true
            await asyncio.sleep(0.05)


async def start_stack(folder: Path, undo: AsyncExitStack) -> Stack:
    redis_port, fep_port = free_port(), free_port()
    server = ["redis-server", "--port", str(redis_port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]
    await spawn(undo, *server)
    await wait_port(redis_port)
    owner = StubOwner(redis_port)
    undo.push_async_callback(owner.redis.aclose)
    settings, settings_path = write_stack(folder, redis_port, fep_port)
    calls: dict[str, Any] = {"subscribe": owner.subscribe, "unsubscribe": owner.unsubscribe, "bus_head": owner.bus_head}
    undo.callback((await serve(settings.socket(REGION, "lane-0"), calls)).close)
    part = ["--settings", str(settings_path), "--region", REGION, "--name", "fep-0"]
    fep = await spawn(undo, sys.executable, "-m", "reference_server.fep", *part)
    await wait_port(fep_port)
    return Stack(owner, fep, fep_port, bytes.fromhex(settings.secret))


async def start_engine(undo: AsyncExitStack, plan: Path) -> Engine:
    arguments = [str(plan), "streams-0", "0", "1"]
    engine = Engine(await spawn(undo, sys.executable, "-m", "harness.load.stream_engine", *arguments))
    await engine.until("state", "ready")
    return engine


async def many(folder: Path, stack: Stack) -> dict[str, Any]:
    """10,000 of ours."""
    async with AsyncExitStack() as undo:
        run, plan = write_load(folder, stack.secret, stack.port, STREAMS, Listening().open_per_s)
        engine = await start_engine(undo, plan)
        pids = stack.fep.pid, engine.process.pid
        before = [resident_bytes(pid) for pid in pids]
        engine.send(cmd="open")
        await engine.until("open", STREAMS)
        growth = [(resident_bytes(pid) - b) / STREAMS for pid, b in zip(pids, before, strict=True)]
        engine.send(cmd="start", t0_ns=now_ns())
        sent = {}
        for number in range(1, EVENTS + 1):
            post, at_ns = await stack.owner.publish()
            sent[post] = at_ns
            await engine.until("events", number * STREAMS)
        after = [(resident_bytes(pid) - b) / STREAMS for pid, b in zip(pids, before, strict=True)]
        engine.send(cmd="stop")
        await engine.until("state", "done")
    edge_bytes, engine_bytes = (round(max(pair)) for pair in zip(growth, after, strict=True))
    return {"streams": STREAMS, "edge_bytes": edge_bytes, "engine_bytes": engine_bytes, **read_history(run, sent)}


async def ours_beside(folder: Path, stack: Stack) -> dict[str, float]:
    async with AsyncExitStack() as undo:
        run, plan = write_load(folder, stack.secret, stack.port, BESIDE, FLAT_OUT_PER_S)
        engine = await start_engine(undo, plan)
        found = await beside(stack, engine, lambda: engine.send(cmd="open"))
        engine.send(cmd="stop")
        await engine.until("state", "done")
    ops = list(read_segment(run.history / "streams-0.jsonl"))
    opens = [op for op in ops if op.kind is OpKind.STREAM_OPEN]
    opening_s = (max(op.done_ns for op in opens) - min(op.sent_ns for op in opens)) / NS_PER_S
    return {"opened_per_s": round(BESIDE / opening_s), **found}


async def other_beside(command: tuple[str, ...], stack: Stack) -> dict[str, float]:
    async with AsyncExitStack() as undo:
        listeners = Engine(await spawn(undo, sys.executable, "-m", *command))
        await listeners.until("open", 0)
        job = {"port": stack.port, "tokens": tokens_of(stack.secret, BESIDE)}
        began_ns = now_ns()
        found = await beside(stack, listeners, lambda: listeners.send(**job))
        return {"opened_per_s": round(BESIDE * NS_PER_S / (listeners.status["open_ns"] - began_ns)), **found}


async def beside(stack: Stack, listeners: Engine, begin: Callable[[], None]) -> dict[str, float]:
    """What one kind of listeners takes."""
    pid = listeners.process.pid
    held, used_s = resident_bytes(pid), cpu_s(pid)
    begin()
    await listeners.until("open", BESIDE)
    opened = resident_bytes(pid)
    opening_cpu_s = cpu_s(pid) - used_s
    used_s = cpu_s(pid)
    for _ in range(BESIDE_EVENTS):
        await stack.owner.publish()
    await listeners.until("events", BESIDE * BESIDE_EVENTS)
    return {
        "bytes": round((max(opened, resident_bytes(pid)) - held) / BESIDE),
        "opening_cpu_us": round(1e6 * opening_cpu_s / BESIDE),
        "events_per_cpu_s": round(BESIDE * BESIDE_EVENTS / max(0.01, cpu_s(pid) - used_s)),
    }


async def measure(folder: Path, undo: AsyncExitStack) -> dict[str, Any]:
    """One run."""
    stack = await start_stack(folder, undo)
    found = await many(folder / "many", stack)
    await stack.until_empty()
    sides = {"ours": await ours_beside(folder / "beside", stack)}
    for name, command in OTHERS.items():
        await stack.until_empty()
        sides[name] = await other_beside(command, stack)
    larger = max(found["edge_bytes"], found["engine_bytes"])
    ratio = sides["ours"]["events_per_cpu_s"] / max(sides[name]["events_per_cpu_s"] for name in OTHERS)
    return {
        "benchmark": "streams",
        "ratio": round(ratio, 2),
        "value": larger,
        "unit": "bytes a stream, the larger side; ratio: events a CPU second, ours by the best of the others",
        "target": f"<= {TARGET_BYTES} bytes, ratio >= 1, nothing lost",
        "ok": larger <= TARGET_BYTES and found["arrivals"] == EVENTS * STREAMS and ratio >= 1,
        "details": {**found, f"{BESIDE} side by side": sides},
        "machine": machine(),
    }


async def run() -> dict[str, Any]:
    with tempfile.TemporaryDirectory(prefix="fs-") as folder:
        async with asyncio.timeout(LIMIT_S), AsyncExitStack() as undo:
            return await measure(Path(folder), undo)


def main() -> int:
    """Measure and print one JSON line."""
    return printed(asyncio.run(run()))


if __name__ == "__main__":
    sys.exit(main())
