"""An ASGI application that answers everything with the bytes of one file: what the server itself costs."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

BODY_FILE = "FEEDSTORM_BENCH_BODY"
_body = Path(os.environ[BODY_FILE]).read_bytes() if BODY_FILE in os.environ else b""
_HEADERS = [(b"content-length", b"%d" % len(_body)), (b"content-type", b"application/json")]


async def app(
    scope: dict[str, Any], receive: Callable[[], Awaitable[Any]], send: Callable[[Any], Awaitable[None]]
) -> None:
    """Answer."""
    if scope["type"] == "http":
        await send({"type": "http.response.start", "status": 200, "headers": _HEADERS})
        await send({"type": "http.response.body", "body": _body})
