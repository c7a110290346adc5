"""GET and POST /v1/feed, GET /v1/feed/new."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Iterator
from typing import Annotated

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from reference_server.api import measures
from reference_server.api.cursors import make_cursor
from reference_server.api.feed_page import Filters, Page, Walk, arrived_after, make_page
from reference_server.api.graph_view import Excluded, GraphUnavailable
from reference_server.api.overload.refusals import LEFT_OUT_DETAIL, spread_retry_s
from reference_server.api.own_posts import Answer
from reference_server.api.parts import Parts, parts_of
from reference_server.api.post_ids import from_text
from reference_server.api.problems import Problem
from reference_server.api.requests import caller, json_body, limit_of
from reference_server.queue import QueueUnavailable
from reference_server.timeline.cached import Slots
from reference_server.timeline.display import Key, TimelineView
from reference_server.timeline.reader import TimelineUnavailable

PAGE_DEFAULT, PAGE_MAX, NEW_MAX = 50, 100, 800
MAX_CURSOR_CHARS = 512
ARRIVAL_LIMIT_S, ARRIVAL_POLL_S = 0.3, 0.02
_NOTHING_EXCLUDED = Excluded(frozenset())
_UNKNOWN = "neither fan-out nor the durable store answers"
"""an empty page would say that there is nothing"""


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
    seen = frozenset(post_id for text in asked.seen if (post_id := from_text(text)) is not None)
    return _answer(*await page_json(parts, user, asked.limit, asked.cursor, seen))


async def page_json(
    parts: Parts, user: int, limit: int, cursor: str | None, seen: frozenset[bytes] = frozenset()
) -> tuple[bytes, str]:
    """The JSON of a page, and what Feed-Degraded says of it. Raises Problem: "bad-cursor", "unavailable"."""
    started = time.perf_counter()
    after = None if cursor is None else parts.cursors.read(user, cursor)
    if after is not None and parts.overload.leaves_out_page():
        raise Problem("unavailable", LEFT_OUT_DETAIL, spread_retry_s())
    shown = parts.overload.page_limit(limit)
    try:
        page = await _page(parts, user, shown, after, seen)
    except TimelineUnavailable as error:
        raise Problem("unavailable", _UNKNOWN) from error
    page.reduced |= shown < limit and page.cursor is not None
    if parts.defects.are_planted:
        parts.defects.spoil(page, user)
        await parts.defects.delay()
    next_cursor = b'"%b"' % make_cursor(parts.cursors.secret, user, page.cursor).encode() if page.cursor else b"null"
    measures.FEED_SECONDS.add(time.perf_counter() - started)
    return b'{"items":[%b],"next_cursor":%b}' % (b",".join(page.bodies), next_cursor), page.mark


async def _page(parts: Parts, user: int, limit: int, after: Key | None, seen: frozenset[bytes]) -> Page:
    asked = parts.own_posts.ask(user)
    view = await parts.timelines.read(user, after, lean=parts.overload.skips_sessions)
    measures.FEED_READS.counts[view.source] += 1
    own, own_degraded = await _own_posts(asked)
    excluded = await _excluded(parts, user)
    if seen and not parts.flags.now.soft_dedup:
        seen = frozenset()
    filters = Filters(user, excluded.authors, seen, excluded.labels)
    after = parts.defects.shifted(user, view, after)
    walk = Walk(view, own, filters, after, parts.timelines, parts.durable_pull, doubts_own=parts.has_siblings)
    page = await make_page(walk, limit, parts.bodies)
    for source in walk.went_to:
        measures.FEED_DEEPER.labels(source).inc()
    page.degraded |= view.degraded == "stale" or own_degraded or excluded.degraded
    page.reduced = view.degraded == "reduced"
    return page


async def _excluded(parts: Parts, user: int) -> Excluded:
    """Raises Problem("unavailable") when nothing is known: a page must not show authors the user has blocked."""
    if not parts.flags.now.read_filters:
        return _NOTHING_EXCLUDED
    try:
        return parts.defects.admitted(await parts.graph.excluded(user))
    except GraphUnavailable as error:
        raise Problem("unavailable", "the graph does not answer") from error


async def _own_posts(asked: Iterator[Key] | Answer | None) -> tuple[Iterable[Key], bool]:
    """The caller's newest posts, newest first, and whether they are not known."""
    if asked is None:
        return (), True
    if not isinstance(asked, asyncio.Future):
        return asked, False
    try:
        return await asked, False
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
    try:
        found, degraded = await _arrivals(parts, user, anchor, limit)
    except TimelineUnavailable as error:
        raise Problem("unavailable", _UNKNOWN) from error
    slots, complete = found
    excluded = await _excluded(parts, user)
    filters = Filters(user, excluded.authors, labels=excluded.labels)
    view = TimelineView(slots.tobytes())
    walk = Walk(view, (), filters, None, parts.timelines, parts.durable_pull, doubts_own=parts.has_siblings)
    page = await make_page(walk, limit, parts.bodies)
    body = b'{"items":[%b],"complete":%b}' % (
        b",".join(page.bodies),
        b"true" if complete else b"false",
    )
    return _answer(body, "stale" if degraded or excluded.degraded or page.degraded else "")


async def _arrivals(parts: Parts, user: int, anchor: bytes, limit: int) -> tuple[tuple[Slots, bool], bool]:
    """What arrived after `anchor`, and whether that is stale.

    Pages show an own post before it has arrived, so such an anchor is waited for a little. Raises Problem("gone").
    """
    deadline = time.monotonic() + ARRIVAL_LIMIT_S
    own: bool | None = None
    while True:
        view = await parts.timelines.read(user, None)
        by_time = parts.defects.goes_by_time()
        found = _since(view, anchor, user, limit, by_time=by_time)
        if found is None and view.cut_us:
            view = await parts.timelines.deeper(user, None)
            found = _since(view, anchor, user, limit, by_time=by_time)
        if found is not None:
            return found, bool(view.degraded)
        if own is None:
            posts, _ = await _own_posts(parts.own_posts.ask(user))
            own = any(post_id == anchor for _, post_id in posts)
        if not own or time.monotonic() > deadline:
            raise Problem("gone", "since is unknown or no longer kept")
        await asyncio.sleep(ARRIVAL_POLL_S)


def _since(view: TimelineView, anchor: bytes, user: int, limit: int, *, by_time: bool) -> tuple[Slots, bool] | None:
    """See arrived_after. `by_time`: the planted defect "since-by-time"."""
    slots = view.slots
    if view.source == "durable" or by_time:  # no arrival numbers: display order stands in, marked degraded
        slots = slots.copy()
        slots["seq"] = range(len(slots), 0, -1)
    return arrived_after(slots, anchor, user, limit, view.floor if view.cut_us else 0)


def _answer(body: bytes, mark: str) -> Response:
    if mark:
        measures.FEED_DEGRADED.inc()
    return Response(body, headers={"Feed-Degraded": mark} if mark else None, media_type="application/json")
