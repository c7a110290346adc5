"""The wrapper never takes a refusal, a server error or silence for success."""

from __future__ import annotations

import resource
import socketserver
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from chaos_targets import Target, free_port

from chaos import links, toxiproxy
from chaos.handles import parse_handle
from chaos.kind import FaultError
from chaos.links import read_link, undo_on
from chaos.toxiproxy import NoSuchProxy, Toxic, ToxiproxyGone, ToxiproxyServer

SLOW = Toxic(name="slow", type="latency", stream="upstream", attributes={"latency": 5}, toxicity=0.3)


@pytest.fixture
def broken() -> Iterator[Callable[[int, bytes], ToxiproxyServer]]:
    """A server that answers everything alike."""
    servers: list[HTTPServer] = []

    def start(status: int, body: bytes) -> ToxiproxyServer:
        class Answer(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            do_POST = do_DELETE = do_GET

            def log_message(self, *args: object) -> None:
                pass

        server = HTTPServer(("127.0.0.1", 0), Answer)
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        servers.append(server)
        return ToxiproxyServer(f"http://127.0.0.1:{server.server_port}")

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def test_toxic_is_added_then_changed_in_place(link: Target) -> None:
    server = link.server
    server.set_toxic("a--b", SLOW)
    order = [t.name for t in server.proxy("a--b").toxics]
    server.set_toxic("a--b", Toxic(name="slow", type="latency", stream="upstream", attributes={"latency": 9}))
    assert [t.name for t in server.proxy("a--b").toxics] == order
    assert link.toxics()["slow"] == {"latency": 9, "jitter": 0}
    server.remove_toxic("a--b", "slow")
    server.remove_toxic("a--b", "slow")
    assert "slow" not in link.toxics()


def test_toxic_of_another_type_is_replaced(link: Target) -> None:
    link.server.set_toxic("a--b", SLOW)
    link.server.set_toxic("a--b", Toxic(name="slow", type="timeout", stream="upstream", attributes={"timeout": 0}))
    assert link.toxics()["slow"] == {"timeout": 0}


def test_refusals_are_errors(link: Target) -> None:
    with pytest.raises(FaultError, match="invalid toxic type"):
        link.server.set_toxic("a--b", Toxic(name="odd", type="odd", stream="upstream"))
    with pytest.raises(FaultError, match="already exists"):
        link.server.create_proxy("a--b", "127.0.0.1:0", "127.0.0.1:1")
    with pytest.raises(NoSuchProxy):
        link.server.proxy("nowhere")


def test_two_servers_are_kept_apart(link: Target) -> None:
    nobody = ToxiproxyServer(f"http://127.0.0.1:{free_port()}")
    with pytest.raises(ToxiproxyGone):
        nobody.proxy("a--b")
    assert link.server.proxy("a--b").enabled


@contextmanager
def no_descriptor_left() -> Iterator[None]:
    """This process can open nothing more."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    with Path("/dev/null").open("rb") as lowest_unused:
        limit = lowest_unused.fileno()
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


def test_what_this_process_lacks_does_not_mean_that_the_server_is_gone(
    link: Target, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(links, "GONE_GRACE_S", 0.0)
    one, _ = read_link(parse_handle(link.name, link.handle))
    with no_descriptor_left(), pytest.raises(FaultError, match="Too many open files") as caught:
        undo_on(one, lambda server, state: "undone")
    assert not isinstance(caught.value, ToxiproxyGone)
    assert undo_on(one, lambda server, state: "undone") == "undone"


def test_a_server_that_hangs_up_is_not_gone(link: Target) -> None:
    link.server.create_proxy("api", f"127.0.0.1:{free_port()}", f"127.0.0.1:{free_port()}")
    hangs_up = ToxiproxyServer(f"http://{link.server.proxy('api').listen}")
    with pytest.raises(FaultError, match="the call failed") as caught:
        hangs_up.proxy("a--b")
    assert not isinstance(caught.value, ToxiproxyGone)


@pytest.mark.parametrize(
    ("status", "body", "message"),
    [
        (500, b"{}", "answered 500"),
        (200, b"<html>", "no JSON"),
        (200, b"", "not what toxiproxy answers"),
        (200, b"[]", "not what toxiproxy answers"),
    ],
)
def test_nonsense_is_an_error(
    broken: Callable[[int, bytes], ToxiproxyServer], status: int, body: bytes, message: str
) -> None:
    with pytest.raises(FaultError, match=message):
        broken(status, body).proxy("a--b")


def test_a_change_that_did_not_happen_is_an_error(broken: Callable[[int, bytes], ToxiproxyServer]) -> None:
    body = b'{"name":"a--b","listen":"x","upstream":"y","enabled":true,"toxics":[]}'
    with pytest.raises(FaultError, match="reads back as None"):
        broken(200, body).set_toxic("a--b", SLOW)


def test_a_removal_that_did_not_happen_is_an_error(broken: Callable[[int, bytes], ToxiproxyServer]) -> None:
    toxic = b'{"name":"slow","type":"latency","stream":"upstream","toxicity":1,"attributes":{"latency":5}}'
    body = b'{"name":"a--b","listen":"x","upstream":"y","enabled":true,"toxics":[' + toxic + b"]}"
    with pytest.raises(FaultError, match="still there"):
        broken(200, body).remove_toxic("a--b", "slow")


def test_silence_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(toxiproxy, "TIMEOUT_S", 0.1)
    with (
        socketserver.TCPServer(("127.0.0.1", 0), socketserver.BaseRequestHandler) as silent,
        pytest.raises(FaultError, match=r"no answer within 0\.1 s"),
    ):
        ToxiproxyServer(f"http://127.0.0.1:{silent.server_address[1]}").proxy("a--b")


def test_environment_proxies_are_not_used(link: Target, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    assert link.server.proxy("a--b").enabled
