"""What is read from a request, checked before anything is done: caller, body, query parameters."""

from __future__ import annotations

import asyncio
from typing import TypeVar

import msgspec
from starlette.requests import Request

from reference_server.api.problems import Problem
from reference_server.security import SignatureRejected, token_user

MAX_BODY_BYTES = 64 << 10
MAX_DRAINED_BYTES = 1 << 20
"""how much of a body that is too large is read (and dropped), so that its sender gets to read the answer"""
BODY_TIMEOUT_S = 10.0
CALLER, BODY = "feed.caller", "feed.body"
"""keys of the ASGI scope: the user number of a token that the gate has verified, and the body that it has taken in"""
T = TypeVar("T")


def caller(request: Request, secret: bytes, users: int) -> int:
    """The user number behind the bearer token. Raises Problem("unauthorized")."""
    known: int | None = request.scope.get(CALLER)
    if known is not None:
        return known
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not token:
        raise Problem("unauthorized", "a bearer token is required")
    try:
        user = token_user(secret, token.strip())
    except SignatureRejected as error:
        raise Problem("unauthorized", f"token: {error}") from None
    if not 0 <= user < users:
        raise Problem("unauthorized", "token: no such user")
    return user


async def json_body(request: Request, decoder: msgspec.json.Decoder[T]) -> T:
    """The decoded body. Raises Problem: "too-large", "bad-request"."""
    data = await _body(request)
    try:
        return decoder.decode(data)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise Problem("bad-request", f"body: {error}") from None


async def _body(request: Request) -> bytes:
    taken: bytes | None = request.scope.get(BODY)
    if taken is not None:
        return taken
    parts: list[bytes] = []
    size = 0
    try:
        async with asyncio.timeout(BODY_TIMEOUT_S):
            async for part in request.stream():
                size += len(part)
                if size <= MAX_BODY_BYTES:
                    parts.append(part)
                elif size > MAX_DRAINED_BYTES:
                    break
    except TimeoutError:
        raise Problem("bad-request", "body: did not arrive in time") from None
    if size > MAX_BODY_BYTES:
        raise Problem("too-large", f"a body may have {MAX_BODY_BYTES} bytes")
    return b"".join(parts)


def limit_of(request: Request, default: int, highest: int) -> int:
    """The query parameter `limit`. Raises Problem("bad-request")."""
    return limit_in(request.query_params.get("limit"), default, highest)


def limit_in(text: str | None, default: int, highest: int) -> int:
    """The limit a text stands for; `default` without one. Raises Problem("bad-request")."""
    if text is None:
        return default
    limit = int(text) if text.isascii() and text.isdigit() and len(text) <= 6 else 0
    if not 1 <= limit <= highest:
        raise Problem("bad-request", f"limit: must be 1 to {highest}")
    return limit


def user_number(text: str, users: int) -> int | None:
    """The user behind an id on the wire; None where there is none (also for other spellings of a number)."""
    if not (text.isascii() and text.isdigit() and len(text) <= 10):
        return None
    number = int(text)
    return number if number < users and str(number) == text else None
