"""Errors on the wire: RFC 9457 problem documents, and nothing else, whatever went wrong."""

from __future__ import annotations

import logging

import msgspec
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

_log = logging.getLogger(__name__)
_STATUS = {
    "bad-request": (400, "Bad request"),
    "bad-cursor": (400, "Bad cursor"),
    "unauthorized": (401, "Unauthorized"),
    "forbidden": (403, "Forbidden"),
    "not-found": (404, "Not found"),
    "method-not-allowed": (405, "Method not allowed"),
    "conflict": (409, "Conflict"),
    "gone": (410, "Gone"),
    "too-large": (413, "Too large"),
    "too-many-requests": (429, "Too many requests"),
    "unavailable": (503, "Unavailable"),
}
_BY_STATUS = {status: slug for slug, (status, _) in _STATUS.items() if slug != "bad-cursor"}
RETRY_AFTER_S = 1


class Problem(Exception):
    """Ends a request with a problem document. `slug` is the last part of its type."""

    def __init__(self, slug: str, detail: str, retry_s: int = RETRY_AFTER_S) -> None:
        """`retry_s`: what Retry-After says, where there is one."""
        super().__init__(detail)
        self.slug = slug
        self.detail = detail
        self.retry_s = retry_s


class UnknownEffect(Exception):
    """A write whose effect is unknown: answered by 504, as 503 would promise that nothing happened."""


class _Document(msgspec.Struct):
    type: str
    title: str
    status: int
    detail: str


def problem_response(slug: str, detail: str, status: int | None = None, retry_s: int = RETRY_AFTER_S) -> Response:
    """The problem document as a response."""
    usual, title = _STATUS[slug]
    document = _Document(f"urn:feedstorm:problem:{slug}", title, status or usual, detail)
    headers = {}
    if document.status in (429, 503):
        headers["Retry-After"] = str(retry_s)
    elif document.status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    body = msgspec.json.encode(document)
    return Response(body, document.status, headers, media_type="application/problem+json")


async def on_problem(request: Request, error: Exception) -> Response:
    """Handler of Problem."""
    assert isinstance(error, Problem)
    return problem_response(error.slug, error.detail, retry_s=error.retry_s)


async def on_unknown_effect(request: Request, error: Exception) -> Response:
    """Handler of UnknownEffect."""
    _log.warning("%s %s: effect unknown: %s", request.method, request.url.path, error)
    return problem_response("unavailable", "the post queue did not answer; the effect is unknown", 504)


async def on_http_error(request: Request, error: Exception) -> Response:
    """Handler of the router's 404 and 405."""
    assert isinstance(error, HTTPException)
    response = problem_response(_BY_STATUS.get(error.status_code, "bad-request"), error.detail, error.status_code)
    for name, value in (error.headers or {}).items():
        response.headers[name] = value
    return response


async def on_disconnect(request: Request, error: Exception) -> Response:
    """The client went away in the middle of its request: nobody reads this."""
    return problem_response("bad-request", "the request ended early")


async def on_bug(request: Request, error: Exception) -> Response:
    """Handler of everything else; the trace goes to the log (written by the server)."""
    return problem_response("unavailable", "internal error", 500)
