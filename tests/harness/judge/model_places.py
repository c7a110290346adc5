"""Where in a model history a promise is observed beyond doubt: the places that a checker must judge.

Each function answers all places of one sort, mostly (page, place of the item on it). What is beyond doubt comes from
the world and from the definitions of the invariants, not from the judge.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

from model_feed import ModelFeed
from model_world import ALWAYS, CELEBRITY_NS, CROSS_NS, FAIL, OK, VISIBILITY_NS, Posted

from harness.core.clock import NS_PER_S
from harness.core.op import Op, OpKind

GRACE_NS = 3 * NS_PER_S
Items = list[tuple[Op, int]]
Missing = list[tuple[Op, Posted]]


def posts(feed: ModelFeed) -> dict[str, Posted]:
    """id -> post."""
    return {p.id: p for p in feed.world.posts}


def pages(feed: ModelFeed, final: bool | None = None) -> Iterator[Op]:
    """Successful unmarked pages."""
    for op in feed.made.ops:
        if op.kind is OpKind.FEED and op.outcome is OK and not op.degraded and final in (None, op.final):
            yield op


def stable(feed: ModelFeed, user: int, author: int) -> bool:
    """Whether the user followed the author all the time, or is the author."""
    world = feed.world
    touched = (user, author) in world.settled or (user, author) in changed_pairs(feed)
    return user == author or (author in world.follows[user] and not touched)


def changed_pairs(feed: ModelFeed) -> set[tuple[int, int]]:
    """(follower, author) of each edge that somebody may have changed; a block or its end may change both ways."""
    blocks = (OpKind.BLOCK, OpKind.UNBLOCK)
    tried = [o for o in feed.made.ops if o.kind in (OpKind.FOLLOW, OpKind.UNFOLLOW, *blocks) and o.outcome is not FAIL]
    return {(o.user, o.author) for o in tried} | {(o.author, o.user) for o in tried if o.kind in blocks}


def sure(feed: ModelFeed, user: int, post: Posted) -> bool:
    """Whether an acknowledged post must stay in a user's feed once it is there."""
    written = post.ack_ns is not None and post.ack_ns != ALWAYS
    return written and not post.tried and stable(feed, user, post.author)


def shown(feed: ModelFeed, op: Op) -> Iterator[tuple[int, Posted]]:
    """(place, post) of the sure posts of a page whose place it would cover without them too."""
    known = posts(feed)
    for place, name in enumerate(op.ids):
        covered = not op.next_cursor or place < len(op.ids) - 1
        if covered and name in known and sure(feed, op.user, known[name]):
            yield place, known[name]


def acked(post: Posted) -> int:
    """When its author knew of it."""
    return post.ack_ns or 0


def bound_ns(post: Posted, region: str) -> int:
    """The promise for a post in a region."""
    if region == post.region:
        return CELEBRITY_NS if post.celebrity else VISIBILITY_NS
    return CROSS_NS + (CELEBRITY_NS if post.celebrity else 0)


# --- items that must be where they are


def final_items(feed: ModelFeed) -> Items:
    """On final pages."""
    return [(op, k) for op in pages(feed, True) for k, _ in shown(feed, op)]


def owed_items(feed: ModelFeed) -> Items:
    """On final pages, by others."""
    return [(op, k) for op in pages(feed, True) for k, p in shown(feed, op) if p.author != op.user]


def seen_items(feed: ModelFeed) -> Items:
    """That an earlier answer to the session showed."""
    found: Items = []
    seen: dict[tuple[str, str], list[Op]] = {}
    for op in pages(feed, False):
        earlier = seen.setdefault((op.session, op.region), [])
        before = {name for o in earlier if o.done_ns <= op.sent_ns for name in o.ids}
        found += [(op, k) for k, p in shown(feed, op) if p.id in before]
        earlier.append(op)
    return found


def own_items(feed: ModelFeed) -> Items:
    """On the author's pages in the region that acknowledged them."""
    rows = [(op, k, p) for op in pages(feed) for k, p in shown(feed, op)]
    return [(op, k) for op, k, p in rows if (p.author, p.region) == (op.user, op.region) and acked(p) <= op.sent_ns]


def due_items(feed: ModelFeed, remote: bool, late_ns: int) -> Items:
    """By others, due this long ago, on ordinary pages; in a world without faults."""
    rows = [(op, k, p) for op in pages(feed, False) for k, p in shown(feed, op) if p.author != op.user]
    return [
        (op, k)
        for op, k, p in rows
        if (p.region != op.region) == remote and op.sent_ns > acked(p) + bound_ns(p, op.region) + late_ns
    ]


