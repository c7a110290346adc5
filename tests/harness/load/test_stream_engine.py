"""Listeners against a server that misbehaves: nothing lost, nothing twice, every failure counted."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
import pytest
from aiohttp_sse_client.client import EventSource
from stream_stub import (
    EngineProcess,
    StreamServer,
    engine_process,
    make_plan,
    plain_response,
    read_ops,
    running,
    until,
)

from harness.core.clock import NS_PER_S, now_ns
from harness.core.op import OpKind, OpOutcome, text_hash
from harness.load.plan import LoadPlan, PlanPhase
from harness.load.stream_fleet import MOST_BUGS

TORN = b'id: here.1.999\nevent: new_post\ndata: {"type":"new_post","id":"torn"}\n'


@pytest.fixture
async def server() -> AsyncIterator[StreamServer]:
    stub = StreamServer()
    await stub.start()
    yield stub
    await stub.stop()


async def test_opens_and_events_are_recorded(server: StreamServer, tmp_path: Path) -> None:
    server.posts = 7
    async with running(make_plan(tmp_path, server.url, 20)) as run:
        await until(lambda: run.fleet.open == 20, "all open")
        await server.publish(2)
        await until(lambda: run.fleet.events_seen == 40, "all events")
        opens = run.ops(OpKind.STREAM_OPEN)
        assert {op.user for op in opens} == set(range(20))
        assert {(op.token, op.since, op.status, op.outcome) for op in opens} == {("here.1.7", "", 200, OpOutcome.OK)}
        assert all(op.due_ns <= op.sent_ns <= op.done_ns for op in opens)
        third = [op for op in run.ops(OpKind.EVENT) if op.session == "listen-3"]
        assert [(op.post, op.token) for op in third] == [("p8", "here.1.8"), ("p9", "here.1.9")]
        assert all(op.due_ns == op.sent_ns == op.done_ns and op.author == -1 for op in third)
    sent_tokens = {headers["authorization"] for _, headers in server.requests}
    assert sent_tokens == {f"Bearer t{user}" for user in range(20)}
    ends = [op for op in read_ops(run.plan) if op.kind is OpKind.STREAM_END]
    assert {op.error for op in ends} == {"closed-by-us"}
    assert len(ends) == 20


@pytest.mark.parametrize("chunked", [False, True])
async def test_a_cut_stream_resumes_without_loss_or_repetition(
    server: StreamServer, tmp_path: Path, chunked: bool
) -> None:
    server.chunked = chunked
    async with running(make_plan(tmp_path, server.url, 5)) as run:
        for round_number in range(1, 4):
            await until(lambda: run.fleet.open == 5, "all open")
            await server.publish(3)
            await until(lambda n=round_number: run.fleet.events_seen == 15 * n, "events")  # type: ignore[misc]
            await server.cut(torn=TORN)
            await until(lambda: run.fleet.open < 5, "a stream ended")
        await until(lambda: run.fleet.open == 5, "all open again")
        for user in range(5):
            events = [op.post for op in run.ops(OpKind.EVENT) if op.user == user]
            assert events == [f"p{n}" for n in range(1, 10)]
        again = [op for op in run.ops(OpKind.STREAM_OPEN) if op.since]
        assert {op.since for op in again} == {"here.1.3", "here.1.6", "here.1.9"}
        assert {op.error for op in run.ops(OpKind.STREAM_END)} <= {"eof", "reset: ConnectionResetError"}


async def test_a_resync_is_recorded(server: StreamServer, tmp_path: Path) -> None:
    server.posts, server.resync_next = 4, True
    async with running(make_plan(tmp_path, server.url, 1)) as run:
        await until(lambda: bool(run.ops(OpKind.RESYNC)), "resync")
        (op,) = run.ops(OpKind.RESYNC)
        assert (op.token, op.session) == ("here.1.4", "listen-0")


@pytest.mark.slow
async def test_a_503_is_a_failed_op_and_its_retry_after_is_honoured(server: StreamServer, tmp_path: Path) -> None:
    server.refusals = [plain_response(503, b"busy", Retry_After=1)]
    async with running(make_plan(tmp_path, server.url, 1)) as run:
        await until(lambda: run.fleet.open == 1, "open")
        refused, opened = run.ops(OpKind.STREAM_OPEN)
        assert (refused.outcome, refused.status, refused.error) == (OpOutcome.FAIL, 503, "status 503")
        assert opened.due_ns - refused.done_ns >= 1e9
        assert run.fleet.problems == {"status 503": 1}


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (plain_response(401), "status 401"),
        (plain_response(200, b"{}"), "not an event stream"),
        (b"what?\r\n\r\n", "protocol: not an HTTP response: b'what?'"),
        (b"", "eof"),
    ],
)
async def test_what_is_no_stream_is_a_failed_op_with_its_reason(
    server: StreamServer, tmp_path: Path, answer: bytes, error: str
) -> None:
    server.refusals = [answer]
    async with running(make_plan(tmp_path, server.url, 1)) as run:
        await until(lambda: run.fleet.open == 1, "open")
        refused, _ = run.ops(OpKind.STREAM_OPEN)
        assert (refused.outcome, refused.error) == (OpOutcome.FAIL, error)


async def test_a_server_that_is_gone_is_tried_again(server: StreamServer, tmp_path: Path) -> None:
    async with running(make_plan(tmp_path, server.url, 2)) as run:
        await until(lambda: run.fleet.open == 2, "open")
        await server.stop()
        await until(lambda: run.fleet.problems["connection refused"] >= 2, "refused")
        await server.start(port=int(server.url.rpartition(":")[2]))
        await server.publish()
        await until(lambda: run.fleet.events_seen == 2, "caught up")
        assert {op.outcome for op in run.ops(OpKind.STREAM_OPEN) if op.error} == {OpOutcome.FAIL}


async def test_event_data_that_is_not_json_is_a_failed_event(server: StreamServer, tmp_path: Path) -> None:
    head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n"
    server.refusals = [head + b"id: here.1.1\nevent: new_post\ndata: {oops\n\n"]
    async with running(make_plan(tmp_path, server.url, 1)) as run:
        await until(lambda: bool(run.ops(OpKind.EVENT)), "event")
        (op,) = run.ops(OpKind.EVENT)
        assert (op.outcome, op.post) == (OpOutcome.FAIL, "")
        assert op.error.startswith("event data: ")


@pytest.mark.slow
async def test_a_stream_with_an_event_without_end_is_broken_and_resumed(server: StreamServer, tmp_path: Path) -> None:
    async with running(make_plan(tmp_path, server.url, 1)) as run:
        await until(lambda: run.fleet.open == 1, "open")
        await server.publish()
        await until(lambda: run.fleet.events_seen == 1, "an event")
        await server.cut(b"data: and so on, and so on\n" * 60_000)
        await until(lambda: len(run.ops(OpKind.STREAM_OPEN)) == 2, "open again")
        [end] = run.ops(OpKind.STREAM_END)
        assert end.error == "protocol: data of an event of more than 1048576 bytes"
        assert [op.since for op in run.ops(OpKind.STREAM_OPEN)] == ["", "here.1.1"]


async def test_a_stream_without_ids_counts_as_open_after_a_moment(server: StreamServer, tmp_path: Path) -> None:
    server.refusals = [b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"]
    server.hold_refusals = True
    async with running(make_plan(tmp_path, server.url, 1)) as run:
        await until(lambda: run.fleet.open == 1, "open")
        (op,) = run.ops(OpKind.STREAM_OPEN)
        assert (op.outcome, op.token) == (OpOutcome.OK, "")


async def test_fetches_follow_events_and_move_on(server: StreamServer, tmp_path: Path) -> None:
    async with running(make_plan(tmp_path, server.url, 1, fetch_ratio=1.0)) as run:
        await until(lambda: run.fleet.open == 1, "open")
        for number in (1, 2, 3):
            if number == 3:
                server.feed_refusals = [plain_response(410)]
            await server.publish()
            await until(lambda n=number: len(run.ops(OpKind.FEED, OpKind.FEED_NEW)) == n, "fetch")  # type: ignore[misc]
        await server.publish()
        await until(lambda: len(run.ops(OpKind.FEED, OpKind.FEED_NEW)) == 4, "the last fetch")
        first, second, gone, over = run.ops(OpKind.FEED, OpKind.FEED_NEW)
        event = run.ops(OpKind.EVENT)[0]
    assert (first.kind, first.limit, first.ids) == (OpKind.FEED, 50, ["p1"])
    assert (first.item_authors, first.item_hashes, first.item_ts_us) == ([3], [text_hash("text 1")], [1])
    assert (second.kind, second.since, second.ids) == (OpKind.FEED_NEW, "p1", ["p2"])
    assert (gone.kind, gone.since, gone.outcome, gone.status) == (OpKind.FEED_NEW, "p2", OpOutcome.FAIL, 410)
    assert (over.kind, over.since, over.ids) == (OpKind.FEED, "", ["p4", "p3", "p2", "p1"])
    assert first.walk != over.walk
    assert 0 <= first.due_ns - event.done_ns <= 20_000_000
    assert all(op.due_ns <= op.sent_ns <= op.done_ns for op in (first, second, gone, over))


async def test_events_during_a_scheduled_fetch_are_covered_by_it(server: StreamServer, tmp_path: Path) -> None:
    async with running(make_plan(tmp_path, server.url, 1, fetch_ratio=1.0, fetch_jitter_s=0.5)) as run:
        await until(lambda: run.fleet.open == 1, "open")
        await server.publish(20)
        await until(lambda: bool(run.ops(OpKind.FEED)), "fetch")
        assert run.fetch.sent == 1
        assert run.ops(OpKind.FEED)[0].ids[0] == "p20"


async def test_a_fetch_that_ends_while_the_engine_does_is_followed_by_no_other(
    server: StreamServer, tmp_path: Path
) -> None:
    server.hold_feed = asyncio.Event()
    async with running(make_plan(tmp_path, server.url, 1, fetch_ratio=1.0)) as run:
        await until(lambda: run.fleet.open == 1, "open")
        await server.publish()
        await until(lambda: run.fetch.sent == 1, "a fetch on its way")
        await server.publish()
        await until(lambda: run.fleet.events_seen == 2, "an event meanwhile")
        closing = asyncio.create_task(run.fetch.close(5))
        await asyncio.sleep(0)
        server.hold_feed.set()
        await closing
        assert (run.fetch.planned, run.fetch.sent) == (1, 1)


async def test_a_fetch_without_an_api_is_recorded_as_failed(server: StreamServer, tmp_path: Path) -> None:
    plan = make_plan(tmp_path, server.url, 1, fetch_ratio=1.0)
    regions = {"here": msgspec.structs.replace(plan.regions["here"], api="http://127.0.0.1:1")}
    async with running(msgspec.structs.replace(plan, regions=regions)) as run:
        await until(lambda: run.fleet.open == 1, "open")
        await server.publish()
        await until(lambda: bool(run.ops(OpKind.FEED)), "fetch")
        assert run.ops(OpKind.FEED)[0].outcome is OpOutcome.FAIL


async def wait_done(engine: EngineProcess) -> dict[str, Any]:
    status = await engine.wait(lambda s: s["state"] == "done")
    assert await engine.process.wait() == 0
    return status


def generator_row(plan: LoadPlan) -> dict[str, Any]:
    (line,) = plan.directory.generator.read_bytes().splitlines()
    return dict(msgspec.json.decode(line))


@pytest.mark.slow
async def test_the_process_follows_its_control_protocol(server: StreamServer, tmp_path: Path) -> None:
    plan = make_plan(tmp_path, server.url, 41)
    async with engine_process(plan, index=1, count=2) as engine:
        await engine.wait(lambda s: s["state"] == "ready")
        assert server.requests == []
        engine.send(cmd="open")
        await engine.wait(lambda s: s["open"] == 20)
        engine.send(cmd="start", t0_ns=now_ns())
        await engine.wait(lambda s: s["state"] == "running")
        await server.publish(3)
        await engine.wait(lambda s: s["events"] == 60)
        await server.cut()
        await engine.wait(lambda s: s["open"] == s["sent"] == 20)
        engine.send(cmd="stop")
        status = await wait_done(engine)
    assert status["problems"] == {}
    ops = read_ops(plan, "streams-1")
    assert {op.user for op in ops} == set(range(1, 41, 2))
    assert len({op.id for op in ops}) == len(ops) == 2 * (20 + 20) + 60
    row = generator_row(plan)  # of attempts before the start command nothing is said
    assert (row["process"], row["kind"], row["planned"], row["sent"]) == ("streams-1", "streams", 20, 20)
    assert (row["dropped"], row["completed"], row["errors"]) == (0, True, [])
    assert "Tag=stream_open|here|warmup," in (plan.directory.histograms / "streams-1.hlog").read_text()


@pytest.mark.slow
@pytest.mark.parametrize("cut", [True, False])
async def test_an_engine_that_ends_where_its_plan_was_cut_is_complete(
    server: StreamServer, tmp_path: Path, cut: bool
) -> None:
    plan = make_plan(tmp_path, server.url, 4)
    plan = msgspec.structs.replace(plan, phases=(*plan.phases[:-1], PlanPhase("long", 0, 60 * NS_PER_S)))
    async with engine_process(plan) as engine:
        engine.send(cmd="open")
        await engine.wait(lambda s: s["open"] == 4)
        engine.send(cmd="start", t0_ns=now_ns())
        await engine.wait(lambda s: s["state"] == "running")
        if cut:
            engine.send(cmd="cut", end_ns=1)
        engine.send(cmd="stop")
        await wait_done(engine)
    assert generator_row(plan)["completed"] is cut


@pytest.mark.slow
@pytest.mark.parametrize("how", ["end of input", "SIGTERM"])
async def test_the_process_ends_cleanly_and_says_who_never_had_a_stream(
    server: StreamServer, tmp_path: Path, how: str
) -> None:
    await server.stop()
    plan = make_plan(tmp_path, server.url, 4)
    async with engine_process(plan) as engine:
        engine.send(cmd="open")
        await engine.wait(lambda s: s["problems"].get("connection refused", 0) >= 4)
        if how == "SIGTERM":
            engine.process.send_signal(signal.SIGTERM)
        else:
            assert engine.process.stdin is not None
            engine.process.stdin.close()
        status = await wait_done(engine)
    assert (status["open"], status["failed"]) == (0, len(read_ops(plan)))
    row = generator_row(plan)
    assert row["completed"] is False
    assert row["errors"][0].startswith("4 of 4 listeners never had a stream: connection refused (")


BROKEN = """
import sys
from harness.load import stream_engine, stream_fleet

