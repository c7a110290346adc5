"""What a host is called on the network, asked within a limit: the C library's look-up has none that we could set.

It works in plain threads and where gevent has patched them: there a thread is a greenlet.
"""

from __future__ import annotations

import socket
import threading
from typing import Any

Address = tuple[int, Any]
"""family, and what `socket.connect` takes"""


def look_up(host: str, port: int, limit_s: float) -> list[Address]:
    """The addresses of a host, one at least. Raises OSError (TimeoutError is one), ValueError for what is no name."""
    found: list[Address] = []
    failed: list[Exception] = []

    def ask() -> None:
        try:
            told = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except (OSError, ValueError) as error:
            failed.append(error)
        else:
            found.extend((family, address) for family, _, _, _, address in told)

    asking = threading.Thread(target=ask, daemon=True)
    asking.start()
    asking.join(limit_s)
    if failed:
        raise failed[0]
    if not found:
        raise TimeoutError(f"no address of {host} within {limit_s:g} s")
    return found
