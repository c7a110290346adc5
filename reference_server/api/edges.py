"""PUT and DELETE /v1/follows/{id} and /v1/blocks/{id}."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from reference_server.api.parts import Parts, parts_of, queue_failures
from reference_server.api.problems import Problem
from reference_server.api.requests import caller, user_number
from reference_server.events import GraphEvent

_EXCLUDES = {"follow": False, "unfollow": True, "block": True}


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
    return await append_edge(parts, verb, user, other)


async def append_edge(parts: Parts, verb: str, user: int, other: int) -> Response:
    """Make the change durable, then wait until the graph has it: the caller's next read sees it."""
    event = GraphEvent(verb, user, parts.clock.next(), parts.region.name, other)
    with queue_failures():
        stream_id = await parts.queue.append_graph(event)
    applied = await parts.graph.changed(user, other, stream_id, _EXCLUDES.get(verb))
    return Response(status_code=204, headers=None if applied else {"Feed-Degraded": "stale"})
