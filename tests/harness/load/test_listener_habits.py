"""Listeners that read late, vanish, leave all at once, forget where they were, or come over HTTP/2: what they miss, and
what the history says of them."""

from __future__ import annotations

import asyncio
import socket
import ssl
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import pytest
import uvloop
from stream_stub import FleetUnderTest, StreamServer, make_plan, plain_response, running, until

from harness.core.clock import NS_PER_S, now_ns
from harness.core.errors import UsageError
from harness.core.listening import Habit, Listening
from harness.core.op import OpKind, OpOutcome
from harness.core.seeds import rng
from harness.load import stream_fleet
from harness.load.habit_timeline import HabitTimeline
from harness.load.plan import PlanPhase, PlanRegion
from harness.load.stream_connection import StreamConnection
from harness.load.stream_endpoint import edge_endpoints
from harness.load.stream_fleet import DISCONNECTED, VANISHED
from harness.load.stream_response import StreamRequest
from reference_server.supervisor.certificates import write_certificates
from reference_server.supervisor.programs import find_haproxy

MANY = 600
QUICK = Listening(backoff_s=0.02, backoff_cap_s=0.05)


@pytest.fixture
async def server() -> AsyncIterator[StreamServer]:
    stub = StreamServer()
    await stub.start()
    yield stub
    await stub.stop()


def names(count: int) -> list[str]:
    return [f"p{n}" for n in range(1, count + 1)]


async def all_open(run: FleetUnderTest, count: int) -> None:
    await until(lambda: run.fleet.open == count, "all open")


async def test_a_stalled_listener_reads_nothing_and_loses_nothing(server: StreamServer, tmp_path: Path) -> None:
    plan = make_plan(tmp_path, server.url, 2, habits={1: Habit.STALLED})
    async with running(plan) as run:
        await all_open(run, 2)
        run.fleet.be_late(True)
        await server.publish(MANY)
        await until(lambda: len(run.posts(0)) == MANY, "the other one reads")
        assert run.posts(1) == []
        await server.cut()  # which he does not notice
        await until(lambda: len(run.ops(OpKind.STREAM_OPEN)) == 3, "the other one is back")
        assert not any(op.user == 1 for op in run.ops(OpKind.STREAM_END))
        run.fleet.be_late(False)
        await until(lambda: len(run.posts(1)) == MANY, "everything came")
        assert run.posts(1) == run.posts(0) == names(MANY)
        assert {op.user: op.variant for op in run.ops(OpKind.STREAM_OPEN)} == {0: "", 1: "stalled"}


async def test_a_stalled_listener_that_comes_back_opens_its_stream_and_stalls_again(
    server: StreamServer, tmp_path: Path
) -> None:
    async with running(make_plan(tmp_path, server.url, 1, habits={0: Habit.STALLED})) as run:
        await all_open(run, 1)
        run.fleet.are_late = True  # begins to be late with what it reads next
        await server.publish()
        await until(lambda: run.posts(0) == ["p1"], "one event")
        await server.publish()
        await until(lambda: server.posts == 2, "published")
        connection = run.fleet.listeners[0].connection
        assert connection is not None
        assert not connection.reads
        connection.close("for the test")
        await until(lambda: len(run.ops(OpKind.STREAM_OPEN)) == 2, "open again")
        again = run.fleet.listeners[0].connection
        assert again is not None
        await until(lambda: not again.reads, "stalled again")


async def test_a_slow_listener_is_behind_and_catches_up(server: StreamServer, tmp_path: Path) -> None:
    habits, listening = {1: Habit.SLOW}, Listening(slow_bytes_per_s=2000)
    async with running(make_plan(tmp_path, server.url, 2, habits=habits, listening=listening)) as run:
        await all_open(run, 2)
        run.fleet.be_late(True)
        await server.publish(MANY)
        await until(lambda: len(run.posts(0)) == MANY and len(run.posts(1)) > 0, "one has all, the other has begun")
        assert len(run.posts(1)) < MANY / 2
        run.fleet.be_late(False)
        await until(lambda: len(run.posts(1)) == MANY, "everything came")
        assert run.posts(1) == names(MANY)


