"""A whole stack with some load: what it exports, shows and logs is what boards, alerts and people ask for."""

from __future__ import annotations

import json
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
from real_servers import wait_until
from stack_process import StackProcess

from dashboards import rules, targets
from dashboards.board import metrics_in
from dashboards.boards import BOARDS

pytestmark = [pytest.mark.stack, pytest.mark.slow]
AUTHOR, FOLLOWER = 0, 1
OF_PROMETHEUS = {"up"}
_SAMPLE = re.compile(r"^([a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{(.*)\})? \S+$")
_SELECTOR = re.compile(r"\b([a-z][a-z0-9_]*)\{([^}]*)\}")


class Client:
    """A user of one region."""

    def __init__(self, http: httpx.Client, user: int) -> None:
        self.http = http
        self.token: str = self.http.post("/v1/users", json={"identity": str(user)}).json()["token"]
        self.http.headers["Authorization"] = f"Bearer {self.token}"

    def ids(self) -> list[str]:
        answer = self.http.get("/v1/feed")
        assert answer.status_code == 200, answer.text
        return [item["id"] for item in answer.json()["items"]]


def open_stream(base: str, token: str) -> socket.socket:
    url = urlsplit(base)
    stream = socket.create_connection((str(url.hostname), url.port or 80), timeout=10)
    stream.sendall(f"GET /v1/stream HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n\r\n".encode())
    assert stream.recv(4096).startswith(b"HTTP/1.1 200")
    return stream


def texts(stack: StackProcess) -> dict[str, str]:
    """Process -> what it exports."""
    urls = {f"{r}.{p}": u for r, region in stack.endpoints["regions"].items() for p, u in region["metrics"].items()}
    found = {}
    for name, url in urls.items():
        answer = httpx.get(url, timeout=10, trust_env=False)
        assert answer.status_code == 200, (name, url)
        found[name] = answer.text
    return found


def exported(text: str) -> dict[str, set[str]]:
    """Metric -> the labels its samples have; a metric that is declared without samples has none."""
    names: dict[str, set[str]] = {}
    for line in text.splitlines():
        if line.startswith("# TYPE "):
            _, _, name, kind = line.split(" ")
            for suffix in ("_bucket", "_count", "_sum") if kind == "histogram" else ("",):
                names.setdefault(name + suffix, set())
        elif match := _SAMPLE.match(line):
            names.setdefault(match[1], set()).update(re.findall(r'(\w+)="', match[2] or ""))
    return names


def load(stack: StackProcess) -> str:
    """One post on its way to a stream and two regions; returns its id."""
    bases = {name: region["api"] for name, region in stack.endpoints["regions"].items()}
    with ExitStack() as opened:
        author, follower, far = (
            Client(opened.enter_context(httpx.Client(base_url=bases[region], timeout=10, trust_env=False)), user)
            for region, user in (("us-east", AUTHOR), ("us-east", FOLLOWER), ("ap-tokyo", FOLLOWER))
        )
        stream = opened.enter_context(open_stream(stack.endpoints["regions"]["us-east"]["stream"], follower.token))
        return follow_a_post(stack, author, follower, far, stream)


def follow_a_post(stack: StackProcess, author: Client, follower: Client, far: Client, stream: socket.socket) -> str:
    assert follower.http.put(f"/v1/follows/{AUTHOR}").is_success
    wait_until(lambda: author.http.get("/v1/users/me").json()["followers"] == 1, "the follow")
    post: str = author.http.post("/v1/posts", json={"text": "hello"}).json()["post"]["id"]
    seen = b""
    while post.encode() not in seen:
        seen += stream.recv(4096)
    wait_until(lambda: post in follower.ids(), "the post on the feed")
    assert follower.http.put(f"/v1/posts/{post}/like").is_success
    assert follower.http.get("/v1/nothing").status_code == 404
    wait_until(lambda: post in far.ids(), "the post in the other region")
    status = json.loads(command(stack, "status", "--json"))
    assert status["figures"]["us-east"]["streams_open"] == 1
    return post


def command(stack: StackProcess, *words: str) -> str:
    argv = [sys.executable, "-m", "reference_server", *words, "--dir", str(stack.stack.path)]
    return subprocess.run(argv, capture_output=True, text=True, check=True, timeout=30).stdout


def test_what_is_asked_for_is_exported(start_stack: Callable[..., StackProcess]) -> None:
    stack = start_stack("--users", "20", "--flag", "trace_one_in=1").await_ready()
    post = load(stack)
    found = texts(stack)
    check_names(found)
    check_by_promtool(found)
    check_targets(stack, found)
    check_status(json.loads(command(stack, "status", "--json")))
    check_trace(command(stack, "trace", post))


def check_names(found: dict[str, str]) -> None:
    """Each metric that a board or rule asks for is there, with the labels it selects by."""
    names: dict[str, set[str]] = {}
    for text in found.values():
        for name, labels in exported(text).items():
            names.setdefault(name, set()).update(labels)
    asked = [query for board in BOARDS for query in board.queries()] + rules.expressions()
    wanted = {name for query in asked for name in metrics_in(query) if ":" not in name} - OF_PROMETHEUS
    assert sorted(wanted - names.keys()) == []
    wrong = []
    for query in asked:
        for name, selector in _SELECTOR.findall(query):
            labels = set(re.findall(r"(\w+)\s*[=!]~?\"", selector)) - {"region", "part"}
            if names.get(name) and not labels <= names[name]:
                wrong.append((name, labels - names[name]))
    assert not wrong


def check_by_promtool(found: dict[str, str]) -> None:
    promtool = shutil.which("promtool")
    assert promtool is not None, "promtool is not installed (`.ci/setup tests` installs it)"
    ours = {name: text for name, text in found.items() if not name.endswith(".edge")}  # HAProxy's are not ours
    for name, text in ours.items():
        done = subprocess.run([promtool, "check", "metrics"], input=text, capture_output=True, text=True, check=False)
        assert (done.returncode, done.stdout + done.stderr) == (0, ""), name


def check_targets(stack: StackProcess, found: dict[str, str]) -> None:
    written = targets.targets(stack.endpoints)
    assert {f"{one['labels']['region']}.{one['labels']['part']}" for one in written} == set(found)


def check_status(status: dict[str, Any]) -> None:
    assert status["ready"]
    east, tokyo = status["figures"]["us-east"], status["figures"]["ap-tokyo"]
    assert {"posts", "celeb", "graph", "jobs", "outbox", "dead"} <= set(east["queue_depth"])
    assert east["posts_per_s"] is not None
    assert 0 <= east["hit_ratio"] <= 1
    assert tokyo["replication_lag_s"] < 60
    assert east["flags"] == {"trace_one_in": 1}
    usage = status["usage"]
    assert {"supervisor", "us-east.api", "us-east.memcached"} <= set(usage)
    assert all(one["memory_bytes"] > 1 << 20 and one["restarts"] == 0 for one in usage.values())


def check_trace(text: str) -> None:
    """All stages of the post, each by the process that it belongs to."""
    for part, stage in (("api-0", "accept"), ("fanout-0", "queue"), ("fanout-0", "cache"), ("fep-0", "event")):
        assert re.search(rf"us-east\.{part} .*: {stage} after", text), f"{stage} in\n{text}"
