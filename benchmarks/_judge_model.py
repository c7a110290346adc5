"""A whole legal run, made up: what an ideal target and a punctual harness would have recorded.

Posts arrive in every follower's feed after a random delay, later in the other region; listeners get an event for each;
panel sessions post, read the top, walk in pages of 5 and 50; final walks show everything. In a busy run they also
answer posts and look up what was answered, delete, unfollow, fetch what is new after an event, and send cursors that
are none of theirs; and a fault strikes that nobody notices. Same seed, same run.
Used by the benchmark of the judge, and by its tests: a healthy run must never be accused.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np

from harness.contract.profile import Profile, RegionUrls, Start
from harness.core.clock import NS_PER_MS, NS_PER_S
from harness.core.op import Op, OpKind, OpOutcome, text_hash
from harness.core.scenario import Load, Phase, Population, Scenario
from harness.core.seeds import rng
from harness.record.history import HistoryWriter
from harness.record.run_directory import RunDirectory

REGIONS = ("us-east", "ap-tokyo")
START_NS = 10 * NS_PER_S
START_US = 1_700_000_000_000_000
WARMUP_S = 2.0
DRAIN_S = 20.0

SAMPLED = 20
_BUSY: dict[str, Any] = {"replies_per_s": 1.0, "deletes_per_s": 1.0, "edges_per_s": 1.0, "probes_per_s": 1.0}
"""what tells the judge that the load had some of each"""


@dataclass(frozen=True)
class Size:
    """How large the run is."""

    users: int = 400
    follows: int = 12
    listeners: int = 80
    panel: int = 12
    posts_per_s: float = 20.0
    reads_per_s: float = 60.0
    phase_s: float = 10.0
    final_readers: int = 40
    history: int = 2
    """posts an author had written before the run"""
    long_page: int = 50
    busy: bool = False
    """whether there is something to look at for each of the 20 checkers"""


class Written(msgspec.Struct, frozen=True, order=True):
    """A post as a feed orders it: larger is newer."""

    ts_us: int
    id: str
    author: int
    hash: int


def _showing(op: Op, items: list[Written]) -> Op:
    """A read with its items."""
    return msgspec.structs.replace(
        op,
        ids=[i.id for i in items],
        item_ts_us=[i.ts_us for i in items],
        item_authors=[i.author for i in items],
        item_hashes=[i.hash for i in items],
    )


class _Feeds:
    """Each user's feed in each region: what has arrived, and was not taken away, by a time; ascending."""

    def __init__(self) -> None:
        self._arrivals: dict[tuple[int, str], list[tuple[int, Written, bool]]] = {}
        self._visible: dict[tuple[int, str], list[Written]] = {}
        self._taken: dict[tuple[int, str], int] = {}

    def add(self, user: int, region: str, at_ns: int, post: Written, gone_ns: int | None = None) -> None:
        arrivals = self._arrivals.setdefault((user, region), [])
        arrivals.append((at_ns, post, False))
        if gone_ns is not None:
            arrivals.append((gone_ns, post, True))

    def settle(self) -> None:
        for arrivals in self._arrivals.values():
            arrivals.sort()

    def at(self, user: int, region: str, time_ns: int) -> list[Written]:
        """What the user's feed holds at a time; times must not go back."""
        key = (user, region)
        arrivals, visible = self._arrivals.get(key, []), self._visible.setdefault(key, [])
        taken = self._taken.get(key, 0)
        while taken < len(arrivals) and arrivals[taken][0] <= time_ns:
            _, post, gone = arrivals[taken]
            if gone:
                del visible[bisect_left(visible, post)]
            else:
                insort(visible, post)
            taken += 1
        self._taken[key] = taken
        return visible


