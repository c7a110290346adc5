"""Ops that change what others see, and ops on what was seen: the rows of a load process against a small server."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from itertools import pairwise
from typing import Any

import msgspec
import pytest
from aiohttp import web
from changing_feed import CURSOR_TTL_S, OPERATOR, ChangingFeed

from harness.core.clock import NS_PER_S
from harness.core.load_rates import Load
from harness.core.op import Op, OpKind, OpOutcome
from harness.load.edge_schedule import EDGE_REST_S
from harness.load.plan import EXPIRED, EXPIRY_MARGIN_S, PROBES, EdgePair, LoadPlan, PlanRegion
from harness.load.touch_schedule import SEEN_S

pytestmark = pytest.mark.slow

SECONDS = 14.0
RATES = Load(
    posts_per_s=12,
    reads_per_s=30,
    edges_per_s=2,
    deletes_per_s=1,
    hides_per_s=1,
    moderations_per_s=1,
    replies_per_s=4,
    likes_per_s=3,
    probes_per_s=6,
    repeats_per_s=2,
)
PAIRS = (
    *(EdgePair(1 + i % 3, 4 + i % 2, i % 4 > 0) for i in range(6)),
    EdgePair(6, 4, True),
    EdgePair(7, 5, True),
)
HERE, THERE = "here", "there"


@pytest.fixture
async def changing_feed() -> AsyncIterator[ChangingFeed]:
    feed = ChangingFeed()
    runner = web.AppRunner(feed.application(), shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    feed.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    yield feed
    await runner.cleanup()


def plan_of(make_plan_of: Callable[..., LoadPlan], feed: ChangingFeed, **fields: Any) -> LoadPlan:
    """A plan of two regions, both the same server."""
    url = PlanRegion(api=feed.url, stream=feed.url)
    plan = make_plan_of(feed.url, seconds=SECONDS, regions={HERE: url, THERE: url}, rates=RATES, edge_pairs=PAIRS)
    token = plan.directory.path / "operator.token"
    token.write_text(OPERATOR + "\n")
    probes = (*PROBES, EXPIRED)
    return msgspec.structs.replace(
        plan, operator_token_file=str(token), probes=probes, cursor_ttl_s=CURSOR_TTL_S, **fields
    )


@pytest.fixture
async def played(changing_feed: ChangingFeed, make_plan_of: Any, load_child: Any, rows: Any) -> tuple[Any, list[Op]]:
    plan = plan_of(make_plan_of, changing_feed)
    async with load_child(plan) as child:
        await child.run_to_end()
    (line,) = plan.directory.generator.read_bytes().splitlines()
    assert msgspec.json.decode(line)["errors"] == []
    return changing_feed, rows(plan)


def kinds(ops: list[Op], *wanted: OpKind) -> list[Op]:
    return sorted((op for op in ops if op.kind in wanted), key=lambda op: op.sent_ns)


async def test_rows_of_a_changing_load(played: tuple[ChangingFeed, list[Op]]) -> None:
    """One run, looked at from all sides: it takes 14 s."""
    feed, ops = played
    wrong = [op for op in ops if op.outcome is not OpOutcome.OK and op.kind is not OpKind.PROBE]
    assert not wrong, wrong[:3]
    by_session: dict[str, list[Op]] = {}
    for op in sorted(ops, key=lambda op: op.sent_ns):
        by_session.setdefault(op.session, []).append(op)
    for lines in by_session.values():
        assert all(a.done_ns <= b.sent_ns or a.kind is b.kind is OpKind.FETCH for a, b in pairwise(lines))
    check_edges(feed, ops)
    check_touches(feed, ops)
    check_replies(feed, ops)
    check_probes(ops)
    check_repeats(ops)


def check_edges(feed: ChangingFeed, ops: list[Op]) -> None:
    """Each pair rests; whoever acts is in the row, and is who asked."""
    edges = kinds(ops, OpKind.FOLLOW, OpKind.UNFOLLOW, OpKind.BLOCK, OpKind.UNBLOCK)
    assert len(edges) >= 6
    last: dict[frozenset[int], Op] = {}
    for op in edges:
        pair = frozenset((op.user, op.author))
        assert any({p.follower, p.author} == pair for p in PAIRS)
        assert pair not in last or op.due_ns - last[pair].due_ns >= EDGE_REST_S * NS_PER_S
        last[pair] = op
        method = "PUT" if op.kind in (OpKind.FOLLOW, OpKind.BLOCK) else "DELETE"
        path = "follows" if op.kind in (OpKind.FOLLOW, OpKind.UNFOLLOW) else "blocks"
        assert (f"t{op.user}", method, f"/v1/{path}/{op.author}") in feed.writes


def check_touches(feed: ChangingFeed, ops: list[Op]) -> None:
    """Own posts only, old enough, each touched by one kind of op; some are let back."""
    posts = {op.post: op for op in kinds(ops, OpKind.POST)[::-1]}
    gone: dict[str, Op] = {}
    for op in kinds(ops, OpKind.DELETE, OpKind.HIDE, OpKind.MODERATE):
        assert op.post not in gone
        assert (op.user, op.author, op.region) == (posts[op.post].user, posts[op.post].user, posts[op.post].region)
        assert op.sent_ns - posts[op.post].done_ns >= SEEN_S * NS_PER_S
        gone[op.post] = op
    assert {op.kind for op in gone.values()} == {OpKind.DELETE, OpKind.HIDE, OpKind.MODERATE}
    back = kinds(ops, OpKind.SHOW, OpKind.LIFT)
    assert back
    for op in back:
        assert gone[op.post].kind is (OpKind.HIDE if op.kind is OpKind.SHOW else OpKind.MODERATE)
        assert gone[op.post].done_ns < op.sent_ns
    assert feed.gone == set(gone) - {op.post for op in back}
    liked = kinds(ops, OpKind.LIKE)
    assert liked
    for op in liked:
        assert (f"t{op.user}", "PUT", f"/v1/posts/{op.post}/like") in feed.writes
        assert op.author == posts[op.post].user != op.user
    assert not {op.post for op in liked} & set(gone)
    assert not {op.reply_to for op in posts.values()} & set(gone)


def check_replies(feed: ChangingFeed, ops: list[Op]) -> None:
    """A reply answers what its session had on its page; who sees it looks the parent up at once, once."""
    replies = {op.post: op for op in kinds(ops, OpKind.POST) if op.reply_to}
    assert len(replies) > 20
    parents = {post["id"]: post["reply_to"] for post in feed.posts if post["reply_to"]}
    assert {post: op.reply_to for post, op in replies.items()} == parents
    for op in replies.values():
        seen = [page for page in kinds(ops, OpKind.FEED) if page.session == op.session and page.done_ns <= op.sent_ns]
        assert op.reply_to in seen[-1].ids
    looked_up = kinds(ops, OpKind.FETCH)
    assert looked_up
    for op in looked_up:
        assert op.ids == [op.post]
        pages = [p for p in kinds(ops, OpKind.FEED) if p.session == op.session and p.done_ns <= op.sent_ns]
        assert pages[-1].region == op.region
        assert op.due_ns == pages[-1].done_ns
        assert any(parents.get(item) == op.post for item in pages[-1].ids)


def check_probes(ops: list[Op]) -> None:
    """Bad cursors are refused; one's own shows the same page at the other region."""
    probes = kinds(ops, OpKind.PROBE)
    assert {op.variant for op in probes} == {*PROBES, EXPIRED}
    given = {page.next_cursor: page for page in kinds(ops, OpKind.FEED) if page.next_cursor}
    for op in probes:
        if op.variant == "other_node":
            [own] = [
                page
                for page in kinds(ops, OpKind.FEED)
                if (page.session, page.walk, page.page) == (op.session, op.walk, op.page)
            ]
            assert (own.cursor, own.limit, own.region, op.region) == (op.cursor, op.limit, HERE, THERE)
            assert op.outcome is OpOutcome.OK
            assert own.done_ns <= op.sent_ns
        else:
            assert (op.status, op.outcome, op.ids, op.region) == (400, OpOutcome.FAIL, [], HERE)
            assert (op.cursor in given) == (op.variant != "tampered")
            assert op.variant != "foreign" or given[op.cursor].user != op.user
        if op.variant == EXPIRED:
            assert given[op.cursor].user == op.user
            assert op.sent_ns - given[op.cursor].done_ns >= (CURSOR_TTL_S + EXPIRY_MARGIN_S) * NS_PER_S


