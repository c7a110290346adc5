"""A client of the Feed API for set-up, conformance and final reads: typed results, one outcome each.

Every call answers a `Result` and raises nothing foreseeable:

    ok    2xx with a body of the contract's shape
    fail  certainly no effect: not connected, 3xx, 4xx, 429, 503
    info  unknown: timed out or reset after sending, another 5xx, a 2xx whose body cannot be read

Load is not driven through this client (`harness.load` has leaner ones). It never retries.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from types import TracebackType
from typing import Any, Generic, Self, TypeVar
from urllib.parse import quote

import httpx
import msgspec

from harness.contract.answers import (
    Flag,
    FlagList,
    Health,
    ImportState,
    Me,
    NewItems,
    Page,
    Post,
    PostAnswer,
    Posts,
    Problem,
    SignUp,
    UserRef,
)
from harness.contract.profile import Profile, RegionUrls
from harness.contract.sse_stream import EventStream
from harness.core.op import OpOutcome

TIMEOUT_S = 5.0
CONNECTIONS = 200
NOT_SENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout, httpx.UnsupportedProtocol)
"""errors raised before a byte of the request left"""

__all__ = [
    "CONNECTIONS",
    "NOT_SENT",
    "TIMEOUT_S",
    "FeedClient",
    "Flag",
    "FlagList",
    "Health",
    "ImportState",
    "Me",
    "NewItems",
    "Page",
    "Post",
    "PostAnswer",
    "Posts",
    "Problem",
    "Result",
    "SignUp",
    "UserRef",
    "outcome_of",
]

T = TypeVar("T")


class Result(msgspec.Struct, Generic[T], kw_only=True, frozen=True):
    """What came of one call."""

    outcome: OpOutcome
    value: T | None = None
    """present when outcome is ok and the answer has a body"""
    status: int = 0
    """0: no answer"""
    error: str = ""
    degraded: str = ""
    """value of Feed-Degraded"""
    headers: Mapping[str, str] = {}
    """header names in small letters"""
    problem: Problem | None = None

    @property
    def ok(self) -> bool:
        """The call took effect."""
        return self.outcome is OpOutcome.OK

    @property
    def away(self) -> bool:
        """The target said neither yes nor no: no answer, 429 or 503."""
        return self.status in (0, httpx.codes.TOO_MANY_REQUESTS, httpx.codes.SERVICE_UNAVAILABLE)

    def get(self) -> T:
        """The value. Raises ValueError, with the error text, when there is none."""
        if self.value is None:
            raise ValueError(self.error or f"status {self.status} has no body")
        return self.value


class FeedClient:
    """Talks to one region, as one user or as nobody. Cheap: views made by `at` and `user` share the connections."""

    def __init__(
        self, urls: RegionUrls, *, token: str = "", timeout_s: float = TIMEOUT_S, http: httpx.AsyncClient | None = None
    ) -> None:
        self.urls = urls
        self.token = token
        self.timeout_s = timeout_s
        self.http = http or httpx.AsyncClient(
            timeout=timeout_s,
            limits=httpx.Limits(max_connections=CONNECTIONS, max_keepalive_connections=CONNECTIONS),
            trust_env=False,
        )

    @classmethod
    def of(cls, profile: Profile, region: str, timeout_s: float = TIMEOUT_S) -> FeedClient:
        """A client of a region of the target, with connections of its own."""
        return cls(profile.regions[region], timeout_s=timeout_s)

    def at(self, urls: RegionUrls) -> FeedClient:
        """The same user at another region."""
        return FeedClient(urls, token=self.token, timeout_s=self.timeout_s, http=self.http)

    def user(self, token: str) -> FeedClient:
        """The same region as the user of that token."""
        return FeedClient(self.urls, token=token, timeout_s=self.timeout_s, http=self.http)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close the connections, those of all views included."""
        await self.http.aclose()

    async def sign_up(self, identity: str) -> Result[SignUp]:
        """Sign an inherited identity up."""
        return await self.call("POST", "/v1/users", SignUp, body={"identity": identity})

    async def me(self) -> Result[Me]:
        """The caller's profile."""
        return await self.call("GET", "/v1/users/me", Me)

    async def set_profile(self, **said: bool) -> Result[Me]:
        """Say who reads: `minor`, `safe_mode`; what is not named stays."""
        return await self.call("PATCH", "/v1/users/me", Me, body=said)

    async def import_state(self) -> Result[ImportState]:
        """How far the caller's import is."""
        return await self.call("GET", "/v1/users/me/import", ImportState)

    async def follow(self, user: str) -> Result[None]:
        """Follow a user."""
        return await self.call("PUT", f"/v1/follows/{_in_path(user)}")

    async def unfollow(self, user: str) -> Result[None]:
        """No longer follow a user."""
        return await self.call("DELETE", f"/v1/follows/{_in_path(user)}")

    async def block(self, user: str) -> Result[None]:
        """Block a user."""
        return await self.call("PUT", f"/v1/blocks/{_in_path(user)}")

    async def unblock(self, user: str) -> Result[None]:
        """Lift a block."""
        return await self.call("DELETE", f"/v1/blocks/{_in_path(user)}")

    async def like(self, post: str) -> Result[None]:
        """Like a post."""
        return await self.call("PUT", f"/v1/posts/{_in_path(post)}/like")

    async def post(
        self, text: str, reply_to: str | None = None, idempotency_key: str = "", labels: Sequence[str] = ()
    ) -> Result[PostAnswer]:
        """Write a post; status 201 when it is new, 200 when the key was used before."""
        headers = {"Idempotency-Key": idempotency_key} if idempotency_key else {}
        body: dict[str, Any] = {"text": text}
        body |= {"reply_to": reply_to} if reply_to is not None else {}
        body |= {"labels": list(labels)} if labels else {}
        return await self.call("POST", "/v1/posts", PostAnswer, body=body, headers=headers)

    async def delete(self, post: str) -> Result[None]:
        """Delete a post of one's own."""
        return await self.call("DELETE", f"/v1/posts/{_in_path(post)}")

    async def hide(self, post: str) -> Result[None]:
        """Hide a post of one's own."""
        return await self.call("PUT", f"/v1/posts/{_in_path(post)}/hide")

    async def show(self, post: str) -> Result[None]:
        """Show a post of one's own again."""
        return await self.call("DELETE", f"/v1/posts/{_in_path(post)}/hide")

    async def moderate(self, post: str) -> Result[None]:
        """Take a post out of sight, as the operator."""
        return await self.call("PUT", f"/v1/operator/posts/{_in_path(post)}/moderation")

    async def lift_moderation(self, post: str) -> Result[None]:
        """Leave a moderated post to its author again, as the operator."""
        return await self.call("DELETE", f"/v1/operator/posts/{_in_path(post)}/moderation")

    async def flags(self) -> Result[FlagList]:
        """All feature flags, as the operator."""
        return await self.call("GET", "/v1/operator/flags", FlagList)

    async def set_flag(self, name: str, value: Any) -> Result[Flag]:
        """Set a feature flag, as the operator."""
        return await self.call("PUT", f"/v1/operator/flags/{_in_path(name)}", Flag, body={"value": value})

    async def reset_flag(self, name: str) -> Result[Flag]:
        """Set a feature flag back to what the target was started with, as the operator."""
        return await self.call("DELETE", f"/v1/operator/flags/{_in_path(name)}", Flag)

    async def posts_batch(self, ids: Sequence[str]) -> Result[Posts]:
        """Look up to 100 posts up."""
        return await self.call("POST", "/v1/posts/batch", Posts, body={"ids": list(ids)})

    async def feed(self, limit: int = 50, cursor: str | None = None, seen: Sequence[str] = ()) -> Result[Page]:
        """One page of the feed; with `seen`, without those posts."""
        if seen:
            body = {"limit": limit, "cursor": cursor, "seen": list(seen)}
            return await self.call("POST", "/v1/feed", Page, body=body)
        query = {"limit": str(limit)} | ({"cursor": cursor} if cursor is not None else {})
        return await self.call("GET", "/v1/feed", Page, query=query)

    async def feed_new(self, since: str, limit: int = 800) -> Result[NewItems]:
        """What arrived after the post `since`."""
        return await self.call("GET", "/v1/feed/new", NewItems, query={"since": since, "limit": str(limit)})

    async def walk(self, limit: int = 50, max_pages: int = 1000) -> AsyncIterator[Result[Page]]:
        """The pages of the feed from the newest; ends after the last page, `max_pages`, or a result that is not ok."""
        cursor: str | None = None
        for _ in range(max_pages):
            page = await self.feed(limit, cursor)
            yield page
            if page.value is None or page.value.next_cursor is None:
                return
            cursor = page.value.next_cursor

    @asynccontextmanager
    async def stream(self, last_event_id: str = "") -> AsyncIterator[EventStream]:
        """An open stream; look at its `status` first. Raises httpx.HTTPError when there is no answer."""
        headers = self._headers() | {"Accept": "text/event-stream"}
        if last_event_id:
            headers["Last-Event-ID"] = last_event_id
        timeout = httpx.Timeout(self.timeout_s, read=None)
        request = self.http.build_request("GET", f"{self.urls.stream}/v1/stream", headers=headers, timeout=timeout)
        stream = await EventStream.open(self.http, request, self.timeout_s)
        try:
            yield stream
        finally:
            await stream.aclose()

    async def call(
        self,
        method: str,
        path: str,
        answer: type[T] | None = None,
        *,
        body: Any = None,
        content: bytes | None = None,
        query: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        base: str | None = None,
    ) -> Result[T]:
        """Any request to the api (or to `base`); `body` is sent as JSON, `content` as it is."""
        sent = self._headers() | dict(headers or {})
        if content is None and body is not None:
            content = msgspec.json.encode(body)
        if content is not None:
            sent.setdefault("Content-Type", "application/json")
        try:
            response = await self.http.request(
                method, f"{base or self.urls.api}{path}", content=content, params=query, headers=sent
            )
        except NOT_SENT as error:
            return Result(outcome=OpOutcome.FAIL, error=_said(error))
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            return Result(outcome=OpOutcome.INFO, error=_said(error))
        return _result(response, answer)

    def _headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.token}"} if self.token else {}


