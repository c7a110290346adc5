"""Addresses are looked up within a limit, and again only when none of them takes a connection."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from harness.core.errors import UnavailableError
from harness.load import stream_endpoint
from harness.load.addresses import look_up
from harness.load.http_connection import HttpConnection
from harness.load.stream_endpoint import StreamEndpoint

ANSWER = b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"


@pytest.fixture
def silent_resolver(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No name server answers until the test is over."""
    over = threading.Event()

    def ask(*_: Any, **__: Any) -> Any:
        over.wait(60)
        raise socket.gaierror(socket.EAI_AGAIN, "too late")

    monkeypatch.setattr(socket, "getaddrinfo", ask)
    yield
    over.set()


class Resolver:
    """The C library's, which writes down what it is asked."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self._answer = socket.getaddrinfo

    def __call__(self, host: str, *more: Any, **named: Any) -> Any:
        self.asked.append(host)
        return self._answer(host, *more, **named)


@pytest.fixture
def resolver(monkeypatch: pytest.MonkeyPatch) -> Resolver:
    found = Resolver()
    monkeypatch.setattr(socket, "getaddrinfo", found)
    return found


def test_an_address_is_its_own() -> None:
    assert look_up("127.0.0.1", 80, 5) == [(socket.AF_INET, ("127.0.0.1", 80))]


def test_what_is_no_name_is_told() -> None:
    with pytest.raises((OSError, ValueError)):
        look_up("a" * 70 + ".invalid", 80, 30)


def test_a_resolver_that_does_not_answer_is_not_waited_for(silent_resolver: None) -> None:
    with pytest.raises(TimeoutError, match=r"no address of there within 0\.05 s"):
        look_up("there", 80, 0.05)


def test_a_request_does_not_wait_for_it(silent_resolver: None) -> None:
    with pytest.raises(TimeoutError, match="no address of there"):
        HttpConnection("http://there:80", 0.05).request("GET", "/", {})


def test_an_engine_without_an_address_says_which(silent_resolver: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream_endpoint, "LOOK_UP_S", 0.05)
    with pytest.raises(UnavailableError, match="no address of there, where streams are"):
        StreamEndpoint(("http://there:80",))


def test_a_connection_that_was_made_needs_no_second_look_up(resolver: Resolver) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def serve() -> None:
            for _ in range(2):
                with listening.accept()[0] as accepted:
                    accepted.recv(1 << 16)
                    accepted.sendall(ANSWER)

        serving = threading.Thread(target=serve)
        serving.start()
        connection = HttpConnection(f"http://127.0.0.1:{listening.getsockname()[1]}", 5)
        for _ in range(2):
            assert connection.request("GET", "/", {}).status == 200
        serving.join(10)
        assert resolver.asked == ["127.0.0.1"]
        listening.close()
        for _ in range(2):  # refused, so the host may be somewhere else now
            with pytest.raises(ConnectionRefusedError):
                connection.request("GET", "/", {})
        assert resolver.asked == ["127.0.0.1"] * 2
