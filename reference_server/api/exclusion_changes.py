"""Until when an api may go on believing what the graph told it about whom a user must not see.

One question twice a second, for all users together, in place of one a second and user. While it goes unanswered nothing
is believed for longer than before.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

import numpy as np

from reference_server.rpc import RpcClient, RpcError, RpcTimeout, RpcUnavailable

CURRENT_S = 1.0
"""an answer holds so long from when it was asked for"""
PAUSE_S = 0.4
TIMEOUT_S = 0.25


class ExclusionChanges:
    """Asks the graph which users its answers changed for, as long as somebody reads."""

    def __init__(self, client: RpcClient, on_changed: Callable[[list[int] | None], None]) -> None:
        """`on_changed` gets the users touched since the last time; None: it may be any."""
        self._client, self._on_changed = client, on_changed
        self._life = self._count = 0
        self._current_until_s = 0.0
        self._next_s = 0.0
        self._asking: asyncio.Task[None] | None = None
        self.looks = 0
        """how many times changes were told"""

    def is_current(self, now_s: float) -> bool:
        """Whether all changes up to CURRENT_S ago have been told. `now_s` is time.monotonic()."""
        if now_s >= self._next_s and self._asking is None:
            self._asking = asyncio.ensure_future(self._ask())
        return now_s < self._current_until_s

    async def _ask(self) -> None:
        asked_s = time.monotonic()
        try:
            answer = await self._client.call("excluded_changes", self._life, self._count, timeout_s=TIMEOUT_S)
            self._life, self._count, users = answer
            self.looks += 1
            self._on_changed(None if users is None else np.frombuffer(users, "<u4").tolist())
            self._current_until_s = asked_s + CURRENT_S
        except (RpcUnavailable, RpcTimeout, RpcError):
            pass
        finally:
            self._next_s = time.monotonic() + PAUSE_S
            self._asking = None
