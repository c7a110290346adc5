"""The ASGI application `app`: routes, life cycle, error answers. Served by granian (see command.py)."""

from __future__ import annotations

import gc
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from reference_server.api import edges, feed, measures, posts, problems, users
from reference_server.api.parts import open_parts, parts_of
from reference_server.process import configure_logging, die_with_parent

CONNECT_LIMIT_S = 0.2


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
    """This process's and its region's metrics."""
    parts = parts_of(request)
    for source, count in parts.bodies.found.items():
        parts.bodies.found[source] = 0
        measures.BODIES.labels(source).inc(count)
    texts = await measures.metrics_of(parts.clients)
    return Response(measures.joined(parts.name, texts), media_type="text/plain; version=0.0.4")


ROUTES = [
    Route("/v1/feed", feed.read_feed, methods=["GET", "POST"]),
    Route("/v1/posts/batch", posts.get_posts, methods=["POST"]),
    Route("/v1/posts", posts.create_post, methods=["POST"]),
    Route("/v1/feed/new", feed.read_new, methods=["GET"]),
    Route("/v1/users", users.sign_up, methods=["POST"]),
    Route("/v1/users/me", users.me, methods=["GET"]),
    Route("/v1/users/me/import", users.my_import, methods=["GET"]),
    Route("/v1/follows/{id}", edges.change_follow, methods=["PUT", "DELETE"]),
    Route("/v1/blocks/{id}", edges.change_block, methods=["PUT", "DELETE"]),
    Route("/v1/posts/{id}/like", posts.like_post, methods=["PUT"]),
    Route("/v1/posts/{id}", posts.delete_post, methods=["DELETE"]),
    Route("/healthz", healthz, methods=["GET"]),
    Route("/readyz", readyz, methods=["GET"]),
    Route("/metrics", metrics, methods=["GET"]),
]


@asynccontextmanager
async def lifespan(application: Starlette) -> AsyncIterator[None]:
    """Open the parts when the server starts, close them when it ends."""
    die_with_parent()
    configure_logging(f"{os.environ['FEEDSTORM_REGION']}.{os.environ['FEEDSTORM_NAME']}")
    parts = open_parts()
    await parts.cache.wait_connected(CONNECT_LIMIT_S)
    application.state.parts = parts
    gc.freeze()
    try:
        yield
    finally:
        await parts.close()


def make_app() -> Starlette:
    """The application; it reads its settings when it is started, not before."""
    application = Starlette(
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


app = make_app()
