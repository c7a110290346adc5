"""The Locust users. Importing this module imports Locust, which patches the whole process for gevent.

`FeedUser` knows the ops of the contract; each records one row, its latency counted from the due time, and
feeds Locust's own statistics. The pooled classes take arrivals from `harness.load.work` when they are due.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any, Protocol
from urllib.parse import quote

import gevent
import msgspec
from locust import constant, task
from locust.contrib.fasthttp import FastHttpUser

from harness.core.clock import NS_PER_MS, NS_PER_S, now_ns
from harness.core.op import Op, OpKind, OpOutcome, text_hash
from harness.load.context import LoadContext, PendingImport
from harness.load.members import home_region
from harness.load.schedule import Arrival, ArrivalKind, post_text
from harness.load.sessions import Roster, Session
from harness.load.wire import (
    IMPORT_DONE,
    ImportAnswer,
    PageAnswer,
    PostAnswer,
    SignUpAnswer,
    fill_items,
    outcome_of_error,
    outcome_of_status,
)

POST_TIMEOUT_S = 10.0
READ_TIMEOUT_S = 5.0
IMPORT_POLL_S = 1.0
IMPORT_POLLS = 60
CUT = "cut: the run ended"


class OpFailed(Exception):
    """An op that was not ok, as Locust's statistics show it."""


class Results(Protocol):
    """Where finished ops go."""

    def next_id(self) -> int:
        """A new op id."""
        ...

    def record(self, op: Op) -> None:
        """Take one finished op."""
        ...


class _Silence:
    """Takes the place of Locust's request event in the HTTP client: we fire our own, from the due time."""

    def fire(self, **_: Any) -> None:
        """Drop it."""


@dataclass(frozen=True)
class Exchange:
    """One request and what came of it."""

    sent_ns: int
    done_ns: int
    outcome: OpOutcome
    status: int = 0
    error: str = ""
    content: bytes = b""
    degraded: str = ""


class FeedUser(FastHttpUser):  # type: ignore[misc]
    """Does the ops of the contract. Never retries a write; a dead kept-alive connection is replaced before use."""

    abstract = True
    host = "http://127.0.0.1"
    concurrency = 1
    max_redirects = 0
    network_timeout = READ_TIMEOUT_S
    connection_timeout = READ_TIMEOUT_S
    results: Results

    def __init__(self, environment: Any) -> None:
        super().__init__(environment)
        self.client.request_event = _Silence()

    def api(self, region: str) -> str:
        """Base URL of a region's api."""
        raise NotImplementedError

    def token(self, user: int) -> str:
        """The token of a user; empty when there is none."""
        raise NotImplementedError

    def problem(self, op: Op) -> str:
        """What is wrong with an op that is ok, for Locust's statistics only; the judge finds out by itself."""
        return ""

    def sign_up(self, session: Session, identity: str, due_ns: int) -> tuple[Op, SignUpAnswer | None]:
        """POST /v1/users."""
        op = self._begin(OpKind.SIGNUP, session, due_ns)
        body = msgspec.json.encode({"identity": identity})
        exchange = self._exchange(op, "POST", "/v1/users", body)
        answer = self._answer(op, exchange, SignUpAnswer)
        self.report(op, exchange)
        return op, answer

    def write_post(self, session: Session, text: str, key: str, due_ns: int, celebrity: bool = False) -> Op:
        """POST /v1/posts. The session's next read begins a new walk, so that it covers the post."""
        op = self._begin(OpKind.POST, session, due_ns)
        op.author, op.text_hash, op.idempotency_key, op.celebrity = session.user, text_hash(text), key, celebrity
        session.end_walk()
        exchange = self._exchange(
            op, "POST", "/v1/posts", msgspec.json.encode({"text": text}), {"Idempotency-Key": key}
        )
        if answer := self._answer(op, exchange, PostAnswer):
            op.post, op.ts_us = answer.post.id, answer.post.created_at_us
        self.report(op, exchange)
        return op

    def read_page(self, session: Session, due_ns: int, limit: int, pages: int) -> Op:
        """GET /v1/feed: the next page of the session's walk, or the first of a new one of `pages` pages."""
        session.begin_page(limit, pages)
        op = self._begin(OpKind.FEED, session, due_ns)
        op.walk, op.page, op.limit, op.cursor = session.walk, session.page, session.limit, session.cursor
        path = f"/v1/feed?limit={session.limit}" + (
            f"&cursor={quote(session.cursor, safe='')}" if session.cursor else ""
        )
        session.end_walk()
        exchange = self._exchange(op, "GET", path)
        if (answer := self._answer(op, exchange, PageAnswer)) is not None:
            fill_items(op, answer.items)
            op.next_cursor = answer.next_cursor or ""
            session.end_page(op.next_cursor)
        self.report(op, exchange)
        return op

    def import_done(self, session: Session) -> bool:
        """GET /v1/users/me/import; False when it is not finished, or not known. Records nothing."""
        op = self._begin(OpKind.IMPORT, session, now_ns())
        answer = self._answer(op, self._exchange(op, "GET", "/v1/users/me/import"), ImportAnswer)
        return answer is not None and answer.state == IMPORT_DONE

    def record_import(self, pending: PendingImport, done_ns: int, error: str = "") -> None:
        """The row of an import: ok when it was seen finished, info when we stopped looking."""
        op = self._begin(OpKind.IMPORT, pending.session, pending.due_ns)
        op.done_ns, op.error = done_ns, error
        op.outcome = OpOutcome.INFO if error else OpOutcome.OK
        self.report(op, Exchange(op.sent_ns, done_ns, op.outcome))

    def report(self, op: Op, exchange: Exchange) -> None:
        """Record a finished op, and tell Locust."""
        self.results.record(op)
        problem = op.error or f"{op.outcome}: {op.status}" if op.outcome is not OpOutcome.OK else self.problem(op)
        self.environment.events.request.fire(
            request_type="FEED",
            name=str(op.kind),
            response_time=(op.done_ns - op.due_ns) / NS_PER_MS,
            response_length=len(exchange.content),
            response=None,
            context={},
            exception=OpFailed(problem) if problem else None,
            start_time=time.time(),
            url=op.region,
        )

    def _begin(self, kind: OpKind, session: Session, due_ns: int) -> Op:
        now = now_ns()
        return Op(
            id=self.results.next_id(),
            kind=kind,
            session=session.name,
            user=session.user,
            region=session.region,
            due_ns=due_ns,
            sent_ns=now,
            done_ns=now,
            outcome=OpOutcome.INFO,
        )

    def _exchange(
        self, op: Op, method: str, path: str, body: bytes | None = None, headers: dict[str, str] | None = None
    ) -> Exchange:
        """Send one request as the op's user; the op is recorded as info when this user is stopped meanwhile."""
        sent = {"Accept-Encoding": "identity", **(headers or {})}
        if token := self.token(op.user):
            sent["Authorization"] = f"Bearer {token}"
        if body is not None:
            sent["Content-Type"] = "application/json"
        op.sent_ns = now_ns()
        try:
            response = self.client.request(method, self.api(op.region) + path, data=body, headers=sent)
        except gevent.GreenletExit:
            op.done_ns, op.error = now_ns(), CUT
            if op.kind is not OpKind.IMPORT:
                self.results.record(op)
            raise
        done_ns = now_ns()
        status = int(response.status_code or 0)
        error = getattr(response, "error", None)
        if status == 0:
            kind = outcome_of_error(error) if error is not None else OpOutcome.INFO
            return Exchange(op.sent_ns, done_ns, kind, error=f"{type(error).__name__}: {error}"[:200])
        outcome = outcome_of_status(status)
        content = bytes(response.content or b"")
        text = "" if outcome is OpOutcome.OK else f"{status} {content[:200].decode(errors='replace')}"
        degraded = response.headers.get("feed-degraded", "") if response.headers else ""
        return Exchange(op.sent_ns, done_ns, outcome, status, text, content, str(degraded or ""))

    def _answer(self, op: Op, exchange: Exchange, kind: type[Any]) -> Any:
        """Fill the op from the exchange; the decoded body when it is ok, else None."""
        op.sent_ns, op.done_ns, op.outcome = exchange.sent_ns, exchange.done_ns, exchange.outcome
        op.status, op.error, op.degraded = exchange.status, exchange.error, exchange.degraded
        if exchange.outcome is not OpOutcome.OK:
            return None
        try:
            return msgspec.json.decode(exchange.content, type=kind)
        except msgspec.DecodeError as error:
            op.outcome, op.error = OpOutcome.INFO, f"body: {error}"
            return None


