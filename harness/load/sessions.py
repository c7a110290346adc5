"""Sessions: lines of sequential ops, and where each is in its walk through the feed. Pure state, no I/O.

A session never has two ops at once. Panel sessions last for the whole run; one of a reader lasts for one op.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from harness.load.plan import Member

MAX_PAGES = 40
"""a walk "to its end" stops here at the latest"""


@dataclass
class Session:
    """One client's line of ops."""

    name: str
    user: int
    region: str
    busy: bool = False
    walk: int = 0
    page: int = 0
    limit: int = 0
    cursor: str = ""
    _pages_left: int = field(default=0, repr=False)

    def begin_page(self, limit: int, pages: int) -> None:
        """Decide what the next read is: the next page of the walk under way, or the first of a new one."""
        if self.cursor and self._pages_left > 0:
            self.page += 1
        else:
            self.walk += 1
            self.page, self.limit, self.cursor = 0, limit, ""
            self._pages_left = pages or MAX_PAGES
        self._pages_left -= 1

    def end_page(self, next_cursor: str) -> None:
        """Remember where the walk goes on; "" ends it."""
        self.cursor = next_cursor

    def end_walk(self) -> None:
        """The next read begins a new walk (after a post, so that it covers the post; after a failure)."""
        self.cursor = ""


class Roster:
    """Sessions of one group, each lent to one op at a time."""

    def __init__(self, prefix: str, members: Sequence[Member]) -> None:
        self._sessions = [Session(f"{prefix}{user}", user, region) for user, region in members]
        self._extra = 0

    def __bool__(self) -> bool:
        """Whether the group has anybody."""
        return bool(self._sessions)

    def take(self, preferred: int) -> Session:
        """A free session: the preferred one, or the next. When all are busy the preferred user opens one more client,
        so that a slow target does not slow the arrivals. Give it back.
        """
        count = len(self._sessions)
        for step in range(count):
            session = self._sessions[(preferred + step) % count]
            if not session.busy:
                session.busy = True
                return session
        self._extra += 1
        first = self._sessions[preferred % count]
        return Session(f"{first.name}+{self._extra}", first.user, first.region, busy=True)

    def give_back(self, session: Session) -> None:
        """The op is over."""
        session.busy = False
