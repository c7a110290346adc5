"""One kept-alive HTTP/1.1 connection of a Locust user: lean, and what is asked is asked once.

Sockets are gevent's, where Locust has patched the process; answers are parsed by httptools (llhttp). Locust's fast
client does more than our users want: it parses the URL again and again, keeps cookies, follows redirects, and asks once
more when a connection turns out to be dead, which hides a failure. Here a connection that its peer has closed is
replaced before a request is sent on it, and never after.
"""

from __future__ import annotations

import select
import socket
import ssl
import time
import zlib
from typing import NamedTuple
from urllib.parse import urlsplit

import httptools
from gevent.monkey import get_original

from harness.load.addresses import Address, look_up

READ_BYTES = 1 << 16
MOST_BODY_BYTES = 64 << 20
_COMMON_LINES = 4
"""of each request: what it asks for, and what all of them say"""
_PORTS = {"http": 80, "https": 443}
_STALE = select.POLLIN | select.POLLRDHUP | select.POLLHUP | select.POLLERR
"""of an idle connection: its peer closed it, or sent what nobody asked for"""
_TLS_STALE = _STALE & ~select.POLLIN
"""a TLS peer may send session tickets at any time"""
_ZIPPED = {b"gzip": zlib.MAX_WBITS | 16, b"deflate": zlib.MAX_WBITS}
_poll = get_original("select", "poll")
"""asks the kernel and returns; gevent's would go through its loop"""


class BadAnswer(Exception):
    """What came is no whole HTTP answer: cut off, garbled, or too large."""


class HttpAnswer(NamedTuple):
    """A whole answer: names of headers in lower case, the body without its compression."""

    status: int
    headers: dict[bytes, bytes]
    content: bytes


class HttpConnection:
    """A connection to a base URL, made when it is first needed.

    `limit_s` bounds the look-up of the host's addresses, the wait for a connection to one of them, that for the
    beginning of an answer, and from there to its end. Addresses are looked up once, and again when none takes a
    connection. TLS without `verify` takes any certificate, as Locust's fast client does.
    """

    def __init__(self, base_url: str, limit_s: float, verify: bool = False) -> None:
        parts = urlsplit(base_url)
        self._host, self._port = parts.hostname or "", parts.port or _PORTS[parts.scheme]
        self._addresses: list[Address] = []
        self._tls = _tls_context(verify) if parts.scheme == "https" else None
        self._prefix = parts.path.rstrip("/")
        self._common = f" HTTP/1.1\r\nHost: {parts.netloc}\r\nUser-Agent: feedstorm\r\nAccept-Encoding: identity\r\n"
        self._limit_s = limit_s
        self._socket: socket.socket | None = None
        self._watched = _poll()
        self._parser = _AnswerParser()

    def request(self, method: str, path: str, headers: dict[str, str], body: bytes | None = None) -> HttpAnswer:
        """Send one request to a path below the base URL, and wait for its answer.

        Raises OSError (TimeoutError, ConnectionRefusedError, ...) and BadAnswer, and ValueError when a header or the
        path has a line break or is not Latin-1. The connection is closed after all but the last.
        """
        lines = [f"{name}: {value}\r\n" for name, value in headers.items()]
        if body is not None:
            lines.append(f"Content-Length: {len(body)}\r\n")
        asked = f"{method} {self._prefix}{path}{self._common}{''.join(lines)}\r\n"
        if not asked.count("\n") == asked.count("\r") == _COMMON_LINES + len(lines) + 1:
            raise ValueError("a line break in the path or in a header")
        sent = asked.encode("latin-1") + (body or b"")
        try:
            sock = self._connected()
            sock.sendall(sent)
            return self._answer(sock)
        except BaseException:  # also when the greenlet is ended
            self.close()
            raise

    def close(self) -> None:
        """Close it; the next request makes a new one."""
        if self._socket is not None:
            self._watched.unregister(self._socket.fileno())
            self._socket.close()
            self._socket = None

    def _connected(self) -> socket.socket:
        if self._socket is not None and self._watched.poll(0):
            self.close()
        if self._socket is None:
            sock = self._reached()
            try:
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                if self._tls is not None:
                    sock = self._tls.wrap_socket(sock, server_hostname=self._host)
            except BaseException:
                sock.close()
                raise
            self._watched.register(sock.fileno(), _STALE if self._tls is None else _TLS_STALE)
            self._socket, self._parser = sock, _AnswerParser()
        return self._socket

    def _reached(self) -> socket.socket:
        """A socket that is connected to the first address that takes it."""
        addresses = self._addresses or look_up(self._host, self._port, self._limit_s)
        self._addresses, refused = [], OSError(f"{self._host} has no address")
        for address in addresses:
            try:
                sock = _connect(address, self._limit_s)
            except OSError as error:
                refused = error
            else:
                self._addresses = addresses
                return sock
        raise refused

    def _answer(self, sock: socket.socket) -> HttpAnswer:
        parser, deadline_s = self._parser, 0.0
        while not parser.take(sock.recv(READ_BYTES)):
            now_s = time.monotonic()
            deadline_s = deadline_s or now_s + self._limit_s
            if now_s >= deadline_s:
                raise TimeoutError("the answer was not whole in time")
            sock.settimeout(deadline_s - now_s)
        answer = parser.answer()
        if not parser.stays_open:
            self.close()
        elif deadline_s:
            sock.settimeout(self._limit_s)
        return answer


