"""What replicators say to each other over TCP: msgpack, each message behind its length (u32, big-endian).

    puller  -> Hello                       wanted: outbox position behind which to begin, signed with the stack's secret
    server  -> Welcome                     where it begins; `gap`: entries behind the wanted position are gone
    server  -> Batch | Heartbeat ...       a heartbeat every 250 ms when there is nothing to send
    puller  -> Applied ...                 durable up to here; also its heartbeat, every 250 ms
A region that lost its archive asks over the same port: ArchiveHello, answered by ArchivePage ... up to the last.
Whoever wants to know how the link is, may send Ping first, any number of times: each is answered by a Pong.
Whoever hears nothing for 2 s hangs up: behind a black hole no connection ever breaks by itself. Only the first message
of each side may take longer, as long as the link is; then a slow link brings messages late, but not seldom.
"""

from __future__ import annotations

import asyncio
import struct

import msgspec

from reference_server.durable.archive_pages import ArchivedRow
from reference_server.security import SignatureRejected, sign, verify

HEARTBEAT_S = 0.25
SILENCE_S = 2.0
PATIENCE_S = 150.0
"""where silence may be the link's delay: both ways, each 30 s of a stack and 30 s of chaos, and some"""
MAX_FRAME_BYTES = 16 << 20
_LENGTH = struct.Struct(">I")
_PURPOSE, _ARCHIVE_PURPOSE = "replication", "replication archive"


class Hello(msgspec.Struct, tag="hello", array_like=True):
    """Who wants which outbox from where; `mac` signs the rest."""

    source: str
    target: str
    position: str
    mac: str


class Welcome(msgspec.Struct, tag="welcome", array_like=True):
    """The server will send what follows."""

    gap: bool


class Batch(msgspec.Struct, tag="batch", array_like=True):
    """The next events in order. `position` is the id of the last; at `now_us` (origin's clock) they were read."""

    position: str
    now_us: int
    events: list[bytes]
    last: bool
    """nothing newer was in the outbox at `now_us`"""


class Heartbeat(msgspec.Struct, tag="beat", array_like=True):
    """Nothing new up to `now_us`; `current` is False when the outbox itself could not be read."""

    now_us: int
    current: bool


class Applied(msgspec.Struct, tag="applied", array_like=True):
    """The puller has applied everything up to `position`, durably."""

    position: str


class ArchiveHello(msgspec.Struct, tag="archive", array_like=True):
    """Who wants whose archive from behind which post id on; `mac` signs the rest. Answered by pages, up to the last."""

    source: str
    target: str
    after: bytes
    mac: str


class ArchivePage(msgspec.Struct, tag="page", array_like=True):
    """The next posts of an archive."""

    rows: list[ArchivedRow]
    last: bool


class Ping(msgspec.Struct, tag="ping", array_like=True):
    """Send these bytes back."""

    payload: bytes


class Pong(msgspec.Struct, tag="pong", array_like=True):
    """They came with a ping."""

    payload: bytes


Message = Hello | Welcome | Batch | Heartbeat | Applied | ArchiveHello | ArchivePage | Ping | Pong
_encoder = msgspec.msgpack.Encoder()
_decoder: msgspec.msgpack.Decoder[Message] = msgspec.msgpack.Decoder(Message)


class ProtocolViolation(ConnectionError):
    """The other side sent what it must not; the connection ends."""


def make_hello(secret: bytes, source: str, target: str, position: str) -> Hello:
    """A signed request for the outbox of `source`."""
    return Hello(source, target, position, sign(secret, _PURPOSE, _signed(source, target, position)))


def check_hello(secret: bytes, hello: Hello) -> None:
    """Raises ProtocolViolation unless it was made with the secret for just this request."""
    try:
        payload = verify(secret, _PURPOSE, hello.mac)
    except SignatureRejected as error:
        raise ProtocolViolation(f"hello: {error}") from error
    if payload != _signed(hello.source, hello.target, hello.position):
        raise ProtocolViolation("hello: signed for another request")


def make_archive_hello(secret: bytes, source: str, target: str, after: bytes) -> ArchiveHello:
    """A signed request for the archive of `source`."""
    return ArchiveHello(source, target, after, sign(secret, _ARCHIVE_PURPOSE, _signed(source, target, after.hex())))


def check_archive_hello(secret: bytes, hello: ArchiveHello) -> None:
    """Raises ProtocolViolation unless it was made with the secret for just this request."""
    try:
        payload = verify(secret, _ARCHIVE_PURPOSE, hello.mac)
    except SignatureRejected as error:
        raise ProtocolViolation(f"hello: {error}") from error
    if payload != _signed(hello.source, hello.target, hello.after.hex()):
        raise ProtocolViolation("hello: signed for another request")


def _signed(source: str, target: str, position: str) -> bytes:
    return f"{source}|{target}|{position}".encode()


def frame(message: Message) -> bytes:
    """The message as sent."""
    body = _encoder.encode(message)
    return _LENGTH.pack(len(body)) + body


async def receive(reader: asyncio.StreamReader, limit_s: float = SILENCE_S) -> Message:
    """The next message, however long it takes: `limit_s` is for each silence within.

    Raises ProtocolViolation, TimeoutError after silence, OSError, EOFError at the end.
    """
    (length,) = _LENGTH.unpack(await _read(reader, _LENGTH.size, limit_s))
    if length > MAX_FRAME_BYTES:
        raise ProtocolViolation(f"a message of {length} bytes")
    body = await _read(reader, length, limit_s)
    try:
        return _decoder.decode(body)
    except msgspec.MsgspecError as error:
        raise ProtocolViolation(str(error)) from error


async def _read(reader: asyncio.StreamReader, size: int, silence_s: float) -> bytes:
    data = bytearray()
    while len(data) < size:
        async with asyncio.timeout(silence_s):
            chunk = await reader.read(size - len(data))
        if not chunk:
            raise EOFError("cut off")
        data += chunk
    return bytes(data)


def parse_position(position: str) -> tuple[int, int]:
    """A stream id "ms-seq" as numbers that compare. Raises ProtocolViolation."""
    ms, _, seq = position.partition("-")
    if not ms.isdigit() or not seq.isdigit():
        raise ProtocolViolation(f"no position: {position!r}")
    return int(ms), int(seq)
