"""The Locust users who act on what a panel session saw: replies, likes, probes of cursors.

Importing this module imports Locust, which patches the whole process for gevent.
"""

from __future__ import annotations

from dataclasses import replace

from harness.core.clock import now_ns
from harness.core.op import OpKind, OpOutcome, user_number
from harness.load.arrival_kinds import Arrival
from harness.load.bad_cursor import tampered
from harness.load.plan import EXPIRED
from harness.load.pooled_user import POST_TIMEOUT_S, PooledUser
from harness.load.schedule import post_text
from harness.load.sessions import Session
from harness.load.wire import SeenPost

NEWEST = 5
"""posts that are answered and liked are among this many newest of a page, as people do"""
PROBE_LIMIT = 5
"""page size of the walk a probe begins: small, so that it has a next page"""
PROBE_PAGES = 3


class _PanelUser(PooledUser):
    """Does something to a post that a panel session has on its page."""

    abstract = True
    network_timeout = POST_TIMEOUT_S

    def perform(self, arrival: Arrival, due_ns: int) -> None:
        """By the preferred session, or the next that saw a post of ours; by nobody when none did."""
        session = self.load.panel.take_fitting(arrival.actor, lambda s: bool(self.answerable(s)))
        if session is None:
            self.skip()
            return
        try:
            posts = self.answerable(session)
            self.act(arrival, session, posts[arrival.actor % min(len(posts), NEWEST)], due_ns)
        finally:
            self.load.panel.give_back(session)

    def answerable(self, session: Session) -> list[SeenPost]:
        """Posts of others on the session's page, written during the run, that nothing takes out of sight."""
        lasts = self.load.written.lasts
        return [item for item in session.shown if lasts(item.id) and user_number(item.author) != session.user]

    def act(self, arrival: Arrival, session: Session, item: SeenPost, due_ns: int) -> None:
        """Do it."""
        raise NotImplementedError


class ReplyUser(_PanelUser):
    """Answers posts."""

    def act(self, arrival: Arrival, session: Session, item: SeenPost, due_ns: int) -> None:
        """One reply."""
        text = post_text(self.load.plan, arrival.kind, arrival.number)
        key = self.load.idempotency_key(arrival.kind, arrival.number)
        op = self.write_post(session, text, key, due_ns, reply_to=item.id)
        if op.outcome is OpOutcome.OK:
            self.load.written.add(op, None)


class LikeUser(_PanelUser):
    """Likes posts."""

    def act(self, arrival: Arrival, session: Session, item: SeenPost, due_ns: int) -> None:
        """One like."""
        self.change(OpKind.LIKE, session, item.id, due_ns, post=item.id, author=user_number(item.author))


class ProbeUser(PooledUser):
    """Asks for pages with cursors that must not be taken, and with its own at another region."""

    def perform(self, arrival: Arrival, due_ns: int) -> None:
        """One probe; nobody can make it who was given no cursor, or none that is expired by now."""
        panel = self.load.panel
        is_old = arrival.variant == EXPIRED
        session = panel.take_fitting(arrival.actor, self.has_expired) if is_old else panel.take(arrival.actor)
        if session is None:
            self.skip()
            return
        try:
            if is_old:
                self.probe(session, arrival.variant, session.oldest[1], due_ns)
            elif not self.try_cursor(arrival, session, due_ns):
                self.skip()
        finally:
            panel.give_back(session)

    def has_expired(self, session: Session) -> bool:
        """Whether the session was given a cursor so long ago that it is expired."""
        given_ns, cursor = session.oldest
        return bool(cursor) and now_ns() - given_ns > self.load.plan.expired_after_ns

    def try_cursor(self, arrival: Arrival, session: Session, due_ns: int) -> bool:
        """Use the session's cursor as the variant says, after a read when it is in no walk; False when nobody can."""
        if not session.cursor:
            due_ns = self.read_page(session, due_ns, PROBE_LIMIT, PROBE_PAGES).done_ns
        if not session.cursor:
            return False
        match arrival.variant:
            case "tampered":
                self.probe(session, arrival.variant, tampered(session.cursor, arrival.actor), due_ns)
            case "foreign":
                return self.try_as_another(arrival, session, due_ns)
            case "other_node":
                return self.try_elsewhere(arrival, session, due_ns)
        return True

    def try_as_another(self, arrival: Arrival, session: Session, due_ns: int) -> bool:
        """Another user of the panel sends the cursor."""
        panel = self.load.panel
        other = panel.take_fitting(arrival.actor + 1, lambda s: s.user != session.user)
        if other is None:
            return False
        try:
            self.probe(other, arrival.variant, session.cursor, due_ns)
        finally:
            panel.give_back(other)
        return True

    def try_elsewhere(self, arrival: Arrival, session: Session, due_ns: int) -> bool:
        """The next page of the walk at home, then the same page at another region."""
        others = [name for name in self.load.plan.regions if name != session.region]
        if not others:
            return False
        own = self.read_page(session, due_ns, PROBE_LIMIT, PROBE_PAGES)
        if session.cursor and not own.cursor:  # the walk was at its end: this was the first page of a new one
            own = self.read_page(session, own.done_ns, PROBE_LIMIT, PROBE_PAGES)
        if own.outcome is OpOutcome.OK and own.cursor:
            there = replace(session, region=others[arrival.actor % len(others)])
            self.probe(there, arrival.variant, own.cursor, own.done_ns, own)
        return True
