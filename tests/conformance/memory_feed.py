"""A whole feed in one process and in memory, written from docs/contract.md and openapi.yaml alone.

It shows that the contract can be met by something that shares nothing with the reference stack: one region, feeds
pulled together at each read, no likes and no import. `memory_feed.toml` is its target profile.

    python tests/conformance/memory_feed.py --endpoints FILE --users 400

`memory_state.Feed` holds the state and the rules; this file speaks HTTP.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from aiohttp import web
from memory_state import LABELS, OPERATOR_TOKEN, Feed, Refused

MAX_BODY_BYTES = 64 * 1024
HEARTBEAT_S = 15.0
TITLES = {
    "bad-request": 400, "bad-cursor": 400, "unauthorized": 401, "forbidden": 403, "not-found": 404,
    "method-not-allowed": 405, "conflict": 409, "gone": 410, "too-large": 413, "unavailable": 503,
}  # fmt: skip


Body = dict[str, Any]


def member(body: Body, name: str, valid: Callable[[Any], bool], default: Any = None) -> Any:
    """A member of a JSON body, checked."""
    value = body.get(name, default)
    if not valid(value):
        raise Refused("bad-request", f"{name}: is missing or not valid")
    return value


def text_of(least: int, most: int) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, str) and least <= len(value) <= most


def ids_of(least: int, most: int) -> Callable[[Any], bool]:
    return lambda v: isinstance(v, list) and least <= len(v) <= most and all(isinstance(i, str) for i in v)


def whole(least: int, most: int) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, int) and not isinstance(value, bool) and least <= value <= most


def query_limit(request: web.Request, most: int, default: int) -> int:
    text = request.query.get("limit", str(default))
    if not (text.isascii() and text.isdecimal() and len(text) < 6 and 1 <= int(text) <= most):
        raise Refused("bad-request", f"limit: must be 1 to {most}")
    return int(text)


def problem(slug: str, detail: str) -> web.Response:
    status = TITLES[slug]
    body = {
        "type": f"urn:feedstorm:problem:{slug}",
        "title": slug.replace("-", " "),
        "status": status,
        "detail": detail,
    }
    headers = {"Retry-After": "1"} if status == 503 else {}
    return web.json_response(body, status=status, content_type="application/problem+json", headers=headers)


async def json_body(request: web.Request) -> Body:
    try:
        body = json.loads(await request.read())
    except ValueError:
        raise Refused("bad-request", "the body is not JSON") from None
    if not isinstance(body, dict):
        raise Refused("bad-request", "the body must be an object")
    return body


@web.middleware
async def problems(request: web.Request, handler: Any) -> web.StreamResponse:
    """Errors as problem documents."""
    try:
        return await handler(request)  # type: ignore[no-any-return]
    except Refused as refused:
        return problem(refused.slug, refused.detail)
    except web.HTTPRequestEntityTooLarge:
        return problem("too-large", "a body may have 65536 bytes")
    except web.HTTPMethodNotAllowed as error:
        answer = problem("method-not-allowed", f"{request.method} is not possible here")
        answer.headers["Allow"] = ", ".join(sorted(error.allowed_methods))
        return answer
    except web.HTTPNotFound:
        return problem("not-found", "no such path")


class Server:
    """The HTTP side."""

    def __init__(self, feed: Feed) -> None:
        self.feed = feed

    def app(self) -> web.Application:
        app = web.Application(client_max_size=MAX_BODY_BYTES, middlewares=[problems])
        app.router.add_routes([
            web.post("/v1/users", self.sign_up), web.get("/v1/users/me", self.me),
            web.put("/v1/follows/{id}", self.edge), web.delete("/v1/follows/{id}", self.edge),
            web.put("/v1/blocks/{id}", self.edge), web.delete("/v1/blocks/{id}", self.edge),
            web.post("/v1/posts", self.post), web.post("/v1/posts/batch", self.batch),
            web.delete("/v1/posts/{id}", self.delete), web.patch("/v1/users/me", self.change_me),
            web.put("/v1/posts/{id}/hide", self.hide), web.delete("/v1/posts/{id}/hide", self.hide),
            web.put("/v1/operator/posts/{id}/moderation", self.moderate), web.get("/v1/operator/flags", self.flags),
            web.delete("/v1/operator/posts/{id}/moderation", self.moderate),
            web.put("/v1/operator/flags/{name}", self.flag), web.delete("/v1/operator/flags/{name}", self.flag),
            web.get("/v1/feed", self.read), web.post("/v1/feed", self.read_unseen),
            web.get("/v1/feed/new", self.new), web.get("/v1/stream", self.stream),
            web.get("/healthz", self.health), web.get("/readyz", self.health), web.get("/metrics", self.metrics),
        ])  # fmt: skip
        return app

    def user(self, request: web.Request) -> str:
        return self.feed.user_of(self.token(request))

    def token(self, request: web.Request) -> str:
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not token:
            raise Refused("unauthorized", "a bearer token is required")
        return token

    async def sign_up(self, request: web.Request) -> web.Response:
        identity = member(await json_body(request), "identity", text_of(1, 64))
        first, token, expires = self.feed.sign_up(identity)
        done = {"state": "done", "done": 0, "total": 0}
        body = {"user": {"id": identity}, "token": token, "expires_at": expires, "import": done}
        return web.json_response(body, status=201 if first else 200)

    async def me(self, request: web.Request) -> web.Response:
        user = self.user(request)
        counts = {"followers": len(self.feed.followers[user]), "following": len(self.feed.following[user])}
        return web.json_response({"id": user, **counts, "joined": True, **self.feed.profiles[user]})

    async def change_me(self, request: web.Request) -> web.Response:
        profile = self.feed.profiles[self.user(request)]
        body = await json_body(request)
        profile |= {name: member(body, name, lambda v: isinstance(v, bool)) for name in profile if name in body}
        return await self.me(request)

    async def edge(self, request: web.Request) -> web.Response:
        user = self.user(request)
        other = self.feed.other(user, request.match_info["id"])
        change = {
            ("follows", "PUT"): self.feed.follow, ("follows", "DELETE"): self.feed.unfollow,
            ("blocks", "PUT"): self.feed.block, ("blocks", "DELETE"): self.feed.unblock,
        }[request.path.split("/")[2], request.method]  # fmt: skip
        change(user, other)
        return web.Response(status=204)

    async def post(self, request: web.Request) -> web.Response:
        user = self.user(request)
        key = request.headers.get("Idempotency-Key")
        if key is not None and not (1 <= len(key) <= 64 and all("!" <= c <= "~" for c in key)):
            raise Refused("bad-request", "Idempotency-Key: must be 1 to 64 printable characters")
        body = await json_body(request)
        text = member(body, "text", text_of(1, 500))
        reply_to = member(body, "reply_to", lambda v: v is None or text_of(1, 64)(v))
        labels = member(body, "labels", lambda v: isinstance(v, list) and all(one in LABELS for one in v), [])
        first, post = self.feed.accept(user, text, reply_to, key, tuple(sorted(set(labels))))
        return web.json_response({"post": post.wire()}, status=201 if first else 200)

    async def delete(self, request: web.Request) -> web.Response:
        self.feed.delete(self.user(request), request.match_info["id"])
        return web.Response(status=204)

    async def hide(self, request: web.Request) -> web.Response:
        self.feed.hide(self.user(request), request.match_info["id"], hidden=request.method == "PUT")
        return web.Response(status=204)

    async def moderate(self, request: web.Request) -> web.Response:
        self.feed.operator(self.token(request))
        self.feed.moderate(request.match_info["id"], moderated=request.method == "PUT")
        return web.Response(status=204)

    async def flags(self, request: web.Request) -> web.Response:
        self.feed.operator(self.token(request))
        return web.json_response({"flags": [switch.wire(name) for name, switch in self.feed.switches.items()]})

    async def flag(self, request: web.Request) -> web.Response:
        self.feed.operator(self.token(request))
        name = request.match_info["name"]
        body = await json_body(request) if request.method == "PUT" else {"value": self.feed.switch(name).default}
        self.feed.switch(name).value = member(body, "value", whole(1, 1 << 53))
        return web.json_response(self.feed.switches[name].wire(name))

    async def batch(self, request: web.Request) -> web.Response:
        self.user(request)
        ids = member(await json_body(request), "ids", ids_of(1, 100))
        found = [self.feed.posts[i].wire() for i in dict.fromkeys(ids) if self.feed.readable(i)]
        return web.json_response({"posts": found})

    async def read(self, request: web.Request) -> web.Response:
        user = self.user(request)
        return self._page(user, query_limit(request, 100, 50), request.query.get("cursor"), set())

    async def read_unseen(self, request: web.Request) -> web.Response:
        user = self.user(request)
        body = await json_body(request)
        limit = member(body, "limit", whole(1, 100), 50)
        cursor = member(body, "cursor", lambda v: v is None or isinstance(v, str))
        return self._page(user, limit, cursor, set(member(body, "seen", ids_of(0, 500), [])))

    def _page(self, user: str, limit: int, cursor: str | None, seen: set[str]) -> web.Response:
        items, following = self.feed.page(user, limit, cursor, seen)
        return web.json_response({"items": [p.wire() for p in items], "next_cursor": following})

    async def new(self, request: web.Request) -> web.Response:
        user = self.user(request)
        since = request.query.get("since", "")
        if not since:
            raise Refused("bad-request", "since: is required")
        items, complete = self.feed.new(user, since, query_limit(request, 800, 800))
        return web.json_response({"items": [p.wire() for p in items], "complete": complete})

    async def stream(self, request: web.Request) -> web.StreamResponse:
        user = self.user(request)
        headers = {"Content-Type": "text/event-stream", "Cache-Control": "no-store"}
        answer = web.StreamResponse(headers=headers)
        with self.feed.subscribed(user) as queue, contextlib.suppress(ConnectionError):
            opening = self.feed.opening(user, request.headers.get("Last-Event-ID", ""))
            await answer.prepare(request)
            await answer.write(opening.encode())
            while True:
                try:
                    text = await asyncio.wait_for(queue.get(), HEARTBEAT_S)
                except TimeoutError:
                    text = ": hb\n\n"
                await answer.write(text.encode())
        return answer

    async def health(self, request: web.Request) -> web.Response:
        return web.json_response({"status": "ok"})

    async def metrics(self, request: web.Request) -> web.Response:
        return web.Response(text=f"memory_feed_posts_total {len(self.feed.posts)}\n")


@contextlib.asynccontextmanager
async def serving(feed: Feed, server: type[Server] = Server) -> Any:
    """Serve on a free port of the loopback interface; yields the base URL."""
    runner = web.AppRunner(server(feed).app(), access_log=None, shutdown_timeout=0.2)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


def load_follows(feed: Feed, population: Path) -> None:
    """The follow graph of a population directory, if there is one."""
    if (population / "offsets.npy").exists():
        offsets, followees = np.load(population / "offsets.npy"), np.load(population / "followees.npy")
        for user in range(len(offsets) - 1):
            for other in followees[offsets[user] : offsets[user + 1]].tolist():
                feed.follow(str(user), str(other))


async def main(arguments: argparse.Namespace) -> None:
    """Serve until standard input closes."""
    feed = Feed(arguments.users)
    load_follows(feed, arguments.population)
    stopping, loop = asyncio.Event(), asyncio.get_running_loop()

    def wait_for_parent() -> None:
        sys.stdin.buffer.read()
        loop.call_soon_threadsafe(stopping.set)

    async with serving(feed) as url:
        token = arguments.endpoints.with_name("operator.token")
        token.write_text(OPERATOR_TOKEN)
        endpoints = {"regions": {"memory": {"api": url, "stream": url}}, "handles": {}, "missing": []}
        endpoints["operator_token_file"] = str(token)
        unfinished = arguments.endpoints.with_suffix(".tmp")
        unfinished.write_text(json.dumps(endpoints))
        unfinished.rename(arguments.endpoints)
        threading.Thread(target=wait_for_parent, daemon=True).start()
        await stopping.wait()


def parser() -> argparse.ArgumentParser:
    """The command line."""
    options = argparse.ArgumentParser()
    options.add_argument("--endpoints", type=Path, required=True)
    options.add_argument("--users", type=int, default=400)
    options.add_argument("--population", type=Path, default=Path("none"))
    return options


if __name__ == "__main__":
    asyncio.run(main(parser().parse_args()))
