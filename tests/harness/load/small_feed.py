"""A small feed server for the load tests: users sign up, post and read; everybody reads everything."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from aiohttp import web


class SmallFeed:
    """Answers like a feed with nothing in it; `slow` decides what happens before each answer."""

    def __init__(self) -> None:
        self.slow: Callable[[web.Request], Awaitable[web.Response | None]] | None = None
        self.posts: list[dict[str, Any]] = []
        self.imports_seen: dict[str, int] = {}
        self.requests = 0
        self.url = ""

    @web.middleware
    async def before(self, request: web.Request, handler: Any) -> web.StreamResponse:
        self.requests += 1
        if self.slow is not None and (answer := await self.slow(request)) is not None:
            return answer
        response: web.StreamResponse = await handler(request)
        return response

    async def sign_up(self, request: web.Request) -> web.Response:
        user = (await request.json())["identity"]
        progress = {"state": "pending", "done": 0, "total": 3}
        return web.json_response(
            {"user": {"id": user}, "token": f"t{user}", "expires_at": 1, "import": progress}, status=201
        )

    async def import_state(self, request: web.Request) -> web.Response:
        user = request.headers["Authorization"]
        self.imports_seen[user] = self.imports_seen.get(user, 0) + 1
        state = "done" if self.imports_seen[user] > 1 else "running"
        return web.json_response({"state": state, "done": 3, "total": 3})

    async def feed(self, request: web.Request) -> web.Response:
        page = self.posts[-int(request.query["limit"]) :][::-1]
        return web.json_response({"items": page, "next_cursor": None})

    async def post(self, request: web.Request) -> web.Response:
        number = len(self.posts)
        post = {
            "id": f"p{number:06}",
            "author": request.headers["Authorization"].removeprefix("Bearer t"),
            "created_at_us": number + 1,
            "text": (await request.json())["text"],
            "reply_to": None,
        }
        self.posts.append(post)
        return web.json_response({"post": post}, status=201)

    def application(self) -> web.Application:
        app = web.Application(middlewares=[self.before])
        app.add_routes(
            [
                web.post("/v1/users", self.sign_up),
                web.get("/v1/users/me/import", self.import_state),
                web.get("/v1/feed", self.feed),
                web.post("/v1/posts", self.post),
            ]
        )
        return app
