"""Two regions' replicators with real queues behind a real slow link: order, cuts, kills, gaps."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import httpx
import pytest
from stack_process import StackProcess

from reference_server.events import DeleteEvent, FlagEvent, GraphEvent, PostEvent, decode, encode
from reference_server.queue import Queue, QueueUnavailable
from reference_server.replication.wire import Applied, Ping, Pong, frame, receive
from reference_server.rpc import RpcClient, RpcUnavailable

pytestmark = [pytest.mark.stack, pytest.mark.slow]
LINK = "us-east--ap-tokyo"
NOW_US = 1_700_000_000_000_000


async def until(condition: Callable[[], Awaitable[Any]], limit_s: float = 15) -> None:
    """Return once the condition holds; TimeoutError when it does not in time."""
    async with asyncio.timeout(limit_s):
        while not await condition():  # noqa: ASYNC110 - other processes make it true
            await asyncio.sleep(0.01)


class Pair:
    """us-east, where things happen, and ap-tokyo, where they must arrive."""

    def __init__(self, stack: StackProcess) -> None:
        self.stack = stack
        settings = stack.settings
        self.origin = Queue.of(settings, settings.region("us-east"))
        self.target = Queue.of(settings, settings.region("ap-tokyo"))
        self.replicator = RpcClient(settings.socket("ap-tokyo", "replicator"))
        self.sent = 0
        self.proxy = stack.endpoints["handles"]["link.us-east.ap-tokyo"]["api"] + f"/proxies/{LINK}"

    async def send(self, count: int) -> None:
        """Follows numbered on from the last: the number is the other user."""
        for _ in range(count):
            await self.origin.append_graph(GraphEvent("follow", 0, self.sent, "us-east", self.sent))
            self.sent += 1

    async def arrived(self) -> list[int]:
        """Numbers in the order in which they were applied. Waits while the target's queue is away."""
        while True:
            try:
                rows = await self.target.link.call("XRANGE", "graph", "-", "+")
            except QueueUnavailable:
                await asyncio.sleep(0.02)
                continue
            events = [decode(fields[1]) for _, fields in rows]
            return [event.other for event in events if isinstance(event, GraphEvent)]

    async def has_arrived(self, count: int) -> bool:
        return len(await self.arrived()) >= count

    async def wait_all(self) -> None:
        """All that was sent is there, in order, each once."""
        await until(lambda: self.has_arrived(self.sent))
        assert await self.arrived() == list(range(self.sent))

    async def pulled(self) -> dict[str, Any]:
        stats: dict[str, Any] = (await self.replicator.call("stats"))["pulled"]["us-east"]
        return stats

    async def wait_connected(self, connected: bool) -> None:
        async def as_wanted() -> bool:
            return (await self.pulled())["connected"] is connected

        await until(as_wanted)

    async def resting(self) -> bool:
        """Whether the target applies nothing now."""
        try:
            return bool((await self.replicator.call("stats"))["resting"])
        except RpcUnavailable:
            return False

    async def has_set_aside(self, count: int) -> bool:
        """Whether the target's process has set so many events aside; False while it is away."""
        name = b'feed_replication_set_aside_events_total{origin="us-east"} '
        try:
            text: bytes = await self.replicator.call("metrics")
        except RpcUnavailable:
            return False
        return any(float(line.removeprefix(name)) >= count for line in text.splitlines() if line.startswith(name))

    async def link(self, **change: Any) -> None:
        """Change the proxy."""
        async with httpx.AsyncClient(trust_env=False, timeout=5) as client:
            (await client.post(self.proxy, json=change)).raise_for_status()

    async def black_hole(self, *, on: bool) -> None:
        """Data sent either way goes nowhere, and no connection breaks."""
        async with httpx.AsyncClient(trust_env=False, timeout=5) as client:
            for stream in ("downstream", "upstream"):
                name = f"hole_{stream}"
                if on:
                    toxic = {"name": name, "type": "timeout", "stream": stream, "attributes": {"timeout": 0}}
                    answer = await client.post(f"{self.proxy}/toxics", json=toxic)
                else:
                    answer = await client.delete(f"{self.proxy}/toxics/{name}")
                answer.raise_for_status()

    async def narrow(self, kb_per_s: int) -> None:
        """Let no more than that through from the origin."""
        toxic = {"name": "narrow", "type": "bandwidth", "stream": "downstream", "attributes": {"rate": kb_per_s}}
        async with httpx.AsyncClient(trust_env=False, timeout=5) as client:
            (await client.post(f"{self.proxy}/toxics", json=toxic)).raise_for_status()

    async def connects(self) -> float:
        """Connections the target has made so far."""
        name = b'feed_replication_connects_total{origin="us-east"} '
        text: bytes = await self.replicator.call("metrics")
        return next(float(line.removeprefix(name)) for line in text.splitlines() if line.startswith(name))

    async def close(self) -> None:
        self.replicator.close()
        await self.origin.close()
        await self.target.close()


