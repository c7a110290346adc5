"""The meta-protocol client against a real server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from real_servers import Server, until

from reference_server.timeline.memcached import MAX_UNSENT_BYTES, Memcached, MemcachedDown, set_command


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


async def test_an_oversized_value_is_refused_and_the_stream_stays_in_step(client: Memcached) -> None:
    client.set("big", b"small")
    replies = await client.submit(set_command("big", bytes(2 << 20), 60) + b"mg nothing v\r\n")
    assert [reply.code for reply in replies] == [b"SERVER_ERROR", b"EN"]
    assert await client.get("big") is None  # what was there before is no longer true
    client.set("big", bytes(2 << 20))
    client.set("other", b"1")
    assert await client.get_many(["big", "other"]) == {"other": b"1"}


async def test_a_command_the_server_does_not_understand_ends_the_connection(client: Memcached) -> None:
    """It may take the data behind it for commands, and their answers for those of others."""
    before = client.generation
    for nonsense in (b"ms " + b"k" * 300 + b" 2 q\r\nmn\r\n", b"bogus\r\n", b"ms k 3 q\r\nabcdef\r\n"):
        mine, next_one = client.submit(nonsense), client.submit(b"mg k v\r\n")
        for future in (mine, next_one):
            with pytest.raises(MemcachedDown):
                await future
        assert await client.wait_connected(5)
    assert client.generation == before + 3


async def test_deleting_what_is_not_there_is_no_error(client: Memcached) -> None:
    await client.delete("never")


class Impostor:
    """Something else than memcached behind the port: answers the first `polite` no-ops, then `answer` to whatever."""

    def __init__(self, answer: bytes, polite: int = 2, endless: bool = False) -> None:
        self.answer, self.polite, self.endless = answer, polite, endless
        self.connections = 0

    async def start(self) -> int:
        self.server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        port: int = self.server.sockets[0].getsockname()[1]
        return port

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            for _ in range(self.polite):
                await reader.readuntil(b"mn\r\n")
                writer.write(b"MN\r\n")
            while await reader.read(1 << 16):
                writer.write(self.answer)
                while self.endless:
                    writer.write(self.answer)
                    await writer.drain()
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    async def stop(self) -> None:
        self.server.close()


GARBAGE = {
    "another protocol": b"HTTP/1.1 400 Bad Request\r\n\r\n",
    "a size that is none": b"VA x\r\nMN\r\n",
    "a value that never ends": b"VA 999999999\r\n",
    "too many answers": b"MN\r\nMN\r\nMN\r\n",
    "no line": b"x" * 5000,
    "bytes": bytes(range(256)),
}


@pytest.mark.parametrize("answer", GARBAGE.values(), ids=GARBAGE.keys())
async def test_garbage_fails_calls_and_leads_to_a_new_connection(answer: bytes) -> None:
    impostor = Impostor(answer)
    client = Memcached(await impostor.start(), timeout_s=0.2)
    for number in range(1, 4):
        assert await client.wait_connected(5)
        assert client.generation == number
        calls = [client.submit(b"mg k v\r\n") for _ in range(4)]  # "too many answers" are answers to the first three
        assert isinstance((await asyncio.gather(*calls, return_exceptions=True))[-1], MemcachedDown)
    await client.close()
    await impostor.stop()


async def test_an_endless_reply_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("reference_server.timeline.memcached.MAX_REPLY_BYTES", 1 << 20)
    impostor = Impostor(b"NS ktl:1:7\r\n" * 1000, endless=True)
    client = Memcached(await impostor.start(), timeout_s=30)
    assert await client.wait_connected(5)
    with pytest.raises(MemcachedDown, match="endless"):
        await client.get("k")
    await client.close()
    await impostor.stop()


async def test_a_server_that_breaks_each_connection_is_not_hammered() -> None:
    impostor = Impostor(b"nonsense\r\n")
    client = Memcached(await impostor.start(), timeout_s=0.2)
    loop = asyncio.get_running_loop()
    started = loop.time()
    while loop.time() - started < 1.0:
        if await client.wait_connected(5):
            with pytest.raises(MemcachedDown):
                await client.get("k")
    assert 4 <= impostor.connections <= 10
    await client.close()
    await impostor.stop()


async def test_what_a_server_does_not_read_is_not_piled_up(client: Memcached, memcached: Server) -> None:
    slow = Memcached(memcached.port, timeout_s=60)
    assert await slow.wait_connected(5)
    memcached.pause()
    sent_bytes, value = 0, bytes(1 << 20)
    while slow.connected:
        slow.set("k", value)
        sent_bytes += len(value)
    assert MAX_UNSENT_BYTES <= sent_bytes < MAX_UNSENT_BYTES + (16 << 20)  # the kernel takes some
    with pytest.raises(MemcachedDown):
        slow.submit(b"")
    memcached.resume()
    assert await slow.wait_connected(5)
    await slow.close()


async def test_an_idle_client_does_not_wake_up(client: Memcached) -> None:
    await client.get("k")
    connection = client._connection
    assert connection is not None
    await until(lambda: connection._looking is None, "nothing to look after")


async def test_a_client_that_pings_notices_a_silent_server_without_calls(memcached: Server) -> None:
    client = Memcached(memcached.port, timeout_s=0.1, ping_s=0.05)
    assert await client.wait_connected(5)
    connection = client._connection
    assert connection is not None
    for _ in range(20):
        await client.get("k")
    await until(lambda: connection._pinging is not None, "idle")
    memcached.pause()
    await until(lambda: not client.connected, "the silence is noticed", 1.0)
    memcached.resume()
    await until(lambda: client.connected, "reconnected")
    await client.close()
