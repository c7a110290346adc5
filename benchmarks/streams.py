"""What a stream costs: process memory on the edge and in the stream engine, and how fast 10,000 are opened and reached.

The real edge and the real engine on loopback, a stub in place of the lane's owner, a real redis. Memory is the growth
of resident memory (VmRSS) over the streams opened; the time of an event runs from just before it is put on the bus to
the last of all listeners. With few streams, slack left from start-up would hide what they cost.
"""

from __future__ import annotations

import asyncio
import secrets
import sys
import tempfile
import uuid
from asyncio.subprocess import PIPE, Process
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import msgspec
import redis.asyncio

from benchmarks._lane import free_port, machine, printed
from harness.core.clock import now_ns
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
LIMIT_S = 58.0


def resident_bytes(pid: int) -> int:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    return 0


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
    """The engine process: its newest status."""

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
                raise RuntimeError(f"the engine ended; last status {self.status}")
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


def write_load(folder: Path, secret: bytes, fep_port: int) -> tuple[RunDirectory, Path]:
    run = RunDirectory(folder / "run").create()
    write_tokens(run.path / "tokens.json", {user: make_token(secret, user)[0] for user in range(STREAMS)})
    plan = LoadPlan(
        seed=1,
        run=str(run.path),
        users=STREAMS,
        phases=(PlanPhase("warmup", -1, 0), PlanPhase("all", 0, 1)),
        regions={REGION: PlanRegion("http://127.0.0.1:1", f"http://127.0.0.1:{fep_port}")},
        tokens=str(run.path / "tokens.json"),
        listeners=tuple((user, REGION) for user in range(STREAMS)),
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


async def measure(folder: Path, undo: AsyncExitStack) -> dict[str, Any]:
    """One run."""
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
    run, plan = write_load(folder, bytes.fromhex(settings.secret), fep_port)
    arguments = [str(plan), "streams-0", "0", "1"]
    engine = Engine(await spawn(undo, sys.executable, "-m", "harness.load.stream_engine", *arguments))
    await engine.until("state", "ready")
    await wait_port(fep_port)
    pids = fep.pid, engine.process.pid
    before = [resident_bytes(pid) for pid in pids]
    engine.send(cmd="open")
    await engine.until("open", STREAMS)
    growth = [(resident_bytes(pid) - b) / STREAMS for pid, b in zip(pids, before, strict=True)]
    engine.send(cmd="start", t0_ns=now_ns())
    sent = {}
    for number in range(1, EVENTS + 1):
        post, at_ns = await owner.publish()
        sent[post] = at_ns
        await engine.until("events", number * STREAMS)
    after = [(resident_bytes(pid) - b) / STREAMS for pid, b in zip(pids, before, strict=True)]
    engine.send(cmd="stop")
    await engine.until("state", "done")
    seen = read_history(run, sent)
    fep_bytes, engine_bytes = (round(max(pair)) for pair in zip(growth, after, strict=True))
    return {
        "benchmark": "streams",
        "value": max(fep_bytes, engine_bytes),
        "unit": "bytes a stream, the larger side",
        "target": TARGET_BYTES,
        "ok": max(fep_bytes, engine_bytes) <= TARGET_BYTES and seen["arrivals"] == EVENTS * STREAMS,
        "details": {"streams": STREAMS, "edge_bytes": fep_bytes, "engine_bytes": engine_bytes, **seen},
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
