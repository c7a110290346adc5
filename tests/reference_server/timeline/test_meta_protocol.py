"""The meta protocol as bytes: any cut gives the same replies, any garbage is borne, real memcached agrees."""

from __future__ import annotations

import itertools
import socket
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from real_servers import Server, memcached_server

from reference_server.timeline.meta_protocol import (
    MAX_LINE_BYTES,
    MAX_VALUE_BYTES,
    Reply,
    ReplyReader,
    key_bytes,
    set_command,
)

WORDS = st.binary(min_size=1, max_size=12).filter(lambda word: not set(word) & set(b" \r\n"))
VALUES = st.one_of(st.binary(max_size=200), st.sampled_from([b"\r\nMN\r\n", b"VA 3\r\n", b"\r", b"\n", b""]))
KEYS = st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=250)
REPLIES = st.one_of(
    st.none(),
    st.builds(
        Reply, st.sampled_from([b"HD", b"EN", b"NF", b"NS", b"EX", b"SERVER_ERROR"]), st.tuples(WORDS, WORDS), st.none()
    ),
    st.builds(Reply, st.just(b"VA"), st.tuples(WORDS), VALUES),
)


def written(reply: Reply | None) -> bytes:
    """As a server sends it."""
    if reply is None:
        return b"MN\r\n"
    if reply.value is None:
        return b" ".join((reply.code, *reply.flags)) + b"\r\n"
    return b"%b %d %b\r\n%b\r\n" % (reply.code, len(reply.value), b" ".join(reply.flags), reply.value)


def read(data: bytes, cuts: list[int]) -> tuple[list[Reply | None], str]:
    """What a reader makes of the data, handed over in pieces."""
    reader, found = ReplyReader(), list[Reply | None]()
    places = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    for start, end in itertools.pairwise(places):
        found += reader.feed(data[start:end])
    return found, reader.broken


@given(st.lists(REPLIES, max_size=12), st.lists(st.integers(0, 5000), max_size=20))
def test_replies_are_the_same_however_the_stream_is_cut(replies: list[Reply | None], cuts: list[int]) -> None:
    assert read(b"".join(map(written, replies)), cuts) == (replies, "")


@given(st.lists(REPLIES, max_size=4), st.binary(max_size=400), st.lists(st.integers(0, 5000), max_size=20))
def test_garbage_never_raises_and_spoils_nothing_before_it(
    replies: list[Reply | None], garbage: bytes, cuts: list[int]
) -> None:
    data = b"".join(map(written, replies)) + garbage
    found, broken = read(data, cuts)
    assert found[: len(replies)] == replies
    assert (found, broken) == read(data, [])


@pytest.mark.parametrize(
    "garbage",
    [
        b"HTTP/1.1 400 Bad Request\r\n",
        b"\r\n",
        b"VA\r\n",
        b"VA -1\r\n",
        b"VA x k\r\n",
        b"VA 1_0\r\n0123456789\r\n",
        b"VA %d\r\n" % (MAX_VALUE_BYTES + 1),
        b"VA 2 kx\r\nabcd\r\n",
        b"mn\r\n",
        b"CLIENT_ERROR bad data chunk\r\n",
        b"ERROR\r\n",
        b"x" * (MAX_LINE_BYTES + 2),
        b"HD " + b"x" * MAX_LINE_BYTES + b"\r\n",
    ],
)
def test_what_is_no_reply_ends_the_stream(garbage: bytes) -> None:
    reader = ReplyReader()
    assert reader.feed(b"NS kx\r\n" + garbage + b"MN\r\n") == [Reply(b"NS", (b"kx",))]
    assert reader.broken
    assert reader.feed(b"MN\r\n") == []
    assert not reader._rest


def test_only_an_unfinished_reply_is_kept() -> None:
    reader = ReplyReader()
    for _ in range(1000):
        reader.feed(b"NS ktl:1:7\r\nVA 5 kx\r\nabc")
        assert len(reader._rest) < 20
        reader.feed(b"de\r\nMN\r\n")
        assert not reader._rest
    for _ in range(MAX_LINE_BYTES + 2):
        reader.feed(b"x")
    assert reader.broken


@pytest.mark.parametrize("key", ["", "a b", "a\r\nmn", "x" * 251, "ü", "\x7f"])
def test_what_memcached_takes_for_no_key_is_refused(key: str) -> None:
    with pytest.raises(ValueError, match="no memcached key"):
        key_bytes(key)


@pytest.fixture(scope="module")
def connection() -> Iterator[socket.socket]:
    server: Server = memcached_server()
    server.start()
    with socket.create_connection(("127.0.0.1", server.port), 5) as opened:
        yield opened
    server.kill()


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60, deadline=None)
@given(st.dictionaries(KEYS, VALUES, max_size=8), KEYS)
def test_real_memcached_gives_back_what_was_set(
    connection: socket.socket, values: dict[str, bytes], other: str
) -> None:
    keys = [*values, other]
    sets = b"".join([set_command(key, value, 60) for key, value in values.items()])
    connection.sendall(
        b"flush_all\r\n" + sets + b"".join([b"mg %b v\r\n" % key_bytes(key) for key in keys]) + b"mn\r\n"
    )
    reader, replies = ReplyReader(), list[Reply | None]()
    while None not in replies:
        replies += reader.feed(connection.recv(1 << 16))
    assert replies[0] == Reply(b"OK", ())
    assert [None if reply is None else reply.value for reply in replies[1:]] == [*map(values.get, keys), None]
    assert not reader.broken