def remote_items(feed: ModelFeed) -> Items:
    """Of another region, after the promise."""
    return due_items(feed, True, 0)


def local_items(feed: ModelFeed) -> Items:
    """Of the page's region, long after the promise."""
    return due_items(feed, False, GRACE_NS)


def slow_items(feed: ModelFeed) -> list[Items]:
    """All together that are due at home; enough of them for a quantile."""
    found = due_items(feed, False, 0)
    ordinary = [(op, k) for op, k in found if not posts(feed)[op.ids[k]].celebrity]
    return [found] if len(ordinary) > 3 else []


def old_pages(feed: ModelFeed) -> list[tuple[Op, list[Posted]]]:
    """(page, what it would have shown some seconds before): whole feeds that lacked something due then."""
    found = []
    due: dict[int, set[str]] = {}
    for op, place in local_items(feed):
        due.setdefault(op.id, set()).add(op.ids[place])
    for op in pages(feed, False):
        if op.page == 0 and not op.next_cursor and op.id in due:
            then = list(feed.world.feed(op.user, op.region, op.sent_ns - 5 * NS_PER_S))
            found += [(op, then)] if due[op.id] - {p.id for p in then} else []
    return found


def old_items(feed: ModelFeed) -> Items:
    """Older than the run, on final walks, where only another region can tell that they are missing."""
    known = posts(feed)
    rows = [(op, k, known[name]) for op in pages(feed, True) for k, name in enumerate(op.ids[:-1])]
    return [(op, k) for op, k, p in rows if p.ack_ns == ALWAYS and not p.tried and stable(feed, op.user, p.author)]


def known_items(feed: ModelFeed) -> Items:
    """On second pages of walks that come after a whole walk of the same user there."""
    rounds = [op for op in pages(feed, True) if op.page > 0 and not op.session.endswith("-0")]
    return [(op, k) for op in rounds for k, _ in shown(feed, op)]


def earlier_items(feed: ModelFeed) -> Items:
    """On a page that shows a later post of the same author in the same region."""
    found: Items = []
    for op in pages(feed, False):
        here = [(k, p) for k, p in shown(feed, op) if p.region == op.region and acked(p) <= op.sent_ns]
        found += [(op, k) for k, p in here if any(q.author == p.author and acked(p) < q.sent_ns for _, q in here)]
    return found


def found_parents(feed: ModelFeed) -> Items:
    """Look-ups of a reply's parent that nobody took away, by users whose edge to its author stayed as it was."""
    known = posts(feed)
    changed = changed_pairs(feed)
    found = [o for o in feed.made.ops if o.kind is OpKind.FETCH and o.ids and (o.user, o.author) not in changed]
    return [(o, 0) for o in found if not known[o.post].tried]


def any_items(feed: ModelFeed) -> Items:
    """All that were written by somebody who was told so."""
    known = posts(feed)
    return [(op, k) for op in pages(feed) for k, name in enumerate(op.ids) if known[name].ack_ns]


def neighbours(feed: ModelFeed) -> Items:
    """With another one below them."""
    return [(op, k) for op in pages(feed) for k in range(len(op.ids) - 1)]


# --- posts that must not be on a page


def page_ends(feed: ModelFeed) -> Missing:
    """(page of a walk, the post that the page before ended with)."""
    known = posts(feed)
    places = {(op.session, op.region, op.walk, op.page): op for op in pages(feed)}
    both = [(op, places.get((s, r, w, p - 1))) for (s, r, w, p), op in places.items()]
    return [(op, known[before.ids[-1]]) for op, before in both if before is not None and before.next_cursor]


def refused(feed: ModelFeed) -> Missing:
    """Refused posts that their author did not send again, for later pages of followers."""
    rows = [o for o in feed.made.ops if o.kind is OpKind.POST]
    other = {o.text_hash for o in rows if o.outcome is not FAIL}
    hashes = {o.text_hash for o in rows if o.outcome is FAIL} - other
    found = [p for p in feed.world.posts if p.hash in hashes]
    return [(op, p) for p in found for op in pages(feed) if op.sent_ns > p.sent_ns and stable(feed, op.user, p.author)]


