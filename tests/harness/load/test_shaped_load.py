"""Rates that change and recorded arrivals in the Locust process: each arrival a row, in its time, by its user."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import msgspec
import pytest

from harness.core.clock import NS_PER_S, now_ns
from harness.core.load_rates import Load, Trace
from harness.core.op import OpKind, OpOutcome
from harness.core.rate_shapes import Ramp, Spike
from harness.judge.case import LoadReport
from harness.judge.generator import problems_of
from harness.load.plan import LoadPlan
from harness.load.schedule import arrivals
from harness.load.trace import known

pytestmark = pytest.mark.slow
EXAMPLE = Path(__file__).parents[3] / "docs" / "examples" / "evening.csv"


def report(plan: LoadPlan) -> LoadReport:
    return msgspec.json.decode(plan.directory.generator.read_bytes(), type=LoadReport)


async def test_rates_that_change_are_held(small_feed: Any, make_plan_of: Any, load_child: Any, rows: Any) -> None:
    rates = Load(
        reads_per_s=Spike(base_per_s=5, peak_per_s=80, at_s=1.0, for_s=0.5),
        posts_per_s=Ramp(from_per_s=0, to_per_s=20, over_s=2.0),
    )
    plan = make_plan_of(small_feed.url, rates=rates)
    async with load_child(plan) as child:
        t0_ns = await child.run_to_end()
    ops = rows(plan)
    assert sorted(op.due_ns for op in ops) == [t0_ns + a.due_ns for a in arrivals(plan)]
    high = [op for op in ops if op.kind is OpKind.FEED and 1.0 <= (op.due_ns - t0_ns) / NS_PER_S < 1.5]
    assert len(high) == pytest.approx(40, abs=20)
    assert report(plan).planned == report(plan).sent == len(ops)


async def test_a_trace_is_played_as_it_was_recorded(
    small_feed: Any, make_plan_of: Any, load_child: Any, rows: Any
) -> None:
    regions = {name: make_plan_of(small_feed.url).regions["here"] for name in ("us-east", "ap-tokyo")}
    groups = {
        name: tuple((first + i, "us-east" if i % 2 else "ap-tokyo") for i in range(8))
        for name, first in (("panel", 0), ("readers", 10), ("posters", 20))
    }
    trace = known(Trace(path=str(EXAMPLE), speed=2.0))
    plan = make_plan_of(small_feed.url, rates=Load(trace=trace), regions=regions, users=30, celebrities=(), **groups)
    async with load_child(plan) as child:
        t0_ns = await child.run_to_end()
    ops = sorted(rows(plan), key=lambda op: op.due_ns)
    assert [round((op.due_ns - t0_ns) / NS_PER_S * 2, 3) for op in ops] == [
        0.012, 0.34, 0.355, 0.502, 1.118, 1.12, 1.733, 2.004, 2.01, 2.011, 2.95, 3.4,
    ]  # fmt: skip
    assert [op.kind for op in ops].count(OpKind.POST) == 3
    assert {op.outcome for op in ops} == {OpOutcome.OK}
    assert [op.region for op in ops[:4]] == ["us-east", "us-east", "ap-tokyo", "us-east"]
    assert len({op.user for op in (ops[0], ops[3], ops[7])}) == 1, "actor 90210 is one user"
    assert report(plan).planned == 12


async def test_a_pool_at_its_limit_makes_the_run_inconclusive(
    small_feed: Any, make_plan_of: Any, load_child: Any
) -> None:
    """A spike of more than the users there may be, at a server that answers nothing until it is over."""
    rates = Load(reads_per_s=Spike(base_per_s=0, peak_per_s=200, at_s=0.2, for_s=0.5))
    plan = make_plan_of(small_feed.url, rates=rates, pool_limit=20, seconds=1.0)
    freed = asyncio.Event()

    async def slow(_: Any) -> None:
        await freed.wait()

    small_feed.slow = slow
    async with load_child(plan) as child:
        await child.wait_state("ready")
        child.send(cmd="start", t0_ns=now_ns() + NS_PER_S // 2)
        while (await child.wait_state("running"))["dropped"] < 20:
            child.statuses.clear()
        freed.set()
        await child.wait_state("done")
    told = report(plan)
    assert told.planned == told.sent + told.dropped
    assert f"locust-0 dropped {told.dropped:,} of {told.planned:,} arrivals" in problems_of(told)
