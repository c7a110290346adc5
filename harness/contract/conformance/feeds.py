"""Checks of feed pages, cursors, seen posts and `since`."""

from __future__ import annotations

import itertools

from harness.contract.client import Post, Result
from harness.contract.conformance.registry import check
from harness.contract.conformance.trial import WHOLE_PAGE, Member, Trial

READS = 12
"""a page is looked at so often, for faults that come and go"""


async def _filled(t: Trial, count: int) -> tuple[Member, Member, list[Post]]:
    """An author with so many posts, and a follower whose feed shows them all; newest first."""
    author = await t.member()
    reader = await t.follower_of(author)
    posts = [await t.post(author) for _ in range(count)]
    for post in posts:
        await t.shows(reader, post)
    return author, reader, posts[::-1]


@check("feed-order")
async def order(t: Trial) -> None:
    """A page descends strictly by (created_at_us, id), with each post once."""
    author, reader, _ = await _filled(t, 3)
    second = await t.member()
    t.done(await reader.api.follow(second.id), "follow")
    mixed = [await t.post(who) for who in (second, author, second, author)]
    for post in mixed:
        await t.shows(reader, post)
    for _ in range(READS):
        keys = [post.key for post in t.done(await reader.api.feed(WHOLE_PAGE), "feed").items]
        t.holds(all(a > b for a, b in itertools.pairwise(keys)), f"keys do not descend strictly: {keys}")


@check("feed-limit")
async def limit(t: Trial) -> None:
    """A page has at most `limit` posts; a limit outside 1 to 100 answers 400."""
    _, reader, posts = await _filled(t, 4)
    page = t.done(await reader.api.feed(3), "feed")
    t.holds(1 <= len(page.items) <= 3, f"a page of 3 has {len(page.items)} posts")
    ours = t.ours(page.items)
    t.holds(ours == [p.id for p in posts[: len(ours)]], "the first page does not have the newest posts")
    for text in ("0", "101", "-1", "x", ""):
        answer: Result[None] = await reader.api.call("GET", "/v1/feed", query={"limit": text})
        t.refused(answer, 400, f"a page with limit {text!r}")


@check("cursor-walk", "paging")
async def walk(t: Trial) -> None:
    """A walk through the pages meets each post once, in one descending order, and ends."""
    _, reader, posts = await _filled(t, 11)
    met: list[Post] = []
    async for page in reader.api.walk(limit=4):
        met += t.done(page, "page").items
    keys = [post.key for post in met]
    t.holds(all(a > b for a, b in itertools.pairwise(keys)), "pages overlap or are out of order")
    missing = {p.id for p in posts} - {p.id for p in met}
    t.holds(not missing, f"the walk skipped {len(missing)} of {len(posts)} posts")


@check("cursor-stable", "paging")
async def walk_with_arrivals(t: Trial) -> None:
    """Posts that arrive during a walk shift nothing: no post twice, none skipped."""
    author, reader, posts = await _filled(t, 8)
    met: list[str] = []
    async for page in reader.api.walk(limit=3):
        met += [post.id for post in t.done(page, "page").items]
        if len(met) < len(posts):
            await t.shows(reader, await t.post(author))
    t.holds(len(met) == len(set(met)), "a post came twice in a walk")
    missing = {p.id for p in posts} - set(met)
    t.holds(not missing, f"the walk skipped {len(missing)} of {len(posts)} posts")


@check("cursor-tampered", "paging")
async def tampered_cursor(t: Trial) -> None:
    """A cursor that was altered, cut or invented answers 4xx and no posts."""
    _, reader, _ = await _filled(t, 3)
    cursor = t.done(await reader.api.feed(1), "feed").next_cursor or ""
    t.holds(bool(cursor), "a page that is not the last has no cursor")
    middle = len(cursor) // 2
    altered = cursor[:middle] + ("A" if cursor[middle] != "A" else "B") + cursor[middle + 1 :]
    for bad in (altered, cursor[:-3], "x", "żółw"):
        t.refused(await reader.api.feed(1, bad), range(400, 500), "a tampered cursor")


@check("cursor-foreign", "paging")
async def foreign_cursor(t: Trial) -> None:
    """A cursor issued to another user answers 4xx and no posts."""
    author, reader, _ = await _filled(t, 3)
    cursor = t.done(await author.api.feed(1), "feed").next_cursor
    t.holds(cursor is not None, "a page that is not the last has no cursor")
    t.refused(await reader.api.feed(1, cursor), range(400, 500), "another user's cursor")


@check("seen-left-out", "seen")
async def seen(t: Trial) -> None:
    """Posts named as seen do not come back, wherever among 500 ids they stand; the others do."""
    _, reader, posts = await _filled(t, 4)
    known = [posts[0].id, *(f"seen-{i}" for i in range(498)), posts[2].id]
    ids = [p.id for p in t.done(await reader.api.feed(WHOLE_PAGE, seen=known), "feed").items]
    t.holds(not set(known) & set(ids), "a post named as seen came back")
    t.holds({posts[1].id, posts[3].id} <= set(ids), "a post not named as seen is missing")


@check("seen-limits", "seen")
async def seen_limits(t: Trial) -> None:
    """Up to 500 seen ids are taken; more answer 400."""
    reader = await t.member()
    t.done(await reader.api.feed(5, seen=[f"seen-{i}" for i in range(500)]), "500 seen ids")
    t.refused(await reader.api.feed(5, seen=[f"seen-{i}" for i in range(501)]), 400, "501 seen ids")


@check("since-arrivals", "since")
async def since(t: Trial) -> None:
    """`since` gives what arrived after that post, newest first, and not the post itself; nothing after the newest."""
    author, reader, posts = await _filled(t, 2)
    later = [await t.post(author) for _ in range(3)]
    for post in later:
        await t.shows(reader, post)
    new = t.done(await reader.api.feed_new(posts[0].id), "since")
    ours = t.ours(new.items)
    t.holds(ours == [p.id for p in later[::-1]], f"3 posts arrived, got {len(ours)} of them or in another order")
    t.holds(new.complete, "all 3 arrivals came, yet complete is false")
    none = t.done(await reader.api.feed_new(later[-1].id), "since")
    t.holds(t.ours(none.items) == [] and none.complete, "something arrived after the newest post")


@check("since-limit", "since")
async def since_limit(t: Trial) -> None:
    """With more arrivals than the limit, `complete` is false; a limit outside 1 to 800 answers 400."""
    _, reader, posts = await _filled(t, 5)
    new = t.done(await reader.api.feed_new(posts[-1].id, limit=2), "since")
    t.holds(len(new.items) <= 2, f"asked for 2 arrivals, got {len(new.items)}")
    t.holds(not new.complete, "4 arrivals, limit 2, yet complete is true")
    for text in ("0", "801", "x"):
        query = {"since": posts[-1].id, "limit": text}
        answer: Result[None] = await reader.api.call("GET", "/v1/feed/new", query=query)
        t.refused(answer, 400, f"since with limit {text}")


@check("since-unknown", "since")
async def since_unknown(t: Trial) -> None:
    """A post that is not known answers 410, no anchor at all 400."""
    reader = await t.member()
    t.refused(await reader.api.feed_new("no-such-post"), 410, "since an unknown post")
    answer: Result[None] = await reader.api.call("GET", "/v1/feed/new")
    t.refused(answer, 400, "since nothing")