def unwritten(feed: ModelFeed) -> Missing:
    """Posts that were sent after the page was answered."""
    every = [p for p in feed.world.posts if p.ack_ns]
    return [(op, p) for op in pages(feed, False) for p in every if op.done_ns < p.sent_ns and sure(feed, op.user, p)]


def deleted(feed: ModelFeed) -> Missing:
    """Deleted posts, for final pages of followers."""
    names = {o.post for o in feed.made.ops if o.kind is OpKind.DELETE and o.outcome is OK}
    gone = [p for p in feed.world.posts if p.id in names]
    return [(op, p) for op in pages(feed, True) for p in gone if stable(feed, op.user, p.author)]


def cut_off(feed: ModelFeed) -> Missing:
    """Posts of authors whom the reader unfollowed or blocked, or who blocked him, for final pages."""
    last: dict[tuple[int, int], bool] = {}
    for op in sorted(feed.made.ops, key=lambda o: o.sent_ns):
        if op.kind in (OpKind.FOLLOW, OpKind.UNFOLLOW, OpKind.BLOCK, OpKind.UNBLOCK):
            last[op.user, op.author] = op.outcome is OK and op.kind in (OpKind.UNFOLLOW, OpKind.BLOCK)
            if op.kind in (OpKind.BLOCK, OpKind.UNBLOCK):
                last[op.author, op.user] = last[op.user, op.author]
    cut = {pair for pair, is_cut in last.items() if is_cut}
    whole = [p for p in feed.world.posts if p.ack_ns and not p.tried]
    rows = [(op, p) for op in pages(feed, True) for p in whole if (op.user, p.author) in cut]
    return [(op, p) for op, p in rows if p.id not in op.ids]


# --- events


def due_events(feed: ModelFeed) -> list[tuple[Op, int, int]]:
    """(event, its deadline, end of its connection), if the stream was open from before the post until after then."""
    found = []
    sessions: dict[str, list[Op]] = {}
    for op in sorted(feed.made.ops, key=lambda o: (o.done_ns, o.id)):
        sessions.setdefault(op.session, []).append(op)
    for ops in sessions.values():
        if any(o.kind is OpKind.RESYNC for o in ops):
            continue
        opens = [o.done_ns for o in ops if o.kind is OpKind.STREAM_OPEN]
        ends = [o.done_ns for o in ops if o.kind is OpKind.STREAM_END]
        for event in (o for o in ops if o.kind is OpKind.EVENT):
            post = posts(feed)[event.post]
            deadline = _deadline(feed, event, post)
            spans = [(a, b) for a, b in zip(opens, ends, strict=True) if a < post.sent_ns and b > deadline + NS_PER_S]
            found += [(event, deadline, b) for _, b in spans if sure(feed, event.user, post)]
    return found


def _deadline(feed: ModelFeed, event: Op, post: Posted) -> int:
    allowed = CELEBRITY_NS if post.celebrity else VISIBILITY_NS
    allowed += GRACE_NS + (CROSS_NS if post.region != event.region else 0)
    return feed.world.delayed(acked(post), allowed)


def event_pairs(feed: ModelFeed) -> list[tuple[Op, Op]]:
    """Neighbouring events of one session and epoch, at different times."""
    events = sorted((o for o in feed.made.ops if o.kind is OpKind.EVENT), key=lambda o: (o.session, o.done_ns))
    return [
        (a, b)
        for a, b in pairwise(events)
        if (a.session, a.token.rpartition(".")[0]) == (b.session, b.token.rpartition(".")[0]) and a.done_ns < b.done_ns
    ]


def strangers(feed: ModelFeed) -> list[tuple[Posted, int]]:
    """(post, somebody who never followed its author)."""
    every = [(p, u) for p in feed.world.posts for u in feed.world.users if p.ack_ns and p.author != u]
    return [(p, u) for p, u in every if p.author not in feed.world.follows[u]]


def read_events(feed: ModelFeed) -> Items:
    """Items on pages after an event told of them."""
    first: dict[tuple[int, str, str], int] = {}
    for op in feed.made.ops:
        if op.kind is OpKind.EVENT:
            first.setdefault((op.user, op.region, op.post), op.done_ns)
    rows = [(op, k, first.get((op.user, op.region, p.id))) for op in pages(feed) for k, p in shown(feed, op)]
    return [(op, k) for op, k, at in rows if at is not None and op.sent_ns >= at + VISIBILITY_NS]