class _AnswerParser:
    """Puts the answers of one connection together, one after the other."""

    def __init__(self) -> None:
        self._http = httptools.HttpResponseParser(self)
        self.stays_open = True
        """whether another request may follow"""
        self._begin()

    def _begin(self) -> None:
        self._status = self._size = 0
        self._headers: dict[bytes, bytes] = {}
        self._pieces: list[bytes] = []
        self._in_body = False

    def take(self, data: bytes) -> bool:
        """Whether the answer is whole with this. Raises BadAnswer."""
        if not data:
            return self._end()
        try:
            self._http.feed_data(data)
        except httptools.HttpParserUpgrade:
            raise BadAnswer("the answer changes the protocol") from None
        except httptools.HttpParserError as error:
            if not self._status:
                raise BadAnswer(f"not an HTTP answer: {error}") from None
            self.stays_open = False
        if self._size > MOST_BODY_BYTES:
            raise BadAnswer(f"a body of more than {MOST_BODY_BYTES} bytes")
        return self._status > 0

    def answer(self) -> HttpAnswer:
        """The whole answer; the next one may begin. Raises BadAnswer when its compression is damaged."""
        content = self._pieces[0] if len(self._pieces) == 1 else b"".join(self._pieces)
        if bits := _ZIPPED.get(self._headers.get(b"content-encoding", b"").lower()):
            content = _unzipped(content, bits)
        answer = HttpAnswer(self._status, self._headers, content)
        self._begin()
        return answer

    def _end(self) -> bool:
        """The peer closed: that ends a body of unknown length, and cuts off anything else."""
        framed = b"content-length" in self._headers or b"transfer-encoding" in self._headers
        if not self._in_body or framed:
            raise BadAnswer("cut off: the connection was closed before the answer was whole")
        self._status, self.stays_open = self._http.get_status_code(), False
        return True

    def on_message_begin(self) -> None:
        """For httptools."""
        if self._status:  # behind a whole answer
            self.stays_open = False

    def on_header(self, name: bytes, value: bytes) -> None:
        """For httptools."""
        if not self._status:
            self._headers[name.lower()] = value

    def on_headers_complete(self) -> None:
        """For httptools."""
        self._in_body = True

    def on_body(self, piece: bytes) -> None:
        """For httptools."""
        if not self._status:
            self._pieces.append(piece)
            self._size += len(piece)

    def on_message_complete(self) -> None:
        """For httptools."""
        status = self._http.get_status_code()
        if self._status:
            return
        if status < 200:  # 1xx: the answer is still to come
            self._begin()
            return
        self._status = status
        self.stays_open = self._http.should_keep_alive()


def _connect(to: Address, limit_s: float) -> socket.socket:
    family, address = to
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.settimeout(limit_s)
        sock.connect(address)
    except BaseException:  # also when the greenlet is ended
        sock.close()
        raise
    return sock


def _unzipped(data: bytes, bits: int) -> bytes:
    unzip = zlib.decompressobj(bits)
    try:
        content = unzip.decompress(data, MOST_BODY_BYTES)
    except zlib.error as error:
        raise BadAnswer(f"compressed body: {error}") from None
    if not unzip.eof:
        raise BadAnswer("compressed body: cut off, or too large")
    return content


def _tls_context(verify: bool) -> ssl.SSLContext:
    context = ssl.create_default_context()
    if not verify:
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context