@pytest.fixture
async def pair(request: pytest.FixtureRequest, start_stack: Callable[..., StackProcess]) -> AsyncIterator[Pair]:
    """May be given other options for the stack."""
    stack = start_stack("--only", "replicator", *getattr(request, "param", ()))
    await asyncio.to_thread(stack.await_ready)
    opened = Pair(stack)
    await opened.wait_connected(True)
    yield opened
    await opened.close()


async def test_one_way_takes_the_link_latency_once(pair: Pair) -> None:
    taken: list[float] = []
    while len(taken) < 5 or (min(taken) > 0.19 and len(taken) < 40):  # a busy machine may take its time now and then
        began = time.monotonic()
        await pair.send(1)
        await pair.wait_all()
        taken.append(time.monotonic() - began)
    assert 0.095 <= min(taken) <= 0.19


@pytest.mark.parametrize("pair", [("--link-latency-ms", "1500")], indirect=True)
async def test_a_link_slower_than_the_silence_that_ends_a_connection(pair: Pair) -> None:
    made = await pair.connects()
    for _ in range(2):
        await pair.send(5)
        await pair.wait_all()
    assert await pair.connects() == made


async def test_a_batch_that_takes_longer_than_the_silence_that_ends_a_connection(pair: Pair) -> None:
    await pair.link(enabled=False)
    await pair.wait_connected(False)
    await asyncio.gather(*(pair.send(1) for _ in range(500)))
    await pair.narrow(5)
    await pair.link(enabled=True)
    await pair.wait_connected(True)
    made, began = await pair.connects(), time.monotonic()
    await until(lambda: pair.has_arrived(500))
    assert time.monotonic() - began > 2.0, "the link was not narrow enough to show anything"
    assert await pair.connects() == made


async def test_throughput_is_not_bound_by_latency(pair: Pair) -> None:
    began = time.monotonic()
    for _ in range(30):
        await asyncio.gather(*(pair.send(1) for _ in range(100)))
    await until(lambda: pair.has_arrived(3000), 60)
    assert time.monotonic() - began < 15.0, "3000 x 100 ms are 300 s"


async def test_every_kind_of_event_goes_to_its_stream(pair: Pair) -> None:
    ids = [bytes([k]) * 16 for k in range(3)]
    await pair.origin.accept_post(3, ids[0], "one", b"", None, False, NOW_US, "us-east")
    await pair.origin.accept_post(3, ids[1], "two", ids[0], "key", True, NOW_US + 10, "us-east")
    await pair.origin.accept_delete(DeleteEvent(ids[0], 3, "us-east"), NOW_US, False)
    await pair.origin.append_graph(GraphEvent("join", 4, 7, "us-east"))
    await until(lambda: pair.target.link.call("XLEN", "jobs"))
    streams = {}
    for name in ("posts", "celeb", "graph", "outbox"):
        rows = await pair.target.link.call("XRANGE", name, "-", "+")
        streams[name] = [decode(fields[1]) for _, fields in rows]
    assert streams == {
        "posts": [PostEvent(ids[0], 3, NOW_US, "one", "us-east"), DeleteEvent(ids[0], 3, "us-east")],
        "celeb": [PostEvent(ids[1], 3, NOW_US + 10, "two", "us-east", ids[0], celeb=True)],
        "graph": [GraphEvent("join", 4, 7, "us-east")],
        "outbox": [],
    }


async def test_what_makes_no_sense_is_left_out_and_stops_nothing(pair: Pair) -> None:
    for event in (
        GraphEvent("follow", 0, 1 << 62, "us-east", 1),
        FlagEvent("kill_switch", b"flase", 5, "us-east"),
        GraphEvent("follow", 0, 5, "us-east", 0),
    ):
        await pair.origin.link.call("XADD", "outbox", "*", "e", encode(event))
    pair.sent = 1
    await pair.wait_all()
    assert await pair.target.link.call("HGETALL", "flags") == {}
    assert int(await pair.target.link.call("GET", "clock:graph")) < 1 << 53


async def test_cut_and_heal(pair: Pair) -> None:
    await pair.send(50)
    await pair.link(enabled=False)
    await pair.wait_connected(False)
    await pair.send(50)
    await pair.link(enabled=True)
    healed = time.monotonic()
    await pair.wait_all()
    assert time.monotonic() - healed < 6.0  # 1 s on a machine of its own


async def test_black_hole_is_noticed_and_healed(pair: Pair) -> None:
    await pair.send(50)
    await pair.black_hole(on=True)
    await pair.wait_connected(False)
    await pair.send(50)
    assert (await pair.pulled())["lag_s"] > 1.0
    await pair.black_hole(on=False)
    healed = time.monotonic()
    await pair.wait_all()
    assert time.monotonic() - healed < 8.0  # 2 s on a machine of its own

    async def caught_up() -> bool:
        return bool((await pair.pulled())["lag_s"] < 1.0)

    await until(caught_up)


