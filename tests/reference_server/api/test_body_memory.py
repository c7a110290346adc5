"""Bodies at hand: believed for a while, gone at once when they disappear here, within bounds."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from api_region import eventually

from reference_server.api import bodies as bodies_module
from reference_server.api.bodies import Bodies
from reference_server.api.body_cache import tombstone
from reference_server.api.body_memory import NOTED_ONE_IN, PERIOD_S, BodyMemory
from reference_server.durable import PostRow
from reference_server.timeline.entry import Status

A, B, C = (bytes([number]) * 16 for number in (1, 2, 3))


def test_a_value_is_believed_for_two_periods_at_most_from_when_it_was_asked_for() -> None:
    memory = BodyMemory()
    memory.turn(10.0)
    memory.keep({A: b"a"}, 10.0)
    memory.keep({B: b"b"}, 10.0 + 0.9 * PERIOD_S)
    assert memory.take([A, B, C], 10.0 + PERIOD_S) == [b"a", b"b", None]
    assert memory.take([A, B], 10.0 + 1.1 * PERIOD_S) == [b"a", b"b"]
    assert memory.take([A, B], 10.0 + 2.2 * PERIOD_S) == [None, None]


def test_long_afterwards_nothing_is_believed() -> None:
    memory = BodyMemory()
    memory.turn(10.0)
    memory.keep({A: b"a"}, 10.0)
    assert memory.take([A], 10.1 + 2 * PERIOD_S) == [None]


def test_what_was_asked_for_before_a_turn_belongs_to_the_old_generation() -> None:
    memory = BodyMemory()
    memory.turn(10.0)
    memory.turn(10.0 + PERIOD_S)
    memory.keep({A: b"a"}, 10.1)
    memory.keep({B: b"b"}, 9.0)
    assert memory.take([A, B], 10.2 + PERIOD_S) == [b"a", None]
    memory.turn(10.0 + 2 * PERIOD_S)
    assert memory.take([A, B], 10.0 + 2 * PERIOD_S) == [None, None]


def test_what_is_used_and_grows_old_is_told() -> None:
    memory = BodyMemory()
    memory.turn(10.0)
    memory.keep({A: b"a", B: b"b"}, 10.0)
    for _ in range(NOTED_ONE_IN):
        memory.take([A, C], 10.1)
    assert memory.aging() == []
    for _ in range(NOTED_ONE_IN):
        memory.take([A, C], 10.2)
    memory.turn(10.3)
    assert memory.aging() == [A]
    assert memory.aging() == []


def test_a_tombstone_stays_whatever_is_read_later() -> None:
    memory = BodyMemory()
    memory.turn(10.0)
    memory.keep({A: b"a"}, 10.0)
    memory.bury(A, b"-1")
    memory.keep({A: b"a", B: b"b"}, 10.1)
    memory.forget([A])
    assert memory.take([A, B], 10.2) == [b"-1", b"b"]
    memory.turn(20.0)
    memory.keep({A: b"a"}, 20.0)
    assert memory.take([A], 20.0) == [b"-1"]


def test_a_hidden_post_may_show_again() -> None:
    memory = BodyMemory()
    memory.turn(10.0)
    memory.change(A, b"-1")
    assert memory.take([A], 10.1) == [b"-1"]
    memory.forget([A])
    assert memory.take([A], 10.1) == [None]


def test_it_stays_within_its_bounds() -> None:
    memory = BodyMemory(limit_bytes=10_000)
    memory.turn(10.0)
    for number in range(1000):
        memory.keep({number.to_bytes(16, "big"): b"x" * 100}, 10.0 + number / 1e6)
        assert memory.size_bytes <= 10_500
        assert memory.take([number.to_bytes(16, "big")], 10.1) == [b"x" * 100]
    assert memory.take([bytes(16)], 10.1) == [None]


class Cache:
    """memcached, whose answers can be held back."""

    def __init__(self) -> None:
        self.values: dict[bytes, bytes] = {A: b'{"a"}', B: b'{"b"}'}
        self.asked: list[bytes] = []
        self.is_paused = False
        self.open, self.is_asked = asyncio.Event(), asyncio.Event()
        self.open.set()

    async def get(self, ids: Sequence[bytes]) -> dict[bytes, bytes]:
        self.asked += ids
        self.is_asked.set()
        found = {post_id: self.values[post_id] for post_id in ids if post_id in self.values}
        await self.open.wait()
        return found

    def add(self, values: Mapping[bytes, bytes]) -> None: ...

    async def bury(self, post_id: bytes, author: int) -> bool:
        if self.is_paused:
            return False
        self.values[post_id] = tombstone(author)
        return True

    async def lift(self, post_id: bytes) -> bool:
        if self.is_paused:
            return False
        self.values.pop(post_id)
        return True


def bodies_over(cache: Cache) -> Bodies:
    nothing: Any = None
    return Bodies(cache, nothing, nothing)


async def test_a_page_of_what_is_at_hand_asks_nobody() -> None:
    cache = Cache()
    bodies = bodies_over(cache)
    assert (await bodies.get([A, B])).values == {A: b'{"a"}', B: b'{"b"}'}
    cache.asked.clear()
    assert (await bodies.get([A, B])).visible(A) == b'{"a"}'
    assert bodies.at_hand([A, B]) == [b'{"a"}', b'{"b"}']
    assert bodies.at_hand([A, C]) is None
    assert cache.asked == []
    assert (await bodies.get([A, B], sure=[B])).visible(B) == b'{"b"}'
    assert cache.asked == [B]
    await bodies.close()


async def test_a_delete_is_seen_at_once_although_a_reading_from_before_comes_in_later() -> None:
    cache = Cache()
    bodies = bodies_over(cache)
    cache.open.clear()
    reading = asyncio.create_task(bodies.get([A]))
    await cache.is_asked.wait()
    await bodies.deleted(A, 1)
    cache.open.set()
    await reading  # it began before the delete ended: either is right
    assert (await bodies.get([A])).visible(A) is None
    await bodies.close()


async def test_hide_and_show_are_seen_at_once() -> None:
    cache = Cache()
    bodies = bodies_over(cache)
    await bodies.get([A])
    await bodies.hidden(A, 1)
    assert (await bodies.get([A])).visible(A) is None
    await bodies.shown(A)
    cache.values[A] = b'{"again"}'
    assert (await bodies.get([A])).visible(A) == b'{"again"}'
    await bodies.close()


class Archive:
    """Queue and durable store: the rows they have."""

    is_lacking = False

    def __init__(self, status: Status) -> None:
        self.status = status

    async def bodies(self, ids: Sequence[bytes]) -> dict[bytes, Any]:
        return {}

    async def posts(self, ids: Sequence[bytes]) -> dict[bytes, PostRow]:
        return {post_id: PostRow(post_id, 1, 1, "a", b"", self.status) for post_id in ids}


async def test_memcached_is_not_believed_about_what_it_could_not_be_told() -> None:
    cache, archive = Cache(), Archive(Status.HIDDEN_BY_AUTHOR)
    bodies = Bodies(cache, archive, archive)  # type: ignore[arg-type]

    async def looked_up() -> bytes | None:
        return (await bodies.get([A], sure=[A])).visible(A)

    cache.is_paused = True
    await bodies.hidden(A, 1)
    cache.is_paused = False
    for _ in range(2):
        assert await looked_up() is None
    await cache.bury(A, 1)  # as the archiver does
    assert await looked_up() is None
    cache.values[A] = b'{"shown elsewhere"}'
    assert await looked_up() == b'{"shown elsewhere"}'
    archive.status = Status.VISIBLE
    await bodies.hidden(A, 1)
    cache.is_paused = True
    await bodies.shown(A)
    for _ in range(2):
        assert await looked_up() is not None
    cache.is_paused = False
    assert await cache.lift(A)
    cache.values[A] = b'{"as it was"}'
    assert await looked_up() is not None
    cache.asked.clear()
    assert await looked_up() == b'{"as it was"}'
    await bodies.close()


def test_few_are_remembered_of_what_memcached_could_not_be_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bodies_module, "UNTOLD_KEPT", 2)
    bodies = bodies_over(Cache())
    for post_id in (A, B, C):
        bodies._note(post_id, False)
    assert list(bodies._untold) == [B, C]


async def test_what_readers_use_is_renewed_before_they_have_to_wait() -> None:
    cache = Cache()
    bodies = bodies_over(cache)
    await bodies.get([A])
    cache.asked.clear()

    async def renewed() -> bool:
        return bool(cache.asked) or (await bodies.get([A])).visible(A) is None

    async def gone() -> bool:
        return (await bodies.get([A])).visible(A) is None

    await eventually(renewed, "the body is read again")
    assert bodies.found["memory"] > 10
    cache.values[A] = tombstone(1)
    await eventually(gone, "the tombstone is seen", 2)
    await bodies.close()
