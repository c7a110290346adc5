"""Takes in the body of a request before the request takes a slot: who sends slowly keeps nobody else from working.

Nor from sending: when as many bodies are awaited as may be, whoever has most of them gives one up for the next.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from reference_server.api.overload.refusals import Refusal
from reference_server.api.requests import BODY_TIMEOUT_S, MAX_BODY_BYTES, MAX_DRAINED_BYTES

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
MAX_AWAITED = 512
"""requests whose bodies are awaited at the same time; each holds up to 64 KiB"""

TOO_LARGE = Refusal("too-large", f"a body may have {MAX_BODY_BYTES} bytes")
TOO_SLOW = Refusal("bad-request", "body: did not arrive in time")
CUT_OFF = Refusal("bad-request", "the request ended early")


class Bodies:
    """The bodies that are awaited."""

    def __init__(self) -> None:
        self._of: dict[int, dict[asyncio.Timeout, None]] = {}
        """by whom they are from, the one begun first in front"""
        self._count = 0

    def __len__(self) -> int:
        return self._count

    async def take(self, sender: int, receive: Receive) -> bytes | Refusal | None:
        """The whole body, or the answer to one that is too large, too slow or cut off; None: it made room for another.

        `sender` is a user number; strangers, who may be one or many, have one number together.
        """
        limit = asyncio.timeout(BODY_TIMEOUT_S)
        try:
            async with limit:
                self._add(sender, limit)
                return await _read(receive)
        except TimeoutError:
            return TOO_SLOW if limit in self._of.get(sender, ()) else None
        finally:
            self._drop(sender, limit)

    def _add(self, sender: int, limit: asyncio.Timeout) -> None:
        if self._count >= MAX_AWAITED:
            self._make_room()
        self._of.setdefault(sender, {})[limit] = None
        self._count += 1

    def _make_room(self) -> None:
        """End the first body of whoever has most."""
        sender = max(self._of, key=lambda one: len(self._of[one]))
        limit = next(iter(self._of[sender]))
        self._drop(sender, limit)
        if not limit.expired():
            limit.reschedule(0.0)

    def _drop(self, sender: int, limit: asyncio.Timeout) -> None:
        awaited = self._of.get(sender)
        if awaited is None or limit not in awaited:
            return
        del awaited[limit]
        self._count -= 1
        if not awaited:
            del self._of[sender]


async def _read(receive: Receive) -> bytes | Refusal:
    parts: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] != "http.request":
            return CUT_OFF
        part = message.get("body", b"")
        size += len(part)
        if size <= MAX_BODY_BYTES:
            parts.append(part)
        if not message.get("more_body") or size > MAX_DRAINED_BYTES:
            return b"".join(parts) if size <= MAX_BODY_BYTES else TOO_LARGE
