"""Our users' HTTP connection, against servers that say what a test makes them say."""

from __future__ import annotations

import gzip
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from harness.load import http_connection
from harness.load.http_connection import BadAnswer, HttpAnswer, HttpConnection
from reference_server.supervisor.certificates import write_certificates

LIMIT_S = 30.0
"""of what comes soon, also where others have the machine"""
WHOLE = b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc"
HANG_UP = b""
Pause = float


class UntilGivenUp:
    """Send this again and again, with a pause, until the client has hung up; b"": say nothing until then."""

    def __init__(self, drop: bytes) -> None:
        self.drop = drop

    def play(self, connection: socket.socket) -> None:
        connection.settimeout(0.02 if self.drop else LIMIT_S)
        while True:
            try:
                if not connection.recv(1):
                    return
            except TimeoutError:
                assert self.drop, "the client waits for ever"
                connection.sendall(self.drop)


Piece = bytes | Pause | UntilGivenUp


class Server:
    """Each accepted connection plays a script: for each request what to send, in pieces, with pauses. Then it ends."""

    def __init__(self, *scripts: list[list[Piece]], context: ssl.SSLContext | None = None) -> None:
        self.requests: list[bytes] = []
        self._socket, self._context = socket.create_server(("127.0.0.1", 0)), context
        self.url = f"http{'s' if context else ''}://127.0.0.1:{self._socket.getsockname()[1]}/base/"
        self._thread = threading.Thread(target=self._serve, args=(scripts,))
        self._thread.start()

    def _serve(self, scripts: tuple[list[list[Piece]], ...]) -> None:
        for script in scripts:
            connection = self._socket.accept()[0]
            if self._context is not None:
                connection = self._context.wrap_socket(connection, server_side=True)
            with connection:
                for answer in script:
                    if not (request := connection.recv(1 << 16)):
                        break
                    self.requests.append(request)
                    self._say(connection, answer)
        self._socket.close()

    def _say(self, connection: socket.socket, pieces: list[Piece]) -> None:
        try:
            for piece in pieces:
                if isinstance(piece, float):
                    time.sleep(piece)
                elif isinstance(piece, UntilGivenUp):
                    piece.play(connection)
                else:
                    connection.sendall(piece)
        except ConnectionError:  # the client gave up
            pass

    def end(self) -> None:
        self._thread.join(LIMIT_S)
        assert not self._thread.is_alive()


@contextmanager
def talk(*scripts: list[list[Piece]], limit_s: float = LIMIT_S) -> Iterator[tuple[HttpConnection, Server]]:
    server = Server(*scripts)
    connection = HttpConnection(server.url, limit_s)
    try:
        yield connection, server
    finally:
        connection.close()
        server.end()


def get(connection: HttpConnection) -> HttpAnswer:
    return connection.request("GET", "/y?z=1", {"Accept": "text/plain"})


