"""A peer that vanishes: the other side sees neither an end nor an acknowledgement, until the peer reappears."""

from __future__ import annotations

import fcntl
import select
import socket
import struct
import termios

import pytest

from harness.load.half_open import reappear, vanish


def unacknowledged(sock: socket.socket) -> int:
    """Bytes that the kernel has sent, or will, and that the peer has not acknowledged."""
    return int(struct.unpack("i", fcntl.ioctl(sock, termios.TIOCOUTQ, b"\0\0\0\0"))[0])


def readable(sock: socket.socket, timeout_s: float) -> bool:
    return bool(select.select([sock], [], [], timeout_s)[0])


def test_a_vanished_peer_neither_ends_nor_acknowledges_until_it_reappears() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        client = socket.create_connection(listener.getsockname())
        server, _ = listener.accept()
    with server:
        server.sendall(b"before")
        assert client.recv(100) == b"before"
        held = vanish(client)
        client.close()
        server.sendall(b"into the void")
        assert not readable(server, 0.05)
        assert unacknowledged(server) == len(b"into the void")
        reappear(held)
        assert readable(server, 10)
        with pytest.raises(ConnectionResetError):
            server.recv(100)
