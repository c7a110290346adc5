"""A run over several machines, here over several processes: what a worker gets, gives back, and what its loss does."""

from __future__ import annotations

import asyncio
import io
import os
import signal
import ssl
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
import pytest
from aiohttp import web
from far_machine import AHEAD_S, FarMachine, made_far_machine
from small_feed import SmallFeed

from harness.core.clock import NS_PER_S, now_ns
from harness.core.errors import ExitCode, UnavailableError, UsageError
from harness.core.load_rates import Load, Trace
from harness.core.op import Op
from harness.load.members import plan_users
from harness.load.plan import LoadPlan, PlanRegion, write_plan, write_tokens
from harness.load.schedule import arrivals
from harness.load.shard import Shard
from harness.record.clocks import clock_name, read_clocks
from harness.record.frames import read_segment
from harness.record.parquet import open_history
from harness.record.run_directory import RunDirectory
from harness.run import machines
from harness.run.link import (
    PATH,
    VERSION,
    Challenge,
    Delivered,
    Hello,
    Link,
    LinkLost,
    Proof,
    Said,
    network_name,
)
from harness.run.link_tls import master_tls, worker_tls
from harness.run.load_parts import Part
from harness.run.load_processes import LoadProcesses, load_processes
from harness.run.machines import Machine, Master, Meeting, master
from harness.run.secret import WORKER, Conversation, proof
from harness.run.worker import Offer, certificate_of, work

pytestmark = pytest.mark.slow

SECRET = "a secret for the tests"
MEETING = Meeting("127.0.0.1", 0, 1, SECRET.encode())
RATES = Load(posts_per_s=10, reads_per_s=30)
WAIT_S = 60.0


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    path = tmp_path / "secret"
    path.write_text(SECRET)
    path.chmod(0o600)
    return path


@pytest.fixture
def scratch(tmp_path: Path) -> Path:
    """Where workers keep what they need."""
    path = tmp_path / "scratch"
    path.mkdir()
    return path


@pytest.fixture
def plan(small_feed: SmallFeed, make_plan_of: Any) -> LoadPlan:
    """A second of posts and reads; tokens and plan lie in the run directory."""
    made: LoadPlan = make_plan_of(small_feed.url, rates=RATES, seconds=1.0)
    return laid_out(made)


def laid_out(plan: LoadPlan) -> LoadPlan:
    folder = Path(plan.run)
    write_tokens(folder / "tokens.json", {user: f"t{user}" for user in plan_users(plan)})
    plan = msgspec.structs.replace(plan, tokens=str(folder / "tokens.json"))
    write_plan(folder / "plan.json", plan)
    return plan