@pytest.mark.parametrize(
    ("pieces", "expected"),
    [
        ([WHOLE], HttpAnswer(200, {b"content-length": b"3"}, b"abc")),
        ([WHOLE[:5], WHOLE[5:40], WHOLE[40:]], HttpAnswer(200, {b"content-length": b"3"}, b"abc")),
        ([b"HTTP/1.1 100 Continue\r\n\r\n" + WHOLE], HttpAnswer(200, {b"content-length": b"3"}, b"abc")),
        ([b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n", WHOLE], HttpAnswer(200, {b"content-length": b"3"}, b"abc")),
        ([b"HTTP/1.1 204 No Content\r\nX: y\r\n\r\n"], HttpAnswer(204, {b"x": b"y"}, b"")),
        (
            [b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n", b"1\r\nc\r\n0\r\n\r\n"],
            HttpAnswer(200, {b"transfer-encoding": b"chunked"}, b"abc"),
        ),
        (
            [b"HTTP/1.1 503 Busy\r\nRETRY-AFTER: 1\r\ncontent-length: 0\r\n\r\n"],
            HttpAnswer(503, {b"retry-after": b"1", b"content-length": b"0"}, b""),
        ),
    ],
)
def test_an_answer_in_any_pieces_and_then_another(pieces: list[bytes], expected: HttpAnswer) -> None:
    paced: list[Piece] = [part for piece in pieces for part in (piece, 0.02)]
    with talk([paced, [WHOLE]]) as (connection, server):
        assert get(connection) == expected
        assert get(connection).content == b"abc"  # on the same connection, or nobody would answer
        assert server.requests[0] == (
            b"GET /base/y?z=1 HTTP/1.1\r\nHost: "
            + server.url.split("/")[2].encode()
            + b"\r\nUser-Agent: feedstorm\r\nAccept-Encoding: identity\r\nAccept: text/plain\r\n\r\n"
        )


def test_a_body_is_sent_with_its_length() -> None:
    with talk([[WHOLE]]) as (connection, server):
        connection.request("POST", "/p", {}, b"1234")
        assert server.requests[0].endswith(b"Content-Length: 4\r\n\r\n1234")


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 3\r\n\r\nabc",
        b"HTTP/1.0 200 OK\r\nContent-Length: 3\r\n\r\nabc",
        WHOLE + b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nsomething",
        WHOLE + b"garbage",
    ],
)
def test_after_such_an_answer_a_new_connection_is_made(answer: bytes) -> None:
    with talk([[answer, 0.0]], [[WHOLE]]) as (connection, _):
        assert get(connection).content == b"abc"
        assert get(connection).content == b"abc"


def test_a_body_without_length_ends_with_its_connection() -> None:
    with talk([[b"HTTP/1.1 200 OK\r\n\r\nab", 0.02, b"c"]], [[WHOLE]]) as (connection, _):
        assert get(connection) == HttpAnswer(200, {}, b"abc")
        assert get(connection).content == b"abc"


def test_a_connection_closed_meanwhile_is_replaced_before_it_is_used() -> None:
    with talk([[WHOLE]], [[WHOLE]]) as (connection, server):
        get(connection)
        deadline = time.monotonic() + 5
        while not connection._watched.poll(0):  # until the end of the first one is here
            assert time.monotonic() < deadline
        assert get(connection).content == b"abc"
        assert len(server.requests) == 2


@pytest.mark.parametrize(
    "answer", [HANG_UP, WHOLE[:10], WHOLE[:-1], b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n"]
)
def test_a_request_that_may_have_arrived_is_never_sent_again(answer: bytes) -> None:
    with talk([[WHOLE], [answer]], [[WHOLE]]) as (connection, server):
        get(connection)
        with pytest.raises((BadAnswer, ConnectionError)):
            get(connection)
        assert len(server.requests) == 2
        assert get(connection).content == b"abc"
        assert len(server.requests) == 3


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (b"SSH-2.0-OpenSSH_9.2\r\n", "not an HTTP answer"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: -4\r\n\r\n", "not an HTTP answer"),
        (b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: Upgrade\r\n\r\n", "changes the protocol"),
        (b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 3\r\n\r\nabc", "compressed body"),
        (
            b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 12\r\n\r\n"
            + gzip.compress(b"abc" * 50, mtime=0)[:12],
            "cut off, or too large",
        ),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 999\r\n\r\nabc", "cut off"),
    ],
)
def test_what_is_no_answer(answer: bytes, told: str) -> None:
    with talk([[answer]], [[WHOLE]]) as (connection, _):
        with pytest.raises(BadAnswer, match=told):
            get(connection)
        assert get(connection).content == b"abc"


def test_compressed_bodies() -> None:
    body = gzip.compress(b"hello" * 99)
    answer = b"HTTP/1.1 200 OK\r\nContent-Encoding: GZIP\r\nContent-Length: %d\r\n\r\n" % len(body) + body
    with talk([[answer]]) as (connection, _):
        assert get(connection).content == b"hello" * 99


def test_a_body_larger_than_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_connection, "MOST_BODY_BYTES", 1000)
    zipped = gzip.compress(b"0" * 1001)
    bomb = b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(zipped) + zipped
    with talk([[b"HTTP/1.1 200 OK\r\nContent-Length: 1001\r\n\r\n" + b"0" * 1001]], [[bomb]]) as (connection, _):
        for _ in range(2):
            with pytest.raises(BadAnswer, match=r"more than|too large"):
                get(connection)


@pytest.mark.parametrize(
    "pieces",
    [[UntilGivenUp(b"")], [b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n", UntilGivenUp(b".")]],
    ids=["silent", "drop by drop"],
)
def test_the_whole_answer_has_to_come_in_time(pieces: list[Piece]) -> None:
    with talk([pieces], limit_s=0.2) as (connection, _), pytest.raises(TimeoutError):
        get(connection)


def test_an_answer_that_never_pauses_has_to_come_in_time_as_well(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_connection, "READ_BYTES", 1)  # so that there is always more to read
    long = b"HTTP/1.1 200 OK\r\nContent-Length: 2000000\r\n\r\n" + b"0" * 2_000_000
    with talk([[long]], limit_s=0.2) as (connection, _), pytest.raises(TimeoutError, match="not whole in time"):
        get(connection)


def test_the_limit_holds_for_the_next_answer_again() -> None:
    with talk([[WHOLE[:9], 0.05, WHOLE[9:]]]) as (connection, _):
        assert get(connection).content == b"abc"
        assert connection._socket is not None
        assert connection._socket.gettimeout() == LIMIT_S


@pytest.mark.parametrize("bad", ["a\r\nX: y", "a\nb", "a\rb", "\u20ac"])
def test_what_cannot_be_in_a_head_is_refused(bad: str) -> None:
    with talk([[WHOLE]]) as (connection, server):
        for path, headers in (("/" + bad, {}), ("/", {"Authorization": bad})):
            with pytest.raises(ValueError, match=r"line break|latin-1"):
                connection.request("GET", path, headers)
        assert not server.requests
        get(connection)
        assert len(server.requests) == 1


def test_a_refused_connection() -> None:
    with socket.socket() as taken:  # bound, and nobody listens
        taken.bind(("127.0.0.1", 0))
        with pytest.raises(ConnectionRefusedError):
            get(HttpConnection(f"http://127.0.0.1:{taken.getsockname()[1]}", LIMIT_S))


def tls(folder: Path) -> ssl.SSLContext:
    write_certificates(folder, folder / "ca.pem", ["here"])
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "here.pem")
    return context


def test_tls_with_any_certificate_unless_told(tmp_path: Path) -> None:
    context = tls(tmp_path)
    server = Server([[WHOLE], [WHOLE]], context=context)
    connection = HttpConnection(server.url, LIMIT_S)
    assert get(connection).content == b"abc"
    assert get(connection).content == b"abc"  # session tickets are no reason for a new connection
    server.end()
    connection.close()


def test_a_certificate_that_nobody_signed_is_refused_when_told(tmp_path: Path) -> None:
    context = tls(tmp_path)
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def shake() -> None:
            with pytest.raises(ssl.SSLError), listening.accept()[0] as accepted:
                context.wrap_socket(accepted, server_side=True)

        thread = threading.Thread(target=shake)
        thread.start()
        with pytest.raises(ssl.SSLCertVerificationError):
            get(HttpConnection(f"https://127.0.0.1:{listening.getsockname()[1]}", LIMIT_S, verify=True))
        thread.join(10)
