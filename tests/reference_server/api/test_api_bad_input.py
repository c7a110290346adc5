from __future__ import annotations

import asyncio
import json
import socket
from typing import Any

import pytest
from api_region import SECRET, USERS, ApiRegion, problem

from reference_server.security import make_token

pytestmark = [pytest.mark.slow, pytest.mark.stack]
ID = "0190a8f2-3c51-7d1e-8a44-5b0c9de1f203"

BODIES: list[tuple[str, str, Any]] = [
    ("POST", "/v1/posts", {}),
    ("POST", "/v1/posts", {"text": ""}),
    ("POST", "/v1/posts", {"text": "x" * 501}),
    ("POST", "/v1/posts", {"text": 5}),
    ("POST", "/v1/posts", {"text": None}),
    ("POST", "/v1/posts", {"text": "x", "reply_to": 5}),
    ("POST", "/v1/posts", {"text": "x", "reply_to": ""}),
    ("POST", "/v1/posts", []),
    ("POST", "/v1/posts", b""),
    ("POST", "/v1/posts", b"{"),
    ("POST", "/v1/posts", b'{"text":"\xff"}'),
    ("POST", "/v1/posts", b'{"text":"\\ud800"}'),
    ("POST", "/v1/posts", b"[" * 60_000),
    ("POST", "/v1/posts", b'{"text":' + b"[" * 60_000),
    ("POST", "/v1/users", {}),
    ("POST", "/v1/users", {"identity": 42}),
    ("POST", "/v1/users", {"identity": ""}),
    ("POST", "/v1/feed", {"limit": 0}),
    ("POST", "/v1/feed", {"limit": 101}),
    ("POST", "/v1/feed", {"limit": "5"}),
    ("POST", "/v1/feed", {"limit": True}),
    ("POST", "/v1/feed", {"limit": 1e400}),
    ("POST", "/v1/feed", {"seen": ["x"] * 501}),
    ("POST", "/v1/feed", {"seen": [5]}),
    ("POST", "/v1/posts/batch", {"ids": []}),
    ("POST", "/v1/posts/batch", {"ids": [ID] * 101}),
    ("POST", "/v1/posts/batch", {"ids": [None]}),
    ("GET", "/v1/feed?limit=0", None),
    ("GET", "/v1/feed?limit=101", None),
    ("GET", "/v1/feed?limit=-1", None),
    ("GET", "/v1/feed?limit=x", None),
    ("GET", "/v1/feed?limit=", None),
    ("GET", "/v1/feed?limit=%D9%A5", None),
    ("GET", "/v1/feed?limit=" + "9" * 4000, None),
    ("PUT", "/v1/follows/1", None),
    ("PUT", "/v1/blocks/1", None),
]


async def test_malformed_requests_are_refused_and_store_nothing(region: ApiRegion) -> None:
    alice = region.user(1)
    for method, path, body in BODIES:
        content = body if isinstance(body, bytes) else None if body is None else json.dumps(body).encode()
        answer = await alice.call(method, path, content=content)
        assert (answer.status_code, problem(answer)) == (400, "bad-request"), (method, path, body)
    for key in ("", "x" * 65, "a b"):
        headers = {"Idempotency-Key": key}
        answer = await alice.call("POST", "/v1/posts", json={"text": "x"}, headers=headers)
        assert problem(answer) == "bad-request", key
    assert set((await region.stored()).values()) == {0}


async def test_what_is_not_there_is_not_found(region: ApiRegion) -> None:
    alice = region.user(1)
    for user in ("x", "-1", str(USERS), "007", "9" * 64, "%ff", "1%00", "%D9%A5", "2.0"):
        assert problem(await alice.call("PUT", f"/v1/follows/{user}")) == "not-found", user
        assert problem(await alice.call("DELETE", f"/v1/blocks/{user}")) == "not-found", user
    for identity in ("x", str(USERS), "-1", " 1", "\u0665"):
        assert problem(await region.http.post("/v1/users", json={"identity": identity})) == "not-found", identity
    for path in ("/", "/v1", "/v1/stream", "/v1/feed/", "//v1/feed", "/v1/posts/a/b", "/v1/%2e%2e/x"):
        assert problem(await alice.call("GET", path)) in ("not-found", "method-not-allowed"), path
    assert set((await region.stored()).values()) == {0}


async def test_wrong_methods(region: ApiRegion) -> None:
    for method, path in (
        ("PATCH", "/v1/feed"),
        ("GET", "/v1/posts"),
        ("POST", "/v1/follows/2"),
        ("TRACE", "/v1/users"),
    ):
        answer = await region.user(1).call(method, path)
        assert (answer.status_code, problem(answer)) == (405, "method-not-allowed"), path
        assert answer.headers["allow"]


