"""What stands in for `harness.load.event_fetch` where nobody fetches: it needs no HTTP client, which is 9 MB."""

from __future__ import annotations

from harness.load.listener import Listener


class NoFetch:
    """Nothing is ever fetched."""

    planned = sent = late = max_late_ns = 0

    def event(self, listener: Listener, time_ns: int) -> None:
        """An event came."""

    async def close(self, wait_s: float) -> None:
        """There is nothing to wait for."""
