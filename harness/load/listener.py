"""One listener: a user who keeps a stream open, comes back when it ends, and fetches what an event announced."""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING, NamedTuple

from harness.load.plan import LoadPlan

if TYPE_CHECKING:
    from harness.load.stream_connection import StreamConnection

RETRY_AFTER_SPREAD_S = 1.0
MOST_DOUBLINGS = 30


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


class ReconnectPolicy(NamedTuple):
    """When a listener whose stream ended, or did not open, tries again, and what it asks for."""

    jitter_s: float
    honours_retry: bool
    """waits at least as long as the server's last `retry:` said"""
    backoff_s: float
    backoff_cap_s: float
    resumes: bool
    """sends Last-Event-ID"""

    def delay_s(self, listener: Listener, u: float) -> float:
        """How long the listener waits before it connects again; u is uniform in 0..1.

        After a stream that was open: u jitter. After the n-th failed attempt: (1 + u) / 2 min(cap, backoff 2^(n-1)).
        To that comes what the server asked for, where it is honoured: so its listeners do not come back all at once.
        A 503's Retry-After is the least, and up to a second is added for the same reason.
        """
        if listener.failures == 0:
            wait_s = u * self.jitter_s
        else:
            doubled_s = self.backoff_s * 2.0 ** min(listener.failures - 1, MOST_DOUBLINGS)
            wait_s = min(self.backoff_cap_s, doubled_s) * (0.5 + 0.5 * u)
        if self.honours_retry:
            wait_s += (listener.retry_ms or 0) / 1000
        if listener.retry_after_s:
            wait_s = max(wait_s, listener.retry_after_s + u * min(self.jitter_s, RETRY_AFTER_SPREAD_S))
        return wait_s


def policy_of(plan: LoadPlan) -> ReconnectPolicy:
    """The policy of a plan's listeners."""
    listening, jitter_s = plan.listening, plan.reconnect_jitter_s
    honours = listening.honour_retry if listening.honour_retry is not None else jitter_s == 0
    return ReconnectPolicy(jitter_s, honours, listening.backoff_s, listening.backoff_cap_s, listening.resume)
