"""The pinned examples against the harness's half of the contract: openapi.yaml, clients, parsers."""

import json
import re
from pathlib import Path

import httpx
import jsonschema
import msgspec
import pytest
from contract_document import operations, resolved, validate

from harness.contract.client import FeedClient, Post
from harness.contract.profile import RegionUrls
from harness.contract.sse_parser import SseParser
from harness.core.op import OpOutcome
from harness.load import wire

GOLDEN = Path(__file__).parents[2] / "golden"
EXCHANGES = {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in sorted(GOLDEN.glob("http/*.json"))}
STREAMS = sorted(path.stem for path in GOLDEN.glob("sse/*.sse"))
TOKEN = "NDI6MTcyMDA4NjQwMA.q1w2e3r4t5y6u7i8o9p0aQ"
URLS = RegionUrls(api="http://api.test", stream="http://stream.test")
KEY = {"idempotency_key": "6f1c2a-17"}
P1, P2 = "0190a8f2-3c51-7d1e-8a44-5b0c9de1f203", "0190a8f2-7a10-7c3b-9d02-11e8a7c40b5e"
CURSOR = "NDI6MTcyMDAwMDAwMDAwMDAwMDow.Zm9vYmFyYmF6cXV1eA"

# the call of FeedClient that sends the request of each example
CALLS = {
    "sign-up-first": lambda c: c.sign_up("42"),
    "sign-up-again": lambda c: c.sign_up("42"),
    "sign-up-unknown": lambda c: c.sign_up("nobody"),
    "me": lambda c: c.me(),
    "me-unauthorized": lambda c: c.me(),
    "profile-change": lambda c: c.set_profile(minor=True),
    "import-running": lambda c: c.import_state(),
    "follow": lambda c: c.follow("7"),
    "follow-self": lambda c: c.follow("42"),
    "follow-over-cap": lambda c: c.follow("7"),
    "unfollow": lambda c: c.unfollow("7"),
    "block": lambda c: c.block("7"),
    "unblock": lambda c: c.unblock("7"),
    "post": lambda c: c.post("hello", **KEY),
    "post-repeated": lambda c: c.post("hello", **KEY),
    "post-reply": lambda c: c.post("zażółć 🌊", reply_to=P1),
    "post-labelled": lambda c: c.post("not for everyone", labels=["sensitive", "adult"]),
    "post-too-large": lambda c: c.post("hello"),
    "post-throttled": lambda c: c.post("hello"),
    "post-unavailable": lambda c: c.post("hello"),
    "post-unknown-effect": lambda c: c.post("hello"),
    "delete": lambda c: c.delete(P1),
    "delete-forbidden": lambda c: c.delete(P2),
    "hide": lambda c: c.hide(P1),
    "show": lambda c: c.show(P1),
    "show-moderated": lambda c: c.show(P1),
    "like": lambda c: c.like(P2),
    "batch": lambda c: c.posts_batch([P1, "unknown"]),
    "feed-page": lambda c: c.feed(2),
    "feed-last-page-stale": lambda c: c.feed(2, CURSOR),
    "feed-unseen": lambda c: c.feed(seen=[P2]),
    "feed-bad-cursor": lambda c: c.feed(cursor="x"),
    "feed-unavailable": lambda c: c.feed(),
    "feed-new": lambda c: c.feed_new(P1),
    "feed-new-gone": lambda c: c.feed_new("unknown"),
    "moderate": lambda c: c.moderate(P1),
    "moderation-lifted": lambda c: c.lift_moderation(P1),
    "flags": lambda c: c.flags(),
    "flags-foreign": lambda c: c.flags(),
    "flag-set": lambda c: c.set_flag("two_tier", False),
    "flag-at-start": lambda c: c.set_flag("cache_mb", 64),
    "flag-unknown": lambda c: c.reset_flag("two_teir"),
    "flag-reset": lambda c: c.reset_flag("two_tier"),
}
OUTCOMES = {range(200, 300): OpOutcome.OK, range(400, 500): OpOutcome.FAIL, range(503, 504): OpOutcome.FAIL}
EXCHANGE = pytest.mark.parametrize("name", EXCHANGES)


def test_every_operation_with_a_body_has_an_example():
    pinned = {exchange["operation"] for exchange in EXCHANGES.values()}
    unpinned = {"openStream", "getHealth", "getReadiness", "getMetrics"}
    assert pinned == set(operations()) - unpinned
    assert set(CALLS) == set(EXCHANGES)


