"""POST /v1/posts, DELETE /v1/posts/{id}, PUT /v1/posts/{id}/like, POST /v1/posts/batch."""

from __future__ import annotations

import re
import time
from functools import partial
from typing import Annotated, Literal

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from reference_server import stages
from reference_server.api import measures
from reference_server.api.bodies import Known, render
from reference_server.api.edges import append_edge
from reference_server.api.graph_view import GraphUnavailable
from reference_server.api.hybrid_clock import now_us
from reference_server.api.parts import Parts, parts_of, queue_failures
from reference_server.api.post_ids import from_text, new_post_id
from reference_server.api.problems import Problem
from reference_server.api.requests import caller, json_body
from reference_server.api.standing import standing_of
from reference_server.events import DeleteEvent, Label, PostEvent
from reference_server.queue import RecentPost
from reference_server.timeline.entry import Status

_KEY = re.compile(r"[\x21-\x7e]{1,64}", re.ASCII)


class PostRequest(msgspec.Struct):
    """Body of POST /v1/posts."""

    text: Annotated[str, msgspec.Meta(min_length=1, max_length=500)]
    reply_to: Annotated[str, msgspec.Meta(min_length=1, max_length=64)] | None = None
    labels: Annotated[list[Literal["adult", "sensitive"]], msgspec.Meta(max_length=8)] = []

    @property
    def label_bits(self) -> int:
        """The labels as bits of `events.Label`."""
        return sum({Label[name.upper()] for name in self.labels})


class BatchRequest(msgspec.Struct):
    """Body of POST /v1/posts/batch."""

    ids: Annotated[list[str], msgspec.Meta(min_length=1, max_length=100)]


_post_decoder = msgspec.json.Decoder(PostRequest)
_batch_decoder = msgspec.json.Decoder(BatchRequest)


async def create_post(request: Request) -> Response:
    """201: durable. 200: the key was used before, the post it wrote."""
    parts = parts_of(request)
    author = caller(request, parts.secret, parts.users)
    key = request.headers.get("idempotency-key")
    if key is not None and not _KEY.fullmatch(key):
        raise Problem("bad-request", "Idempotency-Key: must be 1 to 64 printable ASCII characters")
    asked = await json_body(request, _post_decoder)
    reply_to = await _parent(parts, asked.reply_to)
    celeb = await _is_celebrity(parts, author)
    now, started = now_us(), time.perf_counter()
    origin, labels = parts.region.name, asked.label_bits
    event = PostEvent(new_post_id(now), author, now, asked.text, origin, reply_to, celeb, labels)
    if parts.write_defects.acks_early:
        return _acknowledged_early(parts, event, key)
    with queue_failures(), parts.own_posts.changing(author):
        accepted = await parts.queue.accept_post(
            author, event.id, asked.text, reply_to, key, celeb, now, origin, labels
        )
    taken_s = time.perf_counter() - started
    measures.ACCEPT_SECONDS.observe(taken_s)
    if accepted.duplicate:
        measures.POSTS.labels("repeated").inc()
        return _post_answer(await _repeated(parts, accepted.id), 200)
    if parts.write_defects.refuses():
        raise Problem("unavailable", "the post queue does not answer")
    measures.POSTS.labels("accepted").inc()
    stages.passed("accept", accepted.id, taken_s, parts.flags.now.trace_one_in)
    event.ts_us = accepted.ts_us
    body = render(event)
    parts.own_posts.accepted(author, RecentPost(accepted.ts_us, accepted.id))
    parts.bodies.accepted(accepted.id, body)
    return _post_answer(body, 201)


def _acknowledged_early(parts: Parts, event: PostEvent, key: str | None) -> Response:
    """The planted defect "ack-before-durable"."""
    body = render(event)
    accept = partial(parts.queue.accept_post, event.author, event.id, event.text, event.reply_to, key, event.celeb)
    parts.write_defects.write_later(partial(accept, event.ts_us, event.origin, event.labels))
    parts.own_posts.accepted(event.author, RecentPost(event.ts_us, event.id))
    parts.bodies.accepted(event.id, body)
    return _post_answer(body, 201)


