"""Slots, their shares, and the queue before them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator

import pytest

from reference_server.api.overload.limiter import BURST_WAIT_S, PRESSED_S, STANDING_AFTER_S, STANDING_WAIT_S, Limiter
from reference_server.api.overload.routes import FEED, LIKE, POST, PROFILE

READ, WRITE, STANDARD, OPTIONAL = FEED.lane, POST.lane, PROFILE.lane, LIKE.lane


def filled(limit: int, lane: int = READ) -> Limiter:
    limiter = Limiter(limit)
    while limiter.try_enter(lane):
        pass
    return limiter


def test_shares() -> None:
    assert [filled(100, lane).in_flight for lane in (READ, WRITE, STANDARD, OPTIONAL)] == [100, 70, 85, 60]
    stalled = filled(100, WRITE)
    assert sum(stalled.try_enter(READ) for _ in range(100)) == 30  # writes that hang leave room for reads
    assert filled(1, OPTIONAL).in_flight == 1


async def entered(*tasks: asyncio.Task[bool]) -> list[bool | None]:
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    return [task.result() if task.done() else None for task in tasks]


def waiters(limiter: Limiter, *lanes: int) -> Iterator[asyncio.Task[bool]]:
    for lane in lanes:
        yield asyncio.ensure_future(limiter.wait(lane))


async def test_a_burst_is_served_in_turn_and_the_important_first() -> None:
    limiter = filled(10)
    tasks = list(waiters(limiter, OPTIONAL, STANDARD, READ, READ, WRITE))
    await entered(*tasks)
    assert limiter.waiting == 5
    orders = []
    for _ in range(10):
        limiter.leave(READ)
        orders.append(await entered(*tasks))
    assert orders[0] == [None, None, None, None, True]
    assert orders[1] == [None, None, True, None, True]
    assert orders[2] == [None, None, True, True, True]
    assert orders[4] == orders[2]
    assert orders[5] == [None, True, True, True, True]  # standard work gets slots below 85 %
    assert orders[-1] == [True] * 5
    assert limiter.in_flight == 5


async def test_who_waits_too_long_is_turned_away() -> None:
    limiter = filled(10)
    tasks = list(waiters(limiter, READ, STANDARD))
    await entered(*tasks)
    limiter.sweep(time.monotonic())
    assert await entered(*tasks) == [None, None]
    limiter.sweep(time.monotonic() + BURST_WAIT_S + 0.001)
    assert await entered(*tasks) == [False, False]
    assert (limiter.waiting, limiter.in_flight) == (0, 10)


async def test_a_standing_queue_is_short_and_serves_the_newest() -> None:
    limiter = filled(40)
    old = list(waiters(limiter, *[READ] * 40))
    await entered(*old)
    assert not limiter.has_room(READ)
    assert await limiter.wait(READ) is False
    limiter.sweep(time.monotonic() + STANDING_AFTER_S - 0.05)
    assert not limiter.is_standing
    limiter.sweep(time.monotonic() + STANDING_AFTER_S + 0.01)
    assert limiter.is_standing
    assert await entered(*old) == [False] * 40  # none of them is younger than 30 ms
    new = list(waiters(limiter, *[READ] * 12))
    assert [done for done in await entered(*new) if done is not None] == [False] * 2  # room for a quarter of the limit
    limiter.leave(READ)
    assert await entered(new[9], new[0]) == [True, None]
    limiter.sweep(time.monotonic() + STANDING_WAIT_S + 0.001)
    assert not limiter.is_standing  # it was empty a moment ago: this is a burst
    assert (await entered(new[0]), limiter.waiting) == ([None], 9)
    limiter.sweep(time.monotonic() + STANDING_AFTER_S + 0.001)
    assert (await entered(new[0]), limiter.waiting) == ([False], 0)
    limiter.sweep(time.monotonic())
    assert not limiter.is_standing


async def test_the_important_push_the_others_out_of_a_full_queue() -> None:
    limiter = filled(10)
    tasks = list(waiters(limiter, *[STANDARD] * 5, *[OPTIONAL] * 5))
    await entered(*tasks)
    assert not limiter.has_room(OPTIONAL)
    assert limiter.has_room(READ)
    more = list(waiters(limiter, READ, STANDARD))
    assert await entered(*more) == [None, None]
    assert (await entered(*tasks)).count(False) == 2
    assert await entered(*tasks[5:7]) == [False, False]  # the optional, oldest first
    limiter.set_limit(100)
    assert (await entered(*tasks, *more)).count(True) == 10


async def test_a_post_pushes_a_read_out_but_not_the_other_way_round() -> None:
    limiter = filled(10)
    reads = list(waiters(limiter, *[READ] * 10))
    await entered(*reads)
    (post,) = waiters(limiter, WRITE)
    assert await entered(post, *reads) == [None, False, *[None] * 9]
    assert await limiter.wait(READ) is False
    limiter.leave(READ)
    assert await entered(post) == [True]
    limiter.set_limit(100)
    await entered(*reads)


async def test_writes_have_an_eighth_for_a_while_after_a_read_was_turned_away() -> None:
    limiter = filled(40, WRITE)
    while limiter.try_enter(READ):
        pass
    assert limiter.in_flight == 40  # 28 of them write
    reads = list(waiters(limiter, *[READ] * 40))
    now_s = time.monotonic()
    await entered(*reads)
    limiter.sweep(now_s)
    assert limiter.has_room(WRITE)  # it would push a read out
    assert not limiter.has_room(READ)
    limiter.sweep(now_s + 0.02)
    assert not limiter.has_room(WRITE)
    assert await limiter.wait(WRITE) is False
    assert limiter.waiting == 40  # nobody was pushed out
    for _ in range(24):
        limiter.leave(WRITE)
    assert (await entered(*reads)).count(True) == 24
    assert limiter.has_room(WRITE)  # four are left, five may be
    limiter.sweep(now_s + BURST_WAIT_S + 0.02)
    assert (limiter.in_flight, limiter.waiting) == (40, 0)  # the other reads have waited too long
    limiter.set_limit(100)
    limiter.sweep(now_s + BURST_WAIT_S + 0.04)
    assert sum(limiter.try_enter(WRITE) for _ in range(100)) == 12 - 4
    limiter.sweep(now_s + BURST_WAIT_S + 0.05 + PRESSED_S)
    assert sum(limiter.try_enter(WRITE) for _ in range(100)) == 100 - 40 - 8


async def test_one_who_leaves_the_queue_takes_no_slot_with_him() -> None:
    limiter = filled(10)
    first, second = waiters(limiter, READ, READ)
    await entered(first, second)
    first.cancel()
    await asyncio.sleep(0)
    limiter.leave(READ)
    assert await entered(second) == [True]
    assert (limiter.in_flight, limiter.waiting) == (10, 0)
    (third,) = waiters(limiter, READ)
    await asyncio.sleep(0)
    limiter.leave(READ)  # gives the slot to the third, who is cancelled before it notices
    third.cancel()
    with pytest.raises(asyncio.CancelledError):
        await third
    assert (limiter.in_flight, limiter.waiting) == (9, 0)


async def test_a_higher_limit_lets_waiters_in() -> None:
    limiter = filled(10)
    tasks = list(waiters(limiter, READ, READ))
    await entered(*tasks)
    limiter.set_limit(11)
    assert (await entered(*tasks)).count(True) == 1
    limiter.set_limit(12)
    assert await entered(*tasks) == [True, True]
