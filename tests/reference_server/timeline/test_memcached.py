"""The meta-protocol client against a real server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from lane_servers import Server, until

from reference_server.timeline.memcached import Memcached, MemcachedDown


@pytest.fixture
async def client(memcached: Server) -> AsyncIterator[Memcached]:
    made = Memcached(memcached.port, timeout_s=0.2)
    assert await made.wait_connected(5)
    yield made
    await made.close()


async def test_a_barrier_follows_all_quiet_appends_and_collects_the_misses(client: Memcached) -> None:
    client.set("there", b"a")
    appends = b"".join(b"ms %b 1 MA q k\r\nb\r\n" % key for key in (b"there", b"gone", b"there"))
    replies = await client.submit(appends)
    assert [(reply.code, reply.flag(b"k")) for reply in replies] == [(b"NS", b"gone")]
    assert await client.get("there") == b"abb"


async def test_get_many_brings_what_exists_even_if_it_looks_like_protocol(client: Memcached) -> None:
    client.set_many({"a": b"x\r\nMN\r\nVA 3\r\n", "b": b"", "big": b"z" * 300_000}, 60)
    found = await client.get_many(["a", "nope", "b", "big"])
    assert found == {"a": b"x\r\nMN\r\nVA 3\r\n", "b": b"", "big": b"z" * 300_000}


async def test_delete_returns_when_the_key_is_gone(client: Memcached, memcached: Server) -> None:
    client.set("k", b"v")
    await client.delete("k")
    assert memcached.send(b"mg k v\r\n") == b"EN\r\n"


async def test_many_callers_get_their_own_answers(client: Memcached) -> None:
    client.set_many({f"k{n}": b"%d" % n for n in range(200)})
    found = await asyncio.gather(*[client.get(f"k{n}") for n in range(200)])
    assert found == [b"%d" % n for n in range(200)]


async def test_a_killed_server_fails_calls_at_once_and_comes_back_as_a_new_generation(
    client: Memcached, memcached: Server
) -> None:
    before = client.generation
    client.set("k", b"v")
    memcached.kill()
    await until(lambda: not client.connected, "the loss is noticed")
    started = asyncio.get_running_loop().time()
    for _ in range(100):
        with pytest.raises(MemcachedDown):
            await client.get("k")
    assert asyncio.get_running_loop().time() - started < 0.1
    client.set("k", b"lost without a word")
    memcached.start()
    await until(lambda: client.connected, "reconnected")
    assert client.generation > before
    assert await client.get("k") is None


async def test_a_silent_server_counts_as_down(client: Memcached, memcached: Server) -> None:
    memcached.pause()
    with pytest.raises(MemcachedDown):
        await client.get("k")
    assert not client.connected
    memcached.resume()
    await until(lambda: client.connected, "reconnected")


async def test_hello_comes_first_on_each_connection(memcached: Server) -> None:
    told: list[str] = []
    client = Memcached(
        memcached.port,
        hello=lambda: b"ms who 1 q\r\n%d\r\n" % len(told),
        on_up=lambda: told.append("up"),
        on_lost=lambda: told.append("lost"),
        on_unreachable=lambda refused: told.append("refused" if refused else "silent"),
    )
    assert await client.wait_connected(5)
    assert await client.get("who") == b"0"
    client.reset()
    await until(lambda: told[-1] == "up" and len(told) == 3, "connected again")
    assert told == ["up", "lost", "up"]
    assert await client.get("who") == b"2"
    memcached.kill()
    await until(lambda: told[-1] == "refused", "the server is gone")
    await client.close()