class PooledUser(FeedUser):
    """One of a pool: takes the next arrival of its class, does it, and is free again."""

    abstract = True
    wait_time = constant(0)
    load: LoadContext
    """set on the class by the process that runs it"""

    def api(self, region: str) -> str:
        """From the plan."""
        return self.load.plan.regions[region].api

    def token(self, user: int) -> str:
        """From the tokens file, or from the sign-up."""
        return self.load.tokens.get(user, "")

    @task  # type: ignore[untyped-decorator]
    def one_arrival(self) -> None:
        """Do one op."""
        name = type(self).__name__
        arrival = self.load.work.take(name)
        try:
            self.perform(arrival, self.load.work.t0_ns + arrival.due_ns)
        finally:
            self.load.work.done(name)

    def perform(self, arrival: Arrival, due_ns: int) -> None:
        """Do the op of an arrival."""
        raise NotImplementedError

    def skip(self) -> None:
        """Nobody could do it."""
        self.load.work.skipped += 1


class ReaderUser(PooledUser):
    """Reads feeds, for the panel's sessions and for readers who come once."""

    def perform(self, arrival: Arrival, due_ns: int) -> None:
        """One page."""
        if arrival.panel:
            panel = self.load.panel
            session = panel.take(arrival.actor)
            try:
                self.read_page(session, due_ns, arrival.limit, arrival.pages)
            finally:
                panel.give_back(session)
        elif guest := self.load.reader_session(arrival.actor, arrival.number):
            self.read_page(guest, due_ns, arrival.limit, 1)
        else:
            self.skip()


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

    def post_from(self, roster: Roster, arrival: Arrival, due_ns: int) -> None:
        """One post by a free session of the roster."""
        session = roster.take(arrival.actor)
        try:
            self.post_as(session, arrival, due_ns)
        finally:
            roster.give_back(session)

    def post_as(self, session: Session, arrival: Arrival, due_ns: int) -> None:
        """One post by a session."""
        text = post_text(self.load.plan, arrival.kind, arrival.number)
        key = self.load.idempotency_key(arrival.kind, arrival.number)
        self.write_post(session, text, key, due_ns, celebrity=arrival.kind is ArrivalKind.CELEBRITY)


class CelebrityUser(PosterUser):
    """Posts as the celebrities."""

    def perform(self, arrival: Arrival, due_ns: int) -> None:
        """One celebrity post."""
        self.post_from(self.load.celebrities, arrival, due_ns)


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
}
