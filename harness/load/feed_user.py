"""A Locust user that knows the ops of the contract. Importing this module imports Locust, which patches the process.

Each op records one row, its latency counted from the due time, and feeds Locust's own statistics. What is due when, and
who does it, is decided elsewhere: `harness.load.users` for a run, `scenarios/locustfile.py` for plain Locust.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any, Protocol
from urllib.parse import quote

import gevent
import msgspec
from locust.contrib.fasthttp import FastHttpUser

from harness.core.clock import NS_PER_MS, now_ns
from harness.core.op import Op, OpKind, OpOutcome, text_hash
from harness.load.context import PendingImport
from harness.load.http_connection import BadAnswer, HttpConnection
from harness.load.plan import OTHER_NODE
from harness.load.sessions import Session
from harness.load.wire import (
    IMPORT_DONE,
    ImportAnswer,
    Page,
    PageAnswer,
    PostAnswer,
    PostsAnswer,
    SeenPost,
    SignUpAnswer,
    decode,
    outcome_of_error,
    outcome_of_status,
    seen,
)
from harness.record.history import Shown

READ_TIMEOUT_S = 5.0
PROBE_PAGE = 50
"""page size of a probe by a session that never read"""
CUT = "cut: the run ended"
CHANGES: dict[OpKind, tuple[str, str]] = {
    OpKind.FOLLOW: ("PUT", "/v1/follows/{}"),
    OpKind.UNFOLLOW: ("DELETE", "/v1/follows/{}"),
    OpKind.BLOCK: ("PUT", "/v1/blocks/{}"),
    OpKind.UNBLOCK: ("DELETE", "/v1/blocks/{}"),
    OpKind.LIKE: ("PUT", "/v1/posts/{}/like"),
    OpKind.DELETE: ("DELETE", "/v1/posts/{}"),
    OpKind.HIDE: ("PUT", "/v1/posts/{}/hide"),
    OpKind.SHOW: ("DELETE", "/v1/posts/{}/hide"),
    OpKind.MODERATE: ("PUT", "/v1/operator/posts/{}/moderation"),
    OpKind.LIFT: ("DELETE", "/v1/operator/posts/{}/moderation"),
}
"""writes without a body, answered 204: kind -> (method, path with the user or post that is meant)"""


class OpFailed(Exception):
    """An op that was not ok, as Locust's statistics show it."""


class Results(Protocol):
    """Where finished ops go."""

    def next_id(self) -> int:
        """A new op id."""
        ...

    def record(self, op: Op, shown: Sequence[Shown] = ()) -> None:
        """Take one finished op, with what its answer showed."""
        ...


class Exchange(msgspec.Struct, frozen=True):
    """One request and what came of it."""

    sent_ns: int
    done_ns: int
    outcome: OpOutcome
    status: int = 0
    error: str = ""
    content: bytes = b""
    degraded: str = ""


