"""Losing every lane's log, and the cache with it, on a whole stack: feeds read the same afterwards."""

from __future__ import annotations

import json
import shutil
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from real_servers import wait_until
from stack_process import StackProcess

pytestmark = [pytest.mark.stack, pytest.mark.slow]
REGION = "us-east"
USERS = range(12)
AUTHORS = (1, 2, 3)


class Api:
    """The api of one region."""

    def __init__(self, stack: StackProcess) -> None:
        self.base = stack.endpoints["regions"][REGION]["api"]
        self.tokens = {user: self.call("POST", "/v1/users", body={"identity": str(user)})["token"] for user in USERS}

    def call(self, method: str, path: str, user: int | None = None, body: dict[str, Any] | None = None) -> Any:
        answer, _ = self.ask(method, path, user, body)
        return json.loads(answer) if answer else None

    def post(self, author: int, text: str) -> str:
        """The new post's id."""
        post_id: str = self.call("POST", "/v1/posts", author, {"text": text})["post"]["id"]
        return post_id

    def ask(self, method: str, path: str, user: int | None, body: dict[str, Any] | None = None) -> tuple[bytes, str]:
        """(body, Feed-Degraded)"""
        headers = {"Content-Type": "application/json"}
        if user is not None:
            headers["Authorization"] = f"Bearer {self.tokens[user]}"
        data = json.dumps(body).encode() if body is not None else None
        request = urllib.request.Request(self.base + path, method=method, data=data, headers=headers)
        with urllib.request.urlopen(request, timeout=10) as answer:
            return answer.read(), answer.headers.get("Feed-Degraded", "")

    def fresh_feed(self, user: int) -> list[str] | None:
        """Ids in display order; None: a part is missing, and the answer says so."""
        answer, degraded = self.ask("GET", "/v1/feed?limit=50", user)
        return None if degraded else [item["id"] for item in json.loads(answer)["items"]]


def write(api: Api) -> int:
    """Follows, posts, a hide and deletes; returns how many posts everybody sees in the end."""
    for user in USERS:
        for author in AUTHORS:
            if user != author:
                api.call("PUT", f"/v1/follows/{author}", user)
    posts = [api.post(author, f"post {number}") for number in range(8) for author in AUTHORS]
    for place in (0, 7):
        api.call("DELETE", f"/v1/posts/{posts[place]}", AUTHORS[place % 3])
    api.call("PUT", f"/v1/posts/{posts[5]}/hide", AUTHORS[2])
    return len(posts) - 3


def logs(stack: StackProcess) -> list[Path]:
    return [path for path in stack.settings.data(REGION, "lanes").iterdir() if path.is_dir()]


def test_feeds_are_the_same_after_a_host_lost_logs_and_cache(start_stack: Callable[..., StackProcess]) -> None:
    stack = start_stack("--users", "20", "--regions", REGION).await_ready()
    api = Api(stack)
    count = write(api)
    wait_until(lambda: all(len(api.fresh_feed(user) or ()) == count for user in USERS[:8]), "eight feeds", 30)
    before = {user: api.fresh_feed(user) for user in USERS[:8]}  # the others have not come back since the posts
    stack.stack.hold_file(f"{REGION}.fanout").touch()
    stack.kill(f"{REGION}.fanout")
    stack.kill(f"{REGION}.memcached")
    assert len(logs(stack)) == stack.settings.lanes
    for path in logs(stack):
        shutil.rmtree(path)
    newest = api.post(1, "while fan-out is away")
    stack.stack.hold_file(f"{REGION}.fanout").unlink()
    freed = time.monotonic()
    feeds = wait_until(lambda: (f := api.fresh_feed(0)) and newest in f and f, "a fresh feed", 60)
    print(f"feeds are fresh again {time.monotonic() - freed:.1f} s after fan-out was let go")
    assert feeds == [newest, *(before[0] or ())]
    for user in USERS:
        wait_until(lambda user=user: api.fresh_feed(user) == feeds, f"the feed of {user}", 30)
