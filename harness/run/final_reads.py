"""The reads after the drain: does every acknowledged post stand in the feeds of its followers, in every region?

Chooses readers by `harness.run.cover`, walks their feeds down to the first acknowledged post in every region, and
reads a sample of users a few times in all regions: convergence is judged from it. All rows carry `final = true`.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from contextlib import AsyncExitStack
from dataclasses import dataclass, field

from harness.contract.client import FeedClient, Page, Result
from harness.contract.profile import Profile
from harness.core.clock import NS_PER_S, now_ns
from harness.core.op import Op, OpKind, OpOutcome, text_hash, user_number
from harness.core.seeds import rng
from harness.record.clocks import read_clocks
from harness.record.frames import SUFFIX, read_segment
from harness.record.history import HistoryWriter
from harness.record.run_directory import RunDirectory

CONCURRENCY = 12
PAGE = 50
MAX_PAGES = 20
FULL_WALKS = 20
CONVERGENCE_USERS = 20
CONVERGENCE_ROUNDS = 3


@dataclass
class Written:
    """What the history says was acknowledged during the run, by the harness's clock."""

    posts: Counter[int] = field(default_factory=Counter)
    """author -> how many"""
    first_ts_us: int = 0
    last_ack_ns: int = 0
    first_ns: dict[int, int] = field(default_factory=dict)
    """author -> when the first post was acknowledged"""
    last_ns: dict[int, int] = field(default_factory=dict)
    """the same for the last one"""
    joined: set[int] = field(default_factory=set)
    settled: dict[int, int] = field(default_factory=dict)
    """who signed up -> when the follows were imported"""


def read_written(run: RunDirectory) -> Written:
    """Scan the segments for acknowledged posts, sign-ups and imports. Raises HistoryError for a damaged one."""
    written, clocks = Written(), read_clocks(run.clocks)
    for segment in sorted(run.history.glob(f"*{SUFFIX}")):
        clock = clocks.get(segment.stem)
        for op in read_segment(segment, frozenset({OpKind.POST, OpKind.SIGNUP, OpKind.IMPORT})):
            if op.outcome is OpOutcome.OK:
                _take(written, op, clock.to_ours(op.done_ns) if clock else op.done_ns)
    return written


def _take(written: Written, op: Op, done_ns: int) -> None:
    if op.kind is OpKind.SIGNUP:
        written.joined.add(op.user)
    elif op.kind is OpKind.IMPORT:
        written.settled[op.user] = done_ns
    elif op.kind is OpKind.POST:
        written.posts[op.user] += 1
        written.first_ns[op.user] = min(done_ns, written.first_ns.get(op.user, done_ns))
        written.last_ns[op.user] = max(done_ns, written.last_ns.get(op.user, done_ns))
        written.last_ack_ns = max(written.last_ack_ns, done_ns)
        if not written.first_ts_us or op.ts_us < written.first_ts_us:
            written.first_ts_us = op.ts_us


@dataclass
class FinalReader:
    """Walks feeds at the end of a run and records each page."""

    profile: Profile
    tokens: dict[int, str]
    history: HistoryWriter
    seed: int
    clients: dict[str, FeedClient] = field(default_factory=dict)
    walks: int = 0

    async def run(self, readers: list[int], until_ts_us: int, settled_ns: int) -> None:
        """All final reads: the covering walks, some whole walks, and the rounds that show convergence.

        `readers` in descending order of worth; a walk ends below the display time `until_ts_us` (0: at the end).
        From `settled_ns` on all regions must agree: the rounds for convergence wait for it.
        """
        async with AsyncExitStack() as stack:
            for region in self.profile.regions:
                self.clients[region] = await stack.enter_async_context(FeedClient.of(self.profile, region))
            await self._obtain_tokens(readers)
            readers = [user for user in readers if user in self.tokens]
            sample = [int(u) for u in rng(self.seed, "final-sample").permutation(readers)]
            await self._walks([(u, r, until_ts_us) for u in readers for r in self.clients])
            await self._walks([(u, r, 0) for u in sample[:FULL_WALKS] for r in self.clients])
            await asyncio.sleep(max(0.0, (settled_ns - now_ns()) / NS_PER_S))
            for _ in range(CONVERGENCE_ROUNDS):
                await self._walks([(u, r, until_ts_us) for u in sample[-CONVERGENCE_USERS:] for r in self.clients])

    async def _obtain_tokens(self, readers: list[int]) -> None:
        """Sign readers in who have no token yet (a sign-up is idempotent)."""
        client = next(iter(self.clients.values()))
        gate = asyncio.Semaphore(CONCURRENCY)

        async def obtain(user: int) -> None:
            async with gate:
                result = await client.sign_up(self.profile.users.identity_of(user))
            if result.value is not None:
                self.tokens[user] = result.value.token

        async with asyncio.TaskGroup() as group:
            for user in readers:
                if user not in self.tokens:
                    group.create_task(obtain(user))

    async def _walks(self, wanted: list[tuple[int, str, int]]) -> None:
        """Walk feeds, a few at a time."""
        gate = asyncio.Semaphore(CONCURRENCY)

        async def walk(user: int, region: str, until_ts_us: int) -> None:
            async with gate:
                await self._walk(user, region, until_ts_us)

        async with asyncio.TaskGroup() as group:
            for user, region, until_ts_us in wanted:
                group.create_task(walk(user, region, until_ts_us))

    async def _walk(self, user: int, region: str, until_ts_us: int) -> None:
        """One walk of one user in one region; a page that fails is recorded and ends the walk."""
        self.walks += 1
        walk, client, cursor = self.walks, self.clients[region].user(self.tokens[user]), ""
        for page in range(MAX_PAGES):
            started = now_ns()
            result = await client.feed(PAGE, cursor or None)
            self.history.append(self._row(user, region, walk, page, cursor, started, result))
            self.history.flush_if_due()
            if result.value is None or not result.value.next_cursor:
                return
            if until_ts_us and result.value.items and result.value.items[-1].created_at_us < until_ts_us:
                return
            cursor = result.value.next_cursor

    def _row(
        self, user: int, region: str, walk: int, page: int, cursor: str, started_ns: int, result: Result[Page]
    ) -> Op:
        items = result.value.items if result.value is not None else []
        return Op(
            id=self.history.next_id(),
            kind=OpKind.FEED,
            session=f"final-{region}-{user}-{walk}",
            user=user,
            region=region,
            due_ns=started_ns,
            sent_ns=started_ns,
            done_ns=now_ns(),
            outcome=result.outcome,
            status=result.status,
            error=result.error,
            degraded=result.degraded,
            final=True,
            walk=walk,
            page=page,
            limit=PAGE,
            cursor=cursor,
            next_cursor=(result.value.next_cursor or "") if result.value is not None else "",
            ids=[i.id for i in items],
            item_ts_us=[i.created_at_us for i in items],
            item_authors=[user_number(i.author) for i in items],
            item_hashes=[text_hash(i.text) for i in items],
        )
