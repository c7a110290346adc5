"""Flags: names and values are checked, and a change reaches a running process."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from real_servers import Server, redis_queue

from reference_server.events import FlagEvent
from reference_server.flags import FLAGS, PRESETS, FlagInvalid, Flags, make_flags, parse_flag
from reference_server.flags.watch import FlagWatch
from reference_server.queue import Queue
from reference_server.settings import Region, Settings


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[Server]:
    server = redis_queue(tmp_path)
    server.start()
    yield server
    server.kill()


def watch(port: int, **flags: bool | int | float | str) -> FlagWatch:
    region = Region(
        name="us-east",
        index=0,
        api_ports=(),
        fep_ports=(),
        memcached_ports=(),
        redis_queue_port=port,
        redis_cache_port=0,
        replicator_port=0,
    )
    return FlagWatch(Settings(directory="", sockets="", secret="", regions=(region,), flags=flags), region)


def test_every_flag_and_preset_is_documented_and_valid() -> None:
    assert all(info.about for info in FLAGS.values())
    assert list(FLAGS) == list(Flags.__struct_fields__)
    for values in PRESETS.values():
        make_flags(values)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("two_teir=off", "did you mean 'two_tier'"),
        ("two_tier", "NAME=VALUE"),
        ("two_tier=maybe", "^two_tier: must be on or off, got 'maybe'$"),
        ("sse_buffer_bytes=10", "^sse_buffer_bytes: must be a whole number from 1,024 to 1,048,576, got 10$"),
        ("sse_heartbeat_s=often", "^sse_heartbeat_s: must be a number from 0.05 to 3,600, got 'often'$"),
        ("follow_cap=0", "^follow_cap: must be a whole number from 1, got 0$"),
        ("fanout=shove", "^fanout: must be one of push, pull, hybrid, got 'shove'$"),
    ],
)
def test_what_is_no_flag_is_refused_with_a_reason(text: str, message: str) -> None:
    with pytest.raises(FlagInvalid, match=message):
        parse_flag(text)


def test_values_have_types() -> None:
    assert parse_flag("two_tier=off") == ("two_tier", False)
    assert parse_flag("sse_heartbeat_s=0.5") == ("sse_heartbeat_s", 0.5)
    assert parse_flag("fanout=pull") == ("fanout", "pull")


async def test_a_change_reaches_a_running_process_and_the_latest_wins(redis: Server) -> None:
    queue, watched = Queue(redis.port), watch(redis.port, two_tier=False)
    seen: list[bool] = []
    watched.on_change(lambda flags: seen.append(flags.kill_switch))
    assert not watched.now.two_tier
    assert await queue.set_flag(FlagEvent("kill_switch", b"true", 20, "us-east"))
    assert not await queue.set_flag(FlagEvent("kill_switch", b"false", 10, "us-east"))
    await watched.look()
    assert watched.now.kill_switch
    assert not watched.now.two_tier
    assert await queue.set_flag(FlagEvent("kill_switch", b"null", 30, "us-east"))
    await watched.look()
    assert seen == [True, False]
    await queue.close()
    await watched.close()


async def test_a_value_that_is_none_leaves_the_other_flags_working(redis: Server) -> None:
    queue, watched = Queue(redis.port), watch(redis.port)
    await queue.set_flag(FlagEvent("two_tier", b"flase", 5, "us-east"))
    await queue.set_flag(FlagEvent("fanout", b"7", 5, "us-east"))
    await queue.set_flag(FlagEvent("kill_switch", b"true", 5, "us-east"))
    await watched.look()
    assert (watched.now.two_tier, watched.now.fanout, watched.now.kill_switch) == (True, "push", True)
    await queue.close()
    await watched.close()


async def test_a_flag_replicates_once(redis: Server) -> None:
    queue, watched = Queue(redis.port), watch(redis.port)
    event = FlagEvent("fanout", b'"pull"', 5, "ap-tokyo")
    assert await queue.apply_replicated("ap-tokyo", "1-0", [event])
    assert not await queue.apply_replicated("ap-tokyo", "1-0", [FlagEvent("fanout", b'"hybrid"', 9, "ap-tokyo")])
    await watched.look()
    assert watched.now.fanout == "pull"
    await queue.close()
    await watched.close()


async def test_without_redis_queue_the_last_known_flags_hold(redis: Server) -> None:
    queue, watched = Queue(redis.port), watch(redis.port)
    await queue.set_flag(FlagEvent("two_tier", b"false", 5, "us-east"))
    await watched.look()
    redis.kill()
    await watched.look()
    assert not watched.now.two_tier
    await queue.close()
    await watched.close()