async def test_a_half_open_listener_leaves_its_stream_behind_and_resumes_on_another(
    server: StreamServer, tmp_path: Path
) -> None:
    async with running(make_plan(tmp_path, server.url, 2, habits={1: Habit.HALF_OPEN})) as run:
        await all_open(run, 2)
        await server.publish(3)
        await until(lambda: run.fleet.events_seen == 6, "events")
        (listener,) = run.fleet.half_open
        run.fleet.lose(listener)
        await server.publish(2)
        await until(lambda: len(run.posts(1)) == 5, "resumed")
        assert server.streaming == 3  # the one that is left hangs
        assert run.posts(1) == names(5)
        ends = run.ops(OpKind.STREAM_END)
        assert [(op.user, op.error, op.token) for op in ends] == [(1, VANISHED, "here.1.3")]


async def test_a_half_open_listener_who_is_away_at_his_moment_vanishes_as_soon_as_he_has_a_stream(
    server: StreamServer, tmp_path: Path
) -> None:
    server.refusals, server.hold_refusals = [b""], True  # the first attempt has no answer
    async with running(make_plan(tmp_path, server.url, 1, habits={0: Habit.HALF_OPEN}, listening=QUICK)) as run:
        (listener,) = run.fleet.half_open
        assert listener.connection is None
        run.fleet.lose(listener)
        await until(lambda: len(server.requests) == 1, "asked")
        run.fleet.lose(listener)
        held = listener.connection
        assert held is not None
        held.close("for the test")  # he did not vanish before he had a stream
        await until(lambda: len(run.ops(OpKind.STREAM_OPEN)) == 3, "open, and open again")
        assert [op.error for op in run.ops(OpKind.STREAM_OPEN)] == ["for the test", "", ""]
        assert [op.error for op in run.ops(OpKind.STREAM_END)] == [VANISHED]
        assert run.fleet.lose_no_more() == 0


