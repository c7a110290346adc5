"""Plans, a small feed server, and a load process under control, for the load tests."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest
from aiohttp import web
from small_feed import SmallFeed

from harness.core.clock import NS_PER_S, now_ns
from harness.core.load_rates import Load
from harness.core.op import Op
from harness.load.plan import LoadPlan, PlanPhase, PlanRegion, write_plan, write_tokens
from harness.record.frames import read_segment
from harness.record.run_directory import RunDirectory

MakePlan = Callable[..., LoadPlan]


@pytest.fixture
def make_plan_of(tmp_path: Path) -> MakePlan:
    """A plan of two seconds (and half a second of warm-up) for ten users; anything can be replaced."""
    run = RunDirectory(tmp_path / "run").create()

    def make(api: str = "http://127.0.0.1:1", seconds: float = 2.0, **fields: Any) -> LoadPlan:
        end_ns = round(seconds * NS_PER_S)
        plain: dict[str, Any] = {
            "seed": 42,
            "run": str(run.path),
            "users": 10,
            "phases": (PlanPhase("warmup", -NS_PER_S // 2, 0), PlanPhase("baseline", 0, end_ns)),
            "regions": {"here": PlanRegion(api=api, stream=api)},
            "rates": Load(),
            "panel": ((1, "here"), (2, "here"), (3, "here")),
            "posters": ((4, "here"), (5, "here")),
            "readers": ((6, "here"), (7, "here")),
            "celebrities": ((0, "here"),),
        }
        return LoadPlan(**{**plain, **fields})

    return make


@pytest.fixture
async def small_feed() -> AsyncIterator[SmallFeed]:
    """The server, listening on a free port."""
    feed = SmallFeed()
    runner = web.AppRunner(feed.application(), shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    feed.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    yield feed
    await runner.cleanup()


class LoadChild:
    """A load process: its status lines and its input."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.statuses: list[dict[str, Any]] = []

    async def wait_state(self, state: str) -> dict[str, Any]:
        """The first status line in that state."""
        assert self.process.stdout is not None
        while not self.statuses or self.statuses[-1]["state"] != state:
            line = await asyncio.wait_for(self.process.stdout.readline(), 30)
            assert line, f"ended with {await self.process.wait()} before it was {state}"
            self.statuses.append(msgspec.json.decode(line))
        return self.statuses[-1]

    def send(self, **command: Any) -> None:
        """One command."""
        assert self.process.stdin is not None
        self.process.stdin.write(msgspec.json.encode(command) + b"\n")

    async def run_to_end(self, lead_s: float = 0.7) -> int:
        """Start it, and wait until it is done. Returns t0."""
        await self.wait_state("ready")
        t0_ns = now_ns() + round(lead_s * NS_PER_S)
        self.send(cmd="start", t0_ns=t0_ns)
        await self.wait_state("done")
        assert await asyncio.wait_for(self.process.wait(), 10) == 0
        return t0_ns


@asynccontextmanager
async def locust_child(plan: LoadPlan) -> AsyncIterator[LoadChild]:
    """`harness.load.locust_process` with that plan; killed when the block ends."""
    folder = Path(plan.run)
    groups = (plan.panel, plan.posters, plan.readers, plan.celebrities)
    write_tokens(folder / "tokens.json", {user: f"t{user}" for group in groups for user, _ in group})
    plan = msgspec.structs.replace(plan, tokens=str(folder / "tokens.json"))
    write_plan(folder / "plan.json", plan)
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "harness.load.locust_process",
        str(folder / "plan.json"),
        "locust-0",
        "0",
        "1",
        stdin=pipe,
        stdout=pipe,
    )
    try:
        yield LoadChild(process)
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


@pytest.fixture
def load_child() -> Callable[[LoadPlan], Any]:
    """See `locust_child`."""
    return locust_child


def read_ops(plan: LoadPlan, name: str = "locust-0") -> list[Op]:
    """The rows a process wrote."""
    return list(read_segment(plan.directory.history / f"{name}.jsonl"))


@pytest.fixture
def rows() -> Callable[..., list[Op]]:
    """See `read_ops`."""
    return read_ops
