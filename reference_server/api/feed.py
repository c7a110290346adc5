"""GET and POST /v1/feed, GET /v1/feed/new."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import Annotated

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from reference_server.api import measures
from reference_server.api.cursors import Key, make_cursor, read_cursor
from reference_server.api.feed_page import Filters, Page, Slots, arrived_after, candidates, make_page
from reference_server.api.graph_view import Excluded, GraphUnavailable
from reference_server.api.parts import Parts, parts_of
from reference_server.api.post_ids import from_text
from reference_server.api.problems import Problem
from reference_server.api.requests import caller, json_body, limit_of
from reference_server.queue import QueueUnavailable, RecentPost

PAGE_DEFAULT, PAGE_MAX, NEW_MAX = 50, 100, 800
MAX_CURSOR_CHARS = 512
ARRIVAL_LIMIT_S, ARRIVAL_POLL_S = 0.3, 0.02
STALE = {"Feed-Degraded": "stale"}


class FeedRequest(msgspec.Struct):
    """Body of POST /v1/feed."""

    limit: Annotated[int, msgspec.Meta(ge=1, le=PAGE_MAX)] = PAGE_DEFAULT
    cursor: Annotated[str, msgspec.Meta(min_length=1, max_length=MAX_CURSOR_CHARS)] | None = None
    seen: Annotated[list[str], msgspec.Meta(max_length=500)] = []


_request_decoder = msgspec.json.Decoder(FeedRequest)


async def read_feed(request: Request) -> Response:
    """GET /v1/feed (cursor and limit in the query) and POST /v1/feed (the same and seen ids in the body)."""
    parts = parts_of(request)
    user = caller(request, parts.secret, parts.users)
    if request.method == "POST":
        asked = await json_body(request, _request_decoder)
    else:
        cursor = request.query_params.get("cursor")
        if cursor is not None and not 1 <= len(cursor) <= MAX_CURSOR_CHARS:
            raise Problem("bad-cursor", "cursor: malformed")
        asked = FeedRequest(limit_of(request, PAGE_DEFAULT, PAGE_MAX), cursor)
    after = read_cursor(parts.secret, user, asked.cursor) if asked.cursor is not None else None
    seen = frozenset(post_id for text in asked.seen if (post_id := from_text(text)) is not None)
    started = time.perf_counter()
    page, degraded = await _page(parts, user, asked.limit, after, seen)
    parts.defects.spoil(page)
    next_cursor = b'"%b"' % make_cursor(parts.secret, user, page.cursor).encode() if page.cursor else b"null"
    body = b'{"items":[%b],"next_cursor":%b}' % (b",".join(page.bodies), next_cursor)
    measures.FEED_SECONDS.observe(time.perf_counter() - started)
    return _answer(body, degraded)


async def _page(parts: Parts, user: int, limit: int, after: Key | None, seen: frozenset[bytes]) -> tuple[Page, bool]:
    view = await parts.timelines.read(user, after is None)
    parts.feed_reads[view.source].inc()
    own, own_degraded = await _own_posts(parts, user)
    excluded = await _excluded(parts, user)
    keys = candidates(view.slots, own, Filters(user, excluded.authors, seen), after)
    page = await make_page(keys, limit, parts.bodies)
    return page, bool(view.degraded) or own_degraded or excluded.degraded or page.degraded


async def _excluded(parts: Parts, user: int) -> Excluded:
    """Raises Problem("unavailable") when nothing is known: a page must not show authors the user has blocked."""
    try:
        return await parts.graph.excluded(user)
    except GraphUnavailable as error:
        raise Problem("unavailable", "the graph does not answer") from error


async def _own_posts(parts: Parts, user: int) -> tuple[Sequence[RecentPost], bool]:
    try:
        return await parts.queue.recent(user), False
    except QueueUnavailable:
        return (), True


async def read_new(request: Request) -> Response:
    """GET /v1/feed/new: what arrived after the post `since`."""
    parts = parts_of(request)
    user = caller(request, parts.secret, parts.users)
    text = request.query_params.get("since")
    if not text or len(text) > 64:
        raise Problem("bad-request", "since: an id is required")
    limit = limit_of(request, NEW_MAX, NEW_MAX)
    anchor = from_text(text)
    if anchor is None:
        raise Problem("gone", "since is unknown or no longer kept")
    found, degraded = await _arrivals(parts, user, anchor, limit)
    slots, complete = found
    excluded = await _excluded(parts, user)
    page = await make_page(candidates(slots, (), Filters(user, excluded.authors), None), limit, parts.bodies)
    body = b'{"items":[%b],"complete":%b}' % (
        b",".join(page.bodies),
        b"true" if complete else b"false",
    )
    return _answer(body, degraded or excluded.degraded or page.degraded)


async def _arrivals(parts: Parts, user: int, anchor: bytes, limit: int) -> tuple[tuple[Slots, bool], bool]:
    """What arrived after `anchor`, and whether that is stale.

    Pages show an own post before it has arrived, so such an anchor is waited for a little. Raises Problem("gone").
    """
    deadline = time.monotonic() + ARRIVAL_LIMIT_S
    own: bool | None = None
    while True:
        view = await parts.timelines.read(user, True)
        slots = view.slots
        if view.source == "durable":  # no arrival numbers: display order stands in, marked degraded
            slots = slots.copy()
            slots["seq"] = range(len(slots), 0, -1)
        found = arrived_after(slots, anchor, user, limit)
        if found is not None:
            return found, bool(view.degraded)
        if own is None:
            posts, _ = await _own_posts(parts, user)
            own = any(post.id == anchor for post in posts)
        if not own or time.monotonic() > deadline:
            raise Problem("gone", "since is unknown or no longer kept")
        await asyncio.sleep(ARRIVAL_POLL_S)


def _answer(body: bytes, degraded: bool) -> Response:
    if degraded:
        measures.FEED_DEGRADED.inc()
    return Response(body, headers=STALE if degraded else None, media_type="application/json")
