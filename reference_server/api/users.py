"""POST /v1/users, GET /v1/users/me/import."""

from __future__ import annotations

import asyncio
import time
from typing import Annotated, Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from reference_server.api import measures
from reference_server.api.graph_view import GraphUnavailable, UserState
from reference_server.api.overload.refusals import bucket_retry_s
from reference_server.api.parts import parts_of, queue_failures
from reference_server.api.problems import Problem
from reference_server.api.requests import caller, json_body, user_number
from reference_server.events import GraphEvent
from reference_server.security import make_token


class SignUpRequest(msgspec.Struct):
    """Body of POST /v1/users."""

    identity: Annotated[str, msgspec.Meta(min_length=1, max_length=64)]


_decoder = msgspec.json.Decoder(SignUpRequest)
IMPORT_LIMIT_S = 10.0
IMPORT_POLL_S = (0.01, 0.25)
"""pause between two looks at an import that a sign-up waits for: first, longest"""


async def sign_up(request: Request) -> Response:
    """201 the first time, 200 later. At most one durable write; the import runs afterwards (flag async_import)."""
    parts = parts_of(request)
    asked = await json_body(request, _decoder)
    user = user_number(asked.identity, parts.users)
    if user is None:
        raise Problem("not-found", "no such identity")
    if wait_s := parts.overload.identity_wait_s(user):
        raise Problem("too-many-requests", "too many sign-ups of one identity", bucket_retry_s(wait_s))
    state, first = await _state(request, user), False
    if state is None or not state.joined:
        event = GraphEvent("join", user, parts.clock.next(), parts.region.name)
        with queue_failures():
            first = await parts.queue.append_graph(event) != ""
        parts.clock.update(event.hlc)
        await parts.profiles.forget([user])
    if not parts.flags.now.async_import:
        state = await _imported(request, user, state)
    measures.SIGN_UPS.labels("first" if first else "repeated").inc()
    token, expires_at = make_token(parts.secret, user)
    answer = {"user": {"id": str(user)}, "token": token, "expires_at": expires_at, "import": _import(state)}
    return _json(answer, 201 if first else 200)


async def _state(request: Request, user: int) -> UserState | None:
    """What the graph knows; None when it is away (the write decides by itself)."""
    try:
        return await parts_of(request).graph.user(user)
    except GraphUnavailable:
        return None


async def _imported(request: Request, user: int, state: UserState | None) -> UserState | None:
    """The state once the import is done, or IMPORT_LIMIT_S have passed."""
    deadline_s = time.monotonic() + IMPORT_LIMIT_S
    pause_s, longest_s = IMPORT_POLL_S
    while state is None or not state.joined or state.import_ != "done":
        if time.monotonic() + pause_s > deadline_s:
            break
        await asyncio.sleep(pause_s)
        pause_s = min(longest_s, 2 * pause_s)
        state = await _state(request, user)
    return state


def _import(state: UserState | None) -> dict[str, Any]:
    if state is None:
        return {"state": "pending", "done": 0, "total": 0}
    name = state.import_
    if name == "none":
        name = "done" if state.joined else "pending"
    return {"state": name, "done": state.done, "total": state.total}


async def my_import(request: Request) -> Response:
    """How far the import of the caller's inherited follows is."""
    parts = parts_of(request)
    user = caller(request, parts.secret, parts.users)
    try:
        state = await parts.graph.user(user)
    except GraphUnavailable as error:
        raise Problem("unavailable", "the graph does not answer") from error
    return _json(_import(state))


def _json(answer: dict[str, Any], status: int = 200) -> Response:
    return Response(msgspec.json.encode(answer), status, media_type="application/json")