async def test_a_replicator_that_starts_again_knows_how_far_behind_it_is(pair: Pair) -> None:
    async def has_begun() -> bool:
        try:
            return bool((await pair.pulled())["position"])
        except RpcUnavailable:
            return False

    await pair.send(5)
    sent_s = time.time()
    await pair.wait_all()
    await pair.link(enabled=False)
    await asyncio.to_thread(pair.stack.restart, "ap-tokyo.replicator")
    await until(has_begun)
    behind_s = time.time() - sent_s
    assert (await pair.pulled())["lag_s"] >= behind_s


async def test_sigkill_in_the_middle(pair: Pair) -> None:
    for victim in ("us-east.replicator", "ap-tokyo.replicator", "us-east.redis-queue", "ap-tokyo.redis-queue"):
        await pair.send(100)
        sending = asyncio.create_task(_send_retrying(pair, 400))
        await asyncio.to_thread(pair.stack.restart, victim)
        await sending
        await pair.wait_all()


async def _send_retrying(pair: Pair, count: int) -> None:
    """Like `send`; after an error whose effect is unknown, the outbox tells what was written."""
    goal = pair.sent + count
    while pair.sent < goal:
        try:
            await pair.send(goal - pair.sent)
        except QueueUnavailable:
            pair.sent = await _written(pair)


async def _written(pair: Pair) -> int:
    while True:
        try:
            newest = await pair.origin.link.call("XREVRANGE", "outbox", "+", "-", "COUNT", 1)
            event = decode(newest[0][1][1])
            assert isinstance(event, GraphEvent)
            return event.other + 1
        except QueueUnavailable:
            await asyncio.sleep(0.05)


async def test_while_it_rests_nothing_is_applied_but_flags_and_nothing_is_lost(pair: Pair) -> None:
    await pair.send(20)
    await pair.wait_all()
    await pair.origin.set_flag(FlagEvent("multi_region", b"false", 1, "us-east"))
    await until(pair.resting)
    await pair.send(30)
    await until(lambda: pair.has_set_aside(30))
    assert len(await pair.arrived()) == 20
    await asyncio.to_thread(pair.stack.restart, "ap-tokyo.replicator")
    await until(lambda: pair.has_set_aside(30))
    assert len(await pair.arrived()) == 20
    await pair.origin.set_flag(FlagEvent("multi_region", b"true", 2, "us-east"))
    await pair.wait_all()


async def test_it_rests_as_long_as_it_cannot_know_its_flags(pair: Pair) -> None:
    await pair.origin.set_flag(FlagEvent("multi_region", b"false", 1, "us-east"))
    await until(pair.resting)
    await pair.send(30)
    await until(lambda: pair.has_set_aside(30))
    queue = pair.stack.pid("ap-tokyo.redis-queue")
    os.killpg(queue, signal.SIGSTOP)
    await asyncio.to_thread(pair.stack.restart, "ap-tokyo.replicator")
    await until(pair.resting)
    os.killpg(queue, signal.SIGCONT)
    await until(lambda: pair.has_set_aside(30))
    assert await pair.arrived() == []


async def test_missing_entries_are_reported_and_the_rest_arrives(pair: Pair) -> None:
    await pair.send(10)
    await pair.wait_all()
    await pair.link(enabled=False)
    await pair.wait_connected(False)
    await pair.send(10)
    await pair.origin.link.call("XTRIM", "outbox", "MAXLEN", "=", 5)
    await pair.link(enabled=True)
    await until(lambda: pair.has_arrived(15))
    assert await pair.arrived() == [*range(10), *range(15, 20)]
    assert b'feed_replication_gaps_total{origin="us-east"} 1.0' in await pair.replicator.call("metrics")
    assert "events are missing here for good" in pair.stack.stack.log("ap-tokyo.replicator").read_text()


async def test_no_gap_in_ordinary_life(pair: Pair) -> None:
    await pair.send(10)
    await pair.wait_all()
    await asyncio.to_thread(pair.stack.restart, "ap-tokyo.replicator")
    await pair.send(10)
    await pair.wait_all()
    assert b'feed_replication_gaps_total{origin="us-east"} 1.0' not in await pair.replicator.call("metrics")


async def test_pings_are_answered_before_anything_else(pair: Pair) -> None:
    """Whoever wants to know how the link is needs no right to the outbox."""
    reader, writer = await asyncio.open_connection("127.0.0.1", pair.stack.settings.region("us-east").replicator_port)
    writer.write(frame(Ping(b"one")) + frame(Ping(b"two")))
    assert [await receive(reader), await receive(reader)] == [Pong(b"one"), Pong(b"two")]
    writer.write(frame(Applied("5-1")))
    assert await reader.read() == b""
    writer.close()
    await writer.wait_closed()


async def test_strangers_are_hung_up_on(pair: Pair) -> None:
    port = pair.stack.settings.region("us-east").replicator_port
    for said in (b"GET / HTTP/1.0\r\n\r\n", b"\0\0\0\1\1"):
        with socket.create_connection(("127.0.0.1", port), timeout=2) as stranger:
            stranger.sendall(said)
            try:
                assert await asyncio.to_thread(stranger.recv, 1) == b""
            except ConnectionResetError:
                continue
    await pair.send(1)
    await pair.wait_all()
