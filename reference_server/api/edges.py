"""PUT and DELETE /v1/follows/{id} and /v1/blocks/{id}."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from reference_server.api import measures
from reference_server.api.graph_view import GraphUnavailable
from reference_server.api.parts import Parts, parts_of, queue_failures
from reference_server.api.problems import Problem
from reference_server.api.requests import caller, user_number
from reference_server.events import GraphEvent


async def change_follow(request: Request) -> Response:
    """PUT: follow; DELETE: unfollow."""
    return await _change(request, "follow" if request.method == "PUT" else "unfollow")


async def change_block(request: Request) -> Response:
    """PUT: block; DELETE: unblock."""
    return await _change(request, "block" if request.method == "PUT" else "unblock")


async def _change(request: Request, verb: str) -> Response:
    parts = parts_of(request)
    user = caller(request, parts.secret, parts.users)
    other = user_number(request.path_params["id"], parts.users)
    if other is None:
        raise Problem("not-found", "no such user")
    if other == user:
        raise Problem("bad-request", f"one cannot {verb} oneself")
    if verb == "follow":
        await _check_cap(parts, user, other)
    return await append_edge(parts, verb, user, other)


async def _check_cap(parts: Parts, user: int, other: int) -> None:
    """Raises Problem("forbidden") when the user follows as many as one may. Without the graph nobody is refused."""
    cap = parts.flags.now.follow_cap
    try:
        following, already = await parts.graph.following(user, other)
    except GraphUnavailable:
        return
    if following >= cap and not already:
        measures.FOLLOWS_OVER_CAP.inc()
        raise Problem("forbidden", f"one may follow {cap} accounts")


async def append_edge(parts: Parts, verb: str, user: int, other: int) -> Response:
    """Make the change durable, then wait until the graph has it: the caller's next read sees it."""
    event = GraphEvent(verb, user, parts.clock.next(), parts.region.name, other)
    with queue_failures():
        stream_id = await parts.queue.append_graph(event)
    parts.clock.update(event.hlc)
    applied = await parts.graph.changed(verb, user, other, stream_id)
    if verb != "like":
        await parts.profiles.forget([user, other])
    return Response(status_code=204, headers=None if applied else {"Feed-Degraded": "stale"})
