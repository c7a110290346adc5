import asyncio
from contextlib import asynccontextmanager

import httpx
import pytest

from harness.contract.client import FeedClient
from harness.contract.profile import RegionUrls
from harness.core.op import OpOutcome

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n"


@asynccontextmanager
async def served(answer: bytes | None, keep: bool = False):
    """A server that answers any request with these bytes and closes; None: never answers; keep: stays open after it."""
    finished = asyncio.Event()

    async def serve(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        if answer is not None:
            writer.write(answer)
            await writer.drain()
        if answer is None or keep:
            await finished.wait()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    async with FeedClient(RegionUrls(api=url, stream=url), timeout_s=0.2) as client:
        yield client
    finished.set()
    server.close()
    await server.wait_closed()


def answer(status: str, body: bytes = b"", content_type: str = "application/json") -> bytes:
    head = (
        f"HTTP/1.1 {status}\r\nContent-Type: {content_type}\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    )
    return head.encode() + body


@pytest.mark.parametrize(
    ("sent", "outcome", "status"),
    [
        (answer("200 OK", b'{"items":[],"next_cursor":null}'), OpOutcome.OK, 200),
        (answer("200 OK", b'{"items":[],"new":1,"next_cursor":"x"}'), OpOutcome.OK, 200),
        (answer("200 OK", b'{"items":7}'), OpOutcome.INFO, 200),
        (answer("200 OK", b"<html>"), OpOutcome.INFO, 200),
        (answer("200 OK"), OpOutcome.INFO, 200),
        (answer("302 Found"), OpOutcome.FAIL, 302),
        (answer("404 Not Found"), OpOutcome.FAIL, 404),
        (answer("429 Too Many Requests"), OpOutcome.FAIL, 429),
        (answer("500 Internal Server Error", b"oops"), OpOutcome.INFO, 500),
        (answer("502 Bad Gateway"), OpOutcome.INFO, 502),
        (answer("503 Service Unavailable"), OpOutcome.FAIL, 503),
        (b"", OpOutcome.INFO, 0),
        (b"nonsense\r\n\r\n", OpOutcome.INFO, 0),
        (answer("200 OK", b'{"items":[],"next_cursor":null}')[:-5], OpOutcome.INFO, 0),
    ],
)
async def test_outcome_of_an_answer(sent, outcome, status):
    async with served(sent) as client:
        result = await client.feed()
    assert (result.outcome, result.status) == (outcome, status)
    assert (result.value is not None) == result.ok
    assert bool(result.error) == (not result.ok)


async def test_a_refused_connection_certainly_had_no_effect():
    async with served(b"") as client:
        gone = client
    async with FeedClient(gone.urls) as client:
        result = await client.post("x")
    assert result.outcome is OpOutcome.FAIL
    assert result.away
    with pytest.raises(ValueError, match="ConnectError"):
        result.get()


async def test_silence_leaves_the_effect_unknown():
    async with served(None) as client:
        result = await client.post("x")
    assert result.outcome is OpOutcome.INFO
    assert "ReadTimeout" in result.error


async def test_ids_are_opaque_also_in_paths():
    paths = []

    def note(request):
        paths.append(request.url.raw_path)
        return httpx.Response(204)

    async with httpx.AsyncClient(transport=httpx.MockTransport(note)) as http:
        client = FeedClient(RegionUrls(api="http://a.test/base", stream="http://a.test"), http=http)
        await client.follow("a/b?c")
        await client.like("ż")
    assert paths == [b"/base/v1/follows/a%2Fb%3Fc", b"/base/v1/posts/%C5%BC/like"]


async def test_a_walk_ends_at_the_last_page_or_at_a_refusal():
    pages = {None: ("a", 200), "a": ("b", 200), "b": (None, 200)}

    def page(request):
        following, status = pages[request.url.params.get("cursor")]
        return httpx.Response(status, json={"items": [], "next_cursor": following})

    async with httpx.AsyncClient(transport=httpx.MockTransport(page)) as http:
        client = FeedClient(RegionUrls(api="http://a.test", stream="http://a.test"), http=http)
        assert len([page async for page in client.walk()]) == 3
        assert len([page async for page in client.walk(max_pages=2)]) == 2
        pages["a"] = (None, 503)
        assert [page.ok async for page in client.walk()] == [True, False]


async def test_a_stream_tells_ids_events_heartbeats_and_its_end():
    text = b'retry: 5\nid: e.1\n\nid: e.2\nevent: new_post\ndata: {"type":"new_post","id":"p"}\n\n: hb\n\nid: e.3\n'
    async with served(HEAD + text) as client, client.stream() as stream:
        assert (stream.status, stream.content_type) == (200, "text/event-stream")
        assert await stream.first_id(1) == "e.1"
        event = await stream.next(1)
        assert (event.type, event.last_event_id) == ("new_post", "e.2")
        assert await stream.next(1) is None
        assert [event async for event in stream.events()] == []
        assert stream.ended
        assert (stream.comments, stream.retry_ms, stream.last_event_id) == (1, 5, "e.2")


async def test_waiting_for_an_event_does_not_cut_the_stream():
    async with served(HEAD + b"id: e.1\n\n", keep=True) as client, client.stream() as stream:
        assert await stream.first_id(1) == "e.1"
        assert await stream.next(0.01) is None
        assert not await stream.heartbeat(0.01)
        assert not stream.ended


async def test_a_stream_that_is_never_answered_is_given_up():
    async with served(None) as client:
        with pytest.raises(httpx.HTTPError):
            async with client.stream():
                pytest.fail("no answer, yet a stream")
