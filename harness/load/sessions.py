"""Sessions: lines of sequential ops, and where each is in its walk through the feed. Pure state, no I/O.

A session never has two ops at once. Panel sessions last for the whole run; one of a reader lasts for one op.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from harness.load.plan import Member
from harness.load.wire import SeenPost

MAX_PAGES = 40
"""a walk "to its end" stops here at the latest"""
MOST_PARENTS = 5
"""looked up after one page: the newest first"""


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
    oldest: tuple[int, str] = (0, "")
    """the first cursor it ever got, and when (ns)"""
    shown: Sequence[SeenPost] = field(default_factory=list, repr=False)
    """the page it saw last"""
    looked_up: set[str] = field(default_factory=set, repr=False)
    """replies whose parent it looked up"""
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

    def end_page(self, next_cursor: str, given_ns: int = 0) -> None:
        """Remember where the walk goes on; "" ends it."""
        self.cursor = next_cursor
        if next_cursor and not self.oldest[1]:
            self.oldest = (given_ns, next_cursor)

    def end_walk(self) -> None:
        """The next read begins a new walk (after a post, so that it covers the post; after a failure)."""
        self.cursor = ""

    def next_parents(self, lasts: Callable[[str], bool]) -> list[str]:
        """Posts that replies on the page shown last answer, those looked up before left out.

        `lasts` tells which parents may be asked for: those written during the run that nothing takes out of sight.
        """
        replies = [i for i in self.shown if i.reply_to and i.id not in self.looked_up and lasts(i.reply_to)]
        self.looked_up.update(reply.id for reply in replies[:MOST_PARENTS])
        return list(dict.fromkeys(reply.reply_to for reply in replies[:MOST_PARENTS] if reply.reply_to))


Fits = Callable[[Session], bool]
"""whether a session will do"""


def anybody(session: Session) -> bool:
    """Every session will do."""
    return True


class Roster:
    """Sessions of one group, each lent to one op at a time."""

    def __init__(self, prefix: str, members: Sequence[Member], owns: Callable[[int], bool] = lambda user: True) -> None:
        """`owns`: whether a user is this process's own. Nobody else is lent; who is preferred always must be."""
        self._sessions = [Session(f"{prefix}{user}", user, region) for user, region in members]
        self._of_user = {session.user: session for session in self._sessions if owns(session.user)}
        self._extra = 0

    def __bool__(self) -> bool:
        """Whether the group has anybody."""
        return bool(self._sessions)

    def take(self, preferred: int, region: str = "", fits: Fits = anybody) -> Session:
        """A free session: the preferred one, or the next that fits (where a region is named, of those there). When all
        are busy the preferred user opens one more client, so that a slow target does not slow the arrivals. Give it
        back.
        """
        session = self.take_fitting(preferred, lambda s: fits(s) and region in ("", s.region))
        return session or self._another_client(self._sessions[preferred % len(self._sessions)])

    def take_fitting(self, preferred: int, fits: Fits) -> Session | None:
        """A free session that fits: the preferred one, or the next; None when there is none. Give it back."""
        count = len(self._sessions)
        for step in range(count):
            session = self._sessions[(preferred + step) % count]
            if not session.busy and session.user in self._of_user and fits(session):
                session.busy = True
                return session
        return None

    def take_user(self, user: int) -> Session | None:
        """The session of that user, or one more client of his while it is busy; None: he is no member. Give it back."""
        session = self._of_user.get(user)
        if session is None:
            return None
        if session.busy:
            return self._another_client(session)
        session.busy = True
        return session

    def _another_client(self, first: Session) -> Session:
        self._extra += 1
        return Session(f"{first.name}+{self._extra}", first.user, first.region, busy=True)

    def give_back(self, session: Session) -> None:
        """The op is over."""
        session.busy = False
