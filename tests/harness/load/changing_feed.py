"""A small feed server on which others can change what one sees: edges, hidden posts, replies, cursors."""

from __future__ import annotations

from typing import Any

from aiohttp import web
from small_feed import SmallFeed

from harness.core.clock import NS_PER_S, now_ns
from harness.core.op import text_hash

OPERATOR = "operator-token"
CURSOR_TTL_S = 6.0


class ChangingFeed(SmallFeed):
    """Posts can be answered, liked, taken away and let back; a cursor fits its user only."""

    def __init__(self) -> None:
        super().__init__()
        self.keys: dict[tuple[str, str], dict[str, Any]] = {}
        self.gone: set[str] = set()
        self.cursors: dict[str, tuple[str, str, int]] = {}
        """cursor -> (user, last post shown, when)"""
        self.writes: list[tuple[str, str, str]] = []
        """(who, method, path)"""

    def user(self, request: web.Request) -> str:
        return request.headers["Authorization"].removeprefix("Bearer t")

    async def feed(self, request: web.Request) -> web.Response:
        user, limit, cursor = self.user(request), int(request.query["limit"]), request.query.get("cursor")
        newest = [post for post in self.posts if post["id"] not in self.gone][::-1]
        if cursor is not None:
            owner, last, given_ns = self.cursors.get(cursor, ("", "", 0))
            if owner != user or now_ns() - given_ns > CURSOR_TTL_S * NS_PER_S:
                return web.json_response({"detail": "cursor"}, status=400)
            newest = [post for post in newest if post["id"] < last]
        page = newest[:limit]
        more = self.cursor(user, page[-1]["id"]) if len(newest) > limit else None
        return web.json_response({"items": page, "next_cursor": more})

    def cursor(self, user: str, last: str) -> str:
        cursor = f"abcdefgh{text_hash(f'{user} {last} {len(self.cursors)}'):020}"
        self.cursors[cursor] = (user, last, now_ns())
        return cursor

    async def post(self, request: web.Request) -> web.Response:
        user, key = self.user(request), request.headers["Idempotency-Key"]
        if (user, key) in self.keys:
            return web.json_response({"post": self.keys[user, key]})
        body = await request.json()
        number = len(self.posts)
        post = {
            "id": f"p{number:06}",
            "author": user,
            "created_at_us": number + 1,
            "text": body["text"],
            "reply_to": body.get("reply_to"),
        }
        self.posts.append(post)
        self.keys[user, key] = post
        return web.json_response({"post": post}, status=201)

    async def batch(self, request: web.Request) -> web.Response:
        wanted = (await request.json())["ids"]
        return web.json_response({"posts": [post for post in self.posts if post["id"] in wanted]})

    async def write(self, request: web.Request) -> web.Response:
        who = request.headers["Authorization"].removeprefix("Bearer ")
        if ("/operator/" in request.path) != (who == OPERATOR):
            return web.json_response({"detail": "not yours"}, status=401)
        self.writes.append((who, request.method, request.path))
        post = request.match_info["id"]
        is_like = request.path.endswith("/like")
        if not is_like and request.path.startswith(("/v1/posts/", "/v1/operator/posts/")):
            back = request.method == "DELETE" and request.path != f"/v1/posts/{post}"
            (self.gone.discard if back else self.gone.add)(post)
        return web.Response(status=204)

    def application(self) -> web.Application:
        app = super().application()
        app.router.add_post("/v1/posts/batch", self.batch)
        for path in (
            "/v1/follows/{id}",
            "/v1/blocks/{id}",
            "/v1/posts/{id}/like",
            "/v1/posts/{id}",
            "/v1/posts/{id}/hide",
            "/v1/operator/posts/{id}/moderation",
        ):
            app.router.add_route("PUT", path, self.write)
            app.router.add_route("DELETE", path, self.write)
        return app
