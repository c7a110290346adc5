"""A small made-up social network whose every move is legal: who wrote what, and who could see it from when to when.

`World` decides everything that happens behind the wire, from one `Shape`: posts and when they arrive in each feed of
each region, deletes, hides, changes of follow edges, faults that delay all this. Where the contract leaves room the
world takes it, up to the last nanosecond of a promise. What clients see of it is `model_feed`.

It is written from the contract (docs/contract.md) and the invariants' definitions, and shares nothing with the judge.
"""

from __future__ import annotations

import random
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass, field

from made_history import AWAY, HOME, T0_US, ns

from harness.contract.profile import Slo
from harness.core.clock import NS_PER_MS, NS_PER_S
from harness.core.op import OpKind, OpOutcome, text_hash

REGIONS = (HOME, AWAY)
PROMISES = Slo(visibility_s=0.5, cross_region_s=1.0, celebrity_s=1.5, convergence_s=3.0)
VISIBILITY_NS, CROSS_NS, CELEBRITY_NS, CONVERGENCE_NS = (
    round(s * NS_PER_S)
    for s in (PROMISES.visibility_s, PROMISES.cross_region_s, PROMISES.celebrity_s, PROMISES.convergence_s)
)
EDGE_SETTLES_NS = 5 * NS_PER_S
LOAD_NS = (ns(-3), ns(26))
FAULTS_S = ((6.0, 8.0), (16.0, 17.5))
LENGTH_S = 60.0
LOOKUP_NS = 2 * NS_PER_MS
"""a look-up right after a page takes this long"""
ALWAYS = 0
OK, INFO, FAIL = OpOutcome.OK, OpOutcome.INFO, OpOutcome.FAIL


@dataclass(frozen=True)
class Shape:
    """What a world is made of; two worlds of one shape are the same."""

    seed: int = 1
    users: int = 5
    moves: int = 14
    """ops of each session in the load"""
    faults: int = 0
    celebrity: bool = False
    listeners: bool = True
    edges: bool = False
    """follow edges change"""
    removals: bool = False
    """posts are deleted, hidden and moderated"""
    unsure: bool = False
    """ops fail or time out; posts are sent again"""
    degraded: bool = False
    """some pages are marked"""
    edgy: bool = False
    """everything takes as long as it may"""
    rounds: int = 3
    """final walks of each reader in each region"""


@dataclass(frozen=True)
class Slot:
    """A place for one op in a session's line: sent and done."""

    session: str
    user: int
    region: str
    sent_ns: int
    done_ns: int


@dataclass
class Posted:
    """A post that took effect, or (effect_ns None) did not."""

    id: str
    author: int
    region: str
    session: str
    sent_ns: int
    effect_ns: int | None
    ack_ns: int | None
    """None: nobody was told"""
    ts_us: int = 0
    hash: int = 0
    celebrity: bool = False
    parent: Posted | None = None
    arrivals: dict[tuple[int, str], int] = field(default_factory=dict)
    gone: dict[tuple[int, str], int] = field(default_factory=dict)
    """(user, region) -> deleted there from"""
    hidden: dict[str, list[tuple[int, bool]]] = field(default_factory=dict)
    """region -> steps (from, hidden), in time order"""
    tried: bool = False
    """somebody tried to delete, hide or moderate it"""

    @property
    def key(self) -> tuple[int, str]:
        """Its place in a display: larger is higher."""
        return self.ts_us, self.id


@dataclass(frozen=True)
class Row:
    """An op to record: its slot, kind, outcome and further fields."""

    slot: Slot
    kind: OpKind
    outcome: OpOutcome
    fields: dict[str, object]


