"""The edges' certificates: a client that trusts the authority, and only such a client, accepts them."""

from __future__ import annotations

import socket
import ssl
import stat
import threading
from pathlib import Path

import pytest

from reference_server.supervisor.certificates import write_certificates

LIMIT_S = 5


def handshake(server: ssl.SSLContext, client: ssl.SSLContext, name: str) -> None:
    """One handshake over a pair of sockets. Raises ssl.SSLError."""
    left, right = socket.socketpair()
    for end in (left, right):
        end.settimeout(LIMIT_S)

    def serve() -> None:
        try:
            with server.wrap_socket(left, server_side=True) as wrapped:
                wrapped.recv(1)
        except OSError:  # the client's side tells what was wrong
            left.close()

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        with client.wrap_socket(right, server_hostname=name):
            pass
    finally:
        right.close()
        thread.join(LIMIT_S)


@pytest.fixture
def server(tmp_path: Path) -> ssl.SSLContext:
    write_certificates(tmp_path, tmp_path / "ca.pem", ["eu", "us"])
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "eu.pem")
    return context


@pytest.mark.parametrize("name", ["127.0.0.1", "localhost", "eu.localhost"])
def test_who_trusts_the_authority_accepts_the_region(tmp_path: Path, server: ssl.SSLContext, name: str) -> None:
    handshake(server, ssl.create_default_context(cafile=tmp_path / "ca.pem"), name)


def test_another_name_or_another_authority_is_refused(tmp_path: Path, server: ssl.SSLContext) -> None:
    with pytest.raises(ssl.SSLCertVerificationError):
        handshake(server, ssl.create_default_context(cafile=tmp_path / "ca.pem"), "us.localhost")
    with pytest.raises(ssl.SSLCertVerificationError):
        handshake(server, ssl.create_default_context(), "localhost")


def test_keys_are_private_and_the_authority_s_is_nowhere(tmp_path: Path, server: ssl.SSLContext) -> None:
    assert stat.S_IMODE((tmp_path / "eu.pem").stat().st_mode) == 0o600
    assert b"PRIVATE KEY" in (tmp_path / "us.pem").read_bytes()
    assert b"PRIVATE KEY" not in (tmp_path / "ca.pem").read_bytes()
    first = (tmp_path / "eu.pem").read_bytes()
    write_certificates(tmp_path, tmp_path / "ca.pem", ["eu"])
    assert (tmp_path / "eu.pem").read_bytes() != first