async def test_tokens(region: ApiRegion) -> None:
    secret = bytes.fromhex(SECRET)
    good, _ = make_token(secret, 1)
    expired, _ = make_token(secret, 1, now_s=0)
    nobody, _ = make_token(secret, USERS)
    forged, _ = make_token(b"x" * 32, 1)
    cases = [
        None,
        "",
        "Bearer",
        f"Basic {good}",
        f"Bearer {good}x",
        f"Bearer {good[:-1]}",
        f"Bearer {good} x",
    ]
    cases += [
        f"Bearer {expired}",
        f"Bearer {nobody}",
        f"Bearer {forged}",
        "Bearer a.b",
        "Bearer \u00e9",
        "Bearer " + "x" * 4000,
    ]
    routes = [("GET", "/v1/feed"), ("POST", "/v1/feed"), ("POST", "/v1/posts"), ("DELETE", f"/v1/posts/{ID}")]
    routes += [("PUT", f"/v1/posts/{ID}/like"), ("POST", "/v1/posts/batch"), ("GET", "/v1/feed/new?since=x")]
    routes += [
        ("GET", "/v1/users/me"),
        ("GET", "/v1/users/me/import"),
        ("PUT", "/v1/follows/2"),
        ("PUT", "/v1/blocks/2"),
    ]
    for case in cases:
        headers = {} if case is None else {b"Authorization": case.encode("latin-1")}
        for method, path in routes if case in (None, cases[-5]) else routes[:1]:
            answer = await region.http.request(method, path, headers=headers)
            assert (answer.status_code, problem(answer)) == (401, "unauthorized"), (case, path)
            assert answer.headers["www-authenticate"] == "Bearer"
    assert (await region.http.get("/v1/feed", headers={"authorization": f"bearer {good}"})).status_code == 200


async def test_large_bodies_are_cut_off(region: ApiRegion) -> None:
    alice = region.user(1)
    answer = await alice.call("POST", "/v1/posts", content=b" " * 65_537)
    assert (answer.status_code, problem(answer)) == (413, "too-large")

    async def endless() -> Any:
        for _ in range(80):
            yield b" " * 1024

    answer = await alice.call("POST", "/v1/posts", content=endless())
    assert (answer.status_code, problem(answer)) == (413, "too-large")
    largest = b'{"text":"x"}'.ljust(65_536)
    assert (await alice.call("POST", "/v1/posts", content=largest)).status_code == 201
    assert (await region.stored())["posts"] == 1


RAW = [
    b"GARBAGE\r\n\r\n",
    b"GET /v1/feed HTTP/9.9\r\n\r\n",
    b"GET /v1/feed HTTP/1.1\r\nHost: x\r\nAuthorization: \x00\r\n\r\n",
    b"POST /v1/posts HTTP/1.1\r\nHost: x\r\nContent-Length: -5\r\n\r\n",
    b"POST /v1/posts HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
    b"POST /v1/posts HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    b"GET /\xff\xfe HTTP/1.1\r\nHost: x\r\n\r\n",
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc",
    b"\x00" * 200,
]


def _exchange(port: int, request: bytes) -> bytes:
    with socket.create_connection(("127.0.0.1", port), 5) as connection:
        connection.settimeout(5)
        answer = b""
        try:
            connection.sendall(request)
            connection.shutdown(socket.SHUT_WR)
            while part := connection.recv(65_536):
                answer += part
        except OSError:
            pass
        return answer


async def test_what_is_no_http_gets_no_effect_and_no_trace(region: ApiRegion) -> None:
    port = region.region.api_ports[0]
    for request in RAW:
        answer = await asyncio.to_thread(_exchange, port, request)
        assert answer == b"" or answer.split(b" ")[1].startswith(b"4"), request
        assert b"Traceback" not in answer
    assert set((await region.stored()).values()) == {0}
    assert (await region.http.get("/healthz")).status_code == 200


async def test_a_client_that_leaves_in_mid_request_disturbs_nobody(region: ApiRegion) -> None:
    token, _ = make_token(bytes.fromhex(SECRET), 1)
    head = f"POST /v1/posts HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\nContent-Length: 100\r\n\r\n"
    for _ in range(20):
        await asyncio.to_thread(_exchange, region.region.api_ports[0], head.encode() + b'{"text":')
    assert set((await region.stored()).values()) == {0}
    await region.user(1).post()