async def _is_celebrity(parts: Parts, author: int) -> bool:
    """Whether the author's posts take the throttled path (flag celebrity_warm_list).

    Raises Problem("unavailable") when that was never known: on the wrong path posts would overtake each other.
    """
    if not parts.flags.now.celebrity_warm_list:
        return False
    try:
        return await parts.graph.is_celebrity(author)
    except GraphUnavailable as error:
        raise Problem("unavailable", "the graph does not answer") from error


async def _parent(parts: Parts, text: str | None) -> bytes:
    """The id of the post that is answered, b"" for none. Raises Problem("not-found")."""
    if text is None:
        return b""
    parent = from_text(text)
    known = await _known(parts, parent)
    if parent is None or known is None or known.deleted:
        raise Problem("not-found", "reply_to: no such post")
    return parent


async def _repeated(parts: Parts, post_id: bytes) -> bytes:
    hydrated = await parts.bodies.get([post_id])
    body = hydrated.visible(post_id)
    if body is not None:
        return body
    if hydrated.degraded:
        raise Problem("unavailable", "the post of this Idempotency-Key cannot be read now")
    raise Problem("gone", "the post of this Idempotency-Key was deleted or hidden")


def _post_answer(body: bytes, status: int) -> Response:
    return Response(b'{"post":%b}' % body, status, media_type="application/json")


async def _known(parts: Parts, post_id: bytes | None) -> Known | None:
    if post_id is None:
        return None
    with queue_failures():
        return await parts.bodies.known(post_id)


async def delete_post(request: Request) -> Response:
    """204 also when it was deleted before."""
    parts = parts_of(request)
    user = caller(request, parts.secret, parts.users)
    post_id = from_text(request.path_params["id"])
    known = await _known(parts, post_id)
    if post_id is None or known is None:
        raise Problem("not-found", "no such post")
    if known.deleted and known.author in (user, -1):  # a tombstone may not know whose post it stands for
        known = await _hidden(parts, post_id)
    if known is not None and known.author != user:
        raise Problem("forbidden", "only its author may delete a post")
    if known is not None:
        try:
            celeb = await parts.graph.is_celebrity(user)
        except GraphUnavailable:
            celeb = False  # either stream will do: a delete holds even when it overtakes its post
        with queue_failures(), parts.own_posts.changing(user):
            await parts.queue.accept_delete(DeleteEvent(post_id, user, parts.region.name), known.ts_us, celeb)
        parts.own_posts.deleted(user, post_id)
        await parts.bodies.deleted(post_id, user)
    return Response(status_code=204)


async def _hidden(parts: Parts, post_id: bytes) -> Known | None:
    """A post that must not show, if it was hidden and not deleted."""
    with queue_failures():
        standing = await standing_of(parts, post_id)
    if standing is None or standing.status is Status.DELETED:
        return None
    return Known(standing.author, standing.ts_us, False)


async def like_post(request: Request) -> Response:
    """An interaction of the caller with the post's author."""
    parts = parts_of(request)
    user = caller(request, parts.secret, parts.users)
    known = await _known(parts, from_text(request.path_params["id"]))
    if known is None or known.deleted:
        raise Problem("not-found", "no such post")
    if known.author == user:
        return Response(status_code=204)
    return await append_edge(parts, "like", user, known.author)


async def get_posts(request: Request) -> Response:
    """The posts among the ids, in the order asked; unknown and deleted ones are left out."""
    parts = parts_of(request)
    caller(request, parts.secret, parts.users)
    asked = await json_body(request, _batch_decoder)
    asked_ids = [post_id for text in asked.ids if (post_id := from_text(text)) is not None]
    ids = dict.fromkeys(post_id for post_id in asked_ids if parts.defects.finds(post_id))
    hydrated = await parts.bodies.get(list(ids))
    found = [body for post_id in ids if (body := hydrated.visible(post_id)) is not None]
    headers = {"Feed-Degraded": "stale"} if hydrated.degraded else None
    return Response(b'{"posts":[%b]}' % b",".join(found), headers=headers, media_type="application/json")
