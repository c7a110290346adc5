"""Edits of a legal model history, each of which breaks one promise, and the checker that must say so."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from model_feed import ModelFeed, described
from model_places import (
    Items,
    any_items,
    cut_off,
    deleted,
    due_events,
    earlier_items,
    event_pairs,
    final_items,
    found_parents,
    known_items,
    local_items,
    neighbours,
    old_items,
    old_pages,
    owed_items,
    own_items,
    page_ends,
    posts,
    read_events,
    refused,
    remote_items,
    seen_items,
    slow_items,
    strangers,
    unwritten,
)
from model_world import OK, Posted, Shape, Slot

from harness.core.clock import NS_PER_MS, NS_PER_S
from harness.core.op import Op, OpKind, text_hash

LISTS = ("ids", "item_ts_us", "item_authors", "item_hashes")
DueEvent = tuple[Op, int, int]


@dataclass(frozen=True)
class Edit:
    """One edit: where it may be made (a place at least is a case that `checker` must judge), and how."""

    checker: str
    places: Callable[[ModelFeed], list[Any]]
    change: Callable[[ModelFeed, Any], None]
    needs: dict[str, Any] = field(default_factory=dict)
    """what the world's shape must be for a place to be beyond doubt"""

    def fits(self, shape: Shape) -> bool:
        """Whether a world is of the shape it needs."""
        return all(getattr(shape, name) == value for name, value in self.needs.items())

    def apply(self, feed: ModelFeed) -> bool:
        """Make it at one of its places; False: there is none."""
        places = self.places(feed)
        if places:
            self.change(feed, feed.random.choice(places))
        return bool(places)


# --- reads


def lose(feed: ModelFeed, item: tuple[Op, int]) -> None:
    """Take an item away."""
    op, place = item
    for name in LISTS:
        del getattr(op, name)[place]


def lose_all(feed: ModelFeed, items: Items) -> None:
    """Take all these items away."""
    for item in sorted(items, key=lambda i: -i[1]):
        lose(feed, item)


def put(op: Op, place: int, post: Posted) -> None:
    """Put an item onto a page."""
    for name, values in described([post]).items():
        getattr(op, name).insert(place, values[0])


def show(feed: ModelFeed, missing: tuple[Op, Posted]) -> None:
    """Put an item where it belongs by its key."""
    op, post = missing
    put(op, sum(key > post.key for key in zip(op.item_ts_us, op.ids, strict=True)), post)


def show_refused(feed: ModelFeed, missing: tuple[Op, Posted]) -> None:
    """The same for a refused post, which has no key yet."""
    post = missing[1]
    post.ts_us = max(p.ts_us for p in feed.world.posts if p.author == post.author or p.ack_ns) + 1
    show(feed, missing)


def show_on_top(feed: ModelFeed, missing: tuple[Op, Posted]) -> None:
    """Put an item above all others."""
    put(missing[0], 0, missing[1])


def show_twice(feed: ModelFeed, item: tuple[Op, int]) -> None:
    """Put an item of a page anywhere on it again."""
    op, place = item
    put(op, feed.random.randint(0, len(op.ids)), posts(feed)[op.ids[place]])


def show_made_up(feed: ModelFeed, item: tuple[Op, int]) -> None:
    """Put a post that nobody wrote onto a page, with the author and nearly the time of one of the run."""
    like = feed.random.choice([p for p in feed.world.posts if p.ack_ns])
    show(feed, (item[0], Posted("phantom", like.author, "", "", 0, 0, 0, like.ts_us + 1, text_hash("phantom"))))


def go_back(feed: ModelFeed, page: tuple[Op, list[Posted]]) -> None:
    """Show what the feed held some time before."""
    for name, values in described(page[1]).items():
        setattr(page[0], name, values)


def swap(feed: ModelFeed, item: tuple[Op, int]) -> None:
    """An item changes places with the one below."""
    op, place = item
    for name in LISTS:
        items = getattr(op, name)
        items[place], items[place + 1] = items[place + 1], items[place]


def alter(name: str, value: Callable[[int], int]) -> Callable[[ModelFeed, tuple[Op, int]], None]:
    """A change of one column of an item."""

    def change(feed: ModelFeed, item: tuple[Op, int]) -> None:
        column = getattr(item[0], name)
        column[item[1]] = value(column[item[1]])

    return change


def keyed(feed: ModelFeed) -> list[Op]:
    """Acknowledged posts."""
    return [o for o in feed.made.ops if o.kind is OpKind.POST and o.outcome is OK]


def write_again(feed: ModelFeed, first: Op) -> None:
    """A repeat makes a second post."""
    sent = first.done_ns + NS_PER_S
    slot = Slot("again", first.user, first.region, sent, sent + NS_PER_MS)
    feed.op(OpKind.POST, slot, post="second", author=first.user, idempotency_key=first.idempotency_key)


# --- streams


def lose_event(feed: ModelFeed, due: DueEvent) -> None:
    """It never comes."""
    feed.made.ops.remove(due[0])


def move_event(event: Op, at_ns: int) -> None:
    """It comes at another time."""
    event.due_ns = event.sent_ns = event.done_ns = at_ns


