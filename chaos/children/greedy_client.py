"""Asks for the same thing over and over, as a few users, at a steady rate; whoever asks is told what came of it.

Told on an abstract unix socket whose name is the mark: `{"sent": n, "answered": n, "refused": n}`, refused being 429
and 503 of what was answered. The tokens come on standard input and go nowhere but into requests.
"""

from __future__ import annotations

import json
import socket
import sys
import threading
import time
from typing import BinaryIO
from urllib.parse import urlsplit

from chaos.children.lease import begin, say_ready

TIMEOUT_S = 5.0
REFUSALS = (b"429", b"503")
BEHIND_S = 0.1
"""a connection that is later than this leaves out what it has missed: it is greedy, not a backlog"""


class Counts:
    """What all connections did together."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts = {"sent": 0, "answered": 0, "refused": 0}

    def add(self, **more: int) -> None:
        """Count."""
        with self._lock:
            for name, number in more.items():
                self._counts[name] += number

    def told(self) -> bytes:
        """All of it, JSON."""
        with self._lock:
            return json.dumps(self._counts).encode()


def main() -> None:
    """See the module."""
    job = begin()
    mark, counts = sys.argv[1], Counts()
    teller = socket.socket(socket.AF_UNIX)
    teller.bind(f"\0{mark}")
    teller.listen()
    requests = [_request(job["url"], token) for token in job["tokens"]]
    gap_s = job["connections"] / job["rate_per_s"]
    for number in range(job["connections"]):
        words = (job["url"], requests[number % len(requests)], gap_s, counts)
        threading.Thread(target=_ask_for_ever, args=words, daemon=True).start()
    say_ready()
    while True:
        connection, _ = teller.accept()
        with connection:
            connection.sendall(counts.told())


def _request(url: str, token: str) -> bytes:
    parts = urlsplit(url)
    return (
        f"GET {parts.path or '/'} HTTP/1.1\r\nHost: {parts.netloc}\r\nAuthorization: Bearer {token}\r\n\r\n"
    ).encode()


def _ask_for_ever(url: str, request: bytes, gap_s: float, counts: Counts) -> None:
    due = time.monotonic()
    while True:
        try:
            with _connected(url) as connection, connection.makefile("rb") as answers:
                while True:
                    due = max(due + gap_s, time.monotonic() - BEHIND_S)
                    time.sleep(max(0.0, due - time.monotonic()))
                    counts.add(sent=1)
                    connection.sendall(request)
                    status = _status(answers)
                    counts.add(answered=1, refused=status in REFUSALS)
        except (OSError, ValueError):
            time.sleep(gap_s)


def _connected(url: str) -> socket.socket:
    parts = urlsplit(url)
    return socket.create_connection((parts.hostname or "", parts.port or 80), timeout=TIMEOUT_S)


def _status(answers: BinaryIO) -> bytes:
    """Read one answer; its status. Raises OSError when the connection is over, ValueError when it is no answer."""
    line = answers.readline()
    if not line:
        raise ConnectionResetError("closed")
    _, status, *_ = line.split()
    length = 0
    while (header := answers.readline()) not in (b"\r\n", b""):
        name, _, value = header.partition(b":")
        if name.strip().lower() == b"content-length":
            length = int(value)
    answers.read(length)
    return status


if __name__ == "__main__":
    main()