def check_repeats(ops: list[Op]) -> None:
    """The same key again gives the same post."""
    by_key: dict[str, list[Op]] = {}
    for op in kinds(ops, OpKind.POST):
        by_key.setdefault(op.idempotency_key, []).append(op)
    again = [same for same in by_key.values() if len(same) > 1]
    assert len(again) > 10
    for first, second in again:
        assert (first.status, second.status) == (201, 200)
        assert (first.post, first.user, first.region, first.text_hash) == (
            second.post,
            second.user,
            second.region,
            second.text_hash,
        )


async def test_what_nobody_can_do_is_skipped(
    changing_feed: ChangingFeed, make_plan_of: Any, load_child: Any, rows: Any
) -> None:
    """Where every post is refused there is nothing to answer, like, repeat or try a cursor on."""
    rates = Load(posts_per_s=10, reads_per_s=10, replies_per_s=5, likes_per_s=5, probes_per_s=5, repeats_per_s=5)

    async def slow(request: web.Request) -> web.Response | None:
        return web.json_response({"detail": "no"}, status=503) if request.method == "POST" else None

    changing_feed.slow = slow
    plan = msgspec.structs.replace(make_plan_of(changing_feed.url, seconds=4.0), rates=rates)
    async with load_child(plan) as child:
        await child.run_to_end()
    (line,) = plan.directory.generator.read_bytes().splitlines()
    row = msgspec.json.decode(line)
    assert row["errors"] == []
    assert row["skipped"] > 20
    assert row["sent"] == row["planned"] - row["skipped"]
    assert {op.kind for op in rows(plan)} == {OpKind.POST, OpKind.FEED}
