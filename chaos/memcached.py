"""Talks to memcached servers as the faults on caches do: one request a connection, a limit on each wait.

Imports the standard library only: children use it too.
"""

from __future__ import annotations

import socket
from collections.abc import Sequence

TIMEOUT_S = 2.0


def connected(address: str, timeout_s: float = TIMEOUT_S) -> socket.socket:
    """A connection to HOST:PORT. Raises OSError."""
    host, _, port = address.rpartition(":")
    return socket.create_connection((host, int(port)), timeout=timeout_s)


def stats(address: str, *what: str) -> dict[str, int]:
    """The numbers of `stats WHAT`, by name. Raises OSError."""
    with connected(address) as sock:
        sock.sendall(" ".join(("stats", *what)).encode() + b"\r\n")
        found: dict[str, int] = {}
        with sock.makefile("rb") as replies:
            for line in replies:
                words = line.decode(errors="replace").split()
                if words == ["END"]:
                    return found
                if len(words) == 3 and words[0] == "STAT" and words[2].isdigit():
                    found[words[1]] = int(words[2])
    raise ConnectionResetError(f"{address} closed the connection")


def held(address: str, keys: Sequence[str]) -> set[str]:
    """Which of some keys are there; to ask does not count as a use of them. Raises OSError."""
    with connected(address) as sock:
        sock.sendall("".join(f"me {key}\r\n" for key in keys).encode())
        with sock.makefile("rb") as replies:
            told = [replies.readline().split() for _ in keys]
    if not all(told):
        raise ConnectionResetError(f"{address} closed the connection")
    return {key for key, words in zip(keys, told, strict=True) if words[0] == b"ME"}
