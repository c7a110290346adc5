"""Asks addresses whether somebody serves there: the readiness an undo waits for, the refusal a witness looks for."""

from __future__ import annotations

import http.client
import socket
import time
from collections.abc import Callable
from urllib.parse import urlsplit

ATTEMPT_TIMEOUT_S = 1.0
POLL_S = 0.02


def connect(url: str, timeout_s: float = ATTEMPT_TIMEOUT_S) -> socket.socket:
    """An open connection to tcp://, http:// or unix:// . Raises OSError, ValueError for another scheme."""
    parts = urlsplit(url)
    if parts.scheme == "unix":
        sock = socket.socket(socket.AF_UNIX)
        sock.settimeout(timeout_s)
        try:
            sock.connect(parts.path)
        except OSError:
            sock.close()
            raise
        return sock
    if parts.scheme not in ("tcp", "http") or not parts.hostname or not parts.port:
        raise ValueError(f"must be tcp://host:port, http://host:port/path or unix:///path, got {url!r}")
    return socket.create_connection((parts.hostname, parts.port), timeout=timeout_s)


def unready(url: str) -> str:
    """Why nobody serves at `url`; empty when somebody does (an http:// address must answer 200)."""
    try:
        if not url.startswith("http:"):
            connect(url).close()
            return ""
        return _http_unready(url)
    except OSError as error:
        return f"{url}: {error.strerror or type(error).__name__}"
    except http.client.HTTPException as error:
        return f"{url}: {type(error).__name__}"


def is_refused(url: str) -> bool:
    """Whether nobody listens at `url`, by the word of its machine. An error of our own (no descriptor left) is none."""
    try:
        connect(url).close()
    except ConnectionRefusedError:
        return True
    except OSError:
        return False
    return False


def wait_until(condition: Callable[[], bool], timeout_s: float) -> bool:
    """Poll until the condition holds. False when it still does not after `timeout_s`."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() >= deadline:
            return False
        time.sleep(POLL_S)
    return True


def _http_unready(url: str) -> str:
    parts = urlsplit(url)
    assert parts.hostname is not None
    connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=ATTEMPT_TIMEOUT_S)
    try:
        connection.request("GET", parts.path or "/")
        status = connection.getresponse().status
    finally:
        connection.close()
    return "" if status == http.client.OK else f"{url}: answers {status}"