def events(*_):
    raise RuntimeError("oops")

stream_fleet.StreamFleet.events = events
sys.exit(stream_engine.main(sys.argv[1:]))
"""


@pytest.mark.slow
async def test_an_error_of_ours_in_a_callback_is_one_of_the_process(server: StreamServer, tmp_path: Path) -> None:
    plan = make_plan(tmp_path, server.url, MOST_BUGS + 1)
    async with engine_process(plan, program=("-c", BROKEN)) as engine:
        engine.send(cmd="open")
        await engine.wait(lambda s: s["open"] == MOST_BUGS + 1)
        await server.publish()
        await engine.wait(lambda s: s["sent"] == 2 * (MOST_BUGS + 1))
        engine.send(cmd="stop")
        await wait_done(engine)
    assert generator_row(plan)["errors"] == ["RuntimeError: oops"] * MOST_BUGS


class ReferenceListener:
    """`aiohttp-sse-client` with a reconnect policy of our own: it gives up on an end it did not expect, and glues
    an event that the end cut off to the next one, so each connection gets a fresh EventSource."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.events: list[tuple[str, str]] = []
        self._last_event_id = ""

    async def run(self) -> None:
        timeout, connector = aiohttp.ClientTimeout(total=None), aiohttp.TCPConnector(limit=0)
        async with aiohttp.ClientSession(timeout=timeout, connector=connector) as session:
            while True:
                headers = {"Authorization": "Bearer t9"}
                if self._last_event_id:
                    headers["Last-Event-ID"] = self._last_event_id
                source = EventSource(self.url + "/v1/stream", session=session, headers=headers)
                try:
                    await source.connect()
                    await self._listen(source)
                except (ConnectionError, aiohttp.ClientError):
                    await asyncio.sleep(0.01)
                finally:
                    await source.close()

    async def _listen(self, source: EventSource) -> None:
        """Until the response ends: the library would go on by itself, with half an event in its hands."""

        async def ended() -> None:
            raise ConnectionResetError

        source.connect = lambda *_: ended()
        async for event in source:
            self._last_event_id = event.last_event_id
            if event.type == "new_post":
                self.events.append((event.last_event_id, msgspec.json.decode(event.data)["id"]))


async def test_the_reference_listener_sees_the_same_events(server: StreamServer, tmp_path: Path) -> None:
    reference = ReferenceListener(server.url)
    listening = asyncio.create_task(reference.run())
    async with running(make_plan(tmp_path, server.url, 1)) as run:
        for number in range(1, 4):
            await until(lambda: server.streaming == 2, "both listen")
            await server.publish(10)
            await until(lambda n=number: run.fleet.events_seen == 10 * n == len(reference.events), "events")  # type: ignore[misc]
            await server.cut(torn=TORN)
        ours = [(op.token, op.post) for op in run.ops(OpKind.EVENT)]
    listening.cancel()
    await asyncio.gather(listening, return_exceptions=True)
    assert ours == reference.events
    assert ours == [(f"here.1.{n}", f"p{n}") for n in range(1, 31)]
