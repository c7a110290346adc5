"""Messages, their frames, and who may ask."""

from __future__ import annotations

import asyncio
import struct

import msgspec
import pytest

from reference_server.replication.wire import (
    Applied,
    Batch,
    Heartbeat,
    Hello,
    Message,
    Ping,
    Pong,
    ProtocolViolation,
    Welcome,
    check_hello,
    frame,
    make_hello,
    parse_position,
    receive,
)

SECRET = b"s" * 32


def reader(data: bytes) -> asyncio.StreamReader:
    made = asyncio.StreamReader()
    made.feed_data(data)
    made.feed_eof()
    return made


@pytest.mark.parametrize(
    "message",
    [
        make_hello(SECRET, "us-east", "ap-tokyo", "5-1"),
        Welcome(gap=True),
        Batch("5-1", 99, [b"\0", b""], last=False),
        Heartbeat(99, current=True),
        Applied("5-1"),
        Ping(b"back"),
        Pong(b"back"),
    ],
)
async def test_round_trip(message: Message) -> None:
    assert await receive(reader(frame(message))) == message


@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.0\r\n\r\n",
        struct.pack(">I", 3) + b"abc",
        struct.pack(">I", 1) + msgspec.msgpack.encode(1),
    ],
)
async def test_garbage_is_refused_at_once(data: bytes) -> None:
    with pytest.raises(ProtocolViolation):
        await receive(reader(data))


async def test_cut_in_the_middle_is_an_end() -> None:
    with pytest.raises(EOFError):
        await receive(reader(frame(Applied("5-1"))[:-1]))


async def test_silence_ends() -> None:
    with pytest.raises(TimeoutError):
        await receive(asyncio.StreamReader(), limit_s=0.01)


def test_hello_is_for_one_request_only() -> None:
    hello = make_hello(SECRET, "us-east", "ap-tokyo", "5-1")
    check_hello(SECRET, hello)
    with pytest.raises(ProtocolViolation, match="another request"):
        check_hello(SECRET, Hello("us-east", "ap-tokyo", "0-0", hello.mac))
    with pytest.raises(ProtocolViolation, match="signature"):
        check_hello(b"x" * 32, hello)
    with pytest.raises(ProtocolViolation, match=r"malformed|signature"):
        check_hello(SECRET, Hello("us-east", "ap-tokyo", "5-1", ""))


@pytest.mark.parametrize("bad", ["", "5", "5-", "-5", "a-1", "5-1-2"])
def test_positions(bad: str) -> None:
    assert parse_position("12-3") == (12, 3)
    with pytest.raises(ProtocolViolation):
        parse_position(bad)
