"""Streams through the real edge: subscribe, resume, gaps, losses of the parts behind it."""

from __future__ import annotations

import uuid

import msgspec
import pytest
from edge_stubs import REGION, Stack, StubOwner, stream_request
from real_servers import Server, until

from reference_server.fep import edge as edge_module
from reference_server.fep import measures, wire
from reference_server.fep.stream import Opening, Stream

USER = 7
POSTS = [uuid.UUID(int=n).bytes for n in range(1, 50)]


def text(post: bytes) -> str:
    return str(uuid.UUID(bytes=post))


def is_post(block: dict[str, str], seq: int, post: bytes) -> bool:
    return block == {
        "id": wire.token(REGION, seq),
        "event": "new_post",
        "data": f'{{"type":"new_post","id":"{text(post)}"}}',
    }


async def test_a_stream_starts_with_retry_and_head_then_brings_events(stack: Stack, owner: StubOwner) -> None:
    edge = await stack()
    owner.write(POSTS[0], [USER])
    listener = await edge.listen(USER)
    assert listener.head.startswith("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n")
    first = await listener.block()
    assert first["id"] == wire.token(REGION, owner.head)
    assert 1000 <= int(first["retry"]) <= 3000
    seq = await owner.publish(POSTS[1], [USER, USER + 1])
    assert is_post(await listener.block(), seq, POSTS[1])


async def test_listeners_are_told_to_come_back_at_different_moments(stack: Stack, owner: StubOwner) -> None:
    edge = await stack()
    told = [int((await (await edge.listen(user)).block())["retry"]) for user in range(10, 40)]
    low, high = edge_module.RETRY_MS
    assert all(low <= retry_ms <= high for retry_ms in told)
    # 30 draws out of 2,001 values: fewer than 20 different ones, or all in one half, never happen by chance
    assert len(set(told)) >= 20
    assert min(told) < (low + high) / 2 < max(told)


async def test_two_streams_of_one_user_both_get_the_event_and_one_may_leave(stack: Stack, owner: StubOwner) -> None:
    edge = await stack()
    phone, desk, tablet = [await edge.listen(USER) for _ in range(3)]
    for listener in (phone, desk, tablet):
        await listener.block()
    desk.close()
    await until(lambda: edge.open_streams == 2, "one stream left")
    seq = await owner.publish(POSTS[0], [USER])
    assert is_post(await phone.block(), seq, POSTS[0])
    assert is_post(await tablet.block(), seq, POSTS[0])
    assert owner.listening["fep-0"] == {USER}


async def test_resume_brings_what_was_missed_once_and_in_order(stack: Stack, owner: StubOwner) -> None:
    edge = await stack()
    since = owner.write(POSTS[0], [USER])
    missed = [owner.write(post, [USER]) for post in POSTS[1:4]]
    owner.write(POSTS[9], [USER + 1])
    listener = await edge.listen(USER, since=wire.token(REGION, since))
    assert (await listener.block())["id"] == wire.token(REGION, since)
    for seq, post in zip(missed, POSTS[1:4], strict=True):
        assert is_post(await listener.block(), seq, post)
    assert await listener.block() == {"id": wire.token(REGION, owner.head)}
    live = await owner.publish(POSTS[5], [USER])
    assert is_post(await listener.block(), live, POSTS[5])


async def test_a_long_catch_up_is_no_reason_to_drop_a_listener_who_reads(stack: Stack, owner: StubOwner) -> None:
    edge = await stack()
    since = owner.write(POSTS[0], [USER])
    missed = [owner.write(uuid.UUID(int=n).bytes, [USER]) for n in range(3000)]
    listener = await edge.listen(USER, since=wire.token(REGION, since))
    await listener.block()
    for seq in missed:
        assert (await listener.block())["id"] == wire.token(REGION, seq)
    live = await owner.publish(POSTS[5], [USER])
    assert is_post(await listener.block(), live, POSTS[5])


