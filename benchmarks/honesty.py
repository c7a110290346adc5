"""Whose percentiles are true: a server that stalls for one second in ten, asked 200 times a second.

Of requests that come all the time a tenth finds it stalled, and waits from nothing to a second: 500 ms at the 95th
percentile, 900 ms at the 99th. Three clients ask the same server at the same time, for two of its periods:

    truth    a lean open-loop client (`benchmarks/_open_loop.py`), beside what follows from the stalls alone
    ours     the load process of a run: Locust users that are handed arrivals when these are due
    Locust   plain FastHttpUsers with constant_throughput, and the table that Locust prints of them

A plain user waits for its answer before it asks again. So of a whole second of stall it sees one slow request where 20
were due, and its table says that nothing happened. The ratio is that of ours to the truth, the worse of p95 and p99.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
import tempfile
from asyncio.subprocess import PIPE
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from benchmarks._lane import free_port, machine, printed
from benchmarks._open_loop import Ask, Load, Plan
from benchmarks._stalling_server import PERIOD_S, STALL_S
from benchmarks.recorder import wait_port
from harness.core import load_rates
from harness.core.clock import NS_PER_MS, NS_PER_S, now_ns
from harness.core.op import OpOutcome
from harness.core.rate_shapes import EVEN, Constant
from harness.load.plan import LoadPlan, PlanPhase, PlanRegion, write_plan
from harness.record.frames import read_segment
from harness.record.run_directory import RunDirectory
from harness.run.load_processes import load_processes

TOLERANCE = 0.05
RATE_PER_S = 200.0
SECONDS = 2 * PERIOD_S
PLAIN_USERS = 10
MOST_AT_ONCE = 400
"""more than can come due in one stall"""
LEAD_S = 0.5
LIMIT_S = SECONDS + 30.0
PERCENTILES = (50, 95, 99, 100)


def shown(latencies_ms: Any) -> dict[str, float]:
    """Percentiles of latencies, and how many there are."""
    p50, p95, p99, most = np.percentile(latencies_ms, PERCENTILES).round(1).tolist()
    return {"p50": p50, "p95": p95, "p99": p99, "max": most, "count": len(latencies_ms)}


def by_the_stalls() -> dict[str, float]:
    """What requests at a steady rate wait for, if nothing but the stalls took any time."""
    due_s = np.arange(int(RATE_PER_S * SECONDS)) / RATE_PER_S % PERIOD_S
    return shown(np.where(due_s < STALL_S, STALL_S - due_s, 0.0) * 1000)


async def told_by(module: str, *arguments: str, said: bytes = b"") -> dict[str, Any]:
    """The JSON line that a program of this folder prints."""
    command = [sys.executable, "-m", f"benchmarks.{module}", *arguments]
    process = await asyncio.create_subprocess_exec(*command, stdin=PIPE, stdout=PIPE)
    try:
        async with asyncio.timeout(LIMIT_S):
            printed_line, _ = await process.communicate(said)
    finally:
        if process.returncode is None:
            process.kill()
    return msgspec.json.decode(printed_line, type=dict[str, Any])


async def truth(port: int) -> dict[str, float]:
    """What the lean client measures."""
    load = Load(SECONDS, RATE_PER_S, MOST_AT_ONCE)
    plan = Plan(port, [Ask("feed", "GET /v1/feed HTTP/1.1")])
    told = (await told_by("_open_loop", said=plan.told(load)))["all"]
    return {**told["ok_ms"], "count": told["statuses"]["200"], "dropped": told["dropped"]}


async def plain(port: int) -> dict[str, float]:
    """What Locust's own table says."""
    return await told_by("_plain_users", str(port), str(PLAIN_USERS), str(RATE_PER_S), str(SECONDS))


def our_plan(port: int, run: RunDirectory) -> LoadPlan:
    """The same load, as a run would have it."""
    base = f"http://127.0.0.1:{port}"
    return LoadPlan(
        seed=1,
        run=str(run.path),
        users=1,
        phases=(PlanPhase("warmup", 0, 0), PlanPhase("all", 0, round(SECONDS * NS_PER_S))),
        regions={"here": PlanRegion(api=base, stream=base)},
        rates=load_rates.Load(reads_per_s=Constant(rate_per_s=RATE_PER_S, spacing=EVEN)),
        readers=((0, "here"),),
        pool_limit=MOST_AT_ONCE,
        lookups=False,
    )


def ours(run: RunDirectory) -> dict[str, float]:
    """What a load process of ours recorded."""
    ops = list(read_segment(run.history / "locust-0.jsonl"))
    taken = [(op.done_ns - op.due_ns) / NS_PER_MS for op in ops if op.outcome is OpOutcome.OK]
    [line] = run.generator.read_bytes().splitlines()
    report = msgspec.json.decode(line, type=dict[str, Any])
    return {**shown(taken), "late": report["late"], "dropped": report["dropped"], "failed": len(ops) - len(taken)}


async def side_by_side(port: int, run: RunDirectory) -> dict[str, dict[str, float]]:
    """All three at the same time."""
    write_plan(run.path / "plan.json", our_plan(port, run))
    async with load_processes(run, run.path / "plan.json") as load:
        load.start(now_ns() + round(LEAD_S * NS_PER_S))
        ended = load.wait_state(("done",), LIMIT_S, load.members)
        true, table, _ = await asyncio.gather(truth(port), plain(port), ended)
    return {"by_the_stalls": by_the_stalls(), "truth": true, "ours": ours(run), "locust": table}


def measure() -> dict[str, dict[str, float]]:
    """Start the server, and ask it."""
    port = free_port()
    command = [sys.executable, "-m", "benchmarks._stalling_server", str(port)]
    with (
        tempfile.TemporaryDirectory(prefix="honesty-bench-") as folder,
        subprocess.Popen(command, stdin=PIPE) as server,
    ):
        try:
            wait_port(port)
            return asyncio.run(side_by_side(port, RunDirectory(Path(folder) / "run").create()))
        finally:
            server.kill()


def main() -> int:
    """Print one JSON line."""
    said = measure()
    true, mine = said["truth"], said["ours"]
    ratios = [mine[name] / true[name] for name in ("p95", "p99")]
    ratio = max(ratios, key=lambda one: abs(one - 1))
    everybody = int(RATE_PER_S * SECONDS)
    result = {
        "benchmark": "percentiles of a server that stalls, ours against the truth",
        "ratio": round(ratio, 3),
        "target": f"within {TOLERANCE:.0%} at p95 and p99, none dropped",
        "ok": abs(ratio - 1) <= TOLERANCE and mine["count"] == true["count"] == everybody,
        "details": said,
        "machine": machine(),
    }
    return printed(result)


if __name__ == "__main__":
    sys.exit(main())
