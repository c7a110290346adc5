"""What the users of one load process share: the plan, its work, sessions and tokens, and where results go."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from harness.load.arrival_kinds import TOUCHES
from harness.load.members import home_region
from harness.load.plan import LoadPlan, Member
from harness.load.recorder import Recorder
from harness.load.sessions import Roster, Session
from harness.load.shard import Shard
from harness.load.work import Work
from harness.load.written import WrittenPosts


@dataclass
class PendingImport:
    """An import that was not finished when last looked at."""

    session: Session
    due_ns: int
    """when the sign-up was done"""
    tries: int = 0


@dataclass
class LoadContext:
    """Shared by all users of a process; gevent runs one of them at a time."""

    shard: Shard
    work: Work
    recorder: Recorder
    tokens: dict[int, str]
    operator_token: str = ""
    panel: Roster = field(init=False)
    posters: Roster = field(init=False)
    celebrities: Roster = field(init=False)
    joined: list[Member] = field(default_factory=list)
    """who signed up during the run"""
    imports: dict[int, PendingImport] = field(default_factory=dict)
    written: WrittenPosts = field(init=False)
    out_of_sight: set[int] = field(default_factory=set)
    """numbers of the POST arrivals whose posts were hidden or moderated, and not let back"""
    errors: list[str] = field(default_factory=list)
    """errors of ours, for the generator's report"""

    def __post_init__(self) -> None:
        owns = self.shard.owns
        self.panel = Roster("panel-", self.plan.panel, owns)
        self.posters = Roster("poster-", self.plan.posters, owns)
        self.celebrities = Roster("celebrity-", self.plan.all_celebrities, owns)
        self.written = WrittenPosts({due.target for due in self.work.schedule if due.kind in TOUCHES})
        self._key_prefix = hashlib.blake2b((self.plan.origin or self.plan.run).encode(), digest_size=8).hexdigest()

    @property
    def plan(self) -> LoadPlan:
        """The plan of the run."""
        return self.shard.plan

    def idempotency_key(self, kind: str, number: int) -> str:
        """The key of a post: never the same in two runs."""
        return f"{self._key_prefix}-{kind}-{number}"

    def reader_session(self, actor: int, number: int) -> Session | None:
        """A new session of a reader, or of somebody who joined meanwhile; None while nobody has."""
        return _session(f"reader-{number}", self.plan.readers or self.joined, actor)

    def newcomer_session(self, actor: int, number: int) -> Session | None:
        """A new session of somebody who joined during the run; None while nobody has."""
        return _session(f"newcomer-{number}", self.joined, actor)

    @contextmanager
    def client_of(self, user: int, name: str) -> Iterator[Session]:
        """A session of that user for one op: his own when he has one that is free, else one more of that name."""
        for roster in (self.panel, self.posters, self.celebrities):
            session = roster.take_user(user)
            if session is not None:
                break
        else:
            session = Session(name, user, home_region(user, tuple(self.plan.regions)))
        try:
            yield session
        finally:
            session.busy = False


def _session(name: str, group: Sequence[Member], actor: int) -> Session | None:
    if not group:
        return None
    user, region = group[actor % len(group)]
    return Session(name, user, region)
