"""The Locust process end to end: protocol, rows, honest latencies, an orderly end."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable
from itertools import cycle, pairwise
from typing import Any

import msgspec
import pytest
from aiohttp import web

from harness.core.clock import NS_PER_MS, NS_PER_S, now_ns
from harness.core.load_rates import Load
from harness.core.op import OpKind, OpOutcome, text_hash
from harness.load.arrival_kinds import ArrivalKind
from harness.load.plan import LoadPlan
from harness.load.schedule import arrivals, post_text

pytestmark = pytest.mark.slow

RATES = Load(posts_per_s=10, reads_per_s=40, celebrity_posts_per_s=2)


def generator_row(plan: LoadPlan) -> dict[str, Any]:
    (line,) = plan.directory.generator.read_bytes().splitlines()
    return dict(msgspec.json.decode(line))


async def test_every_arrival_becomes_a_row(small_feed: Any, make_plan_of: Any, load_child: Any, rows: Any) -> None:
    plan = make_plan_of(small_feed.url, rates=RATES)
    async with load_child(plan) as child:
        t0_ns = await child.run_to_end()
    ops = rows(plan)
    due = [(t0_ns + a.due_ns) for a in arrivals(plan)]
    assert sorted(op.due_ns for op in ops) == due
    assert {op.outcome for op in ops} == {OpOutcome.OK}
    assert all(op.due_ns <= op.sent_ns <= op.done_ns for op in ops)
    row = generator_row(plan)
    assert (row["planned"], row["sent"], row["dropped"], row["completed"]) == (len(due), len(due), 0, True)
    assert (row["kind"], row["errors"]) == ("locust", [])
    last = child.statuses[-1]
    assert (last["sent"], last["ok"]) == (len(due), len(due))
    assert last["ops"]["feed"]["count"] == sum(op.kind is OpKind.FEED for op in ops)
    assert (plan.directory.histograms / "locust-0.hlog").read_text().count("Tag=feed|here|baseline,") == 1


async def test_rows_say_what_was_written_and_read(
    small_feed: Any, make_plan_of: Any, load_child: Any, rows: Any
) -> None:
    plan = make_plan_of(small_feed.url, rates=RATES)
    async with load_child(plan) as child:
        await child.run_to_end()
    posts = {op.post: op for op in rows(plan) if op.kind is OpKind.POST}
    texts = {p["id"]: p["text"] for p in small_feed.posts}
    assert {post: op.text_hash for post, op in posts.items()} == {post: text_hash(t) for post, t in texts.items()}
    assert len(set(texts.values())) == len(texts)
    assert len({op.idempotency_key for op in posts.values()}) == len(posts)
    celebrity = sorted((op for op in posts.values() if op.celebrity), key=lambda op: op.due_ns)
    assert {op.user for op in celebrity} == {0}
    gaps = {b.due_ns - a.due_ns for a, b in pairwise(celebrity)}
    assert gaps == {NS_PER_S // 2}
    for read in (op for op in rows(plan) if op.kind is OpKind.FEED):
        assert read.item_hashes == [text_hash(texts[post]) for post in read.ids]
        assert read.item_authors == [posts[post].user for post in read.ids]


async def test_latency_counts_from_the_due_time(small_feed: Any, make_plan_of: Any, load_child: Any, rows: Any) -> None:
    """A server that stalls for a second delays every read that was due meanwhile, not only those in flight."""
    plan = make_plan_of(small_feed.url, rates=Load(reads_per_s=60))
    stall = {"from_ns": 1 << 62, "to_ns": 1 << 62}

    async def slow(_: web.Request) -> None:
        if stall["from_ns"] <= now_ns() < stall["to_ns"]:
            await asyncio.sleep((stall["to_ns"] - now_ns()) / NS_PER_S)

    small_feed.slow = slow
    async with load_child(plan) as child:
        await child.wait_state("ready")
        t0_ns = now_ns() + 700 * NS_PER_MS
        stall.update(from_ns=t0_ns + 500 * NS_PER_MS, to_ns=t0_ns + 1500 * NS_PER_MS)
        child.send(cmd="start", t0_ns=t0_ns)
        await child.wait_state("done")
    caught = [op for op in rows(plan) if stall["from_ns"] <= op.due_ns < stall["to_ns"]]
    planned = [a for a in arrivals(plan) if 500 * NS_PER_MS <= a.due_ns < 1500 * NS_PER_MS]
    assert len(caught) == len(planned) > 40
    assert all(op.done_ns >= stall["to_ns"] for op in caught)
    mean_s = sum(op.done_ns - op.due_ns for op in caught) / len(caught) / NS_PER_S
    assert 0.4 < mean_s < 1.0
    row = generator_row(plan)
    assert row["sent"] == row["planned"]
    assert row["dropped"] == 0


async def test_a_pool_at_its_limit_drops_and_counts(
    small_feed: Any, make_plan_of: Any, load_child: Any, rows: Any
) -> None:
    plan = make_plan_of(small_feed.url, rates=Load(reads_per_s=100), pool_limit=10, seconds=1)
    freed = asyncio.Event()

    async def slow(_: web.Request) -> None:
        await freed.wait()

    small_feed.slow = slow
    async with load_child(plan) as child:
        await child.wait_state("ready")
        child.send(cmd="start", t0_ns=now_ns() + 500 * NS_PER_MS)
        while (await child.wait_state("running"))["dropped"] < 40:
            child.statuses.clear()
        freed.set()
        await child.wait_state("done")
    row = generator_row(plan)
    assert row["planned"] == row["sent"] + row["dropped"]
    assert row["late"] >= 5
    assert row["max_late_ms"] > 100
    assert len(rows(plan)) == row["sent"]


async def test_outcomes_of_error_answers(small_feed: Any, make_plan_of: Any, load_child: Any, rows: Any) -> None:
    plan = make_plan_of(small_feed.url, rates=Load(posts_per_s=40), seconds=0.5)
    statuses = cycle((400, 404, 429, 503, 500, 504))

    async def slow(_: web.Request) -> web.Response:
        return web.json_response({"detail": "no"}, status=next(statuses))

    small_feed.slow = slow
    async with load_child(plan) as child:
        await child.run_to_end()
    ops = rows(plan)
    no_effect, unknown = OpOutcome.FAIL, OpOutcome.INFO
    assert {(op.status, op.outcome) for op in ops} == {
        *((status, no_effect) for status in (400, 404, 429, 503)),
        *((status, unknown) for status in (500, 504)),
    }
    assert all("no" in op.error for op in ops)


async def test_refused_connections_fail(make_plan_of: Any, load_child: Any, rows: Any) -> None:
    plan = make_plan_of("http://127.0.0.1:1", rates=Load(posts_per_s=20, reads_per_s=20), seconds=0.5)
    async with load_child(plan) as child:
        await child.run_to_end()
    assert {(op.status, op.outcome) for op in rows(plan)} == {(0, OpOutcome.FAIL)}
    assert generator_row(plan)["errors"] == []


async def test_a_post_whose_connection_breaks_is_unknown(
    small_feed: Any, make_plan_of: Any, load_child: Any, rows: Any
) -> None:
    plan = make_plan_of(small_feed.url, rates=Load(posts_per_s=10), seconds=0.5)

    async def slow(request: web.Request) -> None:
        assert request.transport is not None
        request.transport.close()

    small_feed.slow = slow
    async with load_child(plan) as child:
        await child.run_to_end()
    ops = rows(plan)
    assert {(op.status, op.outcome) for op in ops} == {(0, OpOutcome.INFO)}
    assert small_feed.requests == len(ops), "a write is never sent twice"


Ending = Callable[[Any], None]


def _stop(child: Any) -> None:
    child.send(cmd="stop")


def _close_input(child: Any) -> None:
    child.process.stdin.close()


def _terminate(child: Any) -> None:
    child.process.send_signal(signal.SIGTERM)


@pytest.mark.parametrize("ending", [_stop, _close_input, _terminate])
async def test_it_ends_early_when_told(
    small_feed: Any, make_plan_of: Any, load_child: Any, rows: Any, ending: Ending
) -> None:
    plan = make_plan_of(small_feed.url, rates=RATES, seconds=60)
    async with load_child(plan) as child:
        await child.wait_state("ready")
        child.send(cmd="start", t0_ns=now_ns() + NS_PER_S // 2)
        while not (await child.wait_state("running"))["sent"]:
            child.statuses.clear()
        ending(child)
        await child.wait_state("done")
        assert await asyncio.wait_for(child.process.wait(), 10) == 0
    row = generator_row(plan)
    assert row["completed"] is False
    assert len(rows(plan)) == row["sent"] > 0


async def test_a_plan_that_is_cut_is_complete_where_it_ends(
    small_feed: Any, make_plan_of: Any, load_child: Any, rows: Any
) -> None:
    plan = make_plan_of(small_feed.url, rates=RATES, seconds=60)
    async with load_child(plan) as child:
        await child.wait_state("ready")
        t0_ns = now_ns() + NS_PER_S // 2
        child.send(cmd="start", t0_ns=t0_ns)
        while (await child.wait_state("running"))["sent"] < 60:
            child.statuses.clear()
        end_ns = now_ns() - t0_ns
        child.send(cmd="cut", end_ns=end_ns)
        await child.wait_state("done")
        assert await asyncio.wait_for(child.process.wait(), 10) == 0
    row = generator_row(plan)
    assert row["planned"] == sum(arrival.due_ns < end_ns for arrival in arrivals(plan))
    assert row["completed"] is True
    assert row["planned"] <= row["sent"] == len(rows(plan)) < row["planned"] + 30


async def test_status_lines_tell_the_last_seconds(small_feed: Any, make_plan_of: Any, load_child: Any) -> None:
    plan = make_plan_of(small_feed.url, rates=Load(reads_per_s=40), seconds=8)

    async def slow(request: web.Request) -> web.Response | None:
        return web.json_response({"detail": "no"}, status=503) if small_feed.requests % 4 == 0 else None

    small_feed.slow = slow
    async with load_child(plan) as child:
        await child.run_to_end()
    running = [status["recent"] for status in child.statuses if status["state"] == "running"]
    assert running[-1]["seconds"] == pytest.approx(5, abs=0.5)
    feed = running[-1]["ops"]["feed"]["here"]
    assert feed["ok"] == len(feed["us"]) == pytest.approx(150, abs=50)
    assert feed["failed"] == pytest.approx(50, abs=20)
    assert feed["us"] == sorted(feed["us"])
    assert 0 < feed["us"][0] < 1_000_000
    total = child.statuses[-1]["ops"]["feed"]
    assert total["count"] > feed["ok"] + feed["failed"]  # of five of the eight seconds


async def test_it_ends_before_it_started(small_feed: Any, make_plan_of: Any, load_child: Any, rows: Any) -> None:
    plan = make_plan_of(small_feed.url, rates=RATES)
    async with load_child(plan) as child:
        await child.wait_state("ready")
        child.send(cmd="stop")
        await child.wait_state("done")
    assert generator_row(plan)["completed"] is False
    assert rows(plan) == []


async def test_ops_cut_at_the_end_are_unknown(small_feed: Any, make_plan_of: Any, load_child: Any, rows: Any) -> None:
    plan = make_plan_of(small_feed.url, rates=Load(posts_per_s=10), seconds=60)
    held = asyncio.Event()

    async def slow(_: web.Request) -> None:
        held.set()
        await asyncio.sleep(30)

    small_feed.slow = slow
    async with load_child(plan) as child:
        await child.wait_state("ready")
        child.send(cmd="start", t0_ns=now_ns() + NS_PER_S // 2)
        await asyncio.wait_for(held.wait(), 10)
        child.process.send_signal(signal.SIGTERM)
        await child.wait_state("done")
    ops = rows(plan)
    assert ops
    assert {(op.outcome, op.error) for op in ops} == {(OpOutcome.INFO, "cut: the run ended")}
    assert len(ops) == generator_row(plan)["sent"]


async def test_sign_ups_and_their_imports(small_feed: Any, make_plan_of: Any, load_child: Any, rows: Any) -> None:
    """Newcomers sign up on the curve, are polled until their import is done, and read meanwhile."""
    plan = make_plan_of(
        small_feed.url,
        users=60,
        panel=(),
        posters=(),
        readers=(),
        celebrities=(),
        rates=Load(signup_curve=True, reads_per_s=20, posts_per_s=5),
    )
    async with load_child(plan) as child:
        await child.run_to_end()
    ops = rows(plan)
    joined = {op.user: op for op in ops if op.kind is OpKind.SIGNUP}
    imported = {op.user: op for op in ops if op.kind is OpKind.IMPORT}
    assert set(joined) == set(imported) == set(range(60))
    assert {op.outcome for op in ops} == {OpOutcome.OK}
    for user, op in imported.items():
        assert op.due_ns == joined[user].done_ns
        assert 1.9 < (op.done_ns - op.due_ns) / NS_PER_S < 4
    readers = {op.user for op in ops if op.kind in (OpKind.FEED, OpKind.POST)}
    assert readers <= set(range(60))
    row = generator_row(plan)
    assert row["sent"] == len(joined) + sum(op.kind in (OpKind.FEED, OpKind.POST) for op in ops)
    assert row["sent"] + row["skipped"] == row["planned"]


async def test_a_late_celebrity_signs_up_and_posts_from_then_on(
    small_feed: Any, make_plan_of: Any, load_child: Any, rows: Any
) -> None:
    """Two are to join; the sign-up of the first is refused, so nobody posts as him."""
    plan = make_plan_of(
        small_feed.url,
        seconds=6.0,
        celebrities=(),
        late_celebrities=((0, "here"), (8, "here")),
        rates=Load(celebrity_signups_per_s=1, celebrity_posts_per_s=4),
    )

    async def refusing(request: web.Request) -> web.Response | None:
        refused = request.path == "/v1/users" and (await request.json())["identity"] == "0"
        return web.Response(status=503) if refused else None

    small_feed.slow = refusing
    async with load_child(plan) as child:
        await child.run_to_end()
    ops = rows(plan)
    joined = {op.user: op.outcome for op in ops if op.kind is OpKind.SIGNUP}
    posts = [op for op in ops if op.kind is OpKind.POST]
    assert joined == {0: OpOutcome.FAIL, 8: OpOutcome.OK}
    assert {(op.user, op.celebrity, op.outcome) for op in posts} == {(8, True, OpOutcome.OK)}
    row = generator_row(plan)
    assert (row["sent"], row["dropped"]) == (len(joined) + len(posts), 0)
    assert row["skipped"] == row["planned"] - row["sent"] > 0, "the turns of the first"


def test_texts_differ_between_kinds(make_plan_of: Any) -> None:
    plan = make_plan_of()
    texts = {post_text(plan, kind, n) for kind in (ArrivalKind.POST, ArrivalKind.CELEBRITY) for n in range(100)}
    assert len(texts) == 200
