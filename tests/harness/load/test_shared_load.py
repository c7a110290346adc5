"""One process or four: the same seed makes the same ops, but for what depends on answers."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any

import msgspec
import pytest
from aiohttp import web
from asked_ops import asked_by, asked_in, check_who
from changing_feed import OPERATOR, ChangingFeed

from harness.core.clock import NS_PER_S, now_ns
from harness.core.load_rates import Load
from harness.core.op import Op, OpKind, OpOutcome
from harness.load.members import plan_users
from harness.load.plan import EdgePair, LoadPlan, PlanRegion, write_plan, write_tokens
from harness.record.frames import read_segment
from harness.record.run_directory import RunDirectory
from harness.run.load_processes import load_processes

pytestmark = pytest.mark.slow

SECONDS = 8.0
RATES = Load(
    posts_per_s=12,
    reads_per_s=25,
    celebrity_posts_per_s=1,
    signups_per_s=2,
    edges_per_s=3,
    deletes_per_s=3,
    hides_per_s=2,
    moderations_per_s=1,
    replies_per_s=4,
    likes_per_s=3,
    probes_per_s=3,
    repeats_per_s=2,
)


@pytest.fixture
async def feeds() -> AsyncIterator[list[ChangingFeed]]:
    """Two feeds, so that the loads do not meet."""
    async with AsyncExitStack() as undo:
        made = []
        for feed in (ChangingFeed(), ChangingFeed()):
            runner = web.AppRunner(feed.application(), shutdown_timeout=0.1)
            await runner.setup()
            undo.push_async_callback(runner.cleanup)
            await web.TCPSite(runner, "127.0.0.1", 0).start()
            feed.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
            made.append(feed)
        yield made


def plan_for(make_plan_of: Any, feed: ChangingFeed, run: RunDirectory) -> LoadPlan:
    """The plan, the same for both but for where it goes: their keys are of one run."""
    here = tuple((user, "here") for user in range(1, 40))
    plan: LoadPlan = make_plan_of(
        feed.url,
        seconds=SECONDS,
        users=120,
        rates=RATES,
        run=str(run.path),
        origin="one run",
        regions={"here": PlanRegion(api=feed.url, stream=feed.url)},
        panel=here[:20],
        posters=here[20:30],
        readers=here[25:],
        edge_pairs=tuple(EdgePair(1 + i, 21 + i % 10, i % 4 > 0) for i in range(20)),
        operator_token_file=str(run.path / "operator.token"),
        tokens=str(run.path / "tokens.json"),
    )
    (run.path / "operator.token").write_text(OPERATOR)
    write_tokens(run.path / "tokens.json", {user: f"t{user}" for user in plan_users(plan)})
    write_plan(run.path / "plan.json", plan)
    return plan


async def played(plan: LoadPlan, workers: int) -> tuple[int, list[Op], list[dict[str, Any]]]:
    """t0, the ops and the generator rows of a run by that many processes."""
    run = plan.directory
    async with load_processes(run, run.path / "plan.json", workers=workers) as load:
        t0_ns = now_ns() + NS_PER_S
        load.start(t0_ns)
        await load.wait_state(("done",), 60, load.members)
        await load.finish()
        assert load.unfinished == []
    ops = [op for segment in run.history.glob("*.jsonl") for op in read_segment(segment)]
    rows = [msgspec.json.decode(line) for line in run.generator.read_bytes().splitlines()]
    assert [(row["errors"], row["completed"]) for row in rows] == [([], True)] * workers
    return t0_ns, ops, rows


async def test_the_same_ops_by_one_process_or_by_four(
    feeds: list[ChangingFeed], make_plan_of: Any, tmp_path: Any
) -> None:
    plans = [
        plan_for(make_plan_of, feed, RunDirectory(tmp_path / name).create())
        for feed, name in zip(feeds, ("by-one", "by-four"), strict=True)
    ]
    runs = await asyncio.gather(played(plans[0], 1), played(plans[1], 4))
    wanted = asked_by(plans[0])
    assert {kind for kind, *_ in wanted} >= {"feed", "post", "signup", "follow", "delete", "hide", "moderate"}
    sets = []
    for plan, (t0_ns, ops, _) in zip(plans, runs, strict=True):
        bad = [op for op in ops if op.outcome is not OpOutcome.OK and op.kind is not OpKind.PROBE]
        assert not bad, bad[:3]
        found = asked_in(ops, t0_ns)
        probing = {key: op for key, op in found.items() if key not in wanted}
        assert {op.kind for op in probing.values()} <= {OpKind.FEED}, "a probe may begin a walk, nothing else is extra"
        sets.append(set(found) - set(probing))
        check_who(plan, {key: op for key, op in found.items() if key in wanted}, wanted, ops)
    assert sets[0] == sets[1] == set(wanted)
    one, four = ({op.idempotency_key for op in ops if op.kind is OpKind.POST and not op.reply_to} for _, ops, _ in runs)
    assert one == four
    [alone], together = runs[0][2], runs[1][2]
    assert sum(row["planned"] for row in together) == alone["planned"]
    assert min(row["planned"] for row in together) > alone["planned"] / 8
    check_apart(runs[1][1])


def check_apart(ops: list[Op]) -> None:
    """No session is in two processes: the history of each has its own."""
    process_of: dict[str, set[int]] = {}
    for op in ops:
        if op.session.startswith(("panel-", "poster-", "celebrity-")) and "+" not in op.session:
            process_of.setdefault(op.session, set()).add(op.id >> 38)
    assert Counter(len(processes) for processes in process_of.values()).keys() == {1}
    assert len({process for found in process_of.values() for process in found}) == 4