@EXCHANGE
def test_the_contract_allows_the_example(name):
    exchange = EXCHANGES[name]
    method, path, operation = operations()[exchange["operation"]]
    request = exchange["request"]
    assert request["method"] == method
    assert re.fullmatch(re.sub(r"\{\w+\}", "[^/]+", path), request["path"])
    if request["body"] is not None:
        validate(operation["requestBody"]["content"]["application/json"]["schema"], request["body"])
    answer = resolved(operation["responses"][str(exchange["status"])])
    if exchange["body"] is None:
        assert "content" not in answer
    else:
        validate(answer["content"][exchange["headers"]["content-type"]]["schema"], exchange["body"])
    for header in answer.get("headers", {}):
        assert header == "Feed-Degraded" or header.lower() in exchange["headers"]


@EXCHANGE
async def test_the_client_sends_the_request_and_reads_the_answer(name):
    exchange = EXCHANGES[name]
    sent = []

    def answer(request: httpx.Request) -> httpx.Response:
        sent.append(request)
        content = b"" if exchange["body"] is None else json.dumps(exchange["body"]).encode()
        return httpx.Response(exchange["status"], headers=exchange["headers"], content=content)

    async with httpx.AsyncClient(transport=httpx.MockTransport(answer)) as http:
        token = "" if exchange["operation"] == "signUp" else TOKEN
        result = await CALLS[name](FeedClient(URLS, token=token, http=http))
    (request,) = sent
    expected = exchange["request"]
    assert (request.method, request.url.path) == (expected["method"], expected["path"])
    assert dict(request.url.params) == expected["query"]
    assert {h: request.headers[h] for h in expected["headers"]} == expected["headers"]
    assert (json.loads(request.content) if request.content else None) == expected["body"]
    outcomes = [outcome for statuses, outcome in OUTCOMES.items() if exchange["status"] in statuses]
    assert result.outcome is (outcomes or [OpOutcome.INFO])[0]
    assert result.status == exchange["status"]
    assert result.degraded == exchange["headers"].get("feed-degraded", "")
    decoded = result.value if result.ok else result.problem
    assert msgspec.to_builtins(decoded) == exchange["body"]


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("sign-up-first", wire.SignUpAnswer),
        ("import-running", wire.ImportAnswer),
        ("post", wire.PostAnswer),
        ("feed-page", wire.PageAnswer),
        ("feed-new", wire.PageAnswer),
    ],
)
def test_load_clients_read_the_same_answer(name, shape):
    body = EXCHANGES[name]["body"]
    read = msgspec.to_builtins(msgspec.json.decode(json.dumps(body), type=shape))
    assert _is_part_of(read, body)


def _is_part_of(part, whole):
    if isinstance(part, dict):
        return all(_is_part_of(value, whole.get(key)) for key, value in part.items())
    if isinstance(part, list):
        return len(part) == len(whole) and all(map(_is_part_of, part, whole))
    return part == whole


@pytest.mark.parametrize("piece", [1, 7, 10_000], ids="pieces of {}".format)
@pytest.mark.parametrize("name", STREAMS)
def test_a_listener_understands_the_stream(name, piece):
    stream = (GOLDEN / "sse" / f"{name}.sse").read_bytes()
    expected = json.loads((GOLDEN / "sse" / f"{name}.json").read_text())
    parser = SseParser()
    events = [e for at in range(0, len(stream), piece) for e in parser.feed(stream[at : at + piece])]
    read = [{"event": e.type, "id": e.last_event_id, "data": json.loads(e.data)} for e in events]
    assert read == expected["events"]
    assert parser.first_event_id == expected["first_event_id"]
    assert parser.last_event_id == expected["last_event_id"]
    assert parser.retry_ms == expected["retry_ms"]
    for event in read:
        validate({"$ref": "#/components/schemas/Event"}, event["data"])


def test_what_is_not_of_the_shape_is_not_allowed():
    page = {"$ref": "#/components/schemas/FeedPage"}
    with pytest.raises(jsonschema.ValidationError, match="next_cursor"):
        validate(page, {"items": []})
    with pytest.raises(jsonschema.ValidationError, match="created_at_us"):
        validate(page, {"items": [{"id": "x", "author": "y", "text": "z", "reply_to": None}], "next_cursor": None})


def test_examples_inside_the_contract_are_of_its_shapes():
    checked = 0
    for _, _, operation in operations().values():
        contents = [resolved(a).get("content", {}) for a in operation["responses"].values()]
        contents.append(operation.get("requestBody", {}).get("content", {}))
        for media in [m for content in contents for m in content.values()]:
            for example in media.get("examples", {}).values():
                validate(media["schema"], resolved(example)["value"])
                checked += 1
    assert checked > 20


def test_posts_are_ordered_by_time_then_id():
    older, newer = (msgspec.convert(p, Post) for p in reversed(EXCHANGES["feed-page"]["body"]["items"]))
    assert older.key < newer.key
