"""The ASGI application `app`: routes, life cycle, error answers, behind the gate. Served by granian (command.py)."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from reference_server.api import edges, feed, operator, posts, problems, profiles, users, visibility
from reference_server.api.command import LEADER
from reference_server.api.feed_route import FeedFirst
from reference_server.api.overload import Gate
from reference_server.api.parts import open_parts, parts_of
from reference_server.api.request_measures import Measured
from reference_server.api.unread import ReadToEnd
from reference_server.observability.logs import configure_logging
from reference_server.observability.process_metrics import observed
from reference_server.parent import die_with_parent

_log = logging.getLogger(__name__)
CONNECT_LIMIT_S = 0.2
INTERNAL_ERROR = 70
"""exit status"""
GC_THRESHOLDS = (20_000, 20, 20)
"""requests under way hold thousands of objects that are no garbage; by default each few hundred were looked at"""


async def healthz(request: Request) -> Response:
    """The process lives."""
    return _ok()


async def readyz(request: Request) -> Response:
    """The process can serve."""
    if await parts_of(request).check_ready():
        return _ok()
    raise problems.Problem("unavailable", "queue or graph have not answered yet")


def _ok() -> Response:
    return Response(b'{"status":"ok"}', media_type="application/json")


async def metrics(request: Request) -> Response:
    """This process's and its region's metrics, at most a second old unless the operator asks.

    `?own` leaves out the other parts', which have ports of their own.
    """
    parts = parts_of(request)
    anew = parts.overload.callers.is_operator(request.headers.raw)
    text = await parts.metrics.get("own" in request.query_params, anew=anew)
    return Response(text, media_type="text/plain; version=0.0.4")


ROUTES = [
    Route("/v1/feed", feed.read_feed, methods=["GET", "POST"]),
    Route("/v1/posts/batch", posts.get_posts, methods=["POST"]),
    Route("/v1/posts", posts.create_post, methods=["POST"]),
    Route("/v1/feed/new", feed.read_new, methods=["GET"]),
    Route("/v1/users", users.sign_up, methods=["POST"]),
    Route("/v1/users/me", profiles.me, methods=["GET", "PATCH"]),
    Route("/v1/users/me/import", users.my_import, methods=["GET"]),
    Route("/v1/follows/{id}", edges.change_follow, methods=["PUT", "DELETE"]),
    Route("/v1/blocks/{id}", edges.change_block, methods=["PUT", "DELETE"]),
    Route("/v1/posts/{id}/like", posts.like_post, methods=["PUT"]),
    Route("/v1/posts/{id}/hide", visibility.change_hide, methods=["PUT", "DELETE"]),
    Route("/v1/posts/{id}", posts.delete_post, methods=["DELETE"]),
    Route("/v1/operator/posts/{id}/moderation", visibility.change_moderation, methods=["PUT", "DELETE"]),
    Route("/v1/operator/flags", operator.get_flags, methods=["GET"]),
    Route("/v1/operator/flags/{name}", operator.change_flag, methods=["PUT", "DELETE"]),
    Route("/healthz", healthz, methods=["GET"]),
    Route("/readyz", readyz, methods=["GET"]),
    Route("/metrics", metrics, methods=["GET"]),
]


@asynccontextmanager
async def lifespan(application: Starlette) -> AsyncIterator[None]:
    """Open the parts when the server starts, close them when it ends."""
    _end_with_leader()
    configure_logging(f"{os.environ['FEEDSTORM_REGION']}.{os.environ['FEEDSTORM_NAME']}", adopt=("_granian",))
    parts = open_parts()
    await asyncio.gather(
        *(part.wait_connected(CONNECT_LIMIT_S) for part in (parts.cache, parts.timelines, parts.own_posts))
    )
    await parts.flags.look()
    following = asyncio.create_task(parts.flags.run())
    following.add_done_callback(_end_without_flags)
    application.state.parts = parts
    application.state.overload = parts.overload
    parts.overload.register()
    gc.freeze()
    gc.set_threshold(*GC_THRESHOLDS)
    try:
        async with observed():
            yield
    finally:
        following.cancel()
        await asyncio.wait([following])
        await parts.close()


def _end_with_leader() -> None:
    """Granian's main process may be killed, also while this one was still starting."""
    die_with_parent()
    if os.getppid() != int(os.environ.get(LEADER, os.getppid())):
        os._exit(0)


def _end_without_flags(following: asyncio.Task[None]) -> None:
    """A process that follows its flags no more must not go on, the kill switch being one of them."""
    if not following.cancelled():
        _log.critical("the flags are not followed any more", exc_info=following.exception())
        os._exit(INTERNAL_ERROR)


def make_app() -> Starlette:
    """The application; it reads its settings when it is started, not before."""
    application = FeedFirst(
        routes=ROUTES,
        lifespan=lifespan,
        exception_handlers={
            problems.Problem: problems.on_problem,
            problems.UnknownEffect: problems.on_unknown_effect,
            HTTPException: problems.on_http_error,
            ClientDisconnect: problems.on_disconnect,
            Exception: problems.on_bug,
        },
    )
    application.router.redirect_slashes = False
    return application


app = ReadToEnd(Measured(Gate(make_app())))
