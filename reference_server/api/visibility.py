"""PUT and DELETE /v1/posts/{id}/hide (the author) and /v1/operator/posts/{id}/moderation (the operator).

Of several changes of one post the one with the latest clock wins, in every region. A moderation is made with a clock
MODERATION_LEAD_US ahead, so that it also wins over what its author does in a region that has not heard of it yet; where
it is known, its author is refused. Lifting it gives the post back as its author left it. A delete wins over all.
"""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from reference_server.api import measures
from reference_server.api.bodies import render_row
from reference_server.api.graph_view import GraphUnavailable
from reference_server.api.operator import require_operator
from reference_server.api.parts import Parts, parts_of, queue_failures
from reference_server.api.post_ids import from_text
from reference_server.api.problems import Problem
from reference_server.api.requests import caller
from reference_server.api.standing import PostStanding, standing_of
from reference_server.durable import DurableUnavailable
from reference_server.events import StatusEvent
from reference_server.timeline.entry import Status

MODERATION_LEAD_US = 10 * 60 * 1_000_000
ATTEMPTS = 4
"""tries to be later than a change that is made at the same time"""


async def change_hide(request: Request) -> Response:
    """PUT: the author hides the post; DELETE: shows it again. 204 also when it was so before."""
    parts = parts_of(request)
    user = caller(request, parts.secret, parts.users)
    post_id, found = await _found(parts, request)
    if found.author not in (user, -1):
        raise Problem("forbidden", "only its author may hide or show a post")
    if found.status is Status.MODERATED:
        raise Problem("conflict", "the post is moderated")
    wanted = Status.HIDDEN_BY_AUTHOR if request.method == "PUT" else Status.VISIBLE
    await _change(parts, post_id, found, wanted, by_author=True)
    return Response(status_code=204)


async def change_moderation(request: Request) -> Response:
    """PUT: the operator takes the post out of sight; DELETE: leaves it to its author again."""
    require_operator(request)
    parts = parts_of(request)
    post_id, found = await _found(parts, request)
    wanted = Status.MODERATED
    if request.method == "DELETE":
        if found.status is not Status.MODERATED:
            return Response(status_code=204)
        wanted = Status.HIDDEN_BY_AUTHOR if found.hidden else Status.VISIBLE
    await _change(parts, post_id, found, wanted, by_author=False)
    return Response(status_code=204)


async def _found(parts: Parts, request: Request) -> tuple[bytes, PostStanding]:
    """Raises Problem: "not-found" (also when it was deleted), "unavailable"."""
    post_id = from_text(request.path_params["id"])
    if post_id is not None:
        with queue_failures():
            found = await standing_of(parts, post_id)
        if found is not None and found.status is not Status.DELETED:
            return post_id, found
    raise Problem("not-found", "no such post")


async def _change(parts: Parts, post_id: bytes, found: PostStanding, wanted: Status, *, by_author: bool) -> None:
    """Make the change durable, then have the caches follow. Raises Problem: "conflict", "not-found", "unavailable"."""
    if found.status is not wanted:
        lead_us = 0 if by_author else MODERATION_LEAD_US
        hlc = parts.clock.next_above(found.hlc, lead_us)
        event = StatusEvent(post_id, found.author, wanted, hlc, parts.region.name)
        await _write(parts, event, lead_us, by_author=by_author)
        measures.STATUS_CHANGES.labels(wanted.name.lower()).inc()
    if wanted is Status.VISIBLE:
        await _show(parts, post_id)
    else:
        await parts.bodies.hidden(post_id, found.author)


async def _show(parts: Parts, post_id: bytes) -> None:
    """Have the post at hand again: the archive may say for a moment longer that it is hidden."""
    await parts.bodies.shown(post_id)
    try:
        row = (await parts.durable.posts([post_id])).get(post_id)
    except DurableUnavailable:
        return
    if row is not None and row.author >= 0 and row.status != Status.DELETED:
        parts.bodies.accepted(post_id, render_row(row._replace(status=Status.VISIBLE)))


async def _write(parts: Parts, event: StatusEvent, lead_us: int, *, by_author: bool) -> None:
    celeb = await _is_celebrity(parts, event.author)
    for _ in range(ATTEMPTS):
        with queue_failures():
            answer = await parts.queue.set_status(event, celeb, by_author=by_author)
        if answer.outcome == "done":
            return
        if answer.outcome == "deleted":
            raise Problem("not-found", "no such post")
        if answer.outcome == "refused":
            raise Problem("conflict", "the post is moderated")
        event.hlc = parts.clock.next_above(answer.hlc, lead_us)
    raise Problem("unavailable", "the post is being changed by others")


async def _is_celebrity(parts: Parts, author: int) -> bool:
    """Either stream will do: a status holds even when it overtakes its post."""
    try:
        return await parts.graph.is_celebrity(author)
    except GraphUnavailable:
        return False