def delay_event(feed: ModelFeed, due: DueEvent) -> None:
    """It comes right after its deadline."""
    move_event(due[0], due[1] + 1)


def foretell(feed: ModelFeed, due: DueEvent) -> None:
    """It comes right before its post is sent."""
    move_event(due[0], posts(feed)[due[0].post].sent_ns - 1)
    due[0].token = ""


def tell_twice(feed: ModelFeed, due: DueEvent) -> None:
    """It comes a second time."""
    event, _, end = due
    at = feed.random.randint(event.done_ns + 1, end)
    feed.op(OpKind.EVENT, Slot(event.session, event.user, event.region, at, at), post=event.post, token="r.9.1")


def fall_back(feed: ModelFeed, pair: tuple[Op, Op]) -> None:
    """A token repeats the one before."""
    pair[1].token = pair[0].token


def tell(feed: ModelFeed, news: tuple[Posted, int]) -> None:
    """A listener gets an event."""
    post, user = news
    at = (post.ack_ns or 0) + NS_PER_S
    slot = Slot(f"listener-{user}", user, feed.world.home(user), at, at)
    feed.op(OpKind.EVENT, slot, post=post.id, token="r.9.1")


def nothing_real(feed: ModelFeed) -> list[tuple[Posted, int]]:
    """(a post that nobody wrote, a listener)."""
    at = feed.world.posts[-1].sent_ns
    return [(Posted("phantom", 0, "", "", at, at, at), user) for user in feed.world.users]


CALM = {"faults": 0}
LISTENING = {"listeners": True}

EDITS: dict[str, Edit] = {
    "a final page lacks a post": Edit("durability", final_items, lose),
    "a final page lacks what its reader follows": Edit("tier_equivalence", owed_items, lose),
    "a page lacks what the session saw": Edit("monotonic_reads", seen_items, lose),
    "an own post is missing": Edit("read_your_writes", own_items, lose),
    "a post of another region is missing": Edit("cross_region", remote_items, lose, CALM),
    "an unmarked page lacks a post": Edit("honest_degradation", local_items, lose, CALM),
    "an unmarked page is some seconds old": Edit("honest_degradation", old_pages, go_back, CALM),
    "posts stay away too long": Edit("visibility", slow_items, lose_all, CALM),
    "one region differs": Edit("convergence", old_items, lose, {"rounds": 3}),
    "a walk skips a post": Edit("cursor_completeness", known_items, lose),
    "an author's posts overtake each other": Edit("author_order", earlier_items, lose),
    "a reply's parent is not there": Edit("causal", found_parents, lose),
    "a post twice on a page": Edit("no_duplicates", any_items, show_twice),
    "a post twice in a walk": Edit("no_duplicates", page_ends, show_on_top),
    "pages overlap": Edit("cursor_completeness", page_ends, show_on_top, {"rounds": 3}),
    "two neighbours swapped": Edit("order", neighbours, swap),
    "another timestamp": Edit("order", neighbours, alter("item_ts_us", lambda us: us + 5)),
    "another text": Edit("no_phantom", any_items, alter("item_hashes", lambda value: value ^ 1)),
    "another author": Edit("no_phantom", any_items, alter("item_authors", lambda number: number + 1)),
    "a post that nobody wrote": Edit("no_phantom", any_items, show_made_up),
    "a refused post is shown": Edit("honest_degradation", refused, show_refused, {"unsure": True, "faults": 0}),
    "a refused post is a phantom": Edit("no_phantom", refused, show_refused, {"unsure": True}),
    "a post before it is written": Edit("no_phantom", unwritten, show),
    "a deleted post comes back": Edit("eligibility", deleted, show, {"removals": True}),
    "an author who was left comes back": Edit("eligibility", cut_off, show, {"edges": True}),
    "a key makes two posts": Edit("no_duplicates", keyed, write_again),
    "an event is lost": Edit("sse_completeness", due_events, lose_event, LISTENING),
    "an event comes late": Edit("sse_completeness", due_events, delay_event, LISTENING),
    "an event comes twice": Edit("sse_completeness", due_events, tell_twice, LISTENING),
    "a token falls back": Edit("sse_soundness", event_pairs, fall_back, LISTENING),
    "an event of a stranger": Edit("sse_soundness", strangers, tell, {"listeners": True, "edges": False}),
    "an event for nothing": Edit("sse_soundness", nothing_real, tell, {"listeners": True, "unsure": False}),
    "an event before its post": Edit("sse_soundness", due_events, foretell, LISTENING),
    "an event that cannot be read": Edit("sse_soundness", read_events, lose, LISTENING),
}
"""what is done to the history -> who must see it"""

OBSERVED = {
    "a final page lacks a post",
    "a final page lacks what its reader follows",
    "a page lacks what the session saw",
    "an own post is missing",
    "a post of another region is missing",
    "an unmarked page lacks a post",
    "posts stay away too long",
    "one region differs",
    "a walk skips a post",
    "an author's posts overtake each other",
    "a reply's parent is not there",
    "a post twice on a page",
    "two neighbours swapped",
    "another text",
    "an event is lost",
    "an event that cannot be read",
}
"""edits whose places are observations of their checker: with one it cannot be inconclusive"""