class World:
    """Everything that happens behind the wire."""

    def __init__(self, shape: Shape) -> None:
        self.shape = shape
        self.random = random.Random(repr(shape))
        self.follows = self._graph()
        self.windows = [(ns(a), ns(b) + CONVERGENCE_NS) for a, b in FAULTS_S[: shape.faults]]
        self.skew_us = {region: self.random.randrange(-150_000, 150_000) for region in REGIONS}
        self.posts: list[Posted] = []
        self.rows: list[Row] = []
        self.reads: list[Slot] = []
        self.changes: dict[tuple[int, int], dict[str, list[tuple[int, bool, bool]]]] = {}
        """(follower, author) -> region -> steps (from, follows, with what was there before), in time order"""
        self.settled: dict[tuple[int, int], int] = {}
        """(follower, author) -> when its last change was answered"""
        self._stamps: dict[int, int] = {}
        self._wanted: dict[tuple[int, int], OpKind] = {}
        self._blocker: dict[frozenset[int], int] = {}
        self._old_posts()
        for slot in self._slots():
            self._move(slot)
        for post in self.posts:
            self._arrive(post)

    @property
    def users(self) -> range:
        """Numbers of all users."""
        return range(self.shape.users)

    def home(self, user: int) -> str:
        """Where a user lives."""
        return REGIONS[user % 3 == 2]

    def chance(self, probability: float) -> bool:
        """True this often."""
        return self.random.random() < probability

    def between(self, first: int, last: int) -> int:
        """A moment; where everything takes its time, mostly the last one."""
        if self.shape.edgy and self.chance(0.6):
            return last
        return self.random.randint(first, last)

    # --- who follows whom, and who does what when

    def _graph(self) -> dict[int, list[int]]:
        others = {u: [a for a in self.users if a != u] for u in self.users}
        return {u: sorted(self.random.sample(others[u], self.random.randint(1, len(others[u])))) for u in self.users}

    def _slots(self) -> list[Slot]:
        """Each user has a session at home, some have one abroad; all slots in time order."""
        slots = []
        for user in self.users:
            regions = [self.home(user)] + [r for r in REGIONS if r != self.home(user) and self.chance(0.4)]
            for region in regions:
                starts = sorted(self.random.randint(*LOAD_NS) for _ in range(self.shape.moves))
                free = 0
                for start in starts:
                    sent = max(start, free)
                    done = sent + self.random.randint(NS_PER_MS, 80 * NS_PER_MS)
                    free = done + 2 * LOOKUP_NS
                    slots.append(Slot(f"s-{user}-{region}", user, region, sent, done))
        return sorted(slots, key=lambda s: s.sent_ns)

    def _move(self, slot: Slot) -> None:
        """Fill one slot: a write, or a read (left to `model_feed`)."""
        kind = self.random.random()
        if kind < 0.25:
            self._post(slot)
        elif kind < 0.33 and self.shape.removals:
            self._remove(slot)
        elif kind < 0.40 and self.shape.edges and slot.region == self.home(slot.user):
            self._change_edge(slot)
        else:
            self.reads.append(slot)

    def _row(self, slot: Slot, kind: OpKind, outcome: OpOutcome, **fields: object) -> None:
        self.rows.append(Row(slot, kind, outcome, fields))

    def _outcome(self) -> OpOutcome:
        if not self.shape.unsure or self.chance(0.7):
            return OK
        return INFO if self.chance(0.6) else FAIL

    # --- posts

    def _old_posts(self) -> None:
        for author in self.users:
            for number in range(self.random.randint(0, 3)):
                ts_us = T0_US - self.random.randrange(10_000_000, 90_000_000)
                post = Posted(f"old-{author}-{number}", author, self.home(author), "", ALWAYS, ALWAYS, ALWAYS, ts_us)
                self._enter(post)

    def _enter(self, post: Posted) -> None:
        post.hash = text_hash(post.id)
        post.celebrity = self.shape.celebrity and post.author == 0
        self.posts.append(post)

    def _post(self, slot: Slot) -> None:
        outcome = self._outcome()
        name = f"p{len(self.posts)}-{self.random.randrange(16):x}"
        post = Posted(name, slot.user, slot.region, slot.session, slot.sent_ns, None, None)
        if outcome is OK:
            post.effect_ns, post.ack_ns = self.between(slot.sent_ns, slot.done_ns), slot.done_ns
        elif outcome is INFO and self.chance(0.6):
            post.effect_ns = self.between(slot.sent_ns, slot.done_ns + 400 * NS_PER_MS)
        if post.effect_ns is not None:
            post.ts_us = self._stamp(post)
        post.parent = self._parent(slot, post)
        self._enter(post)
        told = {"post": post.id, "ts_us": post.ts_us} if outcome is OK else {}
        fields = {"author": slot.user, "text_hash": post.hash, "celebrity": post.celebrity, **told}
        if post.parent is not None:
            fields["reply_to"] = post.parent.id
        self._row(slot, OpKind.POST, outcome, idempotency_key=f"k-{post.id}", **fields)
        if self.shape.unsure and outcome is not FAIL and self.chance(0.4):
            self._repeat(slot, post, fields)

    def _stamp(self, post: Posted) -> int:
        """The display time: the region's clock in steps so coarse that some are equal; one author's rise."""
        step = 20_000
        wall = T0_US + (post.effect_ns - ns(0)) // 1000 + self.skew_us[post.region]  # type: ignore[operator]
        stamp = max(wall // step * step, self._stamps.get(post.author, 0) + 1)
        self._stamps[post.author] = stamp
        return stamp

    def _parent(self, slot: Slot, post: Posted) -> Posted | None:
        """A post that its author may have read: in his region for long enough to be in every feed of it."""
        known = [p for p in self.posts if p.ack_ns and self.limit(p, slot.region) < slot.sent_ns and not p.parent]
        return self.random.choice(known) if known and post.ack_ns and self.chance(0.3) else None

    def _repeat(self, slot: Slot, post: Posted, fields: dict[str, object]) -> None:
        """The same POST again with its key, by a client beside the session: it answers with the same post."""
        sent = slot.done_ns + self.random.randint(0, 300 * NS_PER_MS)
        again = Slot(slot.session + "+", slot.user, slot.region, sent, sent + 5 * NS_PER_MS)
        if post.effect_ns is None:
            post.effect_ns = self.between(sent, again.done_ns)
            post.ts_us = self._stamp(post)
        if post.ack_ns is None:
            post.ack_ns, post.session = again.done_ns, again.session
        told = {**fields, "post": post.id, "ts_us": post.ts_us}
        self._row(again, OpKind.POST, OK, idempotency_key=f"k-{post.id}", **told)

    # --- arrivals

    def limit(self, post: Posted, region: str) -> int:
        """The last moment at which a post may arrive in the feeds of a region."""
        allowed = CELEBRITY_NS if post.celebrity else VISIBILITY_NS
        if region != post.region:
            allowed = CROSS_NS + (CELEBRITY_NS if post.celebrity else 0)
        return self.delayed(post.ack_ns if post.ack_ns is not None else post.sent_ns, allowed)

    def delayed(self, since_ns: int, allowed_ns: int) -> int:
        """When something promised within `allowed_ns` is due, faults granted."""
        due = since_ns + allowed_ns
        for start, end in self.windows:
            if since_ns < end and due > start:
                due = max(due, end)
        return due

    def _arrive(self, post: Posted) -> None:
        """When the post comes into each feed: never before an earlier one of its author, nor before its parent."""
        if post.effect_ns is None:
            return
        mine = [p for p in self.posts if (p.author, p.region) == (post.author, post.region) and p.arrivals]
        before = [p for p in mine if p.ack_ns is not None and p.ack_ns <= post.sent_ns]
        for region in REGIONS:
            for user in self.users:
                earliest = max([post.effect_ns, *(p.arrivals[user, region] for p in before)])
                if post.parent is not None:
                    earliest = max(earliest, min(post.parent.arrivals[u, region] for u in self.users))
                limit = max(earliest, self.limit(post, region))
                if user == post.author and region == post.region:
                    limit = post.ack_ns if post.ack_ns is not None else limit
                at = earliest if post.ack_ns == ALWAYS else self._usually_soon(min(earliest, limit), limit)
                post.arrivals[user, region] = max(at, self._since(user, post, region))

    def _usually_soon(self, first: int, last: int) -> int:
        soon = min(last, first + 30 * NS_PER_MS)
        return self.between(first, last if self.shape.edgy or self.chance(0.3) else soon)

    def _since(self, user: int, post: Posted, region: str) -> int:
        """A post written long enough after a follow waits for it, wherever the follow is late."""
        steps = self.changes.get((user, post.author), {}).get(region, [])
        written = post.ack_ns if post.ack_ns is not None else post.sent_ns
        if steps and steps[-1][1] and written >= self.settled[user, post.author] + EDGE_SETTLES_NS:
            return steps[-1][0]
        return ALWAYS

    # --- deletes, hides, moderations

    def _remove(self, slot: Slot) -> None:
        mine = [p for p in self.posts if p.author == slot.user and p.region == slot.region and p.ack_ns]
        mine = [p for p in mine if not p.tried and self.limit(p, slot.region) < slot.sent_ns]
        if not mine:
            self.reads.append(slot)
            return
        post = self.random.choice(mine)
        post.tried = True
        what = self.random.choice([OpKind.DELETE, OpKind.DELETE, OpKind.HIDE, OpKind.MODERATE])
        if what is OpKind.DELETE:
            self._delete(slot, post)
            return
        self._switch(self._by(slot, what, 0), what, post, True)
        if self.chance(0.7):
            back = OpKind.SHOW if what is OpKind.HIDE else OpKind.LIFT
            self._switch(self._by(slot, back, self.random.randint(5, 9) * NS_PER_S), back, post, False)

    def _by(self, slot: Slot, kind: OpKind, later_ns: int) -> Slot:
        """The slot of who does it: a hide is its author's, all else comes from beside his session."""
        if kind is OpKind.HIDE:
            return slot
        name = f"operator-{slot.user}" if kind in (OpKind.MODERATE, OpKind.LIFT) else f"{slot.session}+"
        return Slot(name, slot.user, slot.region, slot.sent_ns + later_ns, slot.done_ns + later_ns)

    def _delete(self, slot: Slot, post: Posted) -> None:
        outcome = self._outcome()
        self._row(slot, OpKind.DELETE, outcome, post=post.id, author=post.author)
        if outcome is OK or (outcome is INFO and self.chance(0.5)):
            for region in REGIONS:
                for user in self.users:
                    mine = user == post.author and region == slot.region
                    post.gone[user, region] = self._effect(slot, region, mine)

    def _switch(self, slot: Slot, kind: OpKind, post: Posted, hidden: bool) -> None:
        outcome = self._outcome()
        self._row(slot, kind, outcome, post=post.id, author=post.author)
        if outcome is OK or (outcome is INFO and self.chance(0.5)):
            for region in REGIONS:
                steps = post.hidden.setdefault(region, [])
                at = self._effect(slot, region, region == slot.region)
                steps.append((max([at, *(s[0] for s in steps)]), hidden))

    def _effect(self, slot: Slot, region: str, at_once: bool) -> int:
        """When a change acts in a region. `at_once`: its own author must see it from the answer on."""
        if at_once:
            return self.between(slot.sent_ns, slot.done_ns)
        allowed = VISIBILITY_NS if region == slot.region else CROSS_NS
        return self.between(slot.sent_ns, self.delayed(slot.done_ns, allowed))

    # --- edges

    def _change_edge(self, slot: Slot) -> None:
        other = self.random.choice([u for u in self.users if u != slot.user])
        pair, reverse = (slot.user, other), (other, slot.user)
        if slot.sent_ns < max(self.settled.get(p, 0) for p in (pair, reverse)) + 2 * CROSS_NS:
            self.reads.append(slot)
            return
        kind = self._next_kind(pair)
        if kind is None:
            self.reads.append(slot)
            return
        outcome = OK if kind is OpKind.UNBLOCK else self._outcome()
        self._row(slot, kind, outcome, author=other)
        pairs = [pair, reverse] if kind is OpKind.BLOCK else [pair]
        for changed in pairs:
            self._wanted[changed] = kind
            if outcome is not FAIL:
                self.settled[changed] = slot.done_ns
            if kind is not OpKind.UNBLOCK and (outcome is OK or (outcome is INFO and self.chance(0.5))):
                self._step(slot, changed, kind is OpKind.FOLLOW)

    def _next_kind(self, pair: tuple[int, int]) -> OpKind | None:
        """What the first may do about the second: the client goes on as if each change before had worked."""
        last = self._wanted.get(pair)
        if last is OpKind.BLOCK:
            return OpKind.UNBLOCK if self._blocker[frozenset(pair)] == pair[0] else None
        if self.chance(0.25):
            self._blocker[frozenset(pair)] = pair[0]
            return OpKind.BLOCK
        follows = last is OpKind.FOLLOW or (last is None and pair[1] in self.follows[pair[0]])
        return OpKind.UNFOLLOW if follows else OpKind.FOLLOW

    def _step(self, slot: Slot, pair: tuple[int, int], follows: bool) -> None:
        backfill = self.chance(0.5)
        for region in REGIONS:
            steps = self.changes.setdefault(pair, {}).setdefault(region, [])
            at = self._effect(slot, region, region == slot.region)
            if follows != (steps[-1][1] if steps else pair[1] in self.follows[pair[0]]):
                steps.append((max([at, *(s[0] for s in steps)]), follows, backfill))

    # --- what stands in a feed

    def sees(self, user: int, region: str, post: Posted, at_ns: int) -> bool:
        """Whether a post stands in a user's feed of a region at a moment."""
        arrived = post.arrivals.get((user, region))
        if arrived is None or at_ns < arrived or not self.has(user, region, post, at_ns):
            return False
        return user == post.author or self._follows(user, post.author, region, arrived, at_ns)

    def has(self, user: int, region: str, post: Posted, at_ns: int) -> bool:
        """Whether a look-up finds a post that had come to a region: nobody had taken it away at the moment."""
        if at_ns >= post.gone.get((user, region), at_ns + 1):
            return False
        steps = post.hidden.get(region, [])
        place = bisect_right([s[0] for s in steps], at_ns)
        return not (place and steps[place - 1][1])

    def _follows(self, user: int, author: int, region: str, arrived: int, at_ns: int) -> bool:
        steps = self.changes.get((user, author), {}).get(region, [])
        place = bisect_right([s[0] for s in steps], at_ns)
        if not place:
            return author in self.follows[user]
        since, follows, backfill = steps[place - 1]
        return follows and (arrived >= since or backfill)

    def feed(self, user: int, region: str, at_ns: int) -> Iterator[Posted]:
        """A user's feed at a moment, top first."""
        shown = [p for p in self.posts if self.sees(user, region, p, at_ns)]
        return iter(sorted(shown, key=lambda p: p.key, reverse=True))
