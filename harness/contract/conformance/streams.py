"""Checks of the event stream: opening, events, resume, resync, heartbeat."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import httpx
import msgspec

from harness.contract.client import FeedClient, Post, Result
from harness.contract.conformance.registry import check
from harness.contract.conformance.trial import Member, Trial, Unanswered, Violation
from harness.contract.sse_stream import EventStream

HEARTBEAT_S = 15.0
QUIET_S = 0.5
"""how long a stream is watched for what must not come"""


class EventData(msgspec.Struct, frozen=True):
    """The data of an event."""

    type: str
    id: str = ""


@asynccontextmanager
async def opened(t: Trial, api: FeedClient, last_event_id: str = "") -> AsyncIterator[EventStream]:
    """A stream that answered 200 and told its first id."""
    try:
        async with api.stream(last_event_id) as stream:
            if stream.status in (429, 503):
                raise Unanswered(f"the stream answers {stream.status}")
            t.holds(stream.status == httpx.codes.OK, f"the stream answers {stream.status}")
            streamed = stream.content_type.startswith("text/event-stream")
            t.holds(streamed, f"the content type of the stream is {stream.content_type!r}")
            first_id = await stream.first_id(t.client.timeout_s)
            t.holds(bool(first_id), "no id came within the time limit of a request")
            yield stream
    except httpx.HTTPError as error:
        raise Unanswered(f"the stream does not open: {type(error).__name__}") from error


async def next_event(t: Trial, stream: EventStream, what: str, within_s: float | None = None) -> tuple[str, EventData]:
    """Token and data of the next event, which must come in time and be well-formed."""
    within_s = within_s or t.profile.slo.visibility_s
    event = await _event_within(t, stream, within_s)
    if event is None:
        ended = f", but the stream ended: {stream.ended}" if stream.ended else ""
        raise Violation(f"waited {within_s:g} s for {what}{ended}")
    return event


async def _event_within(t: Trial, stream: EventStream, within_s: float) -> tuple[str, EventData] | None:
    """The next event that is no post of another check; None when none comes in time."""
    clock = asyncio.get_running_loop().time
    deadline = clock() + within_s
    while (event := await stream.next(deadline - clock())) is not None:
        try:
            data = msgspec.json.decode(event.data, type=EventData)
        except msgspec.DecodeError as error:
            raise Violation(f"the data of an event is not of the contract's shape: {error}") from error
        t.holds(event.type == data.type, f"the event is called {event.type!r}, its data says {data.type!r}")
        t.holds(bool(event.last_event_id), "an event has no id")
        if data.type != "new_post" or data.id in t.written:
            return event.last_event_id, data
    return None


async def expect_posts(t: Trial, stream: EventStream, posts: Sequence[Post], what: str) -> list[str]:
    """The next events must announce exactly these posts, in any order. Returns their tokens."""
    wanted = {post.id for post in posts}
    tokens: list[str] = []
    while wanted:
        token, data = await next_event(t, stream, f"{what} ({len(wanted)} of {len(posts)} missing)")
        t.holds(data.type == "new_post", f"{what}: a {data.type} came")
        t.holds(data.id in wanted, f"{what}: an event came twice, or of a post that was not expected")
        wanted.discard(data.id)
        tokens.append(token)
    return tokens


async def expect_quiet(t: Trial, stream: EventStream, what: str) -> None:
    """No event may come for a moment."""
    event = await _event_within(t, stream, QUIET_S)
    t.holds(event is None, f"{what}: an event came that was not expected: {event}")


async def _pair(t: Trial) -> tuple[Member, Member]:
    author = await t.member()
    return author, await t.follower_of(author)


@check("stream-opens", "stream")
async def opens(t: Trial) -> None:
    """A stream answers 200 text/event-stream, uncached, and first tells an id and how long to wait before a retry."""
    async with opened(t, (await t.member()).api) as stream:
        t.holds(stream.retry_ms is not None and stream.retry_ms > 0, f"the retry time is {stream.retry_ms}")
        caching = stream.headers.get("cache-control", "")
        t.holds("no-store" in caching or "no-cache" in caching, f"Cache-Control is {caching!r}")


@check("stream-token-missing", "stream")
async def without_token(t: Trial) -> None:
    """A stream without a valid token answers 401."""
    for api in (t.client, t.client.user("x")):
        answer: Result[None] = await api.call("GET", "/v1/stream", base=api.urls.stream)
        t.refused(answer, 401, "a stream without a valid token")


@check("stream-event", "stream")
async def event_in_time(t: Trial) -> None:
    """A new post is announced to an open stream within the visibility bound, once, and can be read by then."""
    author, reader = await _pair(t)
    async with opened(t, reader.api) as stream:
        for _ in range(3):
            post = await t.post(author)
            await expect_posts(t, stream, [post], "the event of a new post")
            t.holds(post.id in await t.feed_ids(reader), "a post was announced before it could be read")
        await expect_quiet(t, stream, "after all posts were announced")


@check("stream-only-eligible", "stream")
async def only_eligible(t: Trial) -> None:
    """Posts of authors the listener does not follow, or no longer, are not announced."""
    author, reader = await _pair(t)
    former, stranger = await t.member(), await t.member()
    t.done(await reader.api.follow(former.id), "follow")
    t.done(await reader.api.unfollow(former.id), "unfollow")
    t.done(await reader.api.unfollow(stranger.id), "unfollow")
    async with opened(t, reader.api) as stream:
        for other in (stranger, former):
            await t.post(other)
        await expect_posts(t, stream, [await t.post(author)], "the first event")
        await expect_quiet(t, stream, "posts of others")


@check("stream-ids-rise", "stream")
async def ids_rise(t: Trial) -> None:
    """Ids of a stream are distinct, and rise in their last part while the part before it stays."""
    author, reader = await _pair(t)
    async with opened(t, reader.api) as stream:
        tokens = [stream.last_event_id]
        for _ in range(5):
            tokens += await expect_posts(t, stream, [await t.post(author)], "the event of a new post")
    t.holds(len(set(tokens)) == len(tokens), f"an id came twice: {tokens}")
    parts = [token.rpartition(".") for token in tokens]
    for (epoch, _, before), (same, _, after) in itertools.pairwise(parts):
        if epoch == same and before.isdecimal() and after.isdecimal():
            t.holds(int(before) < int(after), f"ids fall: {tokens}")


@check("stream-two-of-one-user", "stream")
async def two_streams(t: Trial) -> None:
    """Two streams of one user both get every event."""
    author, reader = await _pair(t)
    async with opened(t, reader.api) as first, opened(t, reader.api) as second:
        post = await t.post(author)
        for stream in (first, second):
            await expect_posts(t, stream, [post], "the event on each of two streams")


@check("stream-resume", "stream", "resume")
async def resume(t: Trial) -> None:
    """A stream resumed from any id gives exactly the events after it, each once, and then new ones."""
    author, reader = await _pair(t)
    async with opened(t, reader.api) as stream:
        tokens = [stream.last_event_id]
        posts = [await t.post(author) for _ in range(2)]
        tokens += await expect_posts(t, stream, posts, "the events of new posts")
    missed = [await t.post(author) for _ in range(3)]
    for post in missed:
        await t.shows(reader, post)
    async with opened(t, reader.api, tokens[-1]) as resumed:
        await expect_posts(t, resumed, missed, "the events missed")
        await expect_posts(t, resumed, [await t.post(author)], "a new event on a resumed stream")
        await expect_quiet(t, resumed, "after all missed events came")
    async with opened(t, reader.api, tokens[0]) as from_head:
        await expect_posts(t, from_head, [*posts, *missed], "the events since the first id")


@check("stream-resume-first-id", "stream", "resume")
async def first_id_of_resumed(t: Trial) -> None:
    """The first id of a resumed stream loses nothing: a listener cut off right after it still gets all it missed."""
    author, reader = await _pair(t)
    async with opened(t, reader.api) as stream:
        head = stream.last_event_id
    missed = [await t.post(author) for _ in range(2)]
    for post in missed:
        await t.shows(reader, post)
    async with opened(t, reader.api, head) as resumed:
        first = await resumed.first_id(t.client.timeout_s)
    async with opened(t, reader.api, first) as again:
        await expect_posts(t, again, missed, "the events missed, resumed from the first id of a resumed stream")


@check("stream-resync", "stream", "resume")
async def resync(t: Trial) -> None:
    """A Last-Event-ID that cannot be used is answered by a resync with a usable id, never by an error."""
    author, reader = await _pair(t)
    for unusable in ("garbage", "other.1.2", "99999999999999999999999", "a.b.c", "x" * 200):
        async with opened(t, reader.api, unusable) as stream:
            _, data = await next_event(t, stream, f"a resync after Last-Event-ID {unusable[:20]!r}")
            t.holds(data.type == "resync", f"Last-Event-ID {unusable[:20]!r} is answered by {data.type}")
            head = stream.last_event_id
    post = await t.post(author)
    async with opened(t, reader.api, head) as resumed:
        await expect_posts(t, resumed, [post], "the event after a resync")


@check("stream-heartbeat", "stream")
async def heartbeat(t: Trial) -> None:
    """A silent stream sends a comment every 15 seconds."""
    async with opened(t, (await t.member()).api) as stream:
        within_s = HEARTBEAT_S + 5.0
        t.holds(await stream.heartbeat(within_s), f"no comment within {within_s:g} s {stream.ended}")


@check("stream-delete", "stream", "delete", "resume")
async def deleted_not_replayed(t: Trial) -> None:
    """What a resumed stream announces can be read; a deleted post may be announced but not be read."""
    author, reader = await _pair(t)
    async with opened(t, reader.api) as stream:
        head = stream.last_event_id
    gone, kept = await t.post(author), await t.post(author)
    await t.shows(reader, kept)
    t.done(await author.api.delete(gone.id), "delete")
    await t.hides(reader, gone, "a deleted post")
    async with opened(t, reader.api, head) as resumed:
        while (await next_event(t, resumed, "the event of the post that stays"))[1].id != kept.id:
            pass
    t.holds(gone.id not in await t.feed_ids(reader), "a deleted post can be read after it was announced")