@pytest.mark.slow
async def test_a_listener_who_does_not_take_the_catch_up_is_dropped(
    stack: Stack, owner: StubOwner, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(edge_module, "BURST_S", 0.3)
    edge = await stack()
    since = owner.write(POSTS[0], [USER])
    for n in range(50_000):  # more than the kernel's buffers hold
        owner.write(uuid.UUID(int=n).bytes, [USER])
    listener = await edge.send(stream_request(USER, wire.token(REGION, since)))
    listener.writer.transport.pause_reading()  # type: ignore[attr-defined]
    await until(lambda: "fep-0" in owner.listening, "subscribed")
    await until(lambda: edge.open_streams == 0, "dropped")


@pytest.mark.slow
async def test_bursts_of_one_listener_do_not_spare_another(
    stack: Stack, owner: StubOwner, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(edge_module, "BURST_S", 0.3)
    edge = await stack()
    since = owner.write(POSTS[0], [USER])
    for n in range(50_000):  # more than the kernel's buffers hold
        owner.write(uuid.UUID(int=n).bytes, [USER])
    await (await edge.listen(USER + 1)).block()
    busy = edge.edge.lanes[0].streams[USER + 1]
    edge.edge.burst(busy)
    listener = await edge.send(stream_request(USER, wire.token(REGION, since)))
    listener.writer.transport.pause_reading()  # type: ignore[attr-defined]
    await until(lambda: edge.open_streams == 2, "subscribed")

    def dropped_while_the_other_bursts() -> bool:
        edge.edge.burst(busy)
        return edge.open_streams == 1

    await until(dropped_while_the_other_bursts, "dropped")


async def test_a_burst_that_the_kernel_took_at_once_spares_nobody(stack: Stack, owner: StubOwner) -> None:
    edge = await stack()
    since = owner.write(POSTS[0], [USER])
    for post in POSTS[1:]:
        owner.write(post, [USER])
    listener = await edge.listen(USER, since=wire.token(REGION, since))
    await listener.block()
    assert not edge.edge._bursts


@pytest.mark.parametrize(
    "since",
    ["nonsense", "us-east.1", "ap-tokyo.1.1", "us-east.1.99999999", "us-east.70000.1", "us-east.2.1", "é.1.1"],
)
async def test_a_resume_point_that_means_nothing_gives_a_resync_at_the_head(
    stack: Stack, owner: StubOwner, since: str
) -> None:
    edge = await stack()
    owner.write(POSTS[0], [USER])
    listener = await edge.listen(USER, since=since)
    head = wire.token(REGION, owner.head)
    assert (await listener.block())["id"] == head
    assert await listener.block() == {"id": head, "event": "resync", "data": '{"type":"resync"}'}
    live = await owner.publish(POSTS[5], [USER])
    assert is_post(await listener.block(), live, POSTS[5])


async def test_with_the_defect_no_resume_the_gap_is_silently_skipped(stack: Stack, owner: StubOwner) -> None:
    edge = await stack(defects=("no-resume",))
    since = owner.write(POSTS[0], [USER])
    owner.write(POSTS[1], [USER])
    listener = await edge.listen(USER, since=wire.token(REGION, since))
    assert (await listener.block())["id"] == wire.token(REGION, owner.head)
    live = await owner.publish(POSTS[5], [USER])
    assert is_post(await listener.block(), live, POSTS[5])


async def test_with_the_defect_deaf_after_resume_nothing_comes_behind_what_was_missed(
    stack: Stack, owner: StubOwner
) -> None:
    edge = await stack(defects=("deaf-after-resume",))
    since, missed = owner.write(POSTS[0], [USER]), owner.write(POSTS[1], [USER])
    resumed, fresh = await edge.listen(USER, since=wire.token(REGION, since)), await edge.listen(USER + 1)
    await resumed.block()
    assert is_post(await resumed.block(), missed, POSTS[1])
    await fresh.block()
    await owner.publish(POSTS[4], [USER, USER + 1])
    live = await owner.publish(POSTS[5], [USER + 1])
    await fresh.block()
    assert is_post(await fresh.block(), live, POSTS[5])
    assert edge.edge.lanes[0].streams[USER].last_seq > live


@pytest.mark.parametrize(
    ("defect", "blocks"),
    [("event-twice", ["same", "same"]), ("token-falls-back", ["first"])],
)
async def test_with_these_defects_each_twentieth_event_is_spoilt(
    stack: Stack, owner: StubOwner, defect: str, blocks: list[str]
) -> None:
    edge = await stack(defects=(defect,))
    listener = await edge.listen(USER)
    await listener.block()
    for _ in range(19):
        await owner.publish(POSTS[0], [USER])
        await listener.block()
    seq = await owner.publish(POSTS[1], [USER])
    for block in blocks:
        assert is_post(await listener.block(), seq if block == "same" else wire.first_of_epoch(seq), POSTS[1])


async def test_a_gap_on_the_bus_is_filled_before_the_event_that_shows_it(stack: Stack, owner: StubOwner) -> None:
    edge = await stack()
    listener = await edge.listen(USER)
    await listener.block()
    lost = [await owner.publish(post, [USER], lose=True) for post in POSTS[:2]]
    shown = await owner.publish(POSTS[2], [USER])
    for seq, post in zip([*lost, shown], POSTS[:3], strict=True):
        assert is_post(await listener.block(), seq, post)


async def test_a_stream_opened_between_a_gap_and_its_catch_up_is_caught_up_too(
    stack: Stack, owner: StubOwner, monkeypatch: pytest.MonkeyPatch
) -> None:
    edge = await stack()
    await (await edge.listen(USER + 1)).block()
    lane = edge.edge.lanes[0]
    opened, answer = lane.open, owner.subscribe

    def open_after_a_gap(stream: Stream, opening: Opening) -> None:
        lane.start_catch_up("count")
        opened(stream, opening)

    async def subscribe(fep: str, users: list[list[int | None]]) -> list[object]:
        reply = await answer(fep, users)
        if users == [[USER, None]]:
            await owner.publish(POSTS[0], [USER], lose=True)
        return reply

    monkeypatch.setattr(lane, "open", open_after_a_gap)
    await owner.stop()
    owner.subscribe = subscribe  # type: ignore[method-assign]
    await owner.start()
    listener = await edge.listen(USER)
    await listener.block()
    assert is_post(await listener.block(), owner.head, POSTS[0])


@pytest.mark.slow
@pytest.mark.parametrize(
    "message",
    [
        b"\xc1",
        msgspec.msgpack.encode([0, 1, 1, 1, POSTS[0], b"123"]),
        msgspec.msgpack.encode([0, 1, 1, 1, b"short", b"1234"]),
        msgspec.msgpack.encode([-1, 1, 1, 1, POSTS[0], b"1234"]),
    ],
    ids=["no msgpack", "half a user", "no post id", "no lane"],
)
async def test_a_message_that_cannot_be_read_is_counted_and_caught_up(
    stack: Stack, owner: StubOwner, message: bytes
) -> None:
    edge = await stack()
    listener = await edge.listen(USER)
    await listener.block()
    before = measures.UNREADABLE._value.get()
    lost = await owner.publish(POSTS[0], [USER], lose=True)
    await owner.redis.xadd(f"bus:{REGION}.fep-0", {"m": message})
    live = await owner.publish(POSTS[1], [USER])
    assert is_post(await listener.block(), lost, POSTS[0])
    assert is_post(await listener.block(), live, POSTS[1])
    assert measures.UNREADABLE._value.get() == before + 1


@pytest.mark.slow
async def test_a_lost_last_message_is_noticed_although_nothing_follows(stack: Stack, owner: StubOwner) -> None:
    edge = await stack()
    listener = await edge.listen(USER)
    await listener.block()
    seq = await owner.publish(POSTS[0], [USER], lose=True)
    assert is_post(await listener.block(), seq, POSTS[0])


async def test_a_gap_that_cannot_be_filled_gives_a_resync(stack: Stack, owner: StubOwner) -> None:
    edge = await stack()
    listener = await edge.listen(USER)
    await listener.block()
    await owner.publish(POSTS[0], [USER], lose=True)
    owner.floor = owner.head
    await owner.publish(POSTS[1], [USER])
    assert await listener.block() == {
        "id": wire.token(REGION, owner.head),
        "event": "resync",
        "data": '{"type":"resync"}',
    }


async def test_an_event_between_presence_and_the_answer_is_not_lost(stack: Stack, owner: StubOwner) -> None:
    """The owner notes presence, then takes its time; meanwhile a record passes on the bus."""
    edge = await stack()
    steady = await edge.listen(USER + 1)
    await steady.block()
    answer = owner.subscribe

    async def slow(fep: str, users: list[list[int | None]]) -> list[object]:
        reply = await answer(fep, users)
        seq = await owner.publish(POSTS[0], [USER, USER + 1])
        assert is_post(await steady.block(), seq, POSTS[0])  # so the edge has read the message
        return reply

    await owner.stop()
    owner.subscribe = slow  # type: ignore[method-assign]
    await owner.start()
    listener = await edge.listen(USER)
    await listener.block()
    assert is_post(await listener.block(), owner.head, POSTS[0])


@pytest.mark.slow
async def test_redis_cache_killed_and_back(stack: Stack, owner: StubOwner, redis_server: Server) -> None:
    edge = await stack()
    listener = await edge.listen(USER)
    await listener.block()
    first = await owner.publish(POSTS[0], [USER])
    assert is_post(await listener.block(), first, POSTS[0])
    redis_server.kill()
    unseen = owner.write(POSTS[1], [USER])
    redis_server.start()
    assert is_post(await listener.block(), unseen, POSTS[1])
    live = await owner.publish(POSTS[2], [USER])
    assert is_post(await listener.block(), live, POSTS[2])


@pytest.mark.slow
async def test_owner_restarted_all_users_are_registered_again(stack: Stack, owner: StubOwner) -> None:
    edge = await stack()
    listeners = [await edge.listen(user) for user in range(5)]
    for listener in listeners:
        await listener.block()
    await owner.stop()
    unseen = owner.write(POSTS[0], [3])
    await owner.restart()
    assert is_post(await listeners[3].block(), unseen, POSTS[0])
    await until(lambda: len(owner.listening.get("fep-0", ())) == 5, "all registered")
    live = await owner.publish(POSTS[1], list(range(5)))
    for listener in listeners:
        assert is_post(await listener.block(), live, POSTS[1])


async def test_a_closed_stream_leaves_the_lane(stack: Stack, owner: StubOwner) -> None:
    edge = await stack()
    listener = await edge.listen(USER)
    await listener.block()
    listener.close()
    await until(lambda: not owner.listening["fep-0"], "unsubscribed")


async def test_many_requests_share_few_calls(stack: Stack, owner: StubOwner) -> None:
    edge = await stack()
    for user in range(200):
        await edge.send(stream_request(user))
    await until(lambda: len(owner.listening.get("fep-0", ())) == 200, "all subscribed")
    assert len(owner.subscribes) < 100


@pytest.mark.slow
async def test_heartbeats_come_to_an_idle_stream(stack: Stack) -> None:
    edge = await stack(flags={"sse_heartbeat_s": 1})
    listener = await edge.listen(USER)
    await listener.block()
    assert await listener.reader.readuntil(b"\n\n") == b": hb\n\n"


async def test_drain_ends_streams_cleanly_and_refuses_new_ones(stack: Stack, owner: StubOwner) -> None:
    edge = await stack()
    listener = await edge.listen(USER)
    await listener.block()
    edge.stop()  # type: ignore[attr-defined]
    assert await listener.rest() == b""
    with pytest.raises(ConnectionRefusedError):
        await edge.listen(USER)
    await until(lambda: not owner.listening["fep-0"], "unsubscribed")