@asynccontextmanager
async def worker(
    taking: Master, secret: Path, scratch: Path, *more: str, far: FarMachine | None = None
) -> AsyncIterator[asyncio.subprocess.Process]:
    """`feedstorm worker`, with the error output piped; killed when the block ends."""
    host, launcher = (far.near, far.launcher) if far else ("127.0.0.1", ())
    command = ["-m", "harness.cli", "worker", f"{host}:{taking.port}", "--secret-file", str(secret), *more]
    command += ["--allow-host", host] if far else []
    process = await asyncio.create_subprocess_exec(
        *launcher,
        sys.executable,
        *command,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
        env={**os.environ, "TMPDIR": str(scratch)},
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def ended(process: asyncio.subprocess.Process) -> tuple[int, str]:
    """How a worker ended, and what it told."""
    assert process.stderr is not None
    told = (await asyncio.wait_for(process.stderr.read(), WAIT_S)).decode()
    return await asyncio.wait_for(process.wait(), WAIT_S), told


@asynccontextmanager
async def shared(plan: LoadPlan, taking: Master, here: int = 1) -> AsyncIterator[LoadProcesses]:
    """The load processes of the plan, some of them at the workers that joined."""
    await taking.wait(lambda text: None, WAIT_S)
    run = plan.directory
    async with load_processes(run, run.path / "plan.json", workers=here, helpers=taking.machines) as load:
        yield load


async def play(load: LoadProcesses) -> int:
    """From t0, which is returned, to what the last process wrote."""
    t0_ns = now_ns() + NS_PER_S
    load.start(t0_ns)
    await load.wait_state(("done",), WAIT_S, load.members)
    await load.finish()
    return t0_ns


async def until(condition: Any, what: str) -> None:
    async with asyncio.timeout(WAIT_S):
        while not condition():  # noqa: ASYNC110 - another process, no event
            await asyncio.sleep(0.02)


def ops_of(run: RunDirectory) -> list[Op]:
    return [op for segment in sorted(run.history.glob("*.jsonl")) for op in read_segment(segment)]


async def test_two_machines_do_what_one_would(plan: LoadPlan, secret: Path, scratch: Path) -> None:
    run = plan.directory
    async with master(MEETING) as taking, worker(taking, secret, scratch, "--workers", "2") as process:
        async with shared(plan, taking) as load:
            assert [m.name for m in load.members] == ["locust-0", "locust-1", "locust-2"]
            t0_ns = await play(load)
            assert load.unfinished == []
        code, told = await ended(process)
    assert code == 0, told
    assert sorted(op.due_ns - t0_ns for op in ops_of(run)) == [a.due_ns for a in arrivals(plan)]
    rows = {row["process"]: row for row in map(msgspec.json.decode, run.generator.read_bytes().splitlines())}
    assert sorted(rows) == ["locust-0", "locust-1", "locust-2"]
    assert all(row["completed"] and not row["errors"] for row in rows.values())
    for index, row in enumerate(rows[name] for name in sorted(rows)):
        assert row["planned"] == len(Shard(plan, index, 3).of(arrivals(plan))) > 0
    assert {log.stem for log in run.histograms.glob("*.hlog")} == set(rows)
    assert {log.stem for log in run.logs.glob("locust-*.log")} == set(rows)
    assert {clock.machine for clock in read_clocks(run.clocks).values()} == {clock_name()}
    assert list(scratch.iterdir()) == [], "nothing stays at the worker, tokens least of all"
    hidden = [path.name for path in run.path.rglob(".*") if path.is_file()]
    assert hidden == []
    assert SECRET not in told + "".join(log.read_text() for log in run.logs.iterdir())


@pytest.mark.nightly
async def test_streams_are_shared_out_as_well(
    small_feed: SmallFeed, make_plan_of: Any, secret: Path, scratch: Path
) -> None:
    """Each machine holds its listeners, and plays its part of a trace; this one makes no load. There are no streams."""
    rates = Load(posts_per_s=5, trace=Trace(path="trace.csv", kinds=("read",)))
    plan = laid_out(make_plan_of(small_feed.url, rates=rates, listeners=tuple((u, "here") for u in range(1, 8))))
    lines = [f"{place / 20:g},read,{place}" for place in range(40)]
    (plan.directory.path / "trace.csv").write_text("\n".join(["time_s,kind,actor", *lines]))
    meeting = Meeting("127.0.0.1", 0, 2, SECRET.encode())
    async with AsyncExitStack() as undo:
        taking = await undo.enter_async_context(master(meeting))
        both = [await undo.enter_async_context(worker(taking, secret, scratch)) for _ in range(2)]
        load = await undo.enter_async_context(shared(plan, taking, here=0))
        assert [m.name for m in load.members] == ["locust-0", "streams-0", "locust-1", "streams-1"]
        listeners = [m.status["listeners"] for m in load.engines]
        assert sorted(listeners) == [3, 4]
        load.start(now_ns() + NS_PER_S // 5)
        await load.wait_state(("done",), WAIT_S, [m for m in load.members if m.kind == "locust"])
        await load.collect("locust")
        assert len(ops_of(plan.directory)) == len(arrivals(plan)), "the final reads look for these"
        assert load.unfinished == [m.name for m in load.members], "streams are still open"
        await load.finish()
        assert load.unfinished == []
        assert [code for code, _ in await asyncio.gather(*map(ended, both))] == [0, 0]
    assert len(ops_of(plan.directory)) == len(arrivals(plan)) > 40


async def test_a_worker_that_is_killed_is_lost_and_takes_nobody_with_it(
    small_feed: SmallFeed, make_plan_of: Any, secret: Path, scratch: Path
) -> None:
    plan = laid_out(make_plan_of(small_feed.url, rates=RATES, seconds=3.0))
    async with master(MEETING) as taking, worker(taking, secret, scratch) as process:
        async with shared(plan, taking) as load:
            load.start(now_ns() + NS_PER_S // 2)
            await until(lambda: all(m.status.get("sent") for m in load.members), "both send")
            children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
            process.kill()
            await until(lambda: load.lost == ["locust-1"], "it is missed")
            await until(lambda: load.members[0].state == "done", "the others end")
            begun = asyncio.get_running_loop().time()
            await load.finish()
            assert asyncio.get_running_loop().time() - begun < 10
            assert load.unfinished == ["locust-1"]
        assert children
        left = [path.name for path in scratch.rglob("*") if path.is_file()]
        assert "plan.json" in left
        assert "tokens.file" not in left
        await until(lambda: not any(Path(f"/proc/{child}").exists() for child in children), "its processes end")
    rows = [msgspec.json.decode(line) for line in plan.directory.generator.read_bytes().splitlines()]
    assert [(row["process"], row["completed"]) for row in rows] == [("locust-0", True)]


@pytest.mark.nightly
async def test_a_load_process_of_a_worker_that_is_killed_is_lost_alone(
    small_feed: SmallFeed, make_plan_of: Any, secret: Path, scratch: Path
) -> None:
    """Its worker goes on, and hands over what there is."""
    plan = laid_out(make_plan_of(small_feed.url, rates=RATES, seconds=3.0))
    async with master(MEETING) as taking, worker(taking, secret, scratch, "--workers", "2") as process:
        async with shared(plan, taking) as load:
            load.start(now_ns() + NS_PER_S // 2)
            await until(lambda: all(m.status.get("sent") for m in load.members), "all send")
            for child in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split():
                if b"locust-2" in Path(f"/proc/{child}/cmdline").read_bytes():
                    os.kill(int(child), signal.SIGKILL)
            await until(lambda: all(m.state in ("done", "lost") for m in load.members), "all end")
            await load.finish()
            assert load.lost == load.unfinished == ["locust-2"]
        assert (await ended(process))[0] == 0
    assert list(read_segment(plan.directory.history / "locust-1.jsonl"))


async def test_a_worker_ends_with_its_master(plan: LoadPlan, secret: Path, scratch: Path) -> None:
    async with AsyncExitStack() as undo:
        taking = await undo.enter_async_context(master(MEETING))
        process = await undo.enter_async_context(worker(taking, secret, scratch))
        async with asyncio.timeout(WAIT_S), shared(plan, taking) as load:
            load.start(now_ns() + NS_PER_S)
            await taking.machines[0].close()
            code, told = await ended(process)
            assert load.lost == ["locust-1"]
    assert code == ExitCode.ENVIRONMENT
    assert "the link was cut" in told
    assert list(scratch.iterdir()) == []


def offer(taking: Master, secret: str = SECRET) -> Offer:
    """A worker in this process."""
    return Offer("127.0.0.1", taking.port, 1, secret.encode())


async def test_who_has_another_secret_gets_nothing() -> None:
    async with master(MEETING) as taking:
        with pytest.raises(LinkLost, match="does not have this secret"):
            await work(offer(taking, "quite another secret"), print)
        assert taking.machines == []
        with pytest.raises(UnavailableError, match="0 of 1 workers joined within"):
            await taking.wait(lambda text: None, 0.05)


async def test_who_does_not_prove_himself_gets_nothing() -> None:
    """A worker that takes any master, and proves nothing."""
    async with master(MEETING) as taking, aiohttp.ClientSession() as http:
        async with http.ws_connect(f"https://127.0.0.1:{taking.port}{PATH}", ssl=worker_tls()) as socket:
            link = Link(socket)
            await link.tell(Hello(1, "0" * 64, 1, network_name()))
            given = await socket.receive()
            await link.tell(Proof(msgspec.json.decode(given.data)["proof"]))
            with pytest.raises(LinkLost, match="the secret is not the master's"):
                await link.expect(Proof)
        assert taking.machines == []


async def test_garbage_harms_nobody() -> None:
    async with master(MEETING) as taking, aiohttp.ClientSession() as http:
        for data in ("", "{}", '{"type":"Begin","parts":[]}', "\x00", "9" * 70_000):
            async with http.ws_connect(f"https://127.0.0.1:{taking.port}{PATH}", ssl=worker_tls()) as socket:
                await socket.send_str(data)
                assert (await socket.receive()).type is aiohttp.WSMsgType.CLOSE
        async with joined(taking):
            assert len(taking.machines) == 1


async def carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, heard: bytearray) -> None:
    """What comes goes on, until one side ends."""
    try:
        while block := await reader.read(1 << 16):
            heard += block
            writer.write(block)
            await writer.drain()
    except (OSError, ssl.SSLError):
        pass
    finally:
        writer.close()


@asynccontextmanager
async def on_the_way(taking: Master, ends_tls: bool) -> AsyncIterator[tuple[int, bytearray]]:
    """Somebody between worker and master: his port, and what he hears. He may speak TLS himself, with both."""
    heard, tasks = bytearray(), []
    tls = master_tls()[0] if ends_tls else None

    async def passed_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there = await asyncio.open_connection("127.0.0.1", taking.port, ssl=worker_tls() if ends_tls else None)
        tasks.extend(asyncio.create_task(carry(*pair, heard)) for pair in ((reader, there[1]), (there[0], writer)))

    server = await asyncio.start_server(passed_on, "127.0.0.1", 0, ssl=tls)
    try:
        yield server.sockets[0].getsockname()[1], heard
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def test_nobody_reads_what_goes_over_the_link() -> None:
    """By way of a tunnel, as that of ssh -L."""
    async with master(MEETING) as taking, on_the_way(taking, ends_tls=False) as (port, heard):
        working = asyncio.create_task(work(Offer("127.0.0.1", port, 1, MEETING.secret), print))
        await taking.wait(lambda text: None, WAIT_S)
        working.cancel()
        await asyncio.gather(working, return_exceptions=True)
        assert len(heard) > 500
        assert not [word for word in (b"Challenge", b"nonce", b"proof", b"GET ") if word in heard]


async def test_nobody_ends_the_encryption_on_the_way() -> None:
    async with master(MEETING) as taking, on_the_way(taking, ends_tls=True) as (port, heard):
        with pytest.raises(LinkLost, match="does not have this secret, or somebody is between us"):
            await work(Offer("127.0.0.1", port, 1, MEETING.secret), print)
        assert b'"proof"' in heard, "he did hear them"
        assert taking.machines == []


async def test_a_server_that_is_no_master_is_said_to_be_none(small_feed: SmallFeed) -> None:
    port = int(small_feed.url.rpartition(":")[2])
    said: list[str] = []
    with pytest.raises(UnavailableError, match="is no master of a run: it does not encrypt"):
        await work(Offer("127.0.0.1", port, 1, MEETING.secret), said.append)
    assert said == [f"looking for a master at 127.0.0.1:{port}, for 60 s at most"]


@asynccontextmanager
async def joined(taking: Master) -> AsyncIterator[asyncio.Task[None]]:
    """A worker in this process that has joined."""
    working = asyncio.create_task(work(offer(taking), print))
    await taking.wait(lambda text: None, WAIT_S)
    try:
        yield working
    finally:
        working.cancel()
        await asyncio.gather(working, return_exceptions=True)


async def test_a_worker_that_is_one_too_many_is_sent_away() -> None:
    async with master(MEETING) as taking, joined(taking):
        with pytest.raises(LinkLost, match="the run has all its workers"):
            await work(offer(taking), print)


async def test_a_worker_that_goes_before_all_have_joined_can_be_replaced() -> None:
    said: list[str] = []
    async with master(replace(MEETING, workers=2)) as taking:
        waiting = asyncio.create_task(taking.wait(said.append, WAIT_S))
        first = asyncio.create_task(work(offer(taking), print))
        await until(lambda: bool(said) and said[-1].endswith("1 of 2"), "one has joined")
        first.cancel()
        await until(lambda: said[-1].endswith("0 of 2"), "it has gone")
        others = [asyncio.create_task(work(offer(taking), print)) for _ in range(2)]
        await waiting
        assert [machine.is_lost for machine in taking.machines] == [False, False]
        others[0].cancel()
        await until(lambda: any(machine.is_lost for machine in taking.machines), "one of them has gone")
        with pytest.raises(LinkLost, match="the run has all its workers"):
            await work(offer(taking), print)
        for task in others:
            task.cancel()
        await asyncio.gather(first, *others, return_exceptions=True)


async def test_a_worker_loads_only_what_it_was_allowed_to(
    plan: LoadPlan, scratch: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(scratch))
    far = PlanRegion(api="http://192.0.2.1:80", stream="http://192.0.2.1:80")
    plan = laid_out(msgspec.structs.replace(plan, regions={"here": far}))
    async with master(MEETING) as taking, joined(taking) as working:
        with pytest.raises(UnavailableError, match=r"locust-0 is lost, not ready: .*allow it here with --allow-host"):
            async with shared(plan, taking, here=0):
                pass
        with pytest.raises(UsageError, match=r"allow it here with --allow-host 192\.0\.2\.1"):
            await working
    assert list(scratch.iterdir()) == []


@asynccontextmanager
async def by_hand(network: str = "") -> AsyncIterator[tuple[Machine, Link]]:
    """A worker whose every word we say: the master's end and ours."""
    async with AsyncExitStack() as undo:
        taking = await undo.enter_async_context(master(MEETING))
        http = await undo.enter_async_context(aiohttp.ClientSession())
        address = f"https://127.0.0.1:{taking.port}{PATH}"
        socket = await undo.enter_async_context(http.ws_connect(address, ssl=worker_tls()))
        link = Link(socket)
        await link.tell(Hello(VERSION, "0" * 64, 1, network or network_name()))
        challenge = await link.expect(Challenge)
        seen = Conversation(challenge.nonce, "0" * 64, certificate_of(socket))
        await link.tell(Proof(proof(MEETING.secret, WORKER, seen)))
        await taking.wait(lambda text: None, WAIT_S)
        yield taking.machines[0], link


async def test_a_worker_elsewhere_is_not_sent_to_a_loopback_address(plan: LoadPlan) -> None:
    """There it would be somebody else's."""
    run = plan.directory
    async with by_hand("another machine") as (machine, _):
        with pytest.raises(UnavailableError, match="cannot reach a target at a loopback address"):
            await machine.begin(run, run.path / "plan.json", [Part("locust", 0, 1)])


WHOLE = {
    "history/locust-0.jsonl": b"",
    "histograms/locust-0.hlog": b"",
    "generator": b'{"process":"locust-0","completed":true}',
}


@pytest.mark.parametrize(
    ("files", "why"),
    [
        (WHOLE, ""),
        ({}, "not everything was handed over: generator, histograms/locust-0.hlog, history/locust-0.jsonl"),
        (WHOLE | {"history/locust-1.jsonl": b""}, "file 'history/locust-1.jsonl' was not expected"),
        (WHOLE | {"../verdict.json": b"{}"}, "was not expected"),
        (WHOLE | {"generator": b'{"process":"locust-1","completed":true}'}, "no process of its own"),
    ],
    ids=["whole", "nothing", "of another", "elsewhere", "rows of another"],
)
async def test_what_is_handed_over_is_whole_and_its_own_or_its_worker_is_lost(
    plan: LoadPlan, files: dict[str, bytes], why: str
) -> None:
    run = plan.directory
    async with by_hand() as (machine, link):
        members = await machine.begin(run, run.path / "plan.json", [Part("locust", 0, 1)])
        await link.tell(Said("locust-0", '{"state":"done"}'))
        await until(lambda: members[0].state == "done", "its word came")
        load = LoadProcesses(members, [machine])
        assert load.unfinished == ["locust-0"], "done, but nothing of it is here"
        for name, content in files.items():
            await link.send_file(name, io.BytesIO(content))
        await link.tell(Delivered())
        await load.finish()
        assert load.unfinished == (["locust-0"] if why else [])
        assert why in machine.reason
        assert run.generator.exists() == (not why)
    assert [path.name for path in run.path.rglob(".*") if path.is_file()] == []


def test_a_worker_gets_the_tokens_of_its_own_users_only(make_plan_of: Any) -> None:
    plan = laid_out(make_plan_of(rates=RATES, listeners=((8, "here"), (9, "here"))))
    given = [
        msgspec.json.decode(machines.contents(plan, parts)[machines.TOKENS])
        for parts in ([Part("locust", 0, 2)], [Part("locust", 1, 2)], [Part("streams", 1, 2)])
    ]
    assert set(given[0]) & set(given[1]) == set()
    assert set(given[0]) | set(given[1]) == {str(user) for user in plan_users(plan)}
    assert given[2] == {"9": "t9"}


def test_only_who_may_have_to_moderate_gets_the_operators_token(make_plan_of: Any, tmp_path: Path) -> None:
    token = tmp_path / "operator"
    token.write_text("powerful")
    locust, streams = [Part("locust", 0, 1)], [Part("streams", 0, 1)]
    plan = laid_out(make_plan_of(rates=RATES, operator_token_file=str(token)))
    assert machines.OPERATOR not in machines.contents(plan, locust + streams)
    moderated = msgspec.structs.replace(plan, rates=msgspec.structs.replace(RATES, moderations_per_s=1.0))
    assert machines.contents(moderated, locust)[machines.OPERATOR] == b"powerful"
    assert machines.OPERATOR not in machines.contents(moderated, streams)


@pytest.fixture
def far_machine() -> Iterator[FarMachine]:
    with made_far_machine() as made:
        yield made


@pytest.fixture
async def near_feed(far_machine: FarMachine) -> AsyncIterator[SmallFeed]:
    """A feed that the far machine can reach."""
    feed = SmallFeed()
    runner = web.AppRunner(feed.application(), shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, far_machine.near, 0).start()
    feed.url = f"http://{far_machine.near}:{runner.addresses[0][1]}"
    yield feed
    await runner.cleanup()


def sent_of(run: RunDirectory) -> list[list[int]]:
    """When each process sent its ops, by our clock."""
    with open_history(run) as history:
        return [sent for (sent,) in history.execute("SELECT list(sent_ns) FROM ops GROUP BY id >> 38").fetchall()]


async def test_a_machine_with_its_own_network_and_clock(
    far_machine: FarMachine, near_feed: SmallFeed, make_plan_of: Any, secret: Path, scratch: Path
) -> None:
    plan = laid_out(make_plan_of(near_feed.url, rates=RATES, seconds=1.0))
    meeting = Meeting(far_machine.near, 0, 1, SECRET.encode())
    async with AsyncExitStack() as undo:
        taking = await undo.enter_async_context(master(meeting))
        started = worker(taking, secret, scratch, far=far_machine)
        process = await undo.enter_async_context(started)
        load = await undo.enter_async_context(shared(plan, taking))
        t0_ns = await play(load)
        end_ns = now_ns()
        assert load.unfinished == []
        code, told = await ended(process)
    assert code == 0, told
    clocks = read_clocks(plan.directory.clocks)
    clock = clocks["locust-1"]
    assert (clocks["locust-0"].error_ns, clock.readings >= 20) == (0, True)
    assert abs(clock.offset_ns + AHEAD_S * NS_PER_S) <= clock.error_ns < NS_PER_S
    sent = sent_of(plan.directory)
    assert sorted(map(len, sent)) == sorted(len(Shard(plan, index, 2).of(arrivals(plan))) for index in range(2))
    first_ns = t0_ns + plan.start_ns
    assert all(first_ns - clock.error_ns <= at <= end_ns + clock.error_ns for by_one in sent for at in by_one)


@pytest.mark.nightly
async def test_a_machine_that_is_cut_off_is_lost(
    far_machine: FarMachine,
    near_feed: SmallFeed,
    make_plan_of: Any,
    secret: Path,
    scratch: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """No packet says so: it is silent, and that is noticed."""
    monkeypatch.setattr(machines, "HEARTBEAT_S", 1.0)
    plan = laid_out(make_plan_of(near_feed.url, rates=RATES, seconds=60.0))
    meeting = Meeting(far_machine.near, 0, 1, SECRET.encode())
    async with master(meeting) as taking:
        started = worker(taking, secret, scratch, far=far_machine)
        async with started as process, shared(plan, taking) as load:
            load.start(now_ns() + NS_PER_S // 2)
            await until(lambda: all(m.status.get("sent") for m in load.members), "both send")
            await asyncio.to_thread(subprocess.run, ["ip", "link", "set", far_machine.outer, "down"], check=True)
            await until(lambda: load.lost == ["locust-1"], "it is missed")
            begun = asyncio.get_running_loop().time()
            await load.finish()
            assert asyncio.get_running_loop().time() - begun < 20
            assert load.unfinished == ["locust-1"]
            code, told = await ended(process)
    assert code == ExitCode.ENVIRONMENT, told
    assert list(scratch.iterdir()) == []
