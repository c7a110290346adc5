"""The pinned examples against the reference stack's half of the contract: its encoders and decoders."""

import json
import uuid
from pathlib import Path

import msgspec
import pytest

from reference_server.api.bodies import render
from reference_server.api.feed import FeedRequest
from reference_server.api.operator import FlagRequest
from reference_server.api.posts import BatchRequest, PostRequest
from reference_server.api.problems import problem_response
from reference_server.api.profiles import ProfileRequest
from reference_server.api.users import SignUpRequest
from reference_server.events import Label, PostEvent
from reference_server.fep import wire

GOLDEN = Path(__file__).parents[1] / "golden"
EXCHANGES = {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in sorted(GOLDEN.glob("http/*.json"))}
REQUESTS = {
    "signUp": SignUpRequest,
    "changeMe": ProfileRequest,
    "createPost": PostRequest,
    "getPosts": BatchRequest,
    "readFeedUnseen": FeedRequest,
    "setFlag": FlagRequest,
}
EPOCH_1 = 1 << 48


def golden_posts():
    for exchange in EXCHANGES.values():
        body = exchange["body"] or {}
        yield from body.get("items", []) + body.get("posts", []) + ([body["post"]] if "post" in body else [])


def test_posts_are_written_as_pinned():
    posts = list(golden_posts())
    assert len(posts) >= 6
    for post in posts:
        parent = uuid.UUID(post["reply_to"]).bytes if post["reply_to"] else b""
        labels = sum(Label[name.upper()] for name in post.get("labels", []))
        event = PostEvent(
            uuid.UUID(post["id"]).bytes,
            int(post["author"]),
            post["created_at_us"],
            post["text"],
            "us-east",
            parent,
            labels=labels,
        )
        assert json.loads(render(event)) == post


@pytest.mark.parametrize("name", [n for n, e in EXCHANGES.items() if e["status"] >= 400])
def test_problems_are_written_as_pinned(name):
    exchange = EXCHANGES[name]
    body = exchange["body"]
    written = problem_response(body["type"].rpartition(":")[2], body["detail"], body["status"])
    assert json.loads(bytes(written.body)) == body
    assert written.status_code == exchange["status"]
    assert {h: written.headers[h] for h in exchange["headers"]} == exchange["headers"]


@pytest.mark.parametrize("name", [n for n, e in EXCHANGES.items() if e["request"]["body"] is not None])
def test_requests_are_understood_as_pinned(name):
    exchange = EXCHANGES[name]
    body = exchange["request"]["body"]
    read = msgspec.to_builtins(msgspec.json.decode(json.dumps(body), type=REQUESTS[exchange["operation"]]))
    assert {member: read[member] for member in body} == body


def new_post(record, post):
    return wire.new_post("us-east", EPOCH_1 | record, uuid.UUID(post).bytes)


def test_streams_are_written_as_pinned():
    p1, p2 = "0190a8f2-3c51-7d1e-8a44-5b0c9de1f203", "0190a8f2-7a10-7c3b-9d02-11e8a7c40b5e"
    first = wire.first_block("us-east", EPOCH_1 | 41, 2311)
    head = 2 * EPOCH_1 | 9
    resync = wire.first_block("us-east", head, 2311) + wire.resync("us-east", head)
    written = {
        "opened": first + wire.HEARTBEAT,
        "resumed": first + new_post(42, p1) + new_post(57, p2) + wire.HEARTBEAT,
        "resync": resync + wire.new_post("us-east", head + 1, uuid.UUID(p1).bytes),
        "cut-off": (first + new_post(42, p1) + new_post(57, p2))[:-1],
    }
    assert written == {path.stem: path.read_bytes() for path in GOLDEN.glob("sse/*.sse")}