def _in_path(opaque_id: str) -> str:
    return quote(opaque_id, safe="")


def _said(error: Exception) -> str:
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__


def _result(response: httpx.Response, answer: type[T] | None) -> Result[T]:
    """The result of an answer, whatever it is."""
    seen = {
        "status": response.status_code,
        "headers": {name.lower(): value for name, value in response.headers.items()},
        "degraded": response.headers.get("feed-degraded", ""),
    }
    if not response.is_success:
        problem = _problem(response)
        detail = f"{response.status_code} {problem.detail if problem else response.text[:200]}".strip()
        return Result(outcome=outcome_of(response.status_code), error=detail, problem=problem, **seen)
    if answer is None:
        return Result(outcome=OpOutcome.OK, **seen)
    try:
        value = msgspec.json.decode(response.content, type=answer)
    except msgspec.DecodeError as error:
        return Result(outcome=OpOutcome.INFO, error=f"body: {error}", **seen)
    return Result(outcome=OpOutcome.OK, value=value, **seen)


def outcome_of(status: int) -> OpOutcome:
    """What an HTTP status says of the effect (DESIGN: outcomes)."""
    if 200 <= status < 300:
        return OpOutcome.OK
    return OpOutcome.FAIL if status < 500 or status == httpx.codes.SERVICE_UNAVAILABLE else OpOutcome.INFO


def _problem(response: httpx.Response) -> Problem | None:
    if not response.headers.get("content-type", "").startswith("application/problem+json"):
        return None
    try:
        return msgspec.json.decode(response.content, type=Problem)
    except msgspec.DecodeError:
        return None
