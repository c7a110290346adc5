"""A whole stack of two regions whose flags a test module flips: users, posts, streams, and what processes export."""

from __future__ import annotations

import json
import re
import select
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import msgspec
import numpy as np
from real_servers import wait_until
from redis import Redis
from stack_process import StackProcess

HOME, FAR = "us-east", "ap-tokyo"
IN_FORCE_S = 5.0
ASK_EVERY_S = 0.05
"""while it is waited for: what asks as fast as it can keeps a processor busy, and the stack another"""
FOLLOWS_FLAGS = {"api-0", "fep-0", "fanout-0", "graph", "jobs", "replicator"}
_SAMPLE = re.compile(r"^([a-z_:][a-z0-9_:]*)(?:\{(.*)\})? (\S+)$", re.MULTILINE)


USERS, THRESHOLD = 600, 60
COLD_AUTHOR, COLD_FOLLOWERS = 580, range(581, 586)
"""the only inherited follows, none of them hot; whoever follows by hand is hot"""


def write_population(folder: Path) -> Path:
    """Nobody has joined."""
    offsets = np.zeros(USERS + 1, np.int64)
    offsets[COLD_FOLLOWERS.start + 1 :] = np.minimum(np.arange(USERS - COLD_FOLLOWERS.start) + 1, len(COLD_FOLLOWERS))
    folder.mkdir()
    np.save(folder / "offsets.npy", offsets)
    np.save(folder / "followees.npy", np.full(len(COLD_FOLLOWERS), COLD_AUTHOR, np.uint32))
    np.save(folder / "hot.npy", np.zeros(len(COLD_FOLLOWERS), np.uint8))
    facts: dict[str, Any] = {"version": 1, "users": USERS, "seed": 1, "history": 0, "joined": "none"}
    facts |= {"mean_follows": 1.0, "celebrities": [], "celebrity_threshold": THRESHOLD}
    (folder / "population.json").write_bytes(msgspec.json.encode(facts))
    return folder


