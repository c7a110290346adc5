"""250,000 streams of real users, held at once by the reference stack, with both sides on this machine. Takes minutes.

    python -m benchmarks.streams_250k
    python -m benchmarks.streams_250k --streams 10000 --feps 2 --engines 2 --open 4000

The whole stack with one region, as many feps and stream engines as 20,000 descriptors a process ask for, a token for
each user, and a celebrity whom all of them follow. Streams are opened; the celebrity posts; every stream must get that
event, once. Told are: how fast streams opened, and at what cost; memory of the processes on each side (PSS: pages that
processes share count once), in all and as it grew over the streams; what the kernel took beside it; and how long after
the post was sent its event was read from half, 99 % and all of the streams. `limits` says how near each bound of the
machine was: with more streams asked for, one of them, or `problems`, is what stops it.

Not part of `python -m benchmarks`, unless it is named.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import httpx
import numpy as np

from benchmarks._lane import machine, printed
from benchmarks._stack import RunningStack, running_stack
from benchmarks.streams import Engine, cpu_s, spawn
from harness.core.clock import NS_PER_MS, NS_PER_S, now_ns
from harness.core.listening import Listening
from harness.core.op import Op, OpKind, OpOutcome
from harness.core.scenario import Population as Spec
from harness.load.plan import LoadPlan, PlanPhase, PlanRegion, write_plan, write_tokens
from harness.load.population import Population, write_population
from harness.record.frames import read_segment
from harness.record.run_directory import RunDirectory
from reference_server.security import make_token
from reference_server.settings import read_settings
from reference_server.supervisor.layout import read_pid_file

REGION = "us-east"
STREAMS = 250_000
STREAMS_PER_PROCESS = 18_000
FULL_PROCESS = 10_000
"""with fewer streams in a process, what it takes by itself says nothing of a stream: then growth is judged"""
OPEN_PER_S = 3000.0
TARGET_OPEN_PER_S, TARGET_BYTES = 2500, 4096
POSTS = 1
STARTING_S, OPENING_LEAST_PER_S, DELIVERY_S, ENDING_S, SETTLE_S = 120.0, 500, 120.0, 120.0, 5.0
STACK = ("--regions", REGION, "--only", "graph,fanout,jobs,api,fep", "--flag", "sse_opens_per_s=1000")


def write_people(folder: Path, streams: int) -> None:
    """Users 1 .. streams, who all follow user 0."""
    offsets = np.maximum(0, np.arange(streams + 2, dtype=np.int64) - 1)
    followees, hot = np.zeros(streams, dtype=np.uint32), np.ones(streams, dtype=np.uint8)
    people = Population(offsets, followees, hot, celebrities=(0,), threshold=max(2, streams // 10))
    write_population(people, Spec(users=streams + 1, celebrities=(streams,), mean_follows=1), 1, folder)


def write_load(run: RunDirectory, stack: RunningStack, streams: int, open_per_s: float) -> Path:
    """The plan of all engines, and everybody's token."""
    secret = bytes.fromhex(read_settings(stack.directory.settings).secret)
    users = range(1, streams + 1)
    write_tokens(run.path / "tokens.json", {user: make_token(secret, user)[0] for user in users})
    urls = stack.endpoints.regions[REGION]
    plan = LoadPlan(
        seed=1,
        run=str(run.path),
        users=streams + 1,
        listening=Listening(open_per_s=open_per_s),
        phases=(PlanPhase("warmup", -1, 0), PlanPhase("all", 0, 1)),
        regions={REGION: PlanRegion(api=urls.api, stream=urls.stream, streams=tuple(urls.streams))},
        tokens=str(run.path / "tokens.json"),
        listeners=tuple((user, REGION) for user in users),
    )
    write_plan(run.path / "plan.json", plan)
    return run.path / "plan.json"


def feps_of(stack: RunningStack) -> list[int]:
    found = [read_pid_file(path) for path in sorted((stack.directory.path / "pids").glob(f"{REGION}.fep*.pid"))]
    return [leader[0] for leader in found if leader is not None]


def pss_bytes(pids: Iterable[int]) -> int:
    """Memory of the processes: pages of their own, and their share of those that several have."""
    lines = [line for pid in pids for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()]
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:"))


def kernel_bytes() -> int:
    """Memory of the kernel's own objects (sockets, descriptors, buffers), of the whole machine."""
    lines = Path("/proc/meminfo").read_text().splitlines()
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("Slab:"))


