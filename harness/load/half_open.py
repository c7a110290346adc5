"""A peer that vanishes without a word, made in user space and without privileges.

The socket gets a filter that lets nothing in (SO_ATTACH_FILTER): the kernel no longer acknowledges what the server
sends, and answers nothing. Its descriptor stays open, so that no FIN and no RST goes out either. To the server it is a
cable that was pulled: its bytes wait, are sent again and again, and time out in the end (tcp_retries2,
TCP_USER_TIMEOUT).

Not possible so: a host that comes back up and refuses (RST on the next packet); a path that loses some packets only.
"""

from __future__ import annotations

import ctypes
import os
import socket
import struct
from typing import Final

_SO_ATTACH_FILTER: Final = 26
_SO_DETACH_FILTER: Final = 27
_BPF_RETURN_NOTHING: Final = struct.pack("HBBI", 0x06, 0, 0, 0)
"""one instruction of classic BPF: let 0 bytes of the packet through"""
_AT_ONCE: Final = struct.pack("ii", 1, 0)


def vanish(sock: socket.socket) -> socket.socket:
    """Cut the connection's peer off. Returns what keeps it open when `sock` is closed. Raises OSError."""
    held = socket.socket(fileno=os.dup(sock.fileno()))
    program = ctypes.create_string_buffer(_BPF_RETURN_NOTHING)
    try:
        held.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, struct.pack("HL", 1, ctypes.addressof(program)))
    except OSError:
        held.close()
        raise
    return held


def reappear(held: socket.socket) -> None:
    """Let the server know at last: the connection is reset."""
    try:
        held.setsockopt(socket.SOL_SOCKET, _SO_DETACH_FILTER, 0)
        held.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _AT_ONCE)
    finally:
        held.close()
