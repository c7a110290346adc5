"""What edges are told, when, and how long posts took to each stage."""

from __future__ import annotations

import asyncio
import re
from typing import Any

import msgspec
import pytest
from fanout_region import FanoutRegion

from reference_server.events import FIELD, PostEvent, encode
from reference_server.partition import lane_of

pytestmark = [pytest.mark.slow, pytest.mark.stack]


async def messages(region: FanoutRegion, edge: str, count: int) -> list[list[Any]]:
    async with asyncio.timeout(10):
        while True:
            rows = await region.bus.xrange(f"bus:test.{edge}")
            if len(rows) >= count:
                return [msgspec.msgpack.decode(fields[b"m"]) for _, fields in rows]


def packed(*users: int) -> bytes:
    return b"".join(user.to_bytes(4, "little") for user in users)


async def test_without_gating_every_edge_of_the_lane_is_told_of_all_followers(region: FanoutRegion) -> None:
    there, others = (
        [user for user in range(10, 50) if lane_of(user, 2) == 0][:3],
        [user for user in range(10, 50) if lane_of(user, 2) == 1][:2],
    )
    region.graph.follow(1, [*there, *others])
    region.start_worker()
    await region.serving()
    for edge in ("fep-0", "fep-1"):
        await region.call(0, "subscribe", edge, [[there[0], None]])
    await region.call(0, "unsubscribe", "fep-1", [there[0]])
    gated = await region.post(1)
    await region.caught_up()
    await messages(region, "fep-0", 1)
    await region.set_flag("presence_gated_notify", False)
    ungated = await region.post(1)
    told = {edge: await messages(region, edge, count) for edge, count in (("fep-0", 2), ("fep-1", 1))}
    assert [(message[2], message[4], message[5]) for message in told["fep-0"]] == [
        (1, gated, packed(there[0])),
        (2, ungated, packed(*there)),
    ]
    assert [(message[2], message[4], message[5]) for message in told["fep-1"]] == [(1, ungated, packed(*there))]
    assert sorted(await region.bus.keys("bus:*")) == [b"bus:test.fep-0", b"bus:test.fep-1"]


async def test_stages_are_timed_for_posts_of_the_region_and_edges_learn_when_they_were_accepted(
    region: FanoutRegion,
) -> None:
    region.graph.follow(1, [10])
    region.graph.follow(2, [10], hot=False)
    region.start_worker()
    await region.serving()
    owed = await region.post(2)
    await region.caught_up()
    await region.call(lane_of(10, 2), "subscribe", "fep-0", [[10, None]])
    (early,) = await messages(region, "fep-0", 1)
    assert (early[4], early[6]) == (owed, 0), "an owed post says nothing about the speed of fan-out"
    own = await region.post(1)
    foreign = PostEvent(b"f" * 16, 1, 2_000_000, "text", "elsewhere")
    await region.queue.xadd("posts", {FIELD: encode(foreign)})
    _, told, from_afar = await messages(region, "fep-0", 3)
    assert (told[4], told[6]) == (own, 1_000_000 + region.count)
    assert (from_afar[4], from_afar[6]) == (foreign.id, 0)
    async with asyncio.timeout(10):
        while not (counts := stage_counts(await region.ask_worker(0, "metrics")))["notify"]:
            pass
    assert counts == {"accept": 0, "queue": 2, "fanout": 2, "cache": 2, "notify": 1, "event": 0}


def stage_counts(metrics: bytes) -> dict[str, int]:
    found = re.findall(r'feed_stage_seconds_count\{stage="(\w+)"\} ([\d.]+)', metrics.decode())
    return {stage: int(float(count)) for stage, count in found}
