"""One listener: a user who keeps a stream open, comes back when it ends, and fetches what an event announced."""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from harness.load.stream_connection import StreamConnection

BACKOFF_FIRST_S = 1.0
BACKOFF_CAP_S = 2.0
RETRY_AFTER_SPREAD_S = 1.0


class Fetch(enum.IntEnum):
    """Where a listener's fetching stands; at most one fetch is on its way."""

    IDLE = 0
    SCHEDULED = 1
    IN_FLIGHT = 2
    AGAIN = 3
    """in flight, and another one is wanted afterwards"""


class Listener:
    """State that outlives a connection. Small: there are thousands."""

    __slots__ = (
        "anchor",
        "connection",
        "ever_open",
        "failures",
        "fetch",
        "fetch_due_ns",
        "last_event_id",
        "newest",
        "region",
        "retry_after_s",
        "retry_ms",
        "user",
    )

    def __init__(self, user: int, region: str) -> None:
        self.user = user
        self.region = region
        self.connection: StreamConnection | None = None
        self.ever_open = False
        self.last_event_id = ""
        self.failures = 0
        """attempts to connect that failed since the last stream was open"""
        self.retry_ms: int | None = None
        """reconnection time the server asked for"""
        self.retry_after_s = 0.0
        self.newest = ""
        """post of the newest event"""
        self.anchor = ""
        """post up to which the listener has fetched, in order of arrival; empty: start with the feed's first page"""
        self.fetch = Fetch.IDLE
        self.fetch_due_ns = 0

    @property
    def session(self) -> str:
        """Name of its line of ops in the history."""
        return f"listen-{self.user}"


def reconnect_delay_s(listener: Listener, jitter_s: float, u: float) -> float:
    """How long a listener waits before it connects again; u is uniform in 0..1.

    After a stream that was open: uniform up to `jitter_s`, or what the server asked for when there is no jitter.
    After failed attempts: 1 s, then 2 s, of which a random half to all.
    A 503's Retry-After is the least, and up to a second is added so that not all come at once.
    """
    asked_s = (listener.retry_ms or 0) / 1000 if jitter_s == 0 else 0.0
    if listener.failures == 0:
        wait_s = u * jitter_s
    else:
        backoff_s = min(BACKOFF_CAP_S, BACKOFF_FIRST_S * 2 ** min(listener.failures - 1, 10))
        wait_s = backoff_s * (0.5 + 0.5 * u)
    if listener.retry_after_s:
        wait_s = max(wait_s, listener.retry_after_s + u * min(jitter_s, RETRY_AFTER_SPREAD_S))
    return max(wait_s, asked_s)