def limits(feps: Sequence[int], engines: Sequence[int]) -> dict[str, Any]:
    """How near the bounds of the machine are."""
    [free] = [line for line in Path("/proc/meminfo").read_text().splitlines() if line.startswith("MemAvailable:")]
    [hard] = [line for line in Path(f"/proc/{feps[0]}/limits").read_text().splitlines() if line.startswith("Max open")]
    used = max(sum(1 for _ in Path(f"/proc/{pid}/fd").iterdir()) for pid in (*feps, *engines))
    low, high = Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()
    return {
        "most descriptors of a process": f"{used} of {hard.split()[4]}",
        "memory left": f"{int(free.split()[1]) // 1024} MiB",
        "local ports of an address to a fep": int(high) - int(low) + 1,
    }


class Sides:
    """The processes on both sides."""

    def __init__(self, stack: RunningStack, engines: list[Engine], streams: int) -> None:
        self.stack, self.engines, self.streams = stack, engines, streams
        self.fep_pids, self.engine_pids = feps_of(stack), [engine.process.pid for engine in engines]
        self.before = self._memory()
        self.used_s = self._cpu_s()

    def _memory(self) -> tuple[int, int, int]:
        return pss_bytes(self.fep_pids), pss_bytes(self.engine_pids), kernel_bytes()

    def _cpu_s(self) -> dict[str, float]:
        parts = {part.split(".")[-1].split("-")[0]: 0.0 for part in self.stack.usage()}
        for part, usage in self.stack.usage().items():
            parts[part.split(".")[-1].split("-")[0]] += usage.cpu_s
        return parts | {"engines": sum(cpu_s(pid) for pid in self.engine_pids)}

    def memory(self) -> dict[str, int]:
        """Bytes a stream on each side: in all, as it grew, and what the kernel took for both ends."""
        now = self._memory()
        grown = [(after - before) / self.streams for after, before in zip(now, self.before, strict=True)]
        return {
            "fep_bytes": round(now[0] / self.streams),
            "engine_bytes": round(now[1] / self.streams),
            "fep_bytes_grown": round(grown[0]),
            "engine_bytes_grown": round(grown[1]),
            "kernel_bytes_both_ends": round(grown[2]),
        }

    def cpu_us(self) -> dict[str, int]:
        """Processor time a stream since the start, by part; what takes less than a µs is left out."""
        now = self._cpu_s()
        spent = {part: round(1e6 * (now[part] - self.used_s.get(part, 0.0)) / self.streams) for part in now}
        return {part: us for part, us in spent.items() if us}

    async def until(self, key: str, value: Any, limit_s: float) -> bool:
        """Whether all engines came so far in time; a number is shared out among them."""
        wanted = [value] * len(self.engines)
        if isinstance(value, int):
            wanted = [len(range(k, value, len(self.engines))) for k in range(len(self.engines))]
        try:
            async with asyncio.timeout(limit_s):
                await asyncio.gather(
                    *(engine.until(key, count) for engine, count in zip(self.engines, wanted, strict=True))
                )
        except TimeoutError:
            return False
        return True

    def total(self, key: str) -> int:
        """Sum over the engines."""
        return sum(int(engine.status.get(key, 0)) for engine in self.engines)

    def problems(self) -> dict[str, int]:
        """Why attempts failed."""
        found: Counter[str] = Counter()
        for engine in self.engines:
            found.update(engine.status.get("problems", {}))
        return dict(found.most_common(5))


async def post(stack: RunningStack) -> tuple[str, int]:
    """The celebrity posts. Returns the post and when it was sent."""
    token = make_token(bytes.fromhex(read_settings(stack.directory.settings).secret), 0)[0]
    headers = {"Authorization": f"Bearer {token}", "Idempotency-Key": f"streams-{time.time_ns()}"}
    async with httpx.AsyncClient(
        base_url=stack.endpoints.regions[REGION].api, headers=headers, trust_env=False
    ) as http:
        sent_ns = now_ns()
        answer = await http.post("/v1/posts", json={"text": "hello, all of you"})
    answer.raise_for_status()
    return str(answer.json()["post"]["id"]), sent_ns


