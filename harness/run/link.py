"""The link between the machine that leads a run (the master) and one that helps (a worker): one WebSocket
over TLS, whose certificate is part of the proofs (`harness.run.link_tls`).

    worker                                   master
      | Hello(nonce, ...)                 ->   |
      |   <-                Challenge(nonce, proof)
      | Proof(proof)                      ->   |     from here on both know that the other has the secret
      |   <-   File plan, tokens ...; Begin(parts)
      |   <-   Order(process, command) ..      |     the lines of `harness.load`'s control protocol, both ways
      | Said(process, line) ..            ->   |
      | File ..; Ended(process)           ->   |     what a process wrote, as soon as it ended
      | File generator; Delivered()       ->   |     all of them ended
      |   <-                             Bye() |

Messages are JSON, one a text frame; a file is a `File` and then binary frames, in one piece after the other, with its
size and SHA-256. TCP holds the sender back; pings end a link whose other side is silent for HEARTBEAT_S and half of it.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import BinaryIO, Final, TypeVar

import aiohttp
import msgspec
from aiohttp import web

from harness.core.errors import UnavailableError
from harness.load.plan import PRIVATE_MODE
from harness.run.load_parts import Part

PATH = "/v1/worker"
HEARTBEAT_S = 20.0
"""long: whoever leads a run may be busy for seconds, before it begins"""
HANDSHAKE_S = 10.0
CHUNK_BYTES = 256 << 10
MOST_BYTES = 4 << 20
"""of one frame: a status line may have 1 MiB"""
VERSION = 2


class Hello(msgspec.Struct, frozen=True, tag=True):
    """A worker introduces itself."""

    version: int
    nonce: str
    processes: int
    """Locust processes it is to run"""
    network: str
    """see `network_name`"""


class Challenge(msgspec.Struct, frozen=True, tag=True):
    """The master proves itself."""

    nonce: str
    proof: str


class Proof(msgspec.Struct, frozen=True, tag=True):
    """The worker proves itself."""

    proof: str


class Refused(msgspec.Struct, frozen=True, tag=True):
    """Why one side will not go on."""

    reason: str


class File(msgspec.Struct, frozen=True, tag=True):
    """A file follows."""

    name: str
    bytes: int
    sha256: str


class Begin(msgspec.Struct, frozen=True, tag=True):
    """Start these parts of the plan that came before."""

    parts: tuple[Part, ...]


class Order(msgspec.Struct, frozen=True, tag=True):
    """A line of input for a load process."""

    process: str
    line: str


class Said(msgspec.Struct, frozen=True, tag=True):
    """A line that a load process printed."""

    process: str
    line: str


class Ended(msgspec.Struct, frozen=True, tag=True):
    """A load process ended, and what it wrote came before."""

    process: str


class Delivered(msgspec.Struct, frozen=True, tag=True):
    """All files were sent."""


class Bye(msgspec.Struct, frozen=True, tag=True):
    """All files came."""


Message = Hello | Challenge | Proof | Refused | File | Begin | Order | Said | Ended | Delivered | Bye
Socket = web.WebSocketResponse | aiohttp.ClientWebSocketResponse
M = TypeVar("M")
_DECODER: Final[msgspec.json.Decoder[Message]] = msgspec.json.Decoder(Message)


class LinkLost(UnavailableError):
    """The other side is gone, silent, or does not keep to the protocol."""


class Link:
    """One end of the link. One task receives, one sends files; any may tell."""

    def __init__(self, socket: Socket) -> None:
        self._socket = socket

    async def tell(self, message: Message) -> None:
        """Send a message; waits while the other side takes nothing. Raises LinkLost."""
        try:
            await self._socket.send_str(msgspec.json.encode(message).decode())
        except (OSError, RuntimeError, aiohttp.ClientError) as error:
            raise LinkLost(f"link: {error}") from error

    async def send_file(self, name: str, file: BinaryIO) -> None:
        """Send a file, from its beginning, that nobody writes to any more. Raises LinkLost."""
        digest = await asyncio.to_thread(_sha256, file)
        await self.tell(File(name, file.tell(), digest))
        file.seek(0)
        while chunk := await asyncio.to_thread(file.read, CHUNK_BYTES):
            await self._send_chunk(chunk)

    async def _send_chunk(self, chunk: bytes) -> None:
        try:
            await self._socket.send_bytes(chunk)
        except (OSError, RuntimeError, aiohttp.ClientError) as error:
            raise LinkLost(f"link: {error}") from error

    async def receive(self) -> Message | bytes:
        """The next message, or piece of a file. Raises LinkLost when there is none any more."""
        frame = await self._socket.receive()
        if frame.type is aiohttp.WSMsgType.BINARY:
            return bytes(frame.data)
        if frame.type is not aiohttp.WSMsgType.TEXT:
            raise LinkLost("the link was cut")
        try:
            return _DECODER.decode(frame.data)
        except msgspec.DecodeError as error:
            raise LinkLost(f"no message of ours: {error}") from error

    async def expect(self, kind: type[M]) -> M:
        """The next message, which must be of that kind, within HANDSHAKE_S. Raises LinkLost."""
        try:
            async with asyncio.timeout(HANDSHAKE_S):
                message = await self.receive()
        except TimeoutError as error:
            raise LinkLost(f"no {kind.__name__} within {HANDSHAKE_S:g} s") from error
        if isinstance(message, Refused):
            raise LinkLost(message.reason)
        if not isinstance(message, kind):
            raise LinkLost(f"expected {kind.__name__}, got {type(message).__name__}")
        return message

    async def close(self) -> None:
        """End the link."""
        await self._socket.close()


class Inbox:
    """Files that come over a link: only those that are expected, each whole and by its checksum, or not at all."""

    def __init__(self, expected: Mapping[str, Path]) -> None:
        """`expected`: name on the link -> where it goes."""
        self._expected = dict(expected)
        self.got: set[str] = set()
        self._coming: File | None = None
        self._file: BinaryIO | None = None
        self._digest = hashlib.sha256()
        self._left = 0

    def begin(self, coming: File) -> None:
        """A file is announced. Raises LinkLost when it is none that is expected."""
        if self._coming is not None or coming.name not in self._expected or coming.name in self.got:
            raise LinkLost(f"file {coming.name!r} was not expected")
        descriptor = os.open(self._part(coming), os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, PRIVATE_MODE)
        self._coming, self._file = coming, os.fdopen(descriptor, "wb")
        self._digest, self._left = hashlib.sha256(), coming.bytes
        self._end_if_whole()

    def add(self, chunk: bytes) -> None:
        """A piece of it. Raises LinkLost when it is too much, or not what was announced."""
        if self._file is None or len(chunk) > self._left:
            raise LinkLost("a piece of a file that was not announced")
        self._file.write(chunk)
        self._digest.update(chunk)
        self._left -= len(chunk)
        self._end_if_whole()

    def close(self) -> None:
        """Forget the file that is under way."""
        if self._file is not None and self._coming is not None:
            self._file.close()
            self._part(self._coming).unlink(missing_ok=True)
        self._file = self._coming = None

    def _end_if_whole(self) -> None:
        if self._left or self._coming is None or self._file is None:
            return
        coming = self._coming
        self._file.close()
        if self._digest.hexdigest() != coming.sha256:
            raise LinkLost(f"file {coming.name} came damaged")
        self._part(coming).replace(self._expected[coming.name])
        self.got.add(coming.name)
        self._file = self._coming = None

    def _part(self, coming: File) -> Path:
        path = self._expected[coming.name]
        return path.with_name(f".{path.name}.part")


def _sha256(file: BinaryIO) -> str:
    digest = hashlib.sha256()
    while chunk := file.read(CHUNK_BYTES):
        digest.update(chunk)
    return digest.hexdigest()


def network_name() -> str:
    """Equal where 127.0.0.1 is the same: the machine as it was booted, and the network namespace."""
    boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    return f"{boot}/{Path('/proc/self/ns/net').stat().st_ino}"
