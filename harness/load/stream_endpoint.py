"""Where the streams of a region are, and how a listener's socket gets there."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import ssl
from urllib.parse import urlsplit

from harness.core.errors import UnavailableError, UsageError
from harness.load.addresses import Address, look_up
from harness.load.plan import PlanRegion

PATH = "/v1/stream"
LOOK_UP_S = 5.0
"""for the addresses of one server"""
_IP_BIND_ADDRESS_NO_PORT = 24


class StreamEndpoint:
    """One kind of way into a region: the plain addresses of its servers, or its edge."""

    def __init__(self, urls: tuple[str, ...], tls: ssl.SSLContext | None = None) -> None:
        """Raises UsageError for a URL that is none of that kind, UnavailableError when a host has no address."""
        scheme = "https" if tls else "http"
        parts = [urlsplit(url) for url in urls]
        for url, part in zip(urls, parts, strict=True):
            if part.scheme != scheme or part.hostname is None:
                raise UsageError(f"regions: a stream's base URL must be {scheme}://host:port, got {url!r}")
        self.tls = tls
        self.host = parts[0].hostname or ""
        self.host_headers = [part.netloc for part in parts]
        self.path = parts[0].path.rstrip("/") + PATH
        default = 443 if tls else 80
        found = [_address(part.hostname or "", part.port or default) for part in parts]
        self.family = found[0][0]
        self.addresses = [address for _, address in found]
        self.is_loopback = str(self.addresses[0][0]).startswith("127.")

    def place(self, user: int, failures: int) -> int:
        """Which server it is for a listener: users are spread over them; where one fails, it goes on to the next."""
        return (scattered(user) + failures) % len(self.addresses)


def _address(host: str, port: int) -> Address:
    try:
        return look_up(host, port, LOOK_UP_S)[0]
    except (OSError, ValueError) as error:
        raise UnavailableError(f"regions: no address of {host}, where streams are: {error}") from error


def scattered(user: int) -> int:
    """A number without the pattern that users of one engine have: theirs may all be the same modulo some number.

    Fibonacci hashing, Knuth, The Art of Computer Programming, 6.4: the upper half of user * 2^64 / golden ratio.
    """
    return (user * 0x9E3779B97F4A7C15 & 0xFFFFFFFFFFFFFFFF) >> 32


def plain_endpoints(regions: dict[str, PlanRegion]) -> dict[str, StreamEndpoint]:
    """The servers of streams, by region."""
    return {name: StreamEndpoint(region.streams or (region.stream,)) for name, region in regions.items()}


def edge_endpoints(regions: dict[str, PlanRegion], ca_file: str) -> dict[str, StreamEndpoint]:
    """The edges, by region, asked for HTTP/2. Raises UsageError where there is none, OSError for a bad `ca_file`."""
    lacking = [name for name, region in regions.items() if not region.edge]
    if lacking:
        raise UsageError(f"listeners.http2: region {lacking[0]} has no edge over TLS")
    context = ssl.create_default_context(cafile=ca_file or None)
    context.set_alpn_protocols(["h2"])
    return {name: StreamEndpoint((region.edge,), context) for name, region in regions.items()}


def begin_connecting(endpoint: StreamEndpoint, place: int, source: str, receive_bytes: int = 0) -> socket.socket:
    """A socket on its way there. `receive_bytes`: the kernel keeps so little for a listener that does not read.

    Raises OSError when this machine refuses at once.
    """
    sock = socket.socket(endpoint.family, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        if receive_bytes:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
        if endpoint.is_loopback:
            sock.setsockopt(socket.IPPROTO_IP, _IP_BIND_ADDRESS_NO_PORT, 1)
            sock.bind((source, 0))
        code = sock.connect_ex(endpoint.addresses[place])
        if code in (0, errno.EINPROGRESS):
            code = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if code:
            raise OSError(code, os.strerror(code))
    except OSError:
        sock.close()
        raise
    return sock


async def finish_connecting(sock: socket.socket, timeout_s: float) -> None:
    """Wait until it is decided. Raises OSError, of which TimeoutError is one."""
    if _is_connected(sock):
        return
    await _wait_writable(sock, timeout_s)
    if code := sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
        raise OSError(code, os.strerror(code))


def _is_connected(sock: socket.socket) -> bool:
    try:
        sock.getpeername()
    except OSError:
        return False
    return True


async def _wait_writable(sock: socket.socket, timeout_s: float) -> None:
    loop = asyncio.get_running_loop()
    writable = asyncio.Event()
    loop.add_writer(sock, writable.set)
    try:
        async with asyncio.timeout(timeout_s):
            await writable.wait()
    finally:
        loop.remove_writer(sock)


def refusal(error: OSError) -> str:
    """One short text a kind of failure, so that they can be counted."""
    if isinstance(error, ssl.SSLError):
        return f"tls: {(error.reason or 'failed').lower().replace('_', ' ')}"
    code = errno.ETIMEDOUT if isinstance(error, TimeoutError) else error.errno or errno.EIO
    return os.strerror(code).lower()
