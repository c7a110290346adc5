"""The Locust users of a run: readers, authors, sign-ups, and which class of users takes which arrivals.

Importing this module imports Locust, which patches the whole process for gevent.
"""

from __future__ import annotations

from harness.core.clock import NS_PER_S, now_ns
from harness.core.op import OpOutcome
from harness.load.arrival_kinds import Arrival, ArrivalKind
from harness.load.change_users import AuthorUser, EdgeUser, OperatorUser
from harness.load.context import PendingImport
from harness.load.members import home_region
from harness.load.panel_users import LikeUser, ProbeUser, ReplyUser
from harness.load.pooled_user import POST_TIMEOUT_S, PooledUser
from harness.load.schedule import post_text
from harness.load.sessions import Fits, Roster, Session, anybody
from harness.load.wire import IMPORT_DONE

IMPORT_POLL_S = 1.0
IMPORT_POLLS = 60


class ReaderUser(PooledUser):
    """Reads feeds, for the panel's sessions and for readers who come once."""

    def perform(self, arrival: Arrival, due_ns: int) -> None:
        """One page."""
        if arrival.panel:
            panel = self.load.panel
            session = panel.take(arrival.actor, arrival.region)
            try:
                self.read(session, due_ns, arrival.limit, arrival.pages)
            finally:
                panel.give_back(session)
        elif guest := self.load.reader_session(arrival.actor, arrival.number):
            self.read(guest, due_ns, arrival.limit, 1)
        else:
            self.skip()

    def read(self, session: Session, due_ns: int, limit: int, pages: int) -> None:
        """One page; the parents of replies on it are looked up at once."""
        op = self.read_page(session, due_ns, limit, pages)
        if op.outcome is OpOutcome.OK and self.load.plan.lookups:
            parents = session.next_parents(self.load.written.lasts)
            if parents:
                self.look_up(session, parents, op.done_ns)


class PosterUser(PooledUser):
    """Posts, for the panel's sessions and for the other ordinary authors."""

    network_timeout = POST_TIMEOUT_S

    def perform(self, arrival: Arrival, due_ns: int) -> None:
        """One post; where the plan has no authors, by somebody who joined during the run."""
        roster = self.load.panel if arrival.panel else self.load.posters
        if roster:
            self.post_from(roster, arrival, due_ns)
        elif newcomer := self.load.newcomer_session(arrival.actor, arrival.number):
            self.post_as(newcomer, arrival, due_ns)
        else:
            self.skip()

    def post_from(self, roster: Roster, arrival: Arrival, due_ns: int, fits: Fits = anybody) -> None:
        """One post by a free session of the roster."""
        session = roster.take(arrival.actor, arrival.region, fits)
        try:
            self.post_as(session, arrival, due_ns)
        finally:
            roster.give_back(session)

    def post_as(self, session: Session, arrival: Arrival, due_ns: int) -> None:
        """One post by a session."""
        text = post_text(self.load.plan, arrival.kind, arrival.number)
        key = self.load.idempotency_key(arrival.kind, arrival.number)
        op = self.write_post(session, text, key, due_ns, celebrity=arrival.kind is ArrivalKind.CELEBRITY)
        if op.outcome is OpOutcome.OK:
            self.load.written.add(op, arrival.number if arrival.kind is ArrivalKind.POST else None)


class CelebrityUser(PosterUser):
    """Posts as the celebrities."""

    def perform(self, arrival: Arrival, due_ns: int) -> None:
        """One celebrity post; none by somebody whose sign-up has no answer yet."""
        members = self.load.plan.all_celebrities
        if self.token(members[arrival.actor % len(members)][0]):
            self.post_from(self.load.celebrities, arrival, due_ns, lambda session: bool(self.token(session.user)))
        else:
            self.skip()


class SignupUser(PooledUser):
    """Signs users up, and looks each second whether their import is finished."""

    network_timeout = POST_TIMEOUT_S

    def perform(self, arrival: Arrival, due_ns: int) -> None:
        """One sign-up, or one look at an import."""
        if arrival.kind is ArrivalKind.IMPORT_POLL:
            self.poll(arrival)
        else:
            self.join(arrival, due_ns)

    def join(self, arrival: Arrival, due_ns: int) -> None:
        """Sign a user up in its home region."""
        plan = self.load.plan
        region = home_region(arrival.actor, tuple(plan.regions))
        session = Session(f"signup-{arrival.actor}", arrival.actor, region)
        identity = plan.identity.replace("{number}", str(arrival.actor))
        op, answer = self.sign_up(session, identity, due_ns)
        if answer is None:
            return
        self.load.tokens[arrival.actor] = answer.token
        self.load.joined.append((arrival.actor, region))
        pending = PendingImport(session, op.done_ns)
        if answer.imports.state == IMPORT_DONE:
            self.record_import(pending, op.done_ns)
        else:
            self.load.imports[arrival.actor] = pending
            self.look_later(arrival.actor, arrival.number)

    def look_later(self, user: int, number: int) -> None:
        """Look at a user's import in a second."""
        due_ns = now_ns() - self.load.work.t0_ns + round(IMPORT_POLL_S * NS_PER_S)
        poll = Arrival(due_ns=due_ns, kind=ArrivalKind.IMPORT_POLL, number=number, actor=user)
        self.load.work.poll_later(poll, IMPORT_POLL_S)

    def poll(self, arrival: Arrival) -> None:
        """One look at an import."""
        pending = self.load.imports[arrival.actor]
        if self.import_done(pending.session):
            del self.load.imports[arrival.actor]
            self.record_import(pending, now_ns())
            return
        pending.tries += 1
        if pending.tries < IMPORT_POLLS:
            self.look_later(arrival.actor, arrival.number)
        else:
            del self.load.imports[arrival.actor]
            self.record_import(pending, now_ns(), f"not finished after {IMPORT_POLLS} s")


USER_CLASSES: dict[ArrivalKind, type[PooledUser]] = {
    ArrivalKind.READ: ReaderUser,
    ArrivalKind.POST: PosterUser,
    ArrivalKind.CELEBRITY: CelebrityUser,
    ArrivalKind.SIGNUP: SignupUser,
    ArrivalKind.IMPORT_POLL: SignupUser,
    ArrivalKind.EDGE: EdgeUser,
    ArrivalKind.DELETE: AuthorUser,
    ArrivalKind.HIDE: AuthorUser,
    ArrivalKind.SHOW: AuthorUser,
    ArrivalKind.REPEAT: AuthorUser,
    ArrivalKind.MODERATE: OperatorUser,
    ArrivalKind.LIFT: OperatorUser,
    ArrivalKind.REPLY: ReplyUser,
    ArrivalKind.LIKE: LikeUser,
    ArrivalKind.PROBE: ProbeUser,
}
