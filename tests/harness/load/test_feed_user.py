"""What a Locust user makes of answers: each request is sent once to the path of its base URL, and its end is told."""

from __future__ import annotations

import gzip
import json
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator

import pytest

PAGE = b'{"items":[{"id":"p","author":"7","created_at_us":5,"text":"hello"}],"next_cursor":"c"}'
ASK = """
import json, sys
import locust
from locust.env import Environment
from harness.core.clock import now_ns
from harness.load.feed_user import FeedUser
from harness.load.sessions import Session

class Kept:
    def __init__(self):
        self.rows = []
    def next_id(self):
        return 1
    def record(self, op, shown=()):
        row = {"outcome": op.outcome, "status": op.status, "error": op.error, "degraded": op.degraded}
        self.rows.append({**row, "shown": [post.id for post in shown], "cursor": op.next_cursor, "post": op.post})

class User(FeedUser):
    results = Kept()
    network_timeout = 1.0
    def api(self, region):
        return sys.argv[1]
    def token(self, user):
        return "t"

user = User(Environment(user_classes=[User], events=locust.events))
session = Session("s", 1, "here")
for what in sys.argv[2:]:
    if what == "post":
        user.write_post(session, "hello", "k", now_ns())
    else:
        user.read_page(session, now_ns(), 50, 1)
print(json.dumps(User.results.rows))
"""


def answer(status: str, body: bytes, *headers: str, promised: int = -1) -> bytes:
    length = len(body) if promised < 0 else promised
    return "\r\n".join([f"HTTP/1.1 {status}", f"Content-Length: {length}", *headers, "", ""]).encode() + body


class Scripted:
    """A server that gives its answers in turn, whatever it is asked, and closes after those that say so."""

    def __init__(self, *answers: bytes) -> None:
        self.answers, self.requests = list(answers), []
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._socket.getsockname()[1]}/base"
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while self.answers:
            with self._socket.accept()[0] as connection:
                while self.answers and (request := connection.recv(1 << 16)):
                    self.requests.append(request)
                    told = self.answers.pop(0)
                    connection.sendall(told)
                    if not told or b"Connection: close" in told:
                        break
        self._socket.close()


def ask(url: str, *what: str) -> list[dict[str, object]]:
    done = subprocess.run([sys.executable, "-c", ASK, url, *what], stdout=subprocess.PIPE, check=True, timeout=60)
    return json.loads(done.stdout)


@pytest.fixture
def closed_port() -> Iterator[int]:
    with socket.socket() as taken:  # bound, and nobody listens
        taken.bind(("127.0.0.1", 0))
        yield taken.getsockname()[1]


@pytest.mark.slow
def test_answers_and_what_becomes_of_them() -> None:
    server = Scripted(
        answer("200 OK", PAGE, "Feed-Degraded: cache"),
        answer("200 OK", gzip.compress(PAGE), "Content-Encoding: gzip", "Connection: close"),
        answer("429 Too Many Requests", b"slow down", "Set-Cookie: a=b"),
        answer("302 Found", b"", "Location: /elsewhere"),
        answer("500 Internal Server Error", b"oh"),
        answer("200 OK", b"no page"),
        answer("200 OK", PAGE[:20], "Connection: close", promised=len(PAGE)),
    )
    page, zipped, refused, moved, broken, garbled, cut = ask(server.url, *["page"] * 7)
    assert (page["outcome"], page["shown"], page["cursor"], page["degraded"]) == ("ok", ["p"], "c", "cache")
    assert (zipped["outcome"], zipped["shown"]) == ("ok", ["p"])
    assert (refused["outcome"], refused["status"], refused["error"]) == ("fail", 429, "429 slow down")
    assert (moved["outcome"], moved["status"]) == ("fail", 302)
    assert (broken["outcome"], broken["error"]) == ("info", "500 oh")
    assert garbled["outcome"] == "info"
    assert str(garbled["error"]).startswith("body: ")
    assert (cut["outcome"], cut["shown"]) == ("info", [])
    assert cut["error"]
    assert [request.split(b"\r\n")[0] for request in server.requests] == [b"GET /base/v1/feed?limit=50 HTTP/1.1"] * 7
    assert all(b"Authorization: Bearer t\r\n" in request for request in server.requests)
    assert not any(b"cookie" in request.lower() for request in server.requests)


@pytest.mark.slow
def test_a_post_is_sent_once_and_a_refused_connection_carried_nothing(closed_port: int) -> None:
    server = Scripted(b"", answer("201 Created", b'{"post":{"id":"q","author":"1","created_at_us":5,"text":"hello"}}'))
    lost, written = ask(server.url, "post", "post")
    assert (lost["outcome"], written["outcome"], written["post"]) == ("info", "ok", "q")
    assert len(server.requests) == 2
    [refused] = ask(f"http://127.0.0.1:{closed_port}", "post")
    assert (refused["outcome"], refused["status"]) == ("fail", 0)
    assert "refused" in str(refused["error"]).lower()
