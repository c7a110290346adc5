"""Three workers: one dies, or is paused, while posts flow."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from fanout_region import FanoutRegion

pytestmark = [pytest.mark.slow, pytest.mark.stack]
FOLLOWERS = range(10, 40)
THREE = {"lanes": 6, "fanout_workers": 3}


@asynccontextmanager
async def posts_flowing(region: FanoutRegion) -> AsyncIterator[list[bytes]]:
    """All posts made while the body runs, some of them of celebrities."""
    posts: list[bytes] = []
    stopping = asyncio.Event()

    async def write() -> None:
        while not stopping.is_set():
            posts.append(await region.post(1, "celeb" if len(posts) % 10 == 0 else "posts"))
            await asyncio.sleep(0.005)

    writing = asyncio.ensure_future(write())
    try:
        yield posts
    finally:
        stopping.set()
        await writing


async def head_after(region: FanoutRegion, lane: int, number: int) -> int:
    """Wait until the lane's newest record is behind that number; returns it."""
    while True:
        found = int((await region.call(lane, "stats"))["records"])
        if found > number:
            return found
        await asyncio.sleep(0.01)


async def check(region: FanoutRegion, posts: list[bytes]) -> None:
    for user in FOLLOWERS:
        found = await region.timeline(user)
        assert len(found) == len(set(found)), f"user {user}: something stands there twice"
        assert set(found) == set(posts), f"user {user}"


@pytest.mark.parametrize("region", [THREE], indirect=True)
async def test_the_others_take_over_the_lanes_of_a_dead_worker_in_mid_stream(region: FanoutRegion) -> None:
    region.graph.follow(1, FOLLOWERS)
    workers = [region.start_worker(rank) for rank in range(3)]
    await region.serving()
    async with posts_flowing(region) as posts:
        for lane in range(6):
            await head_after(region, lane, 5)
        workers[1].kill()
        workers[1].wait()
        died = time.monotonic()
        for lane in (1, 4):  # those of rank 1
            await head_after(region, lane, await head_after(region, lane, 0))
        took_s = time.monotonic() - died
        print(f"lanes taken over {took_s:.2f} s after their worker's end")
        for lane in range(6):
            await head_after(region, lane, (await region.call(lane, "stats"))["records"] + 5)
    await region.caught_up("posts", "celeb")
    await check(region, posts)
    lanes = [(await region.ask_worker(rank, "stats"))["lanes"] for rank in (0, 2)]
    assert sorted(lanes[0] + lanes[1]) == list(range(6))
    assert took_s < 10  # 1 s on a machine of its own


@pytest.mark.parametrize("region", [THREE], indirect=True)
async def test_a_paused_workers_lanes_stall_and_do_not_split(region: FanoutRegion) -> None:
    region.graph.follow(1, FOLLOWERS)
    workers = [region.start_worker(rank) for rank in range(3)]
    await region.serving()
    async with posts_flowing(region) as posts:
        for lane in range(6):
            await head_after(region, lane, 5)
        workers[2].send_signal(signal.SIGSTOP)
        begun = await head_after(region, 0, 0)
        await head_after(region, 0, begun + 200)
        lanes = [(await region.ask_worker(rank, "stats"))["lanes"] for rank in (0, 1)]
        workers[2].send_signal(signal.SIGCONT)
        assert lanes == [[0, 3], [1, 4]]
    await region.caught_up("posts", "celeb")
    await check(region, posts)
