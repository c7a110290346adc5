"""What the clients of a model world record: walks, fetches of what is new, look-ups, streams, final walks.

history = ModelFeed(folder, Shape(seed=3, faults=1)).made      # a `MadeHistory`, to be judged
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
from made_history import MadeHistory, ns
from model_world import (
    CONVERGENCE_NS,
    FAIL,
    INFO,
    LENGTH_S,
    LOOKUP_NS,
    OK,
    PROMISES,
    REGIONS,
    VISIBILITY_NS,
    Posted,
    Shape,
    Slot,
    World,
)

from harness.core.clock import NS_PER_MS, NS_PER_S
from harness.core.op import Op, OpKind, OpOutcome

FINAL_NS = ns(45)
WHOLE = 50


class ModelFeed:
    """A world and its recorded history."""

    def __init__(self, folder: Path, shape: Shape) -> None:
        self.world = World(shape)
        self.shape = shape
        self.random = self.world.random
        celebrities = 1 if shape.celebrity else 0
        self.made = MadeHistory(folder, self.world.follows, length=LENGTH_S, celebrities=celebrities)
        self.made.profile = msgspec.structs.replace(self.made.profile, slo=PROMISES)
        for start_ns, end_ns in self.world.windows:
            seconds = [(t - ns(0)) / NS_PER_S for t in (start_ns, end_ns)]
            self.made.fault(seconds[0], seconds[1] - PROMISES.convergence_s)
        for row in self.world.rows:
            self.op(row.kind, row.slot, row.outcome, **row.fields)
        self._load()
        if shape.listeners:
            for user in self.world.users:
                self._listen(user)
        self._final()

    def op(self, kind: OpKind, slot: Slot, outcome: OpOutcome = OK, **fields: Any) -> Op:
        """Record one op."""
        status = {OK: 200, FAIL: 503, INFO: 0}[outcome]
        op = Op(
            id=len(self.made.ops) + 1,
            kind=kind,
            session=slot.session,
            user=slot.user,
            region=slot.region,
            due_ns=slot.sent_ns,
            sent_ns=slot.sent_ns,
            done_ns=slot.done_ns,
            outcome=outcome,
            **{"status": status, **fields},
        )
        self.made.ops.append(op)
        return op

    # --- reads

    def _load(self) -> None:
        """Each session's reads: whole walks in pages of several sizes, and what is new since its last post."""
        sessions: dict[str, list[Slot]] = {}
        for slot in self.world.reads:
            sessions.setdefault(slot.session, []).append(slot)
        for slots in sessions.values():
            walk, page, limit, before, held = 0, 0, WHOLE, None, ""
            looked_up: set[str] = set()
            for slot in slots:
                if page == 0 and held and self.random.random() < 0.25:
                    self._new(slot, held)
                    continue
                if page == 0:
                    walk, limit, before = walk + 1, self.random.choice([2, 3, 5, WHOLE]), None
                op, last = self._page(slot, walk, page, limit, before)
                self._look_up(slot, op, looked_up)
                self._probe(slot, op, before)
                if op.outcome is not OK and self.random.random() < 0.5:
                    continue
                held = op.ids[0] if op.ids and page == 0 else held
                walks_on = op.outcome is OK and last is not None and self.random.random() < 0.9
                page, before = (page + 1, last) if walks_on else (0, None)

    def _page(
        self, slot: Slot, walk: int, page: int, limit: int, before: Posted | None, final: bool = False
    ) -> tuple[Op, Posted | None]:
        """One page: (its op, the post from which the next one goes on; None: the walk is complete)."""
        cursor = "" if before is None else f"c-{before.id}"
        place = {"walk": walk, "page": page, "limit": limit, "cursor": cursor, "final": final}
        outcome = self._read_outcome(final)
        if outcome is not OK:
            return self.op(OpKind.FEED, slot, outcome, error="overloaded", **place), None
        stale = self.shape.degraded and not final and self.random.random() < 0.05
        shown = self._stale(slot) if stale else self._now(slot)
        below = [p for p in shown if before is None or p.key < before.key]
        items, more = below[:limit], len(below) > limit or (len(below) == limit and self.random.random() < 0.5)
        last = items[-1] if items and more else None
        mark = {"degraded": "stale"} if stale else {}
        cursor = f"c-{last.id}" if last else ""
        return self.op(OpKind.FEED, slot, **place, next_cursor=cursor, **mark, **described(items)), last

    def _look_up(self, slot: Slot, page: Op, looked_up: set[str]) -> None:
        """The parents of the replies on a page, each once."""
        parents = {p.id: p.parent for p in self.world.posts if p.parent and p.id in page.ids}
        for parent in parents.values():
            if parent.id not in looked_up:
                looked_up.add(parent.id)
                after = Slot(slot.session, slot.user, slot.region, slot.done_ns, slot.done_ns + LOOKUP_NS)
                at = self.random.choice([after.sent_ns, after.done_ns])
                found = [parent] if self.world.has(slot.user, slot.region, parent, at) else []
                self.op(OpKind.FETCH, after, post=parent.id, author=parent.author, **described(found))

    def _probe(self, slot: Slot, page: Op, before: Posted | None) -> None:
        """Now and then the page's own cursor in another region, or a forged one."""
        if before is None or page.outcome is not OK or self.random.random() < 0.6:
            return
        region = next(r for r in REGIONS if r != slot.region)
        after = Slot(slot.session, slot.user, slot.region, slot.done_ns, slot.done_ns + LOOKUP_NS)
        place = {"walk": page.walk, "page": page.page, "limit": page.limit}
        if self.random.random() < 0.5:
            forged = {"variant": self.random.choice(["tampered", "foreign"]), "status": 400}
            self.op(OpKind.PROBE, after, FAIL, cursor=f"x{page.cursor}", **forged, **place)
            return
        after = replace(after, region=region)
        below = [p for p in self._now(after) if p.key < before.key]
        items, more = below[: page.limit], len(below) > page.limit
        cursors = {"cursor": page.cursor, "next_cursor": f"c-{items[-1].id}" if more else ""}
        self.op(OpKind.PROBE, after, variant="other_node", **cursors, **place, **described(items))

    def _read_outcome(self, final: bool) -> OpOutcome:
        if final or not self.shape.unsure or self.random.random() < 0.85:
            return OK
        return self.random.choice([INFO, FAIL])

    def _now(self, slot: Slot) -> list[Posted]:
        """The reader's feed at some moment between the question and the answer."""
        at = self.random.choice([slot.sent_ns, slot.done_ns, self.random.randint(slot.sent_ns, slot.done_ns)])
        return list(self.world.feed(slot.user, slot.region, at))

    def _stale(self, slot: Slot) -> list[Posted]:
        """His feed a short time ago, with holes: a page that is marked may be so."""
        then = self.world.feed(slot.user, slot.region, slot.sent_ns - self.random.randint(0, CONVERGENCE_NS))
        return [p for p in then if self.random.random() < 0.8]

    def _new(self, slot: Slot, held: str) -> None:
        """What arrived since a post he holds: all that arrived after it and stands in his feed."""
        since = next(p for p in self.world.posts if p.id == held).arrivals[slot.user, slot.region]
        shown = [p for p in self._now(slot) if p.arrivals[slot.user, slot.region] > since]
        self.op(OpKind.FEED_NEW, slot, since=held, limit=WHOLE, **described(shown))

    def _final(self) -> None:
        """After the drain: everybody's whole walks, some rounds in each region."""
        for number in range(self.shape.rounds):
            for user in self.world.users:
                limit = self.random.choice([3, 5, WHOLE])
                for region in REGIONS:
                    name, page, before = f"final-{region}-{user}-{number}", 0, None
                    while page == 0 or before is not None:
                        sent = FINAL_NS + number * NS_PER_S + page * 10 * NS_PER_MS
                        slot = Slot(name, user, region, sent, sent + 5 * NS_PER_MS)
                        _, before = self._page(slot, 1, page, limit, before, final=True)
                        page += 1

    # --- streams

    def _listen(self, user: int) -> None:
        """One listener at home: connections with and without resuming, an event for whatever arrives, or a resync."""
        region, name = self.world.home(user), f"listener-{user}"
        waiting, number, token, epoch = self._arrivals(user, region), 0, "", 1
        since = ""
        for open_ns, end_ns in self._connections():
            opened = Slot(name, user, region, open_ns - 3 * NS_PER_MS, open_ns)
            self.op(OpKind.STREAM_OPEN, opened, since=since, token=f"{region}.{epoch}.{number}")
            missed = [p for at, p in waiting if at <= open_ns]
            waiting = [(at, p) for at, p in waiting if at > open_ns]
            late = missed if since else []
            if late and self.random.random() < 0.3:
                epoch, number, late = epoch + 1, 0, []
                self.op(OpKind.RESYNC, Slot(name, user, region, open_ns, open_ns), token=f"{region}.{epoch}.0")
            due = [(open_ns + 2 * NS_PER_MS, p) for p in late]
            due += [(at, p) for at, p in waiting if at <= end_ns]
            waiting = [(at, p) for at, p in waiting if at > end_ns]
            for at, post in due:
                number += 1
                token = f"{region}.{epoch}.{number}"
                self.op(OpKind.EVENT, Slot(name, user, region, at, at), post=post.id, token=token)
            since = token if self.random.random() < 0.7 else ""
            self.op(OpKind.STREAM_END, Slot(name, user, region, end_ns, end_ns), error="reset")

    def _arrivals(self, user: int, region: str) -> list[tuple[int, Posted]]:
        """(moment of the event, post): soon after the post came into his feed, if it still stands there."""
        found = []
        for post in self.world.posts:
            at = post.arrivals.get((user, region), 0)
            if at and post.author != user and self.world.sees(user, region, post, at):
                later = at + self.random.randint(0, 200 * NS_PER_MS)
                found.append((min(later, max(at, self.world.limit(post, region))), post))
        return sorted(found, key=lambda row: (row[0], row[1].id))

    def _connections(self) -> list[tuple[int, int]]:
        """(open, end) of each of his connections, in time order."""
        cuts = sorted(self.random.randint(ns(0), ns(30)) for _ in range(self.random.randint(0, 2)))
        starts = [ns(-4), *(c + self.random.randint(50 * NS_PER_MS, 2 * NS_PER_S) for c in cuts)]
        pairs = list(zip(starts, [*cuts, FINAL_NS - VISIBILITY_NS], strict=True))
        return [(a, b) for a, b in pairs if a < b]


def described(items: Sequence[Posted]) -> dict[str, Any]:
    """The fields of a read that shows these posts."""
    return {
        "ids": [p.id for p in items],
        "item_ts_us": [p.ts_us for p in items],
        "item_authors": [p.author for p in items],
        "item_hashes": [p.hash for p in items],
    }