class Model:
    """Makes up one run and writes it as a run directory."""

    def __init__(self, run: RunDirectory, size: Size, seed: int = 1) -> None:
        self.run = run.create()
        self.size = size
        self.random = rng(seed, "judge-model")
        self.feeds = _Feeds()
        self.rows: list[tuple[int, Op, list[Written]]] = []
        """done_ns, op, items it shows: written out at the end, for a million reads of 50 items are large"""
        self.ids = 0
        self.t0_ns = START_NS + round(WARMUP_S * NS_PER_S)
        self.end_ns = self.t0_ns + round(3 * size.phase_s * NS_PER_S)
        self.posts: list[tuple[int, Written]] = []
        """acknowledged at, those that nobody deletes"""
        self.parents: dict[str, Written] = {}
        """reply -> what it answers"""
        self.gone: dict[str, int] = {}
        """post -> when it is deleted"""
        self.cuts: dict[tuple[int, int], int] = {}
        """user, author -> when he unfollows him"""

    def make(self) -> int:
        """Write everything. Returns the number of ops."""
        followees = self._graph()
        followers: list[list[int]] = [[] for _ in range(self.size.users)]
        for user, authors in enumerate(followees):
            for author in authors:
                followers[int(author)].append(user)
        if self.size.busy:
            self._unfollows(followees)
        self._history(followers)
        self._posts(followers)
        self.feeds.settle()
        self._reads()
        self._final()
        self._facts()
        with HistoryWriter(self.run.history / "model.jsonl") as history:
            for _, op, items in sorted(self.rows, key=lambda row: row[0]):
                history.append(_showing(op, items) if items else op)
        return len(self.rows)

    def region(self, user: int) -> str:
        """Where a user lives."""
        return REGIONS[user % 2]

    def _graph(self) -> list[Any]:
        size = self.size
        followees = []
        for user in range(size.users):
            chosen = np.unique(self.random.integers(0, size.users, size.follows))
            followees.append(chosen[chosen != user].astype(np.uint32))
        offsets = np.concatenate([[0], np.cumsum([len(f) for f in followees])]).astype(np.int64)
        np.save(self.run.population / "offsets.npy", offsets)
        np.save(self.run.population / "followees.npy", np.concatenate(followees))
        np.save(self.run.population / "hot.npy", np.ones(int(offsets[-1]), dtype=np.uint8))
        return followees

    def _op(
        self,
        kind: OpKind,
        user: int,
        session: str,
        due_ns: int,
        done_ns: int,
        *,
        items: list[Written] | None = None,
        **fields: Any,
    ) -> Op:
        self.ids += 1
        fields.setdefault("region", self.region(user))
        fields.setdefault("outcome", OpOutcome.OK)
        op = Op(
            id=self.ids,
            kind=kind,
            session=session,
            user=user,
            due_ns=due_ns,
            sent_ns=due_ns + NS_PER_MS,
            done_ns=done_ns,
            **fields,
        )
        self.rows.append((done_ns, op, items or []))
        return op

    def _write(self, ts_us: int, number: int, author: int) -> Written:
        return Written(ts_us, f"{ts_us:015x}-{number:08x}", author, text_hash(f"{author}/{number}"))

    def _history(self, followers: list[list[int]]) -> None:
        total = self.size.users * self.size.history
        for number in range(total):
            author = int(self.random.integers(0, self.size.users))
            post = self._write(START_US - (total - number) * 1_000_000, number, author)
            for user in [*followers[author], author]:
                if self._reads_feeds(user):
                    for region in REGIONS:
                        self.feeds.add(user, region, 0, post, self._leaves(user, post))

    def _unfollows(self, followees: list[Any]) -> None:
        """Each panel user unfollows an author some time in the phases."""
        for user in range(self.size.panel):
            author = int(self.random.choice(followees[user]))
            due = int(self.random.integers(self.t0_ns, self.end_ns))
            self.cuts[user, author] = due + NS_PER_MS
            self._op(OpKind.UNFOLLOW, user, f"panel-{user}", due, due + 6 * NS_PER_MS, author=author)

    def _leaves(self, user: int, post: Written) -> int | None:
        """When a post leaves a user's feed; None: it stays."""
        times = [at for at in (self.gone.get(post.id), self.cuts.get((user, post.author))) if at is not None]
        return min(times, default=None)

    def _posts(self, followers: list[list[int]]) -> None:
        """Posts, their arrival in feeds, and the events of listeners (whose streams are open from the start)."""
        size = self.size
        for user in range(size.listeners):
            at = START_NS - NS_PER_S
            self._op(OpKind.STREAM_OPEN, user, f"listener-{user}", at, at + NS_PER_MS, token=f"{self.region(user)}.1.0")
        count = round(size.posts_per_s * (self.end_ns - START_NS) / NS_PER_S)
        due = np.sort(self.random.integers(START_NS, self.end_ns, count))
        events: dict[int, list[tuple[int, Written]]] = {}
        for number, due_ns in enumerate(due.tolist()):
            author = int(self.random.integers(0, size.users))
            accepted = due_ns + int(self.random.integers(2, 20)) * NS_PER_MS
            post = self._write(START_US + (accepted - START_NS) // 1000, number, author)
            done = accepted + 2 * NS_PER_MS
            self._op(
                OpKind.POST,
                author,
                f"panel-{author}" if author < size.panel else f"poster-{author}",
                due_ns,
                done,
                post=post.id,
                author=author,
                ts_us=post.ts_us,
                text_hash=post.hash,
                idempotency_key=f"k{number}",
                reply_to=self._answers(post, due_ns) if size.busy else "",
            )
            if not (size.busy and self._deletes(post, done)):
                self.posts.append((done, post))
            for user in [*followers[author], author]:
                self._arrive(user, accepted, post, events)
        self._events(events)

    def _answers(self, post: Written, due_ns: int) -> str:
        """The post that a fifth of the posts answer: one of those that were everywhere a while ago."""
        back = round(3 * self.size.posts_per_s) + int(self.random.integers(0, 300))
        older = self.posts[-back:][:1] if self.random.random() < 0.2 else []
        if not older or older[0][0] > due_ns - 2 * NS_PER_S:
            return ""
        self.parents[post.id] = older[0][1]
        return older[0][1].id

    def _deletes(self, post: Written, done_ns: int) -> bool:
        """One post in a hundred is deleted by its author a while later."""
        due = done_ns + int(self.random.integers(5, 30)) * NS_PER_S
        if self.random.random() >= 0.01 or due >= self.end_ns:
            return False
        self.gone[post.id] = due + NS_PER_MS
        self._op(OpKind.DELETE, post.author, f"poster-{post.author}", due, due + 6 * NS_PER_MS, post=post.id)
        return True

    def _reads_feeds(self, user: int) -> bool:
        return user < max(self.size.panel, self.size.final_readers)

    def _arrive(self, user: int, accepted_ns: int, post: Written, events: dict[int, list[tuple[int, Written]]]) -> None:
        """A post comes into one user's feed, in each region, and onto his stream at home."""
        leaves = self._leaves(user, post)
        reads, listens = self._reads_feeds(user), user < self.size.listeners and user != post.author
        if not reads and not listens:
            return
        for region in REGIONS:
            delay_ms = 20 if region == self.region(post.author) else 180
            at = accepted_ns
            if user != post.author:
                at += (delay_ms + int(self.random.exponential(20))) * NS_PER_MS
            if leaves is not None and at >= leaves:
                continue
            if reads:
                self.feeds.add(user, region, at, post, leaves)
            if listens and region == self.region(user):
                events.setdefault(user, []).append((at + 5 * NS_PER_MS, post))

    def _events(self, events: dict[int, list[tuple[int, Written]]]) -> None:
        for user in range(self.size.listeners):
            told = sorted(events.get(user, []))
            for number, (at, post) in enumerate(told):
                token = f"{self.region(user)}.1.{number + 1}"
                self._op(OpKind.EVENT, user, f"listener-{user}", at, at, post=post.id, token=token)
                if self.size.busy and self.random.random() < 0.05:
                    self._fetch_new(user, told, number)
            end = self.end_ns + round(DRAIN_S * NS_PER_S)
            self._op(OpKind.STREAM_END, user, f"listener-{user}", end, end, error="closed-by-us")

    def _fetch_new(self, user: int, told: list[tuple[int, Written]], number: int) -> None:
        """What came after an event, and is still there, soon after it."""
        at, anchor = told[number]
        due = at + int(self.random.integers(1, 5_000)) * NS_PER_MS
        new = []
        for came, post in told[number + 1 :]:
            if came > due:
                break
            leaves = self._leaves(user, post)
            if leaves is None or leaves > due:
                new.append(post)
        done = due + 8 * NS_PER_MS
        self._op(OpKind.FEED_NEW, user, f"listener-{user}", due, done, since=anchor.id, items=new[::-1])

    def _reads(self) -> None:
        """Panel sessions: each in turn reads the top or the next page of a walk."""
        size = self.size
        count = round(size.reads_per_s * (self.end_ns - START_NS) / NS_PER_S)
        step = (self.end_ns - START_NS) // max(count, 1)
        state: dict[int, tuple[int, int, int, Written | None]] = {}
        for k in range(count):
            user = k % size.panel
            due = START_NS + k * step
            walk, page, limit, before = state.get(user, (0, 0, 0, None))
            if before is None:
                walk, page, limit = walk + 1, 0, size.long_page if walk % 2 else 5
            session, region = f"panel-{user}", self.region(user)
            items, more = self._page(user, region, session, due, walk, page, limit, before, final=False)
            if size.busy and k % 20 == 0:
                self._asks(user, region, session, due + 10 * NS_PER_MS, walk, page, limit, before, items)
            deeper = items[-1] if more and page < 3 else None
            state[user] = (walk, page + 1, limit, deeper)

    def _page(
        self,
        user: int,
        region: str,
        session: str,
        due: int,
        walk: int,
        page: int,
        limit: int,
        before: Written | None,
        final: bool,
        variant: str = "",
    ) -> tuple[list[Written], bool]:
        """A page of a feed, or with a variant a probe: what it shows, and whether there is more behind it."""
        feed = self.feeds.at(user, region, due + NS_PER_MS)
        end = len(feed) if before is None else bisect_left(feed, before)
        items = feed[max(0, end - limit) : end][::-1]
        more = end > limit
        self._op(
            OpKind.PROBE if variant else OpKind.FEED,
            user,
            session,
            due,
            due + 8 * NS_PER_MS,
            region=region,
            walk=walk,
            page=page,
            limit=limit,
            cursor="" if before is None else "c",
            next_cursor="n" if more else "",
            final=final,
            variant=variant,
            items=items,
        )
        return items, more

    def _asks(
        self,
        user: int,
        region: str,
        session: str,
        due: int,
        walk: int,
        page: int,
        limit: int,
        before: Written | None,
        items: list[Written],
    ) -> None:
        """After a page: looks up what a reply on it answers; sends its cursor to the other region, and a forged one."""
        for parent in [self.parents[i.id] for i in items if i.id in self.parents][:1]:
            found = [parent]
            self._op(OpKind.FETCH, user, session, due, due + 5 * NS_PER_MS, post=parent.id, items=found, region=region)
        if before is not None:
            [other] = [name for name in REGIONS if name != region]
            self._page(user, other, session, due, walk, page, limit, before, final=False, variant="other_node")
        refused = {"outcome": OpOutcome.FAIL, "status": 400}
        forged: dict[str, Any] = {"variant": "tampered", "cursor": "x", **refused}
        self._op(OpKind.PROBE, user, session, due, due + 3 * NS_PER_MS, region=region, walk=walk, page=page, **forged)

    def _final(self) -> None:
        """Whole walks of all final readers in both regions, two more rounds by some, for convergence."""
        walk = 0
        start = self.end_ns + round((DRAIN_S + 1) * NS_PER_S)
        for k in range(3):
            for user in range(self.size.final_readers if k == 0 else min(SAMPLED, self.size.final_readers)):
                for region in REGIONS:
                    walk += 1
                    before, page = None, 0
                    while page == 0 or before is not None:
                        due = start + k * NS_PER_S + page * 10 * NS_PER_MS
                        name = f"final-{region}-{user}-{walk}"
                        items, more = self._page(user, region, name, due, walk, page, 50, before, final=True)
                        before, page = items[-1] if more else None, page + 1

    def _facts(self) -> None:
        size = self.size
        names = ("baseline", "middle", "recovered")
        phases = [{"name": "warmup", "start_ns": START_NS, "end_ns": self.t0_ns, "kind": "warmup", "faults": []}]
        for k, name in enumerate(names):
            start = self.t0_ns + round(k * size.phase_s * NS_PER_S)
            end = start + round(size.phase_s * NS_PER_S)
            phases.append({"name": name, "start_ns": start, "end_ns": end, "kind": "baseline", "faults": []})
        scenario = Scenario(
            name="model",
            about="A made-up legal run.",
            phases=tuple(Phase(name=n, duration_s=size.phase_s) for n in names),
            warmup_s=WARMUP_S,
            population=Population(
                users=size.users, listeners=size.listeners, history=size.history * size.follows, panel=size.panel
            ),
            load=Load(posts_per_s=size.posts_per_s, reads_per_s=size.reads_per_s, **(_BUSY if size.busy else {})),
            expect={
                "post_to_event{scope:local}": ("p(95) <= 500ms",),
                "feed_read": ("failures == 0", "p(99) <= 200ms"),
                "invariants": ("all",),
                "recovery": ("<= 10s",),
            },
        )
        profile = Profile(
            name="model",
            regions={r: RegionUrls(api="http://127.0.0.1:1", stream="http://127.0.0.1:1") for r in REGIONS},
            start=Start(command=["true"]),
        )
        self.run.scenario.write_bytes(msgspec.json.encode(scenario))
        self.run.profile.write_bytes(msgspec.json.encode(profile))
        if size.busy:
            self._fault(phases[2])
        self.run.phases.write_bytes(msgspec.json.encode(phases))
        report = {"planned": len(self.rows), "sent": len(self.rows), "completed": True}
        reports = [{"process": f"{kind}-0", "kind": kind, **report} for kind in ("locust", "streams")]
        self.run.generator.write_bytes(b"".join(msgspec.json.encode(r) + b"\n" for r in reports))

    def _fault(self, phase: dict[str, Any]) -> None:
        """A fault of five seconds in a phase, proven and undone, that changes nothing of what is seen."""
        injected, undone = phase["start_ns"], phase["start_ns"] + 5 * NS_PER_S
        phase |= {"kind": "fault", "faults": ["f1"]}
        fault = {"id": "f1", "kind": "kill", "handle": "us-east.spare", "phase": phase["name"]}
        proof = {"witness": {"ok": True, "evidence": "connection refused"}, "undo": {"ok": True}}
        row = {**fault, "injected_ns": injected, "undone_ns": undone, **proof}
        self.run.faults.write_bytes(msgspec.json.encode(row) + b"\n")
