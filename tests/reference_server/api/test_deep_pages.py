"""A whole region, two cache nodes, little of a timeline cached: walks and `since` reach all of it, deletes included."""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import closing
from typing import Any

import httpx
import pytest
from real_servers import wait_until
from stack_process import StackProcess

pytestmark = [pytest.mark.stack, pytest.mark.slow]
POSTS, CACHED = 150, 64


class Client:
    """One user."""

    def __init__(self, base: str, number: int) -> None:
        self.http = httpx.Client(base_url=base, timeout=10)
        token = self.http.post("/v1/users", json={"identity": str(number)}).json()["token"]
        self.http.headers["Authorization"] = f"Bearer {token}"

    def close(self) -> None:
        self.http.close()

    def walk(self, limit: int) -> list[str]:
        found: list[str] = []
        cursor = None
        while True:
            answer = self.http.get("/v1/feed", params={"limit": limit} | ({"cursor": cursor} if cursor else {}))
            assert answer.status_code == 200, answer.text
            assert "feed-degraded" not in answer.headers
            page: dict[str, Any] = answer.json()
            found += [item["id"] for item in page["items"]]
            cursor = page["next_cursor"]
            if cursor is None:
                return found

    def since(self, anchor: str) -> list[str]:
        answer = self.http.get("/v1/feed/new", params={"since": anchor})
        assert answer.status_code == 200, answer.text
        return [item["id"] for item in answer.json()["items"]]


def deeper(base: str) -> float:
    text = httpx.get(f"{base}/metrics").text
    found = re.search(r'api_feed_deeper_total\{[^}]*source="owner"\} ([0-9.]+)', text)
    return float(found[1]) if found else 0.0


def test_what_is_below_the_cached_part_comes_from_the_owner(start_stack: Callable[..., StackProcess]) -> None:
    options = ("--users", "100", "--regions", "us-east", "--memcacheds", "2", "--flag", f"cached_entries={CACHED}")
    stack = start_stack(*options).await_ready()
    base = stack.endpoints["regions"]["us-east"]["api"]
    with closing(Client(base, 1)) as alice, closing(Client(base, 2)) as bob:
        check_deep_pages(stack, base, alice, bob)


def check_deep_pages(stack: StackProcess, base: str, alice: Client, bob: Client) -> None:
    assert bob.http.put("/v1/follows/1").status_code == 204
    posts = []
    for number in range(POSTS):
        answer = alice.http.post("/v1/posts", json={"text": str(number)})
        assert answer.status_code == 201
        posts.insert(0, answer.json()["post"]["id"])
    wait_until(lambda: bob.walk(100) == posts, "all posts in the feed")
    stack.restart("us-east.memcached")  # what is published from here on is the newest part alone
    wait_until(lambda: bob.walk(30) == posts and deeper(base) > 0, "a walk goes on at the owner", 30)
    for limit in (1 + CACHED // 2, CACHED, 100):
        assert bob.walk(limit) == posts
    assert bob.since(posts[-1]) == posts[:-1]
    gone = posts.pop(CACHED + 20)
    assert alice.http.delete(f"/v1/posts/{gone}").status_code == 204
    assert bob.walk(30) == alice.walk(30) == posts