def delivered(ops: Sequence[Op], posted: dict[str, int], streams: int) -> dict[str, Any]:
    """What each stream got of the posts, and when."""
    got = Counter((op.post, op.user) for op in ops if op.kind is OpKind.EVENT and op.post in posted)
    first: dict[tuple[str, int], int] = {}
    for op in ops:
        if op.kind is OpKind.EVENT and op.post in posted:
            first[op.post, op.user] = min(op.done_ns, first.get((op.post, op.user), op.done_ns))
    after_ms = sorted((at_ns - posted[post]) / NS_PER_MS for (post, _), at_ns in first.items())
    times = {}
    if after_ms:
        times = {f"p{share}_ms": round(after_ms[len(after_ms) * share // 100]) for share in (50, 99)}
        times["last_ms"] = round(after_ms[-1])
    return {
        "missing": streams * len(posted) - len(got),
        "twice": sum(count > 1 for count in got.values()),
        "resyncs": sum(op.kind is OpKind.RESYNC for op in ops),
        **times,
    }


def opened(ops: Sequence[Op]) -> dict[str, int]:
    """How fast streams opened, and what went wrong with them."""
    tried = [op for op in ops if op.kind is OpKind.STREAM_OPEN]
    good = [op for op in tried if op.outcome is OpOutcome.OK]
    ended = sum(op.kind is OpKind.STREAM_END and op.error != "closed-by-us" for op in ops)
    took_s = (max(op.done_ns for op in good) - min(op.sent_ns for op in tried)) / NS_PER_S if good else 0.0
    return {
        "opened_per_s": round(len(good) / took_s) if took_s else 0,
        "failed_attempts": len(tried) - len(good),
        "broken": ended,
    }


async def measure(
    options: argparse.Namespace, run: RunDirectory, stack: RunningStack, undo: AsyncExitStack
) -> dict[str, Any]:
    """One run."""
    streams, count = options.streams, options.engines
    plan = write_load(run, stack, streams, options.open)
    commands = [
        (sys.executable, "-m", "harness.load.stream_engine", str(plan), f"streams-{k}", str(k), str(count))
        for k in range(count)
    ]
    sides = [Engine(await spawn(undo, *command)) for command in commands]
    async with asyncio.timeout(STARTING_S):
        await asyncio.gather(*(engine.until("state", "ready") for engine in sides))
    both = Sides(stack, sides, streams)
    for engine in sides:
        engine.send(cmd="open")
    held = await both.until("open", streams, STARTING_S + streams / OPENING_LEAST_PER_S)
    opening_us = both.cpu_us()
    for engine in sides:
        engine.send(cmd="start", t0_ns=now_ns())
    posted = dict([await post(stack) for _ in range(POSTS)]) if held else {}
    if held:
        await both.until("events", streams * POSTS, DELIVERY_S)
    await asyncio.sleep(SETTLE_S)  # for what comes twice
    found = {"held": both.total("open"), **both.memory(), "opening_cpu_us": opening_us}
    found |= {"problems": both.problems(), "limits": limits(both.fep_pids, both.engine_pids)}
    for engine in sides:
        engine.send(cmd="stop")
    await both.until("state", "done", ENDING_S)
    ops = [op for k in range(count) for op in read_segment(run.history / f"streams-{k}.jsonl")]
    return found | opened(ops) | delivered(ops, posted, streams)


def result_of(options: argparse.Namespace, found: dict[str, Any]) -> dict[str, Any]:
    is_full = options.streams >= FULL_PROCESS * max(options.feps, options.engines)
    memory = max(found[f"{side}_bytes" if is_full else f"{side}_bytes_grown"] for side in ("fep", "engine"))
    lost = found["missing"] + found["twice"] if "p50_ms" in found else 1
    is_held = found["held"] >= options.streams
    return {
        "benchmark": "streams_250k",
        "value": found["held"],
        "target": f"{options.streams} held, >= {TARGET_OPEN_PER_S}/s, <= {TARGET_BYTES} bytes a side, all get it once",
        "ok": is_held and found["opened_per_s"] >= TARGET_OPEN_PER_S and memory <= TARGET_BYTES and not lost,
        "details": {"streams": options.streams, "feps": options.feps, "engines": options.engines, **found},
        "machine": machine(),
    }


async def run(options: argparse.Namespace, folder: Path, stack: RunningStack) -> dict[str, Any]:
    async with AsyncExitStack() as undo:
        return await measure(options, RunDirectory(folder / "run").create(), stack, undo)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.streams_250k", allow_abbrev=False)
    parser.add_argument("--streams", type=int, default=STREAMS)
    parser.add_argument("--feps", type=int, help="default: as many as the descriptors of a process ask for")
    parser.add_argument("--engines", type=int, help="the same")
    parser.add_argument("--open", type=float, default=OPEN_PER_S, metavar="N", help="streams to open a second")
    options = parser.parse_args()
    needed = -(-options.streams // STREAMS_PER_PROCESS)
    options.feps, options.engines = options.feps or needed, options.engines or needed
    return options


def main() -> int:
    """Measure and print one JSON line."""
    options = arguments()
    with tempfile.TemporaryDirectory(prefix="fs-") as scratch:
        folder = Path(scratch)
        write_people(folder / "population", options.streams)
        people = ("--population", str(folder / "population"), "--feps", str(options.feps))
        with running_stack(*STACK, *people) as stack:
            return printed(result_of(options, asyncio.run(run(options, folder, stack))))


if __name__ == "__main__":
    sys.exit(main())