class FlagStack:
    """See the module. Everybody is asked for at the home region unless a test says otherwise."""

    def __init__(self, stack: StackProcess) -> None:
        self.stack = stack
        self.regions: dict[str, Any] = stack.endpoints["regions"]
        self.http = httpx.Client(timeout=15, trust_env=False)
        token = Path(stack.endpoints["operator_token_file"]).read_text(encoding="ascii").strip()
        self.operator = {"Authorization": f"Bearer {token}"}
        self._users = 0
        self.tokens: dict[int, str] = {}

    # --- people

    def joined(self, count: int = 1) -> list[int]:
        """Users whom nobody has met before."""
        users = list(range(self._users, self._users + count))
        self._users += count
        for user in users:
            self.join(user)
        return users

    def join(self, user: int) -> str:
        """Sign a user up for the first time; returns the state of the import."""
        answer = self.http.post(f"{self.regions[HOME]['api']}/v1/users", json={"identity": str(user)})
        assert answer.status_code == 201, answer.text
        self.tokens[user] = answer.json()["token"]
        return str(answer.json()["import"]["state"])

    def call(self, user: int, method: str, path: str, region: str = HOME, **options: Any) -> httpx.Response:
        headers = {"Authorization": f"Bearer {self.tokens[user]}"}
        return self.http.request(method, f"{self.regions[region]['api']}{path}", headers=headers, **options)

    def post(self, author: int, text: str = "hello") -> str:
        answer = self.call(author, "POST", "/v1/posts", json={"text": text})
        assert answer.status_code == 201, answer.text
        return str(answer.json()["post"]["id"])

    def follow(self, followers: list[int], author: int) -> None:
        for user in followers:
            assert self.call(user, "PUT", f"/v1/follows/{author}").status_code == 204

    def feed(self, user: int, region: str = HOME, **parameters: Any) -> list[str]:
        answer = self.call(user, "GET", "/v1/feed", region, params=parameters)
        assert answer.status_code == 200, answer.text
        return [item["id"] for item in answer.json()["items"]]

    def walk(self, user: int, limit: int = 50) -> list[str]:
        """All pages."""
        ids: list[str] = []
        cursor = None
        while True:
            parameters = {"limit": limit} | ({"cursor": cursor} if cursor else {})
            page = self.call(user, "GET", "/v1/feed", params=parameters).json()
            ids += [item["id"] for item in page["items"]]
            cursor = page["next_cursor"]
            if cursor is None:
                return ids

    # --- flags

    def set(self, name: str, value: Any) -> float:
        """Set a flag; returns after how many s every process of both regions followed. See `follow_all`."""
        api = self.regions[HOME]["api"]
        started = time.monotonic()
        answer = self.http.put(f"{api}/v1/operator/flags/{name}", json={"value": value}, headers=self.operator)
        assert answer.status_code == 200, answer.text
        return self.follow_all(name, value, started)

    def reset(self, name: str) -> None:
        answer = self.http.delete(f"{self.regions[HOME]['api']}/v1/operator/flags/{name}", headers=self.operator)
        assert answer.status_code == 200, answer.text
        self.follow_all(name, answer.json()["value"], time.monotonic())

    def follow_all(self, name: str, value: Any, started: float) -> float:
        """Seconds until every process of both regions follows; fails after IN_FORCE_S."""
        for region, told in self.regions.items():
            version = self._await_value(region, name, value, started)
            for part in sorted(FOLLOWS_FLAGS - {"api-0"}):
                while (seen := self.value(part, "feed_flags_version", region=region)) < version:
                    assert time.monotonic() - started < IN_FORCE_S, f"{region} {part} follows {seen}, not {version}"
                    time.sleep(ASK_EVERY_S)
            assert set(told["metrics"]) >= FOLLOWS_FLAGS
        return time.monotonic() - started

    def _await_value(self, region: str, name: str, value: Any, started: float) -> float:
        """The version of the flags that the region's api follows once it has the value."""
        while True:
            answer = self.http.get(f"{self.regions[region]['api']}/v1/operator/flags", headers=self.operator)
            found = {flag["name"]: flag["value"] for flag in answer.json()["flags"]}
            if found[name] == value:
                return float(answer.headers["flags-version"])
            assert time.monotonic() - started < IN_FORCE_S, f"{region}: {name} is still {found[name]}"
            time.sleep(ASK_EVERY_S)

    # --- what processes export

    def value(self, part: str, name: str, region: str = HOME, **labels: str) -> float:
        """Sum of a process's samples of that name that have these labels; 0: there is none."""
        answer = self.http.get(self.regions[region]["metrics"][part])
        total = 0.0
        for found, text, value in _SAMPLE.findall(answer.text):
            has = dict(re.findall(r'(\w+)="([^"]*)"', text))
            if found == name and labels.items() <= has.items():
                total += float(value)
        return total

    def rises(self, part: str, name: str, above: float, what: str, **labels: str) -> float:
        """Wait until the figure is above; returns it. An api makes its figures once a second."""
        found: float = wait_until(
            lambda: (v := self.value(part, name, **labels)) > above and v,
            f"{what}: {name} over {above}",
            10,
            ASK_EVERY_S,
        )
        return found

    def post_and_wait(self, author: int, *, celebrity: bool = False) -> str:
        """A post that has left the queue for log and index."""
        name = "feed_celebrity_lag_seconds_count" if celebrity else "feed_fanout_lag_seconds_count"
        before = self.value("fanout-0", name)
        post = self.post(author)
        self.rises("fanout-0", name, before, "the post is fanned out")
        return post

    def redis(self, kind: str) -> Redis:
        """redis-queue or redis-cache of the home region."""
        region = self.stack.settings.region(HOME)
        return Redis(port=region.redis_queue_port if kind == "queue" else region.redis_cache_port, protocol=2)

    def flush_cache(self) -> None:
        """Everything in memcached is gone."""
        for port in self.stack.settings.region(HOME).memcached_ports:
            with socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
                connection.sendall(b"flush_all\r\n")
                assert connection.recv(100) == b"OK\r\n"

    # --- streams

    @contextmanager
    def stream(self, user: int, receive_bytes: int = 0) -> Iterator[socket.socket]:
        """An open stream: its head, retry and first id have been read."""
        opened = self.ask_stream(user, receive_bytes)
        try:
            seen = b""
            while b"\nid: " not in seen:
                seen += opened.recv(200)
                assert seen.startswith(b"HTTP/1.1 200"), seen
            yield opened
        finally:
            opened.close()

    def ask_stream(self, user: int, receive_bytes: int = 0) -> socket.socket:
        url = urlsplit(self.regions[HOME]["stream"])
        opened = socket.socket()
        if receive_bytes:
            opened.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
        opened.settimeout(10)
        opened.connect((str(url.hostname), url.port or 80))
        opened.sendall(
            f"GET /v1/stream HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {self.tokens[user]}\r\n\r\n".encode()
        )
        return opened


def read_to_end(stream: socket.socket) -> bytes:
    """What comes until the other side ends the stream; fails when it does not within 10 s."""
    seen = b""
    while data := stream.recv(65536):
        seen += data
    return seen


def read_for(stream: socket.socket, seconds: float) -> bytes:
    """What comes within that time."""
    seen, end = b"", time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0 and select.select([stream], [], [], left)[0]:
        data = stream.recv(65536)
        if not data:
            break
        seen += data
    return seen


def read_until(stream: socket.socket, wanted: bytes, limit_s: float = 10.0) -> bytes:
    """What comes up to and with those bytes."""
    seen, end = b"", time.monotonic() + limit_s
    while wanted not in seen:
        left = end - time.monotonic()
        assert select.select([stream], [], [], max(0.0, left))[0], f"not within {limit_s} s: {wanted!r}"
        data = stream.recv(65536)
        assert data, f"the stream ended before {wanted!r}"
        seen += data
    return seen


def log_lines(stack: StackProcess, part: str) -> list[dict[str, Any]]:
    """What a process of the home region has logged."""
    path = stack.stack.path / "logs" / f"{HOME}.{part}.log"
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.startswith("{")]