class FeedUser(FastHttpUser):  # type: ignore[misc]
    """Does the ops of the contract, each on a connection of its own region, and sends none of them twice.

    `self.client` is Locust's, for requests of a subclass that are no ops. Ops do not use it: no cookies, no redirects,
    no event of its own, as we fire ours, from the due time; a request costs less than half (docs/adr 20).
    """

    abstract = True
    host = "http://127.0.0.1"
    network_timeout = READ_TIMEOUT_S
    connection_timeout = READ_TIMEOUT_S
    results: Results

    def __init__(self, environment: Any) -> None:
        super().__init__(environment)
        self._connections: dict[str, HttpConnection] = {}

    def api(self, region: str) -> str:
        """Base URL of a region's api."""
        raise NotImplementedError

    def token(self, user: int) -> str:
        """The token of a user; empty when there is none."""
        raise NotImplementedError

    def problem(self, op: Op, shown: Sequence[SeenPost]) -> str:
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

    def write_post(
        self, session: Session, text: str, key: str, due_ns: int, celebrity: bool = False, reply_to: str = ""
    ) -> Op:
        """POST /v1/posts. The session's next read begins a new walk, so that it covers the post."""
        op = self._begin(OpKind.POST, session, due_ns)
        op.author, op.text_hash, op.idempotency_key, op.celebrity = session.user, text_hash(text), key, celebrity
        op.reply_to = reply_to
        session.end_walk()
        body = msgspec.json.encode({"text": text} | ({"reply_to": reply_to} if reply_to else {}))
        exchange = self._exchange(op, "POST", "/v1/posts", body, {"Idempotency-Key": key})
        if answer := self._answer(op, exchange, PostAnswer):
            op.post, op.ts_us = answer.post.id, answer.post.created_at_us
        self.report(op, exchange)
        return op

    def read_page(self, session: Session, due_ns: int, limit: int, pages: int) -> Op:
        """GET /v1/feed: the next page of the session's walk, or the first of a new one of `pages` pages."""
        session.begin_page(limit, pages)
        op = self._begin(OpKind.FEED, session, due_ns)
        op.walk, op.page, op.limit, op.cursor = session.walk, session.page, session.limit, session.cursor
        session.end_walk()
        answer = self._page(op)
        if answer is not None:
            session.shown = answer.items
            session.end_page(op.next_cursor, op.done_ns)
        return op

    def probe(self, session: Session, variant: str, cursor: str, due_ns: int, own: Op | None = None) -> Op:
        """GET /v1/feed with a cursor that `variant` names; nothing of the session's walk changes.

        `own`: the session's own read of the same page, when it is asked for at another region, `session.region`.
        """
        op = self._begin(OpKind.PROBE, session, due_ns)
        op.variant, op.cursor, op.limit = variant, cursor, session.limit or PROBE_PAGE
        if own is not None:
            op.walk, op.page, op.limit = own.walk, own.page, own.limit
        self._page(op)
        return op

    def change(self, kind: OpKind, session: Session, meant: str, due_ns: int, post: str = "", author: int = -1) -> Op:
        """One of CHANGES; `meant` is the user or post in its path."""
        op = self._begin(kind, session, due_ns)
        op.post, op.author = post, author
        method, path = CHANGES[kind]
        exchange = self._exchange(op, method, path.format(quote(meant, safe="")))
        self._take(op, exchange)
        self.report(op, exchange)
        return op

    def look_up(self, session: Session, posts: Sequence[str], due_ns: int) -> None:
        """POST /v1/posts/batch: one request, and a row for each post."""
        ops = [self._begin(OpKind.FETCH, session, due_ns) for _ in posts]
        exchange = self._exchange(ops[0], "POST", "/v1/posts/batch", msgspec.json.encode({"ids": posts}))
        for op, post in zip(ops, posts, strict=True):
            op.post = post
            if (answer := self._answer(op, exchange, PostsAnswer)) is not None:
                self.report(op, exchange, [seen(item) for item in answer.posts if item.id == post])
            else:
                self.report(op, exchange)

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

    def report(self, op: Op, exchange: Exchange, shown: Sequence[SeenPost] = ()) -> None:
        """Record a finished op with what its answer showed, and tell Locust."""
        self.results.record(op, shown)
        problem = _trouble(op) or self.problem(op, shown)
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

    def _page(self, op: Op) -> Page | None:
        """Ask for the feed page that the op names, and record it."""
        cursor = f"&cursor={quote(op.cursor, safe='')}" if op.cursor else ""
        exchange = self._exchange(op, "GET", f"/v1/feed?limit={op.limit}{cursor}")
        answer: Page | None = self._answer(op, exchange, PageAnswer)
        if answer is not None:
            op.next_cursor = answer.next_cursor or ""
        self.report(op, exchange, answer.items if answer is not None else ())
        return answer

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
        sent = headers or {}
        if token := self.token(op.user):
            sent["Authorization"] = f"Bearer {token}"
        if body is not None:
            sent["Content-Type"] = "application/json"
        connection = self._connection(self.api(op.region))
        op.sent_ns = now_ns()
        try:
            status, told, content = connection.request(method, path, sent, body)
        except gevent.GreenletExit:
            op.done_ns, op.error = now_ns(), CUT
            if op.kind is not OpKind.IMPORT:
                self.results.record(op)
            raise
        except (OSError, BadAnswer, ValueError) as error:
            text = f"{type(error).__name__}: {error}"[:200]
            return Exchange(op.sent_ns, now_ns(), outcome_of_error(error), error=text)
        done_ns, outcome = now_ns(), outcome_of_status(status)
        text = "" if outcome is OpOutcome.OK else f"{status} {content[:200].decode(errors='replace')}"
        degraded = told.get(b"feed-degraded", b"").decode("latin-1")
        return Exchange(op.sent_ns, done_ns, outcome, status, text, content, degraded)

    def _connection(self, base: str) -> HttpConnection:
        """The connection to a base URL."""
        known = self._connections.get(base)
        if known is None:
            known = HttpConnection(base, self.network_timeout, verify=not self.insecure)
            self._connections[base] = known
        return known

    def _answer(self, op: Op, exchange: Exchange, kind: type[Any]) -> Any:
        """Fill the op from the exchange; the decoded body when it is ok, else None."""
        self._take(op, exchange)
        if exchange.outcome is not OpOutcome.OK:
            return None
        try:
            return decode(exchange.content, kind)
        except msgspec.DecodeError as error:
            op.outcome, op.error = OpOutcome.INFO, f"body: {error}"
            return None

    def _take(self, op: Op, exchange: Exchange) -> None:
        """Fill the op from the exchange."""
        op.sent_ns, op.done_ns, op.outcome = exchange.sent_ns, exchange.done_ns, exchange.outcome
        op.status, op.error, op.degraded = exchange.status, exchange.error, exchange.degraded


def _trouble(op: Op) -> str:
    """Why an op is a failure in Locust's statistics; a probe with a bad cursor is to be refused."""
    if op.kind is OpKind.PROBE and op.variant != OTHER_NODE:
        return "" if 400 <= op.status < 500 else f"a cursor that is {op.variant} was answered {op.status} {op.error}"
    return "" if op.outcome is OpOutcome.OK else op.error or f"{op.outcome}: {op.status}"
