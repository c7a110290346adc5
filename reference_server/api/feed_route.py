"""GET /v1/feed without the framework: the route that is asked for most skips router, request object and middleware.

Everything else, and everything that is wrong with a request, is as in `feed`.
"""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any
from urllib.parse import parse_qs

from starlette.applications import Starlette
from starlette.requests import Request

from reference_server.api import measures
from reference_server.api.feed import MAX_CURSOR_CHARS, PAGE_DEFAULT, PAGE_MAX, page_json
from reference_server.api.overload.callers import STRANGER
from reference_server.api.parts import Parts
from reference_server.api.problems import Problem, problem_response
from reference_server.api.requests import CALLER, caller, limit_in

_log = logging.getLogger(__name__)
_Message = MutableMapping[str, Any]
_Send = Callable[[_Message], Awaitable[None]]
_Receive = Callable[[], Awaitable[_Message]]
_JSON = (b"content-type", b"application/json")
_ONLY_CURSOR = re.compile(rb"cursor=([A-Za-z0-9_.-]{1,%d})" % MAX_CURSOR_CHARS)
"""as most walks go on: nothing to decode, nothing that may stand there twice"""


class FeedFirst(Starlette):
    """The application, with one route served before the router."""

    async def __call__(self, scope: _Message, receive: _Receive, send: _Send) -> None:
        """One request, or the server's start and end."""
        if scope["type"] != "http" or scope["path"] != "/v1/feed" or scope["method"] != "GET":
            await super().__call__(scope, receive, send)
            return
        try:
            await _serve(self.state.parts, scope, send)
        except Problem as problem:
            await problem_response(problem.slug, problem.detail, retry_s=problem.retry_s)(scope, receive, send)
        except Exception:  # the handler's edge
            _log.exception("GET /v1/feed")
            await problem_response("unavailable", "internal error", 500)(scope, receive, send)


async def _serve(parts: Parts, scope: _Message, send: _Send) -> None:
    user = _caller(parts, scope)
    limit, cursor = _asked(scope["query_string"])
    body, mark = await page_json(parts, user, limit, cursor)
    headers = [_JSON, (b"content-length", b"%d" % len(body))]
    if mark:
        measures.FEED_DEGRADED.inc()
        headers.append((b"feed-degraded", mark.encode()))
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def _caller(parts: Parts, scope: _Message) -> int:
    """Raises Problem("unauthorized")."""
    user: int | None = scope.get(CALLER)
    if user is None:
        user = parts.overload.callers.user(scope["headers"], time.monotonic())
        if user == STRANGER:
            return caller(Request(scope), parts.secret, parts.users)
    return user


def _asked(query: bytes) -> tuple[int, str | None]:
    """(limit, cursor). Raises Problem: "bad-request", "bad-cursor"."""
    if not query:
        return PAGE_DEFAULT, None
    if (found := _ONLY_CURSOR.fullmatch(query)) is not None:
        return PAGE_DEFAULT, found[1].decode()
    fields = parse_qs(query.decode("latin-1"), keep_blank_values=True)
    cursor = fields["cursor"][-1] if "cursor" in fields else None
    if cursor is not None and not 1 <= len(cursor) <= MAX_CURSOR_CHARS:
        raise Problem("bad-cursor", "cursor: malformed")
    return limit_in(fields["limit"][-1] if "limit" in fields else None, PAGE_DEFAULT, PAGE_MAX), cursor
