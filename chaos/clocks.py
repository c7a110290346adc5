"""Reads the clock of a process from outside, by what it says of the time over the network."""

from __future__ import annotations

import email.utils
import http.client
import time
from urllib.parse import urlsplit

from chaos.addresses import ATTEMPT_TIMEOUT_S, connect
from chaos.kind import FaultError

RESOLUTION_S = 1.0
"""of the coarsest clock: HTTP and memcached tell whole seconds"""


def read_offset_s(url: str) -> float:
    """How far the clock at `url` is ahead of ours, to about RESOLUTION_S.

    http:// reads the Date header of any answer, redis:// asks TIME, memcached:// the time among its statistics.
    Raises FaultError for an answer without a time, OSError when there is none.
    """
    parts = urlsplit(url)
    began_s = time.time()
    try:
        told_s = _http_time_s(url) if parts.scheme == "http" else _line_time_s(url)
    except (ValueError, TypeError, IndexError, http.client.HTTPException) as error:
        raise FaultError(f"{url} tells no time ({error})") from error
    return told_s - (began_s + time.time()) / 2


def _http_time_s(url: str) -> float:
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=ATTEMPT_TIMEOUT_S)
    try:
        connection.request("GET", parts.path or "/")
        date = connection.getresponse().getheader("Date", "")
    finally:
        connection.close()
    return email.utils.parsedate_to_datetime(date).timestamp() + RESOLUTION_S / 2


def _line_time_s(url: str) -> float:
    parts = urlsplit(url)
    request = {"redis": b"TIME\r\n", "memcached": b"stats\r\n"}.get(parts.scheme)
    if request is None:
        raise ValueError(f"must be http://, redis:// or memcached://, got {url!r}")
    with connect(f"tcp://{parts.netloc}") as sock, sock.makefile("rb") as replies:
        sock.sendall(request)
        if parts.scheme == "redis":  # *2 $10 1700000000 $6 123456
            lines = [replies.readline() for _ in range(5)]
            return int(lines[2]) + int(lines[4]) / 1e6
        for line in replies:
            if line.startswith(b"STAT time "):
                return int(line.split()[2]) + RESOLUTION_S / 2
            if line.startswith(b"END"):
                break
    raise ValueError("no time among its statistics")