async def test_who_has_no_stream_until_the_end_is_told(
    server: StreamServer, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    server.refusals, server.hold_refusals = [b""], True
    plan = make_plan(tmp_path, server.url, 1, habits={0: Habit.HALF_OPEN})
    async with running(plan) as run:
        await until(lambda: len(server.requests) == 1, "asked")
        timeline = HabitTimeline(run.fleet, plan, rng(1, "vanish"))
        run.fleet.lose(run.fleet.listeners[0])
        timeline.stop()
        assert "1 half-open listeners never vanished" in caplog.text
        assert run.fleet.lose_no_more() == 0


async def test_a_mass_disconnect_loses_nothing(server: StreamServer, tmp_path: Path) -> None:
    async with running(make_plan(tmp_path, server.url, 40)) as run:
        await all_open(run, 40)
        await server.publish()
        await until(lambda: run.fleet.events_seen == 40, "events")
        run.fleet.disconnect(0.5)
        await until(lambda: 5 <= len(run.ops(OpKind.STREAM_END)) <= 35, "about half of them left")
        await server.publish()
        await until(lambda: run.fleet.events_seen == 80, "events")
        assert {op.error for op in run.ops(OpKind.STREAM_END)} == {DISCONNECTED}
        assert all(run.posts(user) == ["p1", "p2"] for user in range(40))


async def test_listeners_that_do_not_resume_start_again_from_now(server: StreamServer, tmp_path: Path) -> None:
    async with running(make_plan(tmp_path, server.url, 3, listening=Listening(resume=False))) as run:
        await all_open(run, 3)
        await server.publish()
        await until(lambda: run.fleet.events_seen == 3, "events")
        await server.cut()
        await until(lambda: len(run.ops(OpKind.STREAM_OPEN)) == 6, "back")
        assert {op.since for op in run.ops(OpKind.STREAM_OPEN)} == {""}
        assert not any("last-event-id" in headers for _, headers in server.requests)


@pytest.mark.slow
async def test_habits_have_their_times(server: StreamServer, tmp_path: Path) -> None:
    habits = {0: Habit.STALLED, 1: Habit.HALF_OPEN}
    listening = Listening(from_s=0.05, until_s=0.4, disconnect_at_s=(0.1,), disconnect_ratio=1.0)
    plan = make_plan(tmp_path, server.url, 4, habits=habits, listening=listening)
    plan = msgspec.structs.replace(plan, phases=(*plan.phases[:-1], PlanPhase("long", 0, 60 * NS_PER_S)))
    async with running(plan) as run:
        await all_open(run, 4)
        timeline = HabitTimeline(run.fleet, plan, rng(1, "vanish"))
        timeline.start(now_ns())
        await until(lambda: run.fleet.are_late, "late")
        await until(lambda: not run.fleet.are_late, "no longer late")
        await until(lambda: len(run.ops(OpKind.STREAM_END)) == 5, "four disconnected, one vanished")
        reasons = sorted(op.error for op in run.ops(OpKind.STREAM_END))
        assert reasons == [*[DISCONNECTED] * 4, VANISHED]
        await all_open(run, 4)


async def test_a_plan_that_is_cut_ends_lateness_and_begins_nothing_more(server: StreamServer, tmp_path: Path) -> None:
    listening = Listening(disconnect_at_s=(30.0,))
    plan = make_plan(tmp_path, server.url, 1, habits={0: Habit.STALLED}, listening=listening)
    plan = msgspec.structs.replace(plan, phases=(*plan.phases[:-1], PlanPhase("long", 0, 60 * NS_PER_S)))
    async with running(plan) as run:
        await all_open(run, 1)
        timeline = HabitTimeline(run.fleet, plan, rng(1, "vanish"))
        timeline.start(now_ns() - 10 * NS_PER_S)
        await until(lambda: run.fleet.are_late, "late")
        timeline.end_at(10 * NS_PER_S)
        await until(lambda: not run.fleet.are_late, "no longer late")
        timeline.stop()
        assert run.ops(OpKind.STREAM_END) == []


async def test_listeners_are_spread_over_servers_and_go_on_to_the_next(server: StreamServer, tmp_path: Path) -> None:
    other = StreamServer()
    await other.start()
    plan = make_plan(tmp_path, server.url, 40, listening=QUICK)
    regions = {"here": PlanRegion(api=server.url, stream=server.url, streams=(server.url, other.url))}
    try:
        async with running(msgspec.structs.replace(plan, regions=regions)) as run:
            await all_open(run, 40)
            assert 10 <= server.streaming <= 30
            assert other.streaming == 40 - server.streaming
            await other.stop()
            await until(lambda: server.streaming == 40, "all at the one that is left")
            await all_open(run, 40)
    finally:
        await other.stop()


def test_without_an_edge_there_is_no_http2() -> None:
    with pytest.raises(UsageError, match=r"listeners\.http2: region there has no edge over TLS"):
        edge_endpoints({"there": PlanRegion(api="http://a", stream="http://a")}, "")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def accepts(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@asynccontextmanager
async def an_edge(folder: Path, server: StreamServer) -> AsyncIterator[tuple[str, Path]]:
    """HAProxy with a certificate before the server: its URL, and the authority to trust."""
    program = find_haproxy()
    if program is None:
        pytest.skip("haproxy is not installed")
    authority, log, port = folder / "ca.pem", folder / "haproxy.log", free_port()
    write_certificates(folder, authority, ["here"])
    (folder / "edge.cfg").write_text(
        f"""defaults
    mode http
    timeout connect 5s
    timeout client 60s
    timeout server 60s
frontend edge
    bind 127.0.0.1:{port} ssl crt {folder}/here.pem alpn h2,http/1.1
    default_backend streams
backend streams
    server one {server.url.removeprefix("http://")}
"""
    )
    with log.open("wb") as said:
        process = await asyncio.create_subprocess_exec(program, "-f", str(folder / "edge.cfg"), "-db", stderr=said)
    try:
        await until(lambda: accepts(port) or process.returncode is not None, "the edge accepts")
        assert process.returncode is None, log.read_text()
        yield f"https://127.0.0.1:{port}", authority
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def test_listeners_over_http2_see_the_same_and_resume(server: StreamServer, tmp_path: Path) -> None:
    async with an_edge(tmp_path, server) as (url, authority):
        habits = {0: Habit.HTTP2, 1: Habit.HTTP2}
        plan = make_plan(tmp_path, server.url, 4, habits=habits, ca_file=str(authority), listening=QUICK)
        regions = {"here": msgspec.structs.replace(plan.regions["here"], edge=url)}
        server.refusals = [plain_response(503, b"busy", Retry_After=0)]
        async with running(msgspec.structs.replace(plan, regions=regions)) as run:
            await all_open(run, 4)
            await server.publish(MANY)
            await until(lambda: run.fleet.events_seen == 4 * MANY, "all events")
            await server.cut()
            await until(lambda: len([op for op in run.ops(OpKind.STREAM_OPEN) if op.since]) == 4, "all resumed")
            await server.publish()
            await until(lambda: run.fleet.events_seen == 4 * MANY + 4, "one more")
            assert all(run.posts(user) == names(MANY + 1) for user in range(4))
            opens = run.ops(OpKind.STREAM_OPEN)
            assert {op.user: op.variant for op in opens} == {0: "http2", 1: "http2", 2: "", 3: ""}
            assert [op.error for op in opens if op.outcome is OpOutcome.FAIL] == ["status 503"]


@pytest.mark.slow
def test_a_connection_that_is_made_as_its_time_ends_is_one_attempt(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """uvloop looks at its timers before it goes on with who waited for the handshake."""
    monkeypatch.setattr(stream_fleet, "OPEN_TIMEOUT_NS", NS_PER_S // 2)
    write_certificates(tmp_path, tmp_path / "ca.pem", ["here"])
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "here.pem")
    context.set_alpn_protocols(["h2"])

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(-1)
        writer.close()

    async def failures() -> list[int]:
        edge = await asyncio.start_server(silent, "127.0.0.1", 0, ssl=context)
        url = f"https://127.0.0.1:{edge.sockets[0].getsockname()[1]}"
        plan = make_plan(tmp_path, url, 1, habits={0: Habit.HTTP2}, ca_file=str(tmp_path / "ca.pem"), listening=QUICK)
        regions = {"here": PlanRegion(api="http://127.0.0.1", stream="http://127.0.0.1", edge=url)}
        async with running(msgspec.structs.replace(plan, regions=regions)) as run:
            connected, made = run.fleet.connected, list[StreamConnection]()

            def slow(connection: StreamConnection) -> StreamRequest:
                if not made:
                    time.sleep(0.6)  # the loop is busy, until the time has passed
                made.append(connection)
                return connected(connection)

            monkeypatch.setattr(run.fleet, "connected", slow)
            await until(lambda: len(made) > 1 and made[0].transport is None, "the first attempt is over, and another")
            edge.close()
            return [op.sent_ns for op in run.ops(OpKind.STREAM_OPEN)]

    attempts = uvloop.run(failures())
    assert len(attempts) == len(set(attempts)) >= 1


async def test_an_edge_nobody_vouches_for_is_refused(server: StreamServer, tmp_path: Path) -> None:
    async with an_edge(tmp_path, server) as (url, _):
        plan = make_plan(tmp_path, server.url, 1, habits={0: Habit.HTTP2})
        regions = {"here": msgspec.structs.replace(plan.regions["here"], edge=url)}
        async with running(msgspec.structs.replace(plan, regions=regions)) as run:
            await until(lambda: bool(run.ops(OpKind.STREAM_OPEN)), "an attempt")
            assert run.ops(OpKind.STREAM_OPEN)[0].error == "tls: certificate verify failed"
