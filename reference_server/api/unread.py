"""Bodies that nobody reads: who is answered before their body came must find the connection as HTTP says it is.

Outermost ASGI layer. Granian closes a connection without a word when a body was left unread and had not come with its
head; the next request on it is lost. A refusal waits for nothing: of what is announced to be small the rest is read and
dropped behind the answer, which costs both sides less than another connection. Where there may be more, the answer says
that it ends this one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import Any

from reference_server.api.requests import BODY, BODY_TIMEOUT_S, MAX_DRAINED_BYTES

_Message = MutableMapping[str, Any]
_Receive = Callable[[], Awaitable[_Message]]
_Send = Callable[[_Message], Awaitable[None]]
_Application = Callable[[_Message, _Receive, _Send], Awaitable[None]]
_UNKNOWN = MAX_DRAINED_BYTES + 1
_CLOSES = (b"connection", b"close")


class ReadToEnd:
    """Wraps an application."""

    def __init__(self, application: _Application) -> None:
        self.application = application

    def __call__(self, scope: _Message, receive: _Receive, send: _Send) -> Awaitable[None]:
        """One request, or the server's start and end. What has no body costs one comparison or two."""
        if scope["type"] != "http" or scope["method"] == "GET":
            return self.application(scope, receive, send)
        announced = _announced_bytes(scope["headers"])
        if announced == 0:
            return self.application(scope, receive, send)
        if announced > MAX_DRAINED_BYTES:
            return self.application(scope, receive, _closing(scope, send))
        return self._serve(scope, receive, send)

    async def _serve(self, scope: _Message, receive: _Receive, send: _Send) -> None:
        await self.application(scope, receive, send)
        if BODY not in scope:
            await _drop_rest(receive)


def _announced_bytes(headers: Iterable[tuple[bytes, bytes]]) -> int:
    """How long the body will be; `_UNKNOWN` when that is not told, or oddly."""
    for name, value in headers:
        if name == b"content-length":
            return int(value) if value.isdigit() else _UNKNOWN
        if name == b"transfer-encoding":
            return _UNKNOWN
    return 0


def _closing(scope: _Message, send: _Send) -> _Send:
    """`send`, for the last answer of a connection, unless the body was taken in."""

    def closing(message: _Message) -> Awaitable[None]:
        if message["type"] == "http.response.start" and BODY not in scope:
            message = {**message, "headers": [*message.get("headers", ()), _CLOSES]}
        return send(message)

    return closing


async def _drop_rest(receive: _Receive) -> None:
    """Until the body is whole, its sender has gone, or has taken too long. It is no longer than MAX_DRAINED_BYTES."""
    try:
        async with asyncio.timeout(BODY_TIMEOUT_S):
            while (await receive()).get("more_body"):
                pass
    except TimeoutError:
        pass
