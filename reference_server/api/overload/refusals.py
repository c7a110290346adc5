"""The answers of the gate: problem documents made beforehand, as refusing must cost next to nothing.

Retry-After is whole seconds and drawn at random, so that those refused together do not come back together.
"""

from __future__ import annotations

import math
from random import random
from typing import Any

from reference_server.api.problems import problem_response

KILL_RETRY_S = 5
SPREAD_S = 3
"""who is refused for want of room is asked to come back after 1 to this many seconds"""


class Refusal:
    """One answer, as the two messages of ASGI."""

    def __init__(self, slug: str, detail: str, retry_s: int = 0) -> None:
        """The problem `slug` with this detail; `retry_s` 0: without Retry-After."""
        response = problem_response(slug, detail)
        headers = [(b"content-type", b"application/problem+json"), (b"content-length", b"%d" % len(response.body))]
        if retry_s:
            headers.append((b"retry-after", b"%d" % retry_s))
        self.start: dict[str, Any] = {
            "type": "http.response.start",
            "status": response.status_code,
            "headers": headers,
        }
        self.end: dict[str, Any] = {"type": "http.response.body", "body": bytes(response.body)}


def _spread(detail: str) -> tuple[Refusal, ...]:
    return tuple(Refusal("unavailable", detail, retry_s) for retry_s in range(1, SPREAD_S + 1))


KILLED = Refusal("unavailable", "the product is switched off", KILL_RETRY_S)
_BUSY = _spread("too much is asked of this server at the moment")
LEFT_OUT_DETAIL = "left out while this server is under pressure"
_LEFT_OUT = _spread(LEFT_OUT_DETAIL)


def busy() -> Refusal:
    """There is no room."""
    return _BUSY[int(random() * SPREAD_S)]


def left_out() -> Refusal:
    """The level leaves this out."""
    return _LEFT_OUT[int(random() * SPREAD_S)]


def spread_retry_s() -> int:
    """When one who is refused for want of room may come again."""
    return 1 + int(random() * SPREAD_S)


def too_fast(who: str, wait_s: float) -> Refusal:
    """A bucket is empty for `wait_s` more seconds."""
    return Refusal("too-many-requests", f"too many requests {who}", bucket_retry_s(wait_s))


def bucket_retry_s(wait_s: float) -> int:
    """When one whose bucket is empty may come again: not before there is a token, and spread by a quarter."""
    return math.ceil(wait_s + random() * max(1.0, wait_s / 4))
